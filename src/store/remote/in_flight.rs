use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::sync::lock::Mutex;

/// Look-ups in flight, of which there are so many at most.
///
/// Each counts until it is dropped, or until its time is over: who no longer polls a look-up, but
/// keeps it, keeps no other from being made.
pub(super) struct InFlight {
    max: usize,
    admitted: Mutex<VecDeque<Admitted>>,
}

struct Admitted {
    until: Instant,
    permit: Weak<()>,
}

/// What a look-up in flight holds.
pub(super) struct Permit(#[expect(dead_code, reason = "held, not read")] Arc<()>);

impl InFlight {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            admitted: Mutex::default(),
        }
    }

    /// A permit for a look-up that has until then, unless there are too many.
    pub(super) fn admit(&self, until: Instant) -> Option<Permit> {
        let now = Instant::now();
        let mut admitted = self.admitted.lock();
        while admitted.front().is_some_and(|first| first.is_over(now)) {
            admitted.pop_front();
        }
        if admitted.len() >= self.max {
            admitted.retain(|other| !other.is_over(now));
        }
        if admitted.len() >= self.max {
            return None;
        }
        let permit = Arc::new(());
        admitted.push_back(Admitted {
            until,
            permit: Arc::downgrade(&permit),
        });
        Some(Permit(permit))
    }
}

impl Admitted {
    fn is_over(&self, now: Instant) -> bool {
        self.permit.strong_count() == 0 || self.until <= now
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(1_000);

    #[test]
    fn a_permit_is_free_again_once_it_is_dropped() {
        let in_flight = InFlight::new(3);
        let until = Instant::now() + LONG;
        let mut held: Vec<_> = (0..3).map(|_| in_flight.admit(until).unwrap()).collect();
        for place in [1, 0, 2] {
            assert!(in_flight.admit(until).is_none());
            drop(held.remove(place));
            held.push(in_flight.admit(until).unwrap());
        }
        assert!(in_flight.admit(until).is_none());
    }

    #[test]
    fn a_permit_that_is_kept_for_ever_counts_until_its_time_is_over() {
        let in_flight = InFlight::new(2);
        let now = Instant::now();
        let _other = in_flight.admit(now + LONG).unwrap();
        let kept: Vec<_> = (0..9).map(|_| in_flight.admit(now)).collect();
        assert!(kept.iter().all(Option::is_some));
        let _last = in_flight.admit(now + LONG).unwrap();
        assert!(in_flight.admit(now + LONG).is_none());
    }
}
