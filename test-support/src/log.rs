//! Keeps what is logged.

use std::fmt::{self, Write};
use std::sync::{Arc, LazyLock, Mutex};

use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Metadata, Subscriber, span};

/// Keeps a line of each event at every level: `LEVEL field=value …`.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn warnings(&self) -> Vec<String> {
        let loud = |line: &String| line.starts_with("WARN") || line.starts_with("ERROR");
        self.lines().into_iter().filter(loud).collect()
    }

    /// What is logged on this thread meanwhile.
    pub fn of<T>(run: impl FnOnce() -> T) -> (Self, T) {
        LazyLock::force(&ANOTHER);
        let log = Self::default();
        let outcome = tracing::subscriber::with_default(log.clone(), run);
        (log, outcome)
    }
}

/// While there is one subscriber alone, tracing has the thread that comes first upon something to log
/// say whether anybody listens, for all threads: so one of another test said no. Where there are two
/// all subscribers are asked.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Log::default()));

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}
