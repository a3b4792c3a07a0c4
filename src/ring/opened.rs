use std::time::Duration;

use crate::clock::millis;
use crate::sync::atomic::{AtomicU64, Ordering};

/// When a TLS 1.3 session was last opened with a STEK by a handshake that nobody follows: it may be
/// about to renew that session, and nothing tells later which handshake does.
///
/// Each handshake notes it before it seals, on one thread or handed from one to the next, so it finds
/// at least its own time when it asks.
#[derive(Debug, Default)]
pub(super) struct LastOpened(AtomicU64);

impl LastOpened {
    /// By monotonic time.
    pub(super) fn note(&self, now: Duration) {
        let now = stamp(now);
        if self.0.load(Ordering::Relaxed) < now {
            self.0.fetch_max(now, Ordering::Relaxed);
        }
    }

    /// Whether there was any, and after this time if one is given.
    pub(super) fn is_after(&self, time: Option<Duration>) -> bool {
        self.0.load(Ordering::Relaxed) > time.map_or(0, stamp)
    }
}

/// Never 0, which stands for none.
fn stamp(time: Duration) -> u64 {
    millis(time).saturating_add(1)
}
