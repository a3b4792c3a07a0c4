use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// A circuit breaker: while it is open nobody asks the server, and nobody waits for it.
///
/// It is open until a connection has answered, and opens again after several failures in a row, or
/// once the connection is lost.
pub(super) struct Breaker {
    is_open: AtomicBool,
    failures: AtomicU32,
    outages: AtomicU64,
}

/// The failures in a row that open it.
const MAX_FAILURES: u32 = 3;

impl Default for Breaker {
    fn default() -> Self {
        Self {
            is_open: AtomicBool::new(true),
            failures: AtomicU32::new(0),
            outages: AtomicU64::new(0),
        }
    }
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// How often it has opened.
    pub(super) fn outages(&self) -> u64 {
        self.outages.load(Ordering::Relaxed)
    }

    /// A new connection has answered.
    pub(super) fn close(&self) {
        self.failures.store(0, Ordering::Release);
        self.is_open.store(false, Ordering::Release);
    }

    /// The server answered. This alone does not close an open breaker.
    pub(super) fn succeeded(&self) {
        self.failures.store(0, Ordering::Release);
    }

    /// The server failed, or did not answer. True if this opened the breaker.
    pub(super) fn failed(&self) -> bool {
        let before = self.failures.fetch_add(1, Ordering::AcqRel);
        before >= MAX_FAILURES - 1 && self.open()
    }

    /// The connection is lost. True if this opened the breaker.
    pub(super) fn open(&self) -> bool {
        let opened = !self.is_open.swap(true, Ordering::AcqRel);
        self.outages.fetch_add(u64::from(opened), Ordering::Relaxed);
        opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_down_and_one_answer_is_not_enough() {
        let breaker = Breaker::default();
        breaker.succeeded();
        assert!(breaker.is_open());
        breaker.close();
        assert!(!breaker.is_open());
        assert_eq!(breaker.outages(), 0);
    }

    #[test]
    fn failures_running_take_it_down_and_any_answer_between_does_not_let_them() {
        let breaker = Breaker::default();
        breaker.close();
        for _ in 0..5 {
            for _ in 1..MAX_FAILURES {
                assert!(!breaker.failed());
            }
            breaker.succeeded();
        }
        assert!(!breaker.is_open());
        for _ in 1..MAX_FAILURES {
            assert!(!breaker.failed());
        }
        assert!(breaker.failed());
        assert!(!breaker.failed(), "told once");
        assert!(breaker.is_open());
        assert_eq!(breaker.outages(), 1);
        breaker.close();
        assert!(!breaker.failed(), "it starts anew");
    }

    #[test]
    fn a_lost_connection_takes_it_down_at_once() {
        let breaker = Breaker::default();
        breaker.close();
        assert!(breaker.open());
        assert!(!breaker.open());
        assert_eq!(breaker.outages(), 1);
    }
}
