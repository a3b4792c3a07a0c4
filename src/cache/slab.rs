#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "slots are numbered here, up to the budget, and no number comes from outside"
)]

use zeroize::Zeroize;

use super::certificates::Issuers;
use super::key::Key;
use super::value::Value;
use crate::clock::Time;
use crate::lineage::Lineage;
use crate::session::Version;

/// What is to be stored.
pub(crate) struct Entry {
    pub(crate) value: Value,
    /// What was cut out of the session, which the shard keeps.
    pub(crate) issuers: Option<Issuers>,
    /// `None` for bytes that are not a session of rustls as we know it.
    pub(crate) version: Option<Version>,
    pub(crate) expires: Time,
    pub(crate) lineage: Lineage,
    /// Whether its client is known to come back.
    pub(crate) is_renewal: bool,
}

/// Slots for sessions, by number, in chunks that never move: growing copies nothing (and so leaves
/// no session ID behind) and takes constant time.
#[derive(Default)]
pub(crate) struct Slab {
    chunks: Vec<Chunk>,
    /// One past the highest slot ever used.
    end: u32,
    /// Free slots, linked by `next`.
    free: u32,
}

/// Links stand by themselves, so that a look-up does not fetch them, and moving a session within
/// its list fetches little else.
struct Chunk {
    slots: Box<[Slot]>,
    links: Box<[Link]>,
}

/// No slot: its number is never given out.
pub(crate) const NONE: u32 = 0;

/// Fewer under a fuzzer, so that it gets past the first chunk, and quickly.
const CHUNK: usize = if cfg!(fuzzing) { 8 } else { 1024 };

/// One session: a cache line, pinned by a test. With its link it is most of what a session costs
/// beside its value.
#[repr(align(64))]
pub(crate) struct Slot {
    pub(crate) id: [u8; 32],
    pub(crate) value: Value,
    /// Expiry in the low 48 bits, flags above: of which the highest four are the eviction policy's.
    meta: u64,
    pub(crate) scope: u32,
    /// The next slot of the same bucket.
    pub(crate) chain: u32,
}

/// A slot's neighbours in a list of the eviction policy, and what else has no room in it: whoever
/// reads or takes a session moves it in its list, so has the link at hand.
#[derive(Clone, Copy, Default)]
pub(crate) struct Link {
    pub(crate) previous: u32,
    pub(crate) next: u32,
    lineage: [u8; Lineage::LEN],
}

const EXPIRES: u64 = (1 << 48) - 1;
const USED: u64 = 1 << 48;
const TLS12: u64 = 1 << 49;
const TLS13: u64 = 1 << 50;
/// A part of the session was cut out.
const CUT: u64 = 1 << 51;

impl Slab {
    /// One past the highest slot ever used.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    /// The slot of this number, which must have been given out.
    pub(crate) fn slot(&self, index: u32) -> &Slot {
        let index = index as usize;
        &self.chunks[index / CHUNK].slots[index % CHUNK]
    }

    pub(crate) fn slot_mut(&mut self, index: u32) -> &mut Slot {
        let index = index as usize;
        &mut self.chunks[index / CHUNK].slots[index % CHUNK]
    }

    pub(crate) fn link(&self, index: u32) -> Link {
        let index = index as usize;
        self.chunks[index / CHUNK].links[index % CHUNK]
    }

    pub(crate) fn link_mut(&mut self, index: u32) -> &mut Link {
        let index = index as usize;
        &mut self.chunks[index / CHUNK].links[index % CHUNK]
    }

    pub(crate) fn lineage(&self, index: u32) -> Lineage {
        Lineage::from_bytes(self.link(index).lineage)
    }

    /// Stores an entry of which the shard keeps what was cut out, if that is so.
    #[inline]
    pub(crate) fn insert(&mut self, key: Key<'_>, entry: Entry, is_cut: bool) -> u32 {
        let index = self.allocate();
        let version = match entry.version {
            Some(Version::Tls12) => TLS12,
            Some(Version::Tls13) => TLS13,
            None => 0,
        };
        let slot = self.slot_mut(index);
        slot.id = *key.id;
        slot.scope = key.scope;
        slot.value = entry.value;
        let cut = if is_cut { CUT } else { 0 };
        slot.meta = USED | version | cut | entry.expires.0.min(EXPIRES);
        self.link_mut(index).lineage = entry.lineage.to_bytes();
        index
    }

    /// Frees a slot, wipes its ID and returns its value.
    #[inline]
    pub(crate) fn remove(&mut self, index: u32) -> Value {
        let free = self.free;
        let slot = self.slot_mut(index);
        let value = std::mem::take(&mut slot.value);
        slot.id.zeroize();
        slot.meta = 0;
        self.link_mut(index).next = free;
        self.free = index;
        value
    }

    #[inline]
    fn allocate(&mut self) -> u32 {
        if self.free != NONE {
            let index = self.free;
            self.free = self.link(index).next;
            return index;
        }
        self.end = self.end.max(NONE + 1);
        let index = self.end;
        if index as usize / CHUNK >= self.chunks.len() {
            self.chunks.push(Chunk {
                slots: (0..CHUNK).map(|_| Slot::vacant()).collect(),
                links: vec![Link::default(); CHUNK].into_boxed_slice(),
            });
        }
        self.end += 1;
        index
    }
}

impl Slot {
    fn vacant() -> Self {
        Self {
            id: [0; 32],
            value: Value::default(),
            meta: 0,
            scope: 0,
            chain: NONE,
        }
    }

    pub(crate) fn is_used(&self) -> bool {
        self.meta & USED != 0
    }

    /// The number of what was cut out of the session, if that was done.
    pub(crate) fn issuers(&self) -> Option<u32> {
        (self.meta & CUT != 0).then(|| self.value.issuers())
    }

    /// Whether this flag of the eviction policy is set.
    pub(crate) fn has(&self, flag: u64) -> bool {
        self.meta & flag != 0
    }

    pub(crate) fn set(&mut self, flag: u64) {
        self.meta |= flag;
    }

    pub(crate) fn clear(&mut self, flags: u64) {
        self.meta &= !flags;
    }

    pub(crate) fn expires(&self) -> Time {
        Time(self.meta & EXPIRES)
    }

    pub(crate) fn version(&self) -> Option<Version> {
        match self.meta & (TLS12 | TLS13) {
            TLS12 => Some(Version::Tls12),
            TLS13 => Some(Version::Tls13),
            _ => None,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.id.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_as_small_as_it_says() {
        assert_eq!((size_of::<Slot>(), size_of::<Link>()), (64, 16));
    }

    #[test]
    fn there_is_no_more_memory_than_the_slots_given_out_need() {
        let mut slab = Slab::default();
        for number in 1..=2 * CHUNK {
            assert_eq!(slab.allocate() as usize, number);
            assert_eq!(slab.chunks.len(), number / CHUNK + 1);
        }
    }
}
