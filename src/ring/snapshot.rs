use std::sync::Arc;

use crate::clock::Time;
use crate::rotation::Window;
use crate::source::SourceKey;
use crate::stek::{KeyName, Stek};

/// The ring as handshakes see it: immutable, replaced as a whole.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// In their order, as numbers because those are compared at once.
    names: Vec<u128>,
    /// What is known of the name at the same index.
    slots: Vec<Slot>,
    /// Those that may seal now or later: the latest to activate first.
    sealing: Vec<SourceKey>,
    /// Names of the local fallback keys, which no other process has.
    local: Vec<KeyName>,
}

#[derive(Debug)]
enum Slot {
    Key(SourceKey),
    Expired,
    Revoked,
}

/// What is known of a key name.
pub(crate) enum Lookup<'a> {
    Key(&'a SourceKey),
    Expired,
    Revoked,
    Unknown,
}

/// In the order of the names.
fn number(name: &KeyName) -> u128 {
    u128::from_be_bytes(*name.as_bytes())
}

impl Snapshot {
    /// Whether the STEK of this name, if one is given, is revoked.
    pub(crate) fn has_revoked(&self, name: Option<KeyName>) -> bool {
        name.is_some_and(|name| matches!(self.find(&name), Lookup::Revoked))
    }

    pub(crate) fn new(
        keys: Vec<SourceKey>,
        expired: impl IntoIterator<Item = KeyName>,
        revoked: impl IntoIterator<Item = KeyName>,
        now: Time,
    ) -> Self {
        let mut sealing: Vec<_> = keys
            .iter()
            .filter(|key| now < key.window.retires && key.window.activates < key.window.retires)
            .cloned()
            .collect();
        // Stable, so that of those which activate together the first listed seals.
        sealing.sort_by_key(|key| std::cmp::Reverse(key.window.activates));

        let keys = keys
            .into_iter()
            .map(|key| (*key.stek.name(), Slot::Key(key)));
        let expired = expired.into_iter().map(|name| (name, Slot::Expired));
        let revoked = revoked.into_iter().map(|name| (name, Slot::Revoked));
        let mut slots: Vec<_> = keys.chain(revoked).chain(expired).collect();
        slots.sort_by_key(|(name, _)| *name);
        slots.dedup_by_key(|(name, _)| *name);
        let slots = slots.into_iter();
        let (names, slots) = slots.map(|(name, slot)| (number(&name), slot)).unzip();
        Self {
            names,
            slots,
            sealing,
            local: Vec::new(),
        }
    }

    /// Adds the names of the local fallback keys.
    pub(crate) fn with_local(mut self, local: Vec<KeyName>) -> Self {
        self.local = local;
        self
    }

    pub(crate) fn find(&self, name: &KeyName) -> Lookup<'_> {
        let slot = self.names.binary_search(&number(name)).ok();
        match slot.and_then(|index| self.slots.get(index)) {
            Some(Slot::Key(key)) => Lookup::Key(key),
            Some(Slot::Expired) => Lookup::Expired,
            Some(Slot::Revoked) => Lookup::Revoked,
            None => Lookup::Unknown,
        }
    }

    /// The STEK that seals at this time.
    pub(crate) fn sealing(&self, now: Time) -> Option<&Arc<Stek>> {
        self.active(now).map(|key| &key.stek)
    }

    pub(crate) fn active_since(&self, now: Time) -> Option<Time> {
        let window: Window = self.active(now)?.window;
        // A key without a schedule activated at no known time.
        (window.activates > Time(0)).then_some(window.activates)
    }

    /// Whether the active STEK is near its limit of seals and should retire before its time.
    pub(crate) fn is_worn(&self, now: Time) -> bool {
        self.sealing(now)
            .is_some_and(|stek| stek.ticket_key().is_worn() || stek.store_key().is_worn())
    }

    /// Whether this STEK is a local fallback.
    pub(crate) fn is_local(&self, name: &KeyName) -> bool {
        self.local.contains(name)
    }

    /// All keys, with whether they are local ones, and the names that were revoked.
    pub(crate) fn contents(&self) -> (Vec<(SourceKey, bool)>, Vec<KeyName>) {
        let (mut keys, mut revoked) = (Vec::new(), Vec::new());
        for (name, slot) in self.names.iter().zip(&self.slots) {
            match slot {
                Slot::Key(key) => keys.push((key.clone(), self.is_local(key.stek.name()))),
                Slot::Revoked => revoked.push(KeyName::from_bytes(name.to_be_bytes())),
                Slot::Expired => {}
            }
        }
        (keys, revoked)
    }

    pub(crate) fn len(&self) -> usize {
        let is_key = |slot: &&Slot| matches!(slot, Slot::Key(_));
        self.slots.iter().filter(is_key).count()
    }

    /// The STEK that seals at this time, with its window.
    pub(crate) fn active(&self, now: Time) -> Option<&SourceKey> {
        self.sealing.iter().find(|key| key.window.seals(now))
    }
}
