use std::sync::Arc;
use std::time::Duration;

use super::opened::LastOpened;
use super::slots::{HeldKey, Slot, Slots};
use crate::clock::Time;
use crate::rotation::Window;
use crate::source::SourceKey;
use crate::stek::{KeyName, Stek};

/// The ring as handshakes see it: immutable, replaced as a whole.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    slots: Slots,
    /// Those that may seal now or later: the latest to activate first.
    sealing: Vec<SourceKey>,
    /// Of the last few STEKs that were revoked here.
    revoked: Arc<Vec<Arc<LastOpened>>>,
}

impl Snapshot {
    pub(super) fn new(
        slots: Slots,
        sealing: Vec<SourceKey>,
        revoked: Arc<Vec<Arc<LastOpened>>>,
    ) -> Self {
        Self {
            slots,
            sealing,
            revoked,
        }
    }

    /// As it is once a source has answered with these keys, for those who ask it what seals.
    #[cfg(test)]
    pub(crate) fn of(mut keys: Vec<SourceKey>) -> Self {
        keys.sort_by_key(|key| std::cmp::Reverse(key.window.activates));
        Self::new(Slots::default(), keys, Arc::default())
    }

    /// What is known of a key name, if anything is.
    pub(super) fn find(&self, name: &KeyName) -> Option<&Slot> {
        self.slots.get(name)
    }

    /// Whether the STEK of this name, if one is given, is revoked.
    pub(crate) fn has_revoked(&self, name: Option<KeyName>) -> bool {
        name.is_some_and(|name| matches!(self.find(&name), Some(Slot::Revoked)))
    }

    /// Whether a handshake that nobody follows, under way for so long at most, may have opened its
    /// session with a STEK that was revoked since. The time is only asked for if there was any.
    #[inline(always)] // it has one caller
    pub(super) fn may_renew_revoked(
        &self,
        under_way: Duration,
        monotonic: impl FnOnce() -> Duration,
    ) -> bool {
        if self.revoked.is_empty() {
            return false;
        }
        let began = monotonic().checked_sub(under_way);
        self.revoked.iter().any(|opened| opened.is_after(began))
    }

    /// When the last few STEKs that were revoked had opened a session.
    pub(super) fn revoked_openings(&self) -> &Arc<Vec<Arc<LastOpened>>> {
        &self.revoked
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
        matches!(self.find(name), Some(Slot::Key(held)) if held.is_local)
    }

    /// All keys, in the order of their names.
    pub(super) fn keys(&self) -> impl Iterator<Item = &HeldKey> {
        self.slots.iter().filter_map(|(_, slot)| match slot {
            Slot::Key(held) => Some(held),
            Slot::Expired | Slot::Revoked => None,
        })
    }

    /// The names that were revoked.
    pub(super) fn revoked(&self) -> impl Iterator<Item = KeyName> {
        let revoked = |(name, slot)| matches!(slot, &Slot::Revoked).then_some(name);
        self.slots.iter().filter_map(revoked)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.keys()
    }

    /// The STEK that seals at this time, with its window.
    pub(crate) fn active(&self, now: Time) -> Option<&SourceKey> {
        self.sealing.iter().find(|key| key.window.seals(now))
    }
}
