use std::mem;
use std::sync::Arc;

use super::opened::LastOpened;
use crate::clock::Time;
use crate::source::SourceKey;
use crate::stek::KeyName;

/// What is known of each key name. Clones share what neither has changed since, so a snapshot costs
/// in proportion to what changed, however many STEKs there are.
///
/// ```text
///  name: 00…   01…   10…   11…      as many chunks as the first bits of names have values,
///         │     │     │     │       some 16 names in each: names are evenly spread, since
///       chunk chunk chunk chunk     HKDF made them
/// ```
#[derive(Clone, Debug)]
pub(super) struct Slots {
    chunks: Vec<Arc<Chunk>>,
    /// How far the first 64 bits of a name are shifted to tell its chunk.
    shift: u32,
    names: usize,
    keys: usize,
}

/// What is known of a key name.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    Key(HeldKey),
    Expired,
    Revoked,
}

/// A STEK that a ring holds.
#[derive(Clone, Debug)]
pub(super) struct HeldKey {
    pub(super) key: SourceKey,
    /// Whether it stands in for those of the source. No other process has it.
    pub(super) is_local: bool,
    /// When something is next to be done about it.
    pub(super) due: Time,
    /// When a handshake that nobody follows last opened a session with it.
    pub(super) opened: Arc<LastOpened>,
}

#[derive(Clone, Debug, Default)]
struct Chunk {
    /// In their order, as numbers because those are compared at once.
    names: Vec<u128>,
    /// What is known of the name at the same index.
    slots: Vec<Slot>,
}

/// The fewest chunks: two, since 64 bits cannot be shifted by 64.
const FEWEST: usize = 2;

/// How many names there are in a chunk on average, at most, and at least if there are many chunks.
const CROWDED: usize = 16;
const SPARSE: usize = 4;

/// In the order of the names.
fn number(name: &KeyName) -> u128 {
    u128::from_be_bytes(*name.as_bytes())
}

impl Slots {
    /// A power of two of them.
    fn with_chunks(count: usize) -> Self {
        Self {
            chunks: vec![Arc::default(); count],
            shift: u64::BITS.saturating_sub(count.trailing_zeros()),
            names: 0,
            keys: 0,
        }
    }

    /// Which chunk has this name.
    fn place(&self, number: u128) -> usize {
        let first = (number >> u64::BITS) as u64;
        first.wrapping_shr(self.shift) as usize
    }

    pub(super) fn get(&self, name: &KeyName) -> Option<&Slot> {
        let number = number(name);
        let chunk = self.chunks.get(self.place(number))?;
        let index = chunk.names.binary_search(&number).ok()?;
        chunk.slots.get(index)
    }

    /// Returns what was there.
    pub(super) fn set(&mut self, name: &KeyName, slot: Slot) -> Option<Slot> {
        let number = number(name);
        let place = self.place(number);
        let chunk = Arc::make_mut(self.chunks.get_mut(place)?);
        self.keys = self.keys.saturating_add(slot.is_key().into());
        match chunk.names.binary_search(&number) {
            Ok(index) => {
                let before = chunk.slots.get_mut(index)?;
                let before = mem::replace(before, slot);
                self.keys = self.keys.saturating_sub(before.is_key().into());
                Some(before)
            }
            Err(index) => {
                chunk.names.insert(index, number);
                chunk.slots.insert(index, slot);
                self.names = self.names.saturating_add(1);
                self.fit();
                None
            }
        }
    }

    /// Returns what was there.
    pub(super) fn remove(&mut self, name: &KeyName) -> Option<Slot> {
        let number = number(name);
        let place = self.place(number);
        let chunk = self.chunks.get_mut(place)?;
        let index = chunk.names.binary_search(&number).ok()?;
        let chunk = Arc::make_mut(chunk);
        chunk.names.remove(index);
        let slot = chunk.slots.remove(index);
        self.names = self.names.saturating_sub(1);
        self.keys = self.keys.saturating_sub(slot.is_key().into());
        self.fit();
        Some(slot)
    }

    /// Has twice or half as many chunks when these are too full or too empty.
    fn fit(&mut self) {
        let count = self.chunks.len();
        if self.names > count.saturating_mul(CROWDED) {
            self.resize(count.saturating_mul(2));
        } else if count > FEWEST && self.names < count.saturating_mul(SPARSE) {
            self.resize(count.checked_div(2).unwrap_or(FEWEST));
        }
    }

    fn resize(&mut self, count: usize) {
        let mut chunks = vec![Chunk::default(); count];
        self.shift = u64::BITS.saturating_sub(count.trailing_zeros());
        for chunk in mem::take(&mut self.chunks) {
            let Chunk { names, slots } = Arc::unwrap_or_clone(chunk);
            // In order, so that each goes to the end of its chunk.
            for (name, slot) in names.into_iter().zip(slots) {
                if let Some(chunk) = chunks.get_mut(self.place(name)) {
                    chunk.names.push(name);
                    chunk.slots.push(slot);
                }
            }
        }
        self.chunks = chunks.into_iter().map(Arc::new).collect();
    }

    /// How many of the names are those of keys.
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    /// What is known of each name, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (KeyName, &Slot)> {
        let chunks = self.chunks.iter();
        let all = chunks.flat_map(|chunk| chunk.names.iter().zip(&chunk.slots));
        all.map(|(name, slot)| (KeyName::from_bytes(name.to_be_bytes()), slot))
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::with_chunks(FEWEST)
    }
}

impl Slot {
    fn is_key(&self) -> bool {
        matches!(self, Self::Key(_))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::stek::Stek;

    fn name(number: u128) -> KeyName {
        KeyName::from_bytes(number.to_be_bytes())
    }

    fn key() -> Slot {
        Slot::Key(HeldKey {
            key: SourceKey::sealing(Stek::from_bytes(b"0123456789abcdef0123456789abcdef").unwrap()),
            is_local: false,
            due: Time(0),
            opened: Arc::default(),
        })
    }

    /// What a slot is, without what is in it.
    fn kind(slot: &Slot) -> u8 {
        match slot {
            Slot::Key(_) => 0,
            Slot::Expired => 1,
            Slot::Revoked => 2,
        }
    }

    proptest! {
        #[test]
        fn they_hold_what_a_map_holds_and_clones_stay_as_they_are(
            changes in proptest::collection::vec((any::<u8>(), 0u8..4), 0..600),
        ) {
            let key = key();
            let (mut slots, mut model) = (Slots::default(), BTreeMap::new());
            let mut earlier = Vec::new();
            for (number, change) in changes {
                // Some evenly spread, some in one chunk.
                let name = match number % 3 {
                    0 => name(u128::from(number)),
                    _ => name(u128::from(number) << 120),
                };
                let slot = match change {
                    0 => Some(key.clone()),
                    1 => Some(Slot::Expired),
                    2 => Some(Slot::Revoked),
                    _ => None,
                };
                let (before, expected) = match slot {
                    Some(slot) => {
                        let kind = kind(&slot);
                        (slots.set(&name, slot), model.insert(name, kind))
                    }
                    None => (slots.remove(&name), model.remove(&name)),
                };
                prop_assert_eq!(before.as_ref().map(kind), expected);
                prop_assert_eq!(slots.get(&name).map(kind), model.get(&name).copied());
                if earlier.len() < 20 {
                    earlier.push((slots.clone(), model.clone()));
                }
            }
            for (slots, model) in earlier.iter().chain([&(slots, model)]) {
                let all = slots.iter().map(|(name, slot)| (name, kind(slot)));
                prop_assert!(all.eq(model.iter().map(|(name, kind)| (*name, *kind))));
                let keys = model.values().filter(|kind| **kind == 0).count();
                prop_assert_eq!(slots.keys(), keys);
            }
        }
    }

    #[test]
    fn one_more_among_thousands_copies_one_chunk() {
        let mut slots = Slots::default();
        let spread =
            |number: u128| name(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        for number in 0..50_000 {
            slots.set(&spread(number), Slot::Expired);
        }
        let before = slots.clone();
        slots.set(&spread(50_000), Slot::Expired);
        let pairs = || slots.chunks.iter().zip(&before.chunks);
        assert_eq!(slots.chunks.len(), 4_096);
        assert_eq!(
            pairs()
                .filter(|(one, other)| !Arc::ptr_eq(one, other))
                .count(),
            1
        );
        assert!(slots.chunks.iter().all(|chunk| chunk.names.len() <= 64));
        for number in 0..=50_000 {
            slots.remove(&spread(number));
        }
        assert_eq!(slots.chunks.len(), FEWEST);
    }
}
