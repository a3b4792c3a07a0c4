use crossbeam_utils::CachePadded;

use super::shard::Shard;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Entries of the cache's budget that no shard has. Each shard has half its share for good; the
/// other half goes where it is needed, so that the cache as a whole is full before a shard evicts.
pub(crate) struct Spare {
    entries: CachePadded<AtomicUsize>,
    closed: AtomicBool,
    /// What each shard has for good. `None` for a single one, which has all.
    own: Option<usize>,
}

/// A shard gives room back when it has more than this to spare.
pub(crate) const IDLE_ROOM: usize = 8;

impl Spare {
    pub(crate) fn new(entries: usize, own: Option<usize>) -> Self {
        Self {
            entries: CachePadded::new(AtomicUsize::new(entries)),
            closed: AtomicBool::new(false),
            own,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Gives nothing any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.entries.store(0, Ordering::Release);
    }

    /// Gives the shard an entry if it is full and there is one.
    pub(crate) fn make_room(&self, shard: &mut Shard) {
        if shard.len() < shard.limit() || self.entries.load(Ordering::Relaxed) == 0 {
            return;
        }
        // A shard that was still being closed may have given back an entry since.
        if self.is_closed() {
            return;
        }
        let less_one = |spare: usize| spare.checked_sub(1);
        let taken = self
            .entries
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, less_one);
        if taken.is_ok() {
            shard.set_limit(shard.limit().saturating_add(1));
        }
    }

    /// Takes an entry back if the shard has idle room beyond what is its own.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a limit above another is above 0, and all together are the budget at most"
    )]
    pub(crate) fn take_back_room(&self, shard: &mut Shard) {
        let Some(own) = self.own else { return };
        if shard.limit() > own.max(shard.len() + IDLE_ROOM) {
            shard.set_limit(shard.limit() - 1);
            self.entries.fetch_add(1, Ordering::AcqRel);
        }
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> &AtomicUsize {
        &self.entries
    }
}
