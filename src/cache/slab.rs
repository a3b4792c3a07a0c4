#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "slots are numbered here, up to the budget, and no number comes from outside"
)]

use zeroize::Zeroize;

use super::key::Key;
use super::shard::{Entry, Value};
use crate::clock::Time;
use crate::session::Version;

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
    /// Expiry in the low 48 bits, flags above.
    meta: u64,
    pub(crate) scope: u32,
    /// The next slot of the same bucket.
    pub(crate) chain: u32,
}

/// A slot's neighbours in its list.
#[derive(Clone, Copy, Default)]
pub(crate) struct Link {
    pub(crate) previous: u32,
    pub(crate) next: u32,
}

const EXPIRES: u64 = (1 << 48) - 1;
const PROTECTED: u64 = 1 << 48;
const USED: u64 = 1 << 49;
const TLS12: u64 = 1 << 50;
const TLS13: u64 = 1 << 51;
const READ_AGAIN: u64 = 1 << 52;

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

    pub(crate) fn insert(&mut self, key: Key<'_>, entry: Entry) -> u32 {
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
        slot.meta = USED | version | entry.expires.0.min(EXPIRES);
        index
    }

    /// Frees a slot, wipes its ID and returns its value.
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

    pub(crate) fn is_protected(&self) -> bool {
        self.meta & PROTECTED != 0
    }

    pub(crate) fn set_protected(&mut self, protected: bool) {
        match protected {
            true => self.meta |= PROTECTED,
            false => self.meta &= !(PROTECTED | READ_AGAIN),
        }
    }

    pub(crate) fn was_read_again(&self) -> bool {
        self.meta & READ_AGAIN != 0
    }

    pub(crate) fn set_read_again(&mut self, read: bool) {
        match read {
            true => self.meta |= READ_AGAIN,
            false => self.meta &= !READ_AGAIN,
        }
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
    fn flags_leave_each_other_and_the_expiry_alone() {
        let mut slot = Slot::vacant();
        slot.meta = USED | TLS12 | 1_000;
        let flags = |slot: &Slot| (slot.is_protected(), slot.was_read_again());
        assert_eq!(flags(&slot), (false, false));
        slot.set_protected(true);
        assert_eq!(flags(&slot), (true, false));
        slot.set_read_again(true);
        assert_eq!(flags(&slot), (true, true));
        slot.set_read_again(false);
        assert_eq!(flags(&slot), (true, false));
        slot.set_read_again(true);
        slot.set_protected(false);
        assert_eq!(
            flags(&slot),
            (false, false),
            "that of the protected ends too"
        );
        assert!(slot.is_used());
        assert_eq!(slot.version(), Some(Version::Tls12));
        assert_eq!(slot.expires(), Time(1_000));
    }

    #[test]
    fn a_slot_is_as_small_as_it_says() {
        assert_eq!((size_of::<Slot>(), size_of::<Link>()), (64, 8));
    }
}
