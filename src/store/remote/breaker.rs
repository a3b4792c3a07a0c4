use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Spares clients a Redis that does not answer. It is down until a connection has proven itself, and
/// again after so many failures running, or once the connection is lost.
pub(in crate::store) struct Breaker {
    is_down: AtomicBool,
    failures: AtomicU32,
    outages: AtomicU64,
}

/// How many look-ups may fail before Redis is given up.
const MAX_FAILURES: u32 = 3;

impl Default for Breaker {
    fn default() -> Self {
        Self {
            is_down: AtomicBool::new(true),
            failures: AtomicU32::new(0),
            outages: AtomicU64::new(0),
        }
    }
}

impl Breaker {
    pub(in crate::store) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Acquire)
    }

    pub(in crate::store) fn outages(&self) -> u64 {
        self.outages.load(Ordering::Relaxed)
    }

    /// A new connection answers.
    pub(in crate::store) fn recovered(&self) {
        self.failures.store(0, Ordering::Release);
        self.is_down.store(false, Ordering::Release);
    }

    /// Something was answered.
    pub(in crate::store) fn succeeded(&self) {
        self.failures.store(0, Ordering::Release);
    }

    /// Something was not. True if this was once too often.
    pub(in crate::store) fn failed(&self) -> bool {
        let before = self.failures.fetch_add(1, Ordering::AcqRel);
        before >= MAX_FAILURES - 1 && self.trip()
    }

    /// The connection is lost. True if it was not known before.
    pub(in crate::store) fn trip(&self) -> bool {
        let tripped = !self.is_down.swap(true, Ordering::AcqRel);
        self.outages
            .fetch_add(u64::from(tripped), Ordering::Relaxed);
        tripped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_down_and_one_answer_is_not_enough() {
        let breaker = Breaker::default();
        breaker.succeeded();
        assert!(breaker.is_down());
        breaker.recovered();
        assert!(!breaker.is_down());
        assert_eq!(breaker.outages(), 0);
    }

    #[test]
    fn failures_running_take_it_down_and_any_answer_between_does_not_let_them() {
        let breaker = Breaker::default();
        breaker.recovered();
        for _ in 0..5 {
            for _ in 1..MAX_FAILURES {
                assert!(!breaker.failed());
            }
            breaker.succeeded();
        }
        assert!(!breaker.is_down());
        for _ in 1..MAX_FAILURES {
            assert!(!breaker.failed());
        }
        assert!(breaker.failed());
        assert!(!breaker.failed(), "told once");
        assert!(breaker.is_down());
        assert_eq!(breaker.outages(), 1);
        breaker.recovered();
        assert!(!breaker.failed(), "it starts anew");
    }

    #[test]
    fn a_lost_connection_takes_it_down_at_once() {
        let breaker = Breaker::default();
        breaker.recovered();
        assert!(breaker.trip());
        assert!(!breaker.trip());
        assert_eq!(breaker.outages(), 1);
    }
}
