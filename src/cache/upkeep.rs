//! What is done with the whole cache, shard after shard, while handshakes go on.

use std::collections::HashSet;

use super::Cache;
use super::value::Removed;
use crate::scope::HoldsScopes;
use crate::terms::Terms;

/// Into how many parts the cache is divided for sweeping.
pub(super) const SWEEP_PARTS: u32 = 60;

/// Looked at under one lock, at most.
const SWEEP_STEP: u32 = 256;

impl HoldsScopes for Cache {
    fn scopes(&self) -> HashSet<u32> {
        let mut scopes = HashSet::new();
        for shard in &self.shards {
            let mut from = 0;
            while shard.lock().add_scopes(from, SWEEP_STEP, &mut scopes) {
                from = from.saturating_add(SWEEP_STEP);
            }
        }
        scopes
    }

    fn drop_all(&self) {
        Self::drop_all(self, None);
    }
}

impl Cache {
    /// Drops and wipes what has expired in the next part of the cache.
    pub(crate) fn sweep(&self, terms: &Terms) {
        let now = terms.read().steady;
        for shard in &self.shards {
            // Those that are free count too: what is left may stand behind them.
            let slots = (shard.lock().slots() / SWEEP_PARTS).saturating_add(SWEEP_STEP);
            for _ in 0..slots.div_ceil(SWEEP_STEP) {
                let mut removed = Removed::with_room(SWEEP_STEP);
                let mut shard = shard.lock();
                let more = shard.sweep(now, SWEEP_STEP, &mut removed);
                self.spare.take_back_room(&mut shard);
                drop(shard);
                drop(removed); // wiped outside the lock
                if !more {
                    break;
                }
            }
        }
    }

    /// Drops and wipes what is stored under these numbers of scopes, or all. Takes time in proportion
    /// to the cache, in small steps between which handshakes go on. Returns how many they were.
    pub(crate) fn drop_all(&self, scopes: Option<&HashSet<u32>>) -> usize {
        if scopes.is_some_and(HashSet::is_empty) {
            return 0;
        }
        let mut dropped = 0_usize;
        for shard in &self.shards {
            let mut from = 0;
            loop {
                let mut removed = Removed::with_room(SWEEP_STEP);
                let more = shard.lock().forget(scopes, from, SWEEP_STEP, &mut removed);
                dropped = dropped.saturating_add(removed.total());
                drop(removed); // wiped outside the lock
                if !more {
                    break;
                }
                from = from.saturating_add(SWEEP_STEP);
            }
        }
        dropped
    }

    /// Drops and wipes everything for good: nothing is stored any more.
    pub(crate) fn close(&self) {
        self.spare.close();
        for shard in &self.shards {
            shard.lock().set_limit(0);
        }
        self.drop_all(None);
    }

    /// An empty one in a process that was forked: a session that is to be used once must not be
    /// used once in each process. What is here is wiped as far as no other thread had locked it.
    pub(crate) fn heir(&self) -> Self {
        for shard in &self.shards {
            let Some(mut shard) = shard.try_lock() else {
                continue;
            };
            let mut from = 0;
            while shard.forget(None, from, SWEEP_STEP, &mut Removed::default()) {
                from = from.saturating_add(SWEEP_STEP);
            }
        }
        Self::new(self.settings.clone())
    }
}
