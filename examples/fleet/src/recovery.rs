//! How long store and source take to serve all nodes again after an event.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::nodes::Told;

pub(crate) struct Recovery {
    since: Instant,
    /// When the store was last of no use to some node.
    store_bad: Option<Instant>,
    is_store_bad: bool,
    /// When the source first answered each node after the event.
    source_good: [Option<Instant>; 3],
}

impl Recovery {
    /// From now on.
    pub(crate) fn begin() -> Self {
        Self {
            since: Instant::now(),
            store_bad: None,
            is_store_bad: false,
            source_good: [None; 3],
        }
    }

    /// Takes note of how the nodes are now.
    pub(crate) fn look(&mut self, told: &Told) {
        self.is_store_bad = told.reports.iter().any(|report| !report.store_is_well);
        if self.is_store_bad {
            self.store_bad = Some(Instant::now());
        }
        for (good, answered) in self.source_good.iter_mut().zip(told.answered) {
            *good = good.or(answered.filter(|answered| *answered > self.since));
        }
    }

    pub(crate) fn store(&self) -> Taken {
        match self.store_bad {
            None => Taken::NoTime,
            Some(_) if self.is_store_bad => Taken::NotYet,
            Some(last) => Taken::Time(last - self.since),
        }
    }

    pub(crate) fn source(&self) -> Taken {
        let good: Option<Vec<_>> = self.source_good.iter().copied().collect();
        let last = good.and_then(|good| good.into_iter().max());
        last.map_or(Taken::NotYet, |last| Taken::Time(last - self.since))
    }
}

pub(crate) enum Taken {
    NoTime,
    Time(Duration),
    NotYet,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTime => f.write_str("always up"),
            Self::Time(time) => write!(f, "{:.1} s", time.as_secs_f64()),
            Self::NotYet => f.write_str("down"),
        }
    }
}
