//! How long store and source take to serve all nodes again after an event, and Redis itself to
//! replace its master.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::nodes::Told;

pub(crate) struct Recovery {
    since: Instant,
    /// Whether Redis replaces a master, and when it had.
    replaces: bool,
    replaced: Option<Instant>,
    /// When the store was last of no use to some node.
    store_bad: Option<Instant>,
    is_store_bad: bool,
    /// When the source first answered each node after the event.
    source_good: [Option<Instant>; 3],
}

impl Recovery {
    /// The most that the store may be down after the failover of Redis itself, and the source.
    pub(crate) const ALLOWED: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(5)];

    /// From now on. Whether Redis replaces a master.
    pub(crate) fn begin(replaces: bool) -> Self {
        Self {
            since: Instant::now(),
            replaces,
            replaced: None,
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

    /// Whether it is not known yet when the master was replaced.
    pub(crate) fn awaits_failover(&self) -> bool {
        self.replaces && self.replaced.is_none()
    }

    pub(crate) fn note_failover(&mut self) {
        self.replaced = Some(Instant::now());
    }

    pub(crate) fn failover(&self) -> Taken {
        match (self.replaces, self.replaced) {
            (false, _) => Taken::NoTime,
            (true, None) => Taken::NotYet,
            (true, Some(replaced)) => Taken::Time(replaced - self.since),
        }
    }

    /// By how much longer than the failover store and source were down, if there was one.
    pub(crate) fn beyond_failover(&self) -> Option<[Taken; 2]> {
        let Taken::Time(failover) = self.failover() else {
            return None;
        };
        Some([self.store(), self.source()].map(|taken| match taken {
            Taken::Time(time) => Taken::Time(time.saturating_sub(failover)),
            other => other,
        }))
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

#[derive(Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Taken {
    NoTime,
    Time(Duration),
    NotYet,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTime => f.write_str("-"),
            Self::Time(time) => write!(f, "{:.1} s", time.as_secs_f64()),
            Self::NotYet => f.write_str("not yet"),
        }
    }
}
