#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "hashes are masked by the number of buckets, a power of two"
)]

use super::key::Key;
use super::slab::{NONE, Slab};

/// Finds slots by their key: buckets of chained slots, more of them than slots so that chains are
/// short. Of fixed size, so that nothing is ever
/// rehashed and removal leaves nothing behind.
pub(crate) struct Index {
    /// The first slot of each bucket. Memory that is zero is not touched before it is used.
    buckets: Box<[u32]>,
}

impl Index {
    /// With no more than `most` buckets, or 8 if that is more.
    pub(crate) fn new(capacity: usize, most: usize) -> Self {
        let buckets = capacity.saturating_mul(2).min(most).max(8);
        let buckets = buckets.next_power_of_two();
        Self {
            buckets: vec![NONE; buckets].into_boxed_slice(),
        }
    }

    /// Compares the whole ID and the scope. Not in constant time: whoever asks for an ID of 256
    /// random bits learns from the time it takes no more than from the answer.
    pub(crate) fn find(&self, key: Key<'_>, slab: &Slab) -> Option<u32> {
        let mut index = self.buckets[self.bucket(key.hash)];
        while index != NONE {
            let slot = slab.slot(index);
            if slot.id == *key.id && slot.scope == key.scope {
                return Some(index);
            }
            index = slot.chain;
        }
        None
    }

    pub(crate) fn insert(&mut self, hash: u64, index: u32, slab: &mut Slab) {
        let bucket = self.bucket(hash);
        slab.slot_mut(index).chain = self.buckets[bucket];
        self.buckets[bucket] = index;
    }

    pub(crate) fn remove(&mut self, hash: u64, index: u32, slab: &mut Slab) {
        let bucket = self.bucket(hash);
        let next = slab.slot(index).chain;
        let mut at = self.buckets[bucket];
        if at == index {
            self.buckets[bucket] = next;
            return;
        }
        while at != NONE {
            let slot = slab.slot_mut(at);
            if slot.chain == index {
                slot.chain = next;
                return;
            }
            at = slot.chain;
        }
    }

    #[cfg(test)]
    pub(crate) fn longest_chain(&self, slab: &Slab) -> usize {
        let chain = |first: &u32| {
            let next = |index: &u32| Some(slab.slot(*index).chain).filter(|next| *next != NONE);
            std::iter::successors(Some(*first).filter(|first| *first != NONE), next).count()
        };
        self.buckets.iter().map(chain).max().unwrap_or(0)
    }

    fn bucket(&self, hash: u64) -> usize {
        // The high bits choose the shard.
        hash as usize & (self.buckets.len() - 1)
    }
}
