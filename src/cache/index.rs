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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::slab::Entry;
    use crate::cache::value::Value;
    use crate::clock::Time;
    use crate::lineage::Lineage;

    #[test]
    fn what_shares_a_bucket_is_found_until_it_is_removed() {
        let (mut index, mut slab) = (Index::new(4, 8), Slab::default());
        let ids = [[1; 32], [2; 32], [3; 32], [4; 32]];
        let key = |id| Key {
            hash: 7,
            scope: 1,
            id,
        };
        let slots = ids.each_ref().map(|id| {
            let entry = Entry {
                value: Value::default(),
                issuers: None,
                version: None,
                expires: Time(1),
                lineage: Lineage::of_full_handshake(Time(0)),
                is_renewal: false,
            };
            let slot = slab.insert(key(id), entry, false);
            index.insert(7, slot, &mut slab);
            slot
        });
        assert_eq!(index.longest_chain(&slab), 4);
        // From the middle of the chain, its end and its start.
        let mut left = vec![0, 1, 2, 3];
        for gone in [2, 0, 3, 1] {
            index.remove(7, slots[gone], &mut slab);
            left.retain(|number| *number != gone);
            let found = (0..4).filter(|number| index.find(key(&ids[*number]), &slab).is_some());
            assert!(found.eq(left.iter().copied()), "without {gone}");
        }
        let other = Key {
            scope: 2,
            ..key(&ids[1])
        };
        index.insert(7, slots[1], &mut slab);
        assert!(index.find(key(&ids[1]), &slab).is_some());
        assert!(index.find(other, &slab).is_none());
    }
}
