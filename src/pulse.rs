use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::clock::{Clock, Time, millis};
use crate::hook::Hook;

/// When housekeeping was last done. Handshakes look whether that is too long ago: then its thread
/// is late, or is that of the process which this one was forked from.
#[derive(Default)]
pub(crate) struct Pulse {
    /// By the clock that windows go by, so that whoever has read it need not read another.
    beat: AtomicU64,
    /// In milliseconds and one more; 0 if it never was.
    monotonic: AtomicU64,
    wall: AtomicU64,
    /// What is done when it is overdue. Not set where nobody promised to keep house.
    rescue: Hook,
}

/// Housekeeping is overdue when it was last done so long ago.
const OVERDUE: u64 = 2_000;

impl Pulse {
    /// Has this called, by handshakes, while housekeeping is overdue. It must return at once.
    pub(crate) fn arm(&self, rescue: impl Fn() + Send + Sync + 'static) {
        self.rescue.set(rescue);
    }

    /// Whether somebody promised to keep house.
    pub(crate) fn is_armed(&self) -> bool {
        self.rescue.is_set()
    }

    pub(crate) fn beat(&self, clock: &Clock, now: Time) {
        let monotonic = millis(clock.monotonic()).saturating_add(1);
        self.monotonic.store(monotonic, Ordering::Relaxed);
        self.wall.store(clock.now().wall.0, Ordering::Relaxed);
        self.beat.store(now.0, Ordering::Relaxed);
    }

    /// One relaxed load, while all is well.
    pub(crate) fn check(&self, now: Time) {
        let beat = self.beat.load(Ordering::Relaxed);
        // A clock that was set back must not hide it either.
        if now.0.abs_diff(beat) > OVERDUE {
            self.rescue();
        }
    }

    #[cold]
    fn rescue(&self) {
        self.rescue.call();
    }

    /// How long ago, by monotonic time, and when.
    pub(crate) fn last(&self, clock: &Clock) -> Option<(Duration, SystemTime)> {
        let beat = self.monotonic.load(Ordering::Relaxed).checked_sub(1)?;
        let age = millis(clock.monotonic()).saturating_sub(beat);
        let wall = Time(self.wall.load(Ordering::Relaxed));
        Some((Duration::from_millis(age), wall.into()))
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pulse")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::clock::FakeClock;

    #[test]
    fn overdue_housekeeping_is_done_and_no_sooner() {
        let time = FakeClock::new();
        let clock = time.clock();
        let pulse = Pulse::default();
        pulse.check(clock.now().wall); // nobody promised anything
        assert!(!pulse.is_armed());
        let rescued = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&rescued);
        pulse.beat(&clock, clock.now().wall);
        pulse.arm(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        assert!(pulse.is_armed());
        time.advance(Duration::from_millis(OVERDUE));
        pulse.check(clock.now().wall);
        assert_eq!(rescued.load(Ordering::Relaxed), 0);
        time.advance(Duration::from_millis(1));
        pulse.check(clock.now().wall);
        assert_eq!(rescued.load(Ordering::Relaxed), 1);
        assert_eq!(
            pulse.last(&clock).unwrap().0,
            Duration::from_millis(OVERDUE + 1)
        );
        pulse.beat(&clock, clock.now().wall);
        pulse.check(clock.now().wall);
        assert_eq!(rescued.load(Ordering::Relaxed), 1);
        time.step_back(Duration::from_millis(OVERDUE + 1));
        pulse.check(clock.now().wall);
        assert_eq!(
            rescued.load(Ordering::Relaxed),
            2,
            "a clock that was set back"
        );
    }
}
