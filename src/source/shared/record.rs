use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::aead::Sealing;
use crate::clock::Time;
use crate::error::Error;
use crate::rotation::Rotation;
use crate::source::bulletin::{Forgotten, ScopeDigest};
use crate::source::plan::{Clocks, Planned, Planner};
use crate::source::{SourceKey, SourceQuery};
use crate::stek::KeyName;

pub(super) mod encoding;
mod key;
mod schedule;
mod withdrawn;

pub(super) use key::Key;
pub(super) use schedule::Schedule;
use withdrawn::{Id, Tombstone, Withdrawn};

/// The most keys that a record may hold: those of a week at ten-minute intervals.
const MAX_KEYS: usize = 1024;

/// How far clocks may differ, at least, by which a revoked key is taken to have expired.
const MIN_SKEW: Duration = Duration::from_secs(5 * 60);

/// How long it matters that a scope was forgotten: no session is older.
#[cfg(feature = "redis")]
const LONGEST_SESSION: Duration = Rotation::MAX_TICKET_LIFETIME;

/// STEKs that several processes share, and what they withdrew.
///
/// Records of nodes that have not heard of each other meet in their union. Which version is newer
/// does not matter for that.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Grows with every change: for logs, and to tell whose schedule is the newest.
    pub(super) version: u64,
    /// That of whoever changed the keys last.
    pub(super) schedule: Schedule,
    /// In a fixed order: of those that activate together, the first seals.
    keys: Vec<Planned<Arc<Key>>>,
    withdrawn: Withdrawn,
    /// Blocks that a later release added, as they came.
    unknown: Zeroizing<Vec<u8>>,
}

impl Record {
    /// The one before the first.
    pub(super) fn empty(rotation: &Rotation) -> Self {
        Self {
            version: 0,
            schedule: Schedule::of(rotation),
            keys: Vec::new(),
            withdrawn: Withdrawn::default(),
            unknown: Zeroizing::default(),
        }
    }

    /// What is in either of the two, keys that were withdrawn included: commutative, associative
    /// and idempotent, but for what of this release is not known, which stays as it is here.
    pub(super) fn union(&self, other: &Self) -> Self {
        let mut keys: BTreeMap<Id, Planned<Arc<Key>>> = BTreeMap::new();
        for key in self.keys.iter().chain(&other.keys) {
            let there = keys.entry(key.key.id()).or_insert_with(|| key.clone());
            // Brought forward or cut short by one of the two.
            there.window = there.window.earlier(key.window);
        }
        let mut union = Self {
            version: self.version.max(other.version),
            schedule: match (other.version, other.schedule) > (self.version, self.schedule) {
                true => other.schedule,
                false => self.schedule,
            },
            keys: keys.into_values().collect(),
            withdrawn: self.withdrawn.union(&other.withdrawn),
            unknown: self.unknown.clone(),
        };
        union.sort();
        union
    }

    /// Without what has expired by then, so that it does not come back into a record from which
    /// others have dropped it.
    pub(super) fn unexpired(&self, now: Time) -> Self {
        let mut unexpired = self.clone();
        unexpired.keys.retain(|key| now < key.window.expires);
        unexpired.withdrawn.prune(now);
        unexpired
    }

    /// The record as it must be now, still of the same version: without expired and revoked keys,
    /// with one that seals and, when that is due, its successor. If `now` is not known, because the
    /// clocks say different things, no key is added.
    pub(super) fn updated(
        &self,
        now: Option<Time>,
        clocks: Clocks,
        query: &SourceQuery<'_>,
        mut make: impl FnMut() -> Result<Key, Error>,
    ) -> Result<Self, Error> {
        let schedule = Schedule::of(query.rotation);
        schedule.check(MAX_KEYS)?;
        let mut next = self.clone();
        next.withdrawn.prune(clocks.earliest);
        next.drop_withdrawn();
        let ahead = query.rotation.ahead();
        if let Some(now) = now {
            let floor = next.withdrawn.keys_floor;
            let planner = Planner {
                now,
                clocks,
                rotation: query.rotation,
                max_skew: ahead,
                not_before: match floor {
                    Time(0) => floor,
                    Time(floor) => Time(floor.saturating_add(1)),
                },
                rotate: query.rotate,
            };
            planner.update(&mut next.keys, || make().map(Arc::new))?;
        }
        next.make_room();
        next.sort();
        if !next.says_the_same(self) {
            next.schedule = schedule;
        }
        Ok(next)
    }

    /// Whether both hold the same keys and withdraw the same, whatever their versions and
    /// schedules.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let of_key = |key: &Planned<Arc<Key>>| (key.key.id(), key.window);
        self.keys
            .iter()
            .map(of_key)
            .eq(other.keys.iter().map(of_key))
            && self.withdraws_the_same(other)
            && self.unknown == other.unknown
    }

    /// Whether both withdraw the same.
    pub(super) fn withdraws_the_same(&self, other: &Self) -> bool {
        self.withdrawn == other.withdrawn
    }

    /// Whether it had to withdraw more than it was asked to, unlike the other.
    pub(super) fn overflows(&self, before: &Self) -> bool {
        self.withdrawn.is_floor_raised(&before.withdrawn)
    }

    /// Revokes the keys of these names, whether or not they are here.
    pub(super) fn revoke(
        &mut self,
        names: impl IntoIterator<Item = KeyName>,
        now: Time,
        rotation: &Rotation,
    ) {
        let ours = Schedule::of(rotation);
        let skew = MIN_SKEW.max(rotation.ahead());
        for name in names {
            let key = self.keys.iter().find(|key| key.key.stek.name() == &name);
            let published = key.map_or(now, |key| key.window.published);
            let expires = key.map_or(now, |key| key.window.expires);
            // Where a key was cut short, others may hold it as it was before.
            let life = ours.longest_life().max(self.schedule.longest_life());
            let tombstone = Tombstone {
                revoked: now.max(published),
                until: expires.max(now.plus(life)).plus(skew),
            };
            let id = key.map_or(Id(*name.as_bytes()), |key| key.key.id());
            self.withdrawn.bury(id, tombstone);
        }
        self.withdrawn.keep_within_bounds();
        self.drop_withdrawn();
    }

    /// The union of the two. Where one of them knows that everything was withdrawn and the other does
    /// not, the other's keys are from before, and whoever withdrew them may not have heard of them.
    pub(super) fn meet(&self, other: &Self, now: Time, rotation: &Rotation) -> Self {
        let mut union = self.union(other);
        for (aware, unaware) in [(self, other), (other, self)] {
            if aware.withdrawn.all_since(&unaware.withdrawn) {
                let before = unaware.keys.iter().map(|key| *key.key.stek.name());
                union.revoke(before, now, rotation);
            }
        }
        union
    }

    /// Remembers that these scopes were forgotten, and all others so far.
    pub(super) fn forget(&mut self, scopes: &[(ScopeDigest, Forgotten)], others: Forgotten) {
        self.withdrawn.scopes_floor = self.withdrawn.scopes_floor.later(others);
        for (scope, forgotten) in scopes {
            if !self.withdrawn.scopes_floor.covers(*forgotten) {
                self.withdrawn.forget(*scope, *forgotten);
            }
        }
        self.withdrawn.keep_within_bounds();
    }

    /// All scopes that were forgotten, and how far those are that are not among them.
    pub(super) fn forgotten(&self) -> (Vec<(ScopeDigest, Forgotten)>, Forgotten) {
        let scopes = self.withdrawn.scopes.iter();
        let scopes = scopes.map(|(scope, forgotten)| (*scope, *forgotten));
        (scopes.collect(), self.withdrawn.scopes_floor)
    }

    /// Drops keys that may not be held any longer, even while the record cannot be written.
    pub(super) fn drop_expired(&mut self, now: Time) {
        self.keys.retain(|key| now < key.window.expires);
    }

    /// Adds what another holds and may still use: what is gone here, because by other clocks it has
    /// expired, goes there by its own.
    pub(super) fn keep_open(&mut self, other: &Self, now: Time) {
        let ids: BTreeSet<_> = self.keys.iter().map(|key| key.key.id()).collect();
        let kept = other.keys.iter().filter(|key| key.window.opens(now));
        let kept = kept.filter(|key| !ids.contains(&key.key.id()));
        self.keys.extend(kept.cloned());
        self.drop_withdrawn();
        self.make_room();
        self.sort();
    }

    /// Drops keys that were revoked. One that was revoked by its STEK's name, by a node that did
    /// not have it, is from now on also known by what it is called with every other algorithm.
    pub(super) fn drop_withdrawn(&mut self) {
        let Self {
            keys, withdrawn, ..
        } = self;
        for key in keys.iter() {
            let [id, name] = key.key.ids();
            if let Some(tombstone) = withdrawn.tombstones.get(&name).copied() {
                withdrawn.bury(id, tombstone);
            }
        }
        withdrawn.keep_within_bounds();
        keys.retain(|key| !withdrawn.revokes(key.window.published, &key.key.ids()));
    }

    /// The names of this record's keys that the other has revoked.
    pub(super) fn revoked_by(&self, other: &Self) -> Vec<KeyName> {
        let keys = self.keys.iter().filter(|key| {
            let ids = key.key.ids();
            other.withdrawn.revokes(key.window.published, &ids)
        });
        keys.map(|key| *key.key.stek.name()).collect()
    }

    pub(super) fn source_keys(&self) -> Vec<SourceKey> {
        let key =
            |key: &Planned<Arc<Key>>| SourceKey::with_window(Arc::clone(&key.key.stek), key.window);
        self.keys.iter().map(key).collect()
    }

    /// Whether it has a key that was published by then and has not expired yet.
    pub(super) fn spans(&self, now: Time) -> bool {
        self.keys.is_empty() || self.keys.iter().any(|key| key.window.opens(now))
    }

    /// When nothing in it matters any longer.
    #[cfg(feature = "redis")]
    pub(super) fn expires(&self) -> Time {
        let keys = self.keys.iter().map(|key| key.window.expires);
        let Withdrawn {
            tombstones, scopes, ..
        } = &self.withdrawn;
        let tombstones = tombstones.values().map(|tombstone| tombstone.until);
        let scopes = scopes.values().chain([&self.withdrawn.scopes_floor]);
        let scopes = scopes.map(|forgotten| forgotten.time.plus(LONGEST_SESSION).plus(MIN_SKEW));
        keys.chain(tombstones)
            .chain(scopes)
            .max()
            .unwrap_or(Time(0))
    }

    fn find(&self, secret: &[u8], sealing: Sealing) -> Option<Arc<Key>> {
        let mut keys = self.keys.iter().map(|planned| &planned.key);
        keys.find(|key| key.has(secret) && key.stek.sealing() == sealing)
            .cloned()
    }

    fn sort(&mut self) {
        self.keys
            .sort_by_key(|key| (key.window.activates, key.key.id()));
    }

    /// Drops the keys that expire first while there are too many: after endless rotations by hand.
    fn make_room(&mut self) {
        let Some(more) = self.keys.len().checked_sub(MAX_KEYS) else {
            return;
        };
        self.keys
            .sort_by_key(|key| (key.window.expires, key.key.id()));
        self.keys.drain(..more);
    }
}

#[cfg(test)]
pub(super) mod tests;
