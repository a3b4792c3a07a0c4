use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::opened::LastOpened;
use super::slots::{HeldKey, Slot, Slots};
use super::snapshot::Snapshot;
use crate::clock::Time;
use crate::rotation::{Rotation, Window};
use crate::source::SourceKey;
use crate::stek::KeyName;

/// The STEKs that a ring holds, those of its source and local ones, by name and by when something
/// is to be done about them; and the names of the last few that are gone. What it is asked for
/// costs in proportion to what is due, not to what is held.
#[derive(Default)]
pub(super) struct Held {
    slots: Slots,
    /// When each key is to be looked at next. Each is there once, at its `due`.
    agenda: BTreeSet<(Time, KeyName)>,
    /// Of the source's, those that may seal now or later: the latest to activate first, and of
    /// those which activate together the first listed.
    sealing: Vec<SourceKey>,
    sourced: usize,
    local: Vec<KeyName>,
    /// Names of the last few that expired, to tell an expired ticket from an unknown one.
    expired: VecDeque<KeyName>,
    /// Names of the last few that were revoked, here or elsewhere.
    revoked: VecDeque<KeyName>,
    /// Of as many that were revoked while they were here.
    openings: Arc<Vec<Arc<LastOpened>>>,
    looked: Time,
}

/// How many names of STEKs are remembered that expired.
const EXPIRED_NAMES: usize = 64;

/// How many names of STEKs are remembered that were revoked.
const REVOKED_NAMES: usize = 256;

impl Held {
    /// Whether one of the source's seals.
    pub(super) fn seals(&self, now: Time) -> bool {
        self.sealing.iter().any(|key| key.window.seals(now))
    }

    /// When something is next to be done: a window changes, or a successor should be published.
    pub(super) fn due(&self) -> Time {
        self.agenda.first().map_or(Time(u64::MAX), |(due, _)| *due)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &HeldKey> {
        self.slots.iter().filter_map(|(_, slot)| match slot {
            Slot::Key(held) => Some(held),
            Slot::Expired | Slot::Revoked => None,
        })
    }

    pub(super) fn get(&self, name: &KeyName) -> Option<&HeldKey> {
        match self.slots.get(name) {
            Some(Slot::Key(held)) => Some(held),
            _ => None,
        }
    }

    /// Holds these keys of the source and no others. Returns the names of those that went.
    pub(super) fn replace(&mut self, keys: Vec<SourceKey>, ahead: Duration) -> Vec<KeyName> {
        let is_held = |key: &&SourceKey| self.get(key.stek.name()).is_some_and(|it| !it.is_local);
        let mut gone = Vec::new();
        if keys.iter().filter(is_held).count() != self.sourced {
            let listed: HashSet<_> = keys.iter().map(|key| key.stek.name()).collect();
            let sourced = self.keys().filter(|held| !held.is_local);
            let names = sourced.map(|held| *held.key.stek.name());
            gone.extend(names.filter(|name| !listed.contains(name)));
        }
        for name in &gone {
            self.take(name);
        }
        // Built anew, since the order in which they are listed may be another.
        self.sealing.clear();
        self.add(keys, ahead);
        gone
    }

    /// Holds these keys of the source, too.
    pub(super) fn add(&mut self, keys: Vec<SourceKey>, ahead: Duration) {
        let names: Vec<_> = keys.iter().map(|key| *key.stek.name()).collect();
        for key in keys {
            self.put(key, false, ahead);
        }
        self.seal_no_more(&names);
        let held = names.iter().filter_map(|name| self.get(name));
        let sealing = held.filter(|held| may_seal(&held.key.window, self.looked));
        let sealing: Vec<_> = sealing.map(|held| held.key.clone()).collect();
        self.seal_too(sealing);
    }

    fn seal_too(&mut self, keys: Vec<SourceKey>) {
        self.sealing.extend(keys);
        // Stable, so that of those which activate together the first listed seals.
        self.sealing
            .sort_by_key(|key| Reverse(key.window.activates));
    }

    fn seal_no_more(&mut self, names: &[KeyName]) {
        if !self.sealing.is_empty() {
            let names: HashSet<_> = names.iter().collect();
            self.sealing.retain(|key| !names.contains(key.stek.name()));
        }
    }

    /// Has these keys, and no others, stand in for those of the source.
    pub(super) fn stand_in(&mut self, keys: &[SourceKey], ahead: Duration) {
        if keys.is_empty() && self.local.is_empty() {
            return;
        }
        let listed: HashSet<_> = keys.iter().map(|key| *key.stek.name()).collect();
        for name in std::mem::take(&mut self.local) {
            let is_local = self.get(&name).is_some_and(|held| held.is_local);
            if is_local && !listed.contains(&name) {
                self.take(&name);
            }
        }
        for key in keys {
            self.local.push(*key.stek.name());
            self.put(key.clone(), true, ahead);
        }
    }

    /// A source may build its STEKs anew for each answer. The ones already held are kept: they
    /// count their seals, and a fresh count would never reach AES-256-GCM's limit.
    fn put(&mut self, mut key: SourceKey, is_local: bool, ahead: Duration) {
        let name = *key.stek.name();
        let mut opened = Arc::default();
        if let Some(held) = self.get(&name) {
            if held.key.window == key.window && held.is_local == is_local {
                return;
            }
            key.stek = held.key.stek.clone();
            opened = Arc::clone(&held.opened);
            self.take(&name);
        }
        let due = next_look(&key.window, ahead, self.looked);
        self.agenda.insert((due, name));
        self.sourced = self.sourced.saturating_add((!is_local).into());
        let held = HeldKey {
            key,
            is_local,
            due,
            opened,
        };
        self.slots.set(&name, Slot::Key(held));
    }

    /// Takes a key out, but for the list of those that may seal.
    fn take(&mut self, name: &KeyName) {
        let Some(held) = self.get(name) else { return };
        let (due, is_local) = (held.due, held.is_local);
        self.agenda.remove(&(due, *name));
        self.sourced = self.sourced.saturating_sub((!is_local).into());
        self.slots.remove(name);
    }

    /// Drops what has expired, and no more of the source's keys are held than there may be: those
    /// that would expire first go first. Returns the names of those that went.
    pub(super) fn advance(&mut self, now: Time, ahead: Duration) -> Vec<KeyName> {
        if now < self.looked {
            self.look_anew(now, ahead);
        }
        self.looked = now;
        let mut gone = Vec::new();
        while let Some((_, name)) = self.agenda.first().copied().filter(|(due, _)| *due <= now) {
            match self.get(&name).map(|held| held.key.window) {
                Some(window) if now < window.expires => {
                    self.look_again(&name, next_look(&window, ahead, now));
                }
                Some(_) => {
                    self.take(&name);
                    gone.push(name);
                }
                None => drop(self.agenda.pop_first()),
            }
        }
        self.shed(Rotation::MAX_KEYS, now, &mut gone);
        self.sealing.retain(|key| may_seal(&key.window, now));
        gone
    }

    /// Drops retired keys of the source, as long as it has more than so many.
    fn shed(&mut self, most: u128, now: Time, gone: &mut Vec<KeyName>) {
        while self.sourced as u128 > most {
            // What has retired has nothing due but its end.
            let retired = |(_, name): &&(Time, KeyName)| {
                let held = self.get(name);
                held.is_some_and(|held| !held.is_local && held.key.window.retires <= now)
            };
            let Some((_, name)) = self.agenda.iter().find(retired).copied() else {
                break;
            };
            self.take(&name);
            gone.push(name);
        }
    }

    /// The time went back: what seemed to be over may be to come.
    fn look_anew(&mut self, now: Time, ahead: Duration) {
        let windows = self
            .keys()
            .map(|held| (*held.key.stek.name(), held.key.window));
        for (name, window) in windows.collect::<Vec<_>>() {
            self.look_again(&name, next_look(&window, ahead, now));
        }
        let listed: HashSet<_> = self.sealing.iter().map(|key| key.stek.name()).collect();
        let sourced = self.keys().filter(|held| !held.is_local);
        let again = sourced
            .map(|held| &held.key)
            .filter(|key| may_seal(&key.window, now));
        let again = again.filter(|key| !listed.contains(key.stek.name()));
        let again = again.cloned().collect();
        self.seal_too(again);
    }

    fn look_again(&mut self, name: &KeyName, due: Time) {
        let Some(held) = self.get(name).cloned() else {
            return;
        };
        self.agenda.remove(&(held.due, *name));
        self.agenda.insert((due, *name));
        self.slots.set(name, Slot::Key(HeldKey { due, ..held }));
    }

    /// Remembers the name of a key that is gone, as one that expired.
    pub(super) fn note_expired(&mut self, name: KeyName) {
        if self.slots.get(&name).is_some() {
            return;
        }
        self.slots.set(&name, Slot::Expired);
        self.expired.push_front(name);
        if self.expired.len() > EXPIRED_NAMES {
            let oldest = self.expired.pop_back();
            let is_expired = |name: &KeyName| matches!(self.slots.get(name), Some(Slot::Expired));
            if let Some(oldest) = oldest.filter(is_expired) {
                self.slots.remove(&oldest);
            }
        }
    }

    /// Drops these keys, and remembers their names as ones that were revoked.
    pub(super) fn revoke(&mut self, names: &[KeyName]) {
        self.seal_no_more(names);
        for name in names {
            if let Some(opened) = self.get(name).map(|held| Arc::clone(&held.opened)) {
                let openings = Arc::make_mut(&mut self.openings);
                let too_many = openings.len().saturating_sub(REVOKED_NAMES - 1);
                openings.drain(..too_many);
                openings.push(opened);
            }
            self.take(name);
            if let Some(Slot::Revoked) = self.slots.set(name, Slot::Revoked) {
                continue;
            }
            self.revoked.push_front(*name);
            if self.revoked.len() > REVOKED_NAMES {
                let oldest = self.revoked.pop_back();
                let is_revoked =
                    |name: &KeyName| matches!(self.slots.get(name), Some(Slot::Revoked));
                if let Some(oldest) = oldest.filter(is_revoked) {
                    self.slots.remove(&oldest);
                }
            }
        }
    }

    /// In a process that was forked.
    pub(super) fn inherit_revoked(&mut self, openings: &Arc<Vec<Arc<LastOpened>>>) {
        self.openings = Arc::clone(openings);
    }

    /// What handshakes are to read. `local` are the keys that stand in, in their order.
    pub(super) fn snapshot(&self, local: &[SourceKey]) -> Snapshot {
        let local = local
            .iter()
            .filter(|key| may_seal(&key.window, self.looked));
        let mut sealing: Vec<_> = self.sealing.iter().chain(local).cloned().collect();
        // Stable, so that of those which activate together the first listed seals.
        sealing.sort_by_key(|key| Reverse(key.window.activates));
        Snapshot::new(self.slots.clone(), sealing, Arc::clone(&self.openings))
    }
}

/// Whether a key seals now or later.
fn may_seal(window: &Window, now: Time) -> bool {
    now < window.retires && window.activates < window.retires
}

/// When something is next to be done about a key: its window changes, or its successor should be
/// published.
fn next_look(window: &Window, ahead: Duration, now: Time) -> Time {
    if window.expires <= now {
        return window.expires; // it is to go at once
    }
    let publish = Some(window.retires.minus(ahead)).filter(|time| *time > now);
    let change = window.next_change(now);
    change
        .into_iter()
        .chain(publish)
        .min()
        .unwrap_or(window.expires)
}

#[cfg(test)]
mod tests;
