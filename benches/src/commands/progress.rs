//! The progress of a long run, shown on standard error if that is a terminal.

use std::fmt::Display;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A run of that many steps, which may differ in length.
    pub(crate) fn new(steps: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  ({elapsed})")
            .expect("a valid template");
        let bar = ProgressBar::new(steps as u64).with_style(style);
        // Drawing more often would disturb the measurement.
        bar.enable_steady_tick(Duration::from_secs(1));
        Self(bar)
    }

    /// Shows what is being measured.
    pub(crate) fn set(&self, what: impl Display) {
        self.0.set_message(what.to_string());
    }

    /// Counts a completed step.
    pub(crate) fn advance(&self) {
        self.0.inc(1);
    }

    /// Prints a line to standard output.
    pub(crate) fn print(&self, line: impl Display) {
        self.0.suspend(|| println!("{line}"));
    }

    /// Prints a line to standard error.
    pub(crate) fn note(&self, line: impl Display) {
        self.0.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
