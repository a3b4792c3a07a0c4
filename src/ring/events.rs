use std::time::Duration;

use tracing::{info, warn};

use crate::errands::Errands;
use crate::stek::KeyName;

/// What is worth a line in the log. Collected under locks, told after: whoever reads the log is
/// foreign code and may take its time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Active(KeyName),
    Begun {
        source: &'static str,
        deadline: Duration,
    },
    ClockAhead {
        by: Duration,
    },
    ClockBack {
        by: Duration,
    },
    Expired(KeyName),
    FellBack,
    NoneActive,
    OverAge {
        name: KeyName,
        age: Duration,
        interval: Duration,
    },
    Recovered,
    Revoked(KeyName),
    RevokedElsewhere(KeyName),
    SourceAnswers {
        source: &'static str,
    },
    SourceFailed {
        source: &'static str,
        trouble: String,
        has_answered: bool,
    },
    SourceLate {
        source: &'static str,
        waited: Duration,
    },
    SourceLost {
        source: &'static str,
    },
}

/// Tells them in order.
pub(crate) fn tell(events: Vec<Event>, errands: &Errands) {
    if !events.is_empty() {
        errands.tell(move || events.into_iter().for_each(Event::tell));
    }
}

impl Event {
    fn tell(self) {
        match self {
            Self::Active(key) => info!(%key, "STEK is now active"),
            Self::Begun { source, deadline } => info!(
                source,
                ?deadline,
                "asking the STEK source for the first time; \
                 local random keys seal if it does not answer in time"
            ),
            Self::ClockAhead { by } => warn!(
                ?by,
                "this host's clock jumped ahead: it was set, or the machine was suspended; \
                 STEKs whose time is over expire"
            ),
            Self::ClockBack { by } => warn!(?by, "this host's clock was set back"),
            Self::Expired(key) => info!(%key, "STEK expired and wiped"),
            Self::FellBack => {
                warn!(
                    "STEK source has no active key; sealing with local random keys, \
                     which no other process has"
                );
            }
            Self::NoneActive => warn!("no active STEK; no tickets are issued"),
            Self::OverAge {
                name,
                age,
                interval,
            } => warn!(
                key = %name,
                ?age,
                ?interval,
                "STEK has been active for longer than the interval; replace it at its source"
            ),
            Self::Recovered => info!("STEK source has an active key again"),
            Self::Revoked(key) => warn!(%key, "STEK revoked and wiped"),
            Self::RevokedElsewhere(key) => {
                warn!(%key, "STEK revoked by another process, and wiped");
            }
            Self::SourceAnswers { source } => info!(source, "STEK source answers again"),
            Self::SourceFailed {
                source,
                trouble,
                has_answered: true,
            } => warn!(
                source,
                %trouble,
                "STEK source failed; keeping current keys until they expire"
            ),
            Self::SourceFailed {
                source, trouble, ..
            } => warn!(
                source,
                %trouble,
                "STEK source failed, and has not answered since the start"
            ),
            Self::SourceLost { source } => warn!(
                source,
                "STEK source was in use when this process was forked, and is lost here; \
                 keeping current keys until they expire"
            ),
            Self::SourceLate { source, waited } => warn!(
                source,
                ?waited,
                "STEK source has not answered in time; keeping current keys until they expire"
            ),
        }
    }
}
