//! Prints the marks, one line each.

use std::error::Error;
use std::process::ExitCode;

use benches::marks::ALL;
use benches::timing::Effort;

use super::progress::Progress;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these marks, such as M4; all of them by default.
    only: Vec<String>,
}

/// The exit status is the number of misses; those of a quick run do not count.
pub(crate) fn run(arguments: &Arguments, effort: Effort) -> Result<ExitCode, Box<dyn Error>> {
    let names = || ALL.iter().map(|(name, _)| *name);
    if let Some(unknown) = arguments
        .only
        .iter()
        .find(|only| names().all(|name| name != *only))
    {
        let known = names().collect::<Vec<_>>().join(", ");
        return Err(format!("no mark is called {unknown}; there are {known}").into());
    }
    let asked: Vec<_> = ALL
        .into_iter()
        .filter(|(name, _)| arguments.only.is_empty() || arguments.only.iter().any(|o| o == name))
        .collect();
    let progress = Progress::new(asked.len());
    let mut misses = 0;
    for (name, measure) in asked {
        progress.set(name);
        let marks = measure(effort);
        let mut notes: Vec<_> = marks.iter().map(|mark| mark.note.as_str()).collect();
        notes.dedup();
        for mark in &marks {
            progress.print(mark);
            misses += u8::from(!mark.passed());
        }
        // Separate from the marks' lines, which programs read.
        for note in notes {
            progress.note(format_args!("    {note}"));
        }
        progress.advance();
    }
    if effort == Effort::Quick {
        progress.print("quick run: these figures mean nothing");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(misses.into())
}
