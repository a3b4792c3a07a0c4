use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::clock::{Clock, Time};
use crate::errands::Errands;
use crate::housekeeper::Alarm;
use crate::stats::metrics::Publisher;

/// Whom to tell what happens. Nobody waits for them.
#[derive(Clone)]
pub(crate) struct Outside {
    /// The log.
    pub(crate) log: Errands,
    /// Apart from the log, so that neither keeps the other back.
    pub(crate) metrics: Errands,
    /// `None` for a cache or a ring used alone.
    pub(crate) publisher: Option<Publisher>,
    /// Wakes the housekeeper.
    pub(crate) alarm: Alarm,
    pub(crate) pulse: Arc<Pulse>,
}

/// When housekeeping was last done.
#[derive(Default)]
pub(crate) struct Pulse {
    /// In milliseconds; 0 if it never was.
    monotonic: AtomicU64,
    wall: AtomicU64,
}

impl Pulse {
    pub(crate) fn beat(&self, clock: &Clock) {
        // Times begin with 1 here, as 0 stands for none.
        let monotonic = millis(clock.monotonic()).saturating_add(1);
        self.monotonic.store(monotonic, Ordering::Relaxed);
        self.wall.store(clock.now().wall.0, Ordering::Relaxed);
    }

    /// How long ago, by monotonic time, and when.
    pub(crate) fn last(&self, clock: &Clock) -> Option<(Duration, SystemTime)> {
        let beat = self.monotonic.load(Ordering::Relaxed).checked_sub(1)?;
        let age = millis(clock.monotonic()).saturating_sub(beat);
        let wall = Time(self.wall.load(Ordering::Relaxed));
        Some((Duration::from_millis(age), wall.into()))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Outside {
    /// Where time does not pass by itself there are no threads.
    pub(crate) fn new(publisher: Option<Publisher>, time_passes: bool) -> Self {
        Self {
            log: Errands::new(time_passes),
            metrics: Errands::new(time_passes),
            publisher,
            alarm: Alarm::default(),
            pulse: Arc::default(),
        }
    }
}
