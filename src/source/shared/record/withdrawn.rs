//! What was withdrawn: keys that were revoked, and scopes that were forgotten.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use crate::clock::Time;
use crate::hex::Hex;
use crate::source::bulletin::{ALL, Forgotten, ScopeDigest};

/// The most tombstones that a record may hold.
pub(super) const MAX_TOMBSTONES: usize = 1024;

/// The most scopes that a record may remember as forgotten.
pub(super) const MAX_SCOPES: usize = 256;

/// Tells keys apart: the name of a STEK, or what a secret is called whatever STEK is made of it.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Id(pub(super) [u8; Self::LEN]);

impl Id {
    pub(super) const LEN: usize = 16;
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

/// Keeps a revoked key from coming back through a node that has not heard of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Tombstone {
    /// No earlier than the key was published.
    pub(super) revoked: Time,
    /// By then the key has expired, whoever holds it.
    pub(super) until: Time,
}

impl Tombstone {
    fn later(self, other: Self) -> Self {
        Self {
            revoked: self.revoked.max(other.revoked),
            until: self.until.max(other.until),
        }
    }
}

/// A set that only grows, but for what time has made pointless: so that sets may meet in any order
/// and any number of times, and nothing that was withdrawn comes back.
///
/// It is bounded. What there is no room for raises a floor, which withdraws more than was asked
/// for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Withdrawn {
    pub(super) tombstones: BTreeMap<Id, Tombstone>,
    /// No key that was published at or before this may be used.
    pub(super) keys_floor: Time,
    pub(super) scopes: BTreeMap<ScopeDigest, Forgotten>,
    /// So far is every scope forgotten that is not listed.
    pub(super) scopes_floor: Forgotten,
}

impl Withdrawn {
    /// What either of the two withdrew.
    pub(super) fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        union.keys_floor = union.keys_floor.max(other.keys_floor);
        union.scopes_floor = union.scopes_floor.later(other.scopes_floor);
        for (id, tombstone) in &other.tombstones {
            union.bury(*id, *tombstone);
        }
        for (scope, forgotten) in &other.scopes {
            union.forget(*scope, *forgotten);
        }
        union.keep_within_bounds();
        union
    }

    /// Call [`Withdrawn::keep_within_bounds`] after the last.
    pub(super) fn bury(&mut self, id: Id, tombstone: Tombstone) {
        let there = self.tombstones.entry(id).or_insert(tombstone);
        *there = there.later(tombstone);
    }

    /// Call [`Withdrawn::keep_within_bounds`] after the last.
    pub(super) fn forget(&mut self, scope: ScopeDigest, forgotten: Forgotten) {
        let there = self.scopes.entry(scope).or_insert(forgotten);
        *there = there.later(forgotten);
    }

    /// Whether a key that was published then, and bears any of these, was revoked.
    pub(super) fn revokes(&self, published: Time, ids: &[Id]) -> bool {
        published <= self.keys_floor || ids.iter().any(|id| self.tombstones.contains_key(id))
    }

    /// Drops tombstones of keys that have expired everywhere.
    pub(super) fn prune(&mut self, now: Time) {
        self.tombstones.retain(|_, tombstone| now < tombstone.until);
    }

    /// Drops what there is no room for, the oldest first, and raises a floor in its place.
    pub(super) fn keep_within_bounds(&mut self) {
        if self.tombstones.len() > MAX_TOMBSTONES {
            let all = self.tombstones.iter();
            let mut all: Vec<_> = all.map(|(id, tomb)| (Reverse(tomb.revoked), *id)).collect();
            all.sort_unstable();
            for (Reverse(revoked), id) in all.into_iter().skip(MAX_TOMBSTONES) {
                self.keys_floor = self.keys_floor.max(revoked);
                self.tombstones.remove(&id);
            }
        }
        if self.scopes.len() > MAX_SCOPES {
            let all = self.scopes.iter();
            let mut all: Vec<_> = all
                .map(|(scope, forgotten)| (Reverse((forgotten.generation, forgotten.time)), *scope))
                .collect();
            all.sort_unstable();
            for (Reverse((generation, time)), scope) in all.into_iter().skip(MAX_SCOPES) {
                self.scopes_floor = self.scopes_floor.later(Forgotten { generation, time });
                self.scopes.remove(&scope);
            }
        }
        let (keys_floor, scopes_floor) = (self.keys_floor, self.scopes_floor);
        self.tombstones
            .retain(|_, tombstone| tombstone.revoked > keys_floor);
        self.scopes
            .retain(|_, forgotten| !scopes_floor.covers(*forgotten));
    }

    /// Whether everything was withdrawn since the other.
    pub(super) fn all_since(&self, other: &Self) -> bool {
        let all = |withdrawn: &Self| withdrawn.scopes.get(&ALL).copied().unwrap_or_default();
        all(self).generation > all(other).later(other.scopes_floor).generation
    }

    /// Whether a floor is higher than in the other.
    pub(super) fn is_floor_raised(&self, before: &Self) -> bool {
        self.keys_floor > before.keys_floor || !before.scopes_floor.covers(self.scopes_floor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// So many tombstones and scopes, of which each is drawn from few enough to be met again. When
    /// a key was published follows from its ID.
    fn many(len: usize) -> impl Strategy<Value = Vec<(u16, u64)>> {
        prop::collection::vec((0_u16..2000, 0_u64..1_000), len)
    }

    fn id(number: u16) -> Id {
        Id(u128::from(number).to_be_bytes())
    }

    fn published(number: u16) -> Time {
        Time(1 + u64::from(number.wrapping_mul(31_337) % 500))
    }

    fn scope(number: u16) -> ScopeDigest {
        let mut scope = [0; 32];
        scope[..2].copy_from_slice(&number.to_be_bytes());
        scope
    }

    fn withdraw(all: &[(u16, u64)]) -> Withdrawn {
        let mut withdrawn = Withdrawn::default();
        for (number, more) in all {
            let revoked = published(*number);
            let until = Time(2_000 + more);
            withdrawn.bury(id(*number), Tombstone { revoked, until });
            let (generation, time) = (*more, Time(more / 2));
            withdrawn.forget(scope(*number), Forgotten { generation, time });
        }
        withdrawn.keep_within_bounds();
        withdrawn
    }

    fn how_far(withdrawn: &Withdrawn, scope: &ScopeDigest) -> Forgotten {
        let listed = withdrawn.scopes.get(scope).copied().unwrap_or_default();
        listed.later(withdrawn.scopes_floor)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn withdrawals_persist_however_many_there_are(
            [a, b, c] in [0_usize..1_500, 0..1_500, 0..1_500].prop_flat_map(|lens| lens.map(many)),
        ) {
            let all = [&a[..], &b, &c].concat();
            let [a, b, c] = [a, b, c].map(|all| withdraw(&all));
            let unions = [
                a.union(&b).union(&c),
                a.union(&b.union(&c)),
                c.union(&a).union(&b).union(&a),
                withdraw(&all),
            ];
            for union in &unions {
                prop_assert!(union.tombstones.len() <= MAX_TOMBSTONES);
                prop_assert!(union.scopes.len() <= MAX_SCOPES);
                prop_assert_eq!(&union.union(union), union);
                for (number, more) in &all {
                    prop_assert!(union.revokes(published(*number), &[id(*number)]));
                    let forgotten = Forgotten { generation: *more, time: Time(more / 2) };
                    prop_assert!(how_far(union, &scope(*number)).covers(forgotten));
                }
                // Nothing is withdrawn that was not, unless there was no room.
                let overflows = union.is_floor_raised(&Withdrawn::default());
                prop_assert!(!overflows || all.len() > MAX_SCOPES);
                for number in 2000..2010 {
                    let revoked = union.revokes(published(number), &[id(number)]);
                    prop_assert_eq!(revoked, published(number) <= union.keys_floor);
                }
                prop_assert_eq!(union.keys_floor, unions[0].keys_floor);
                let ids = |union: &Withdrawn| union.tombstones.keys().copied().collect::<Vec<_>>();
                prop_assert_eq!(ids(union), ids(&unions[0]));
            }
        }
    }

    #[test]
    fn tombstones_end_when_their_keys_have_expired() {
        let mut withdrawn = withdraw(&[(1, 5), (2, 9)]);
        withdrawn.prune(Time(2_004));
        assert_eq!(withdrawn.tombstones.len(), 2);
        withdrawn.prune(Time(2_005));
        assert!(withdrawn.tombstones.keys().eq([&id(2)]));
    }

    #[test]
    fn a_floor_is_raised_no_sooner_than_there_is_no_room() {
        let all: Vec<_> = (0..MAX_SCOPES as u16 + 1)
            .map(|number| (number, 5))
            .collect();
        let full = withdraw(&all[1..]);
        assert!(!full.is_floor_raised(&Withdrawn::default()));
        let more = withdraw(&all);
        assert!(more.is_floor_raised(&full));
        assert_eq!(more.scopes_floor.generation, 5);
        let all: Vec<_> = (0..MAX_TOMBSTONES as u16 + 1)
            .map(|number| (number, 5))
            .collect();
        assert_eq!(withdraw(&all[1..]).keys_floor, Time(0));
        let more = withdraw(&all);
        let floor = more.keys_floor;
        // What it withdraws takes no room.
        assert!(more.tombstones.values().all(|key| key.revoked > floor));
        assert_eq!(
            Some(floor),
            all.iter().map(|(number, _)| published(*number)).min()
        );
    }
}
