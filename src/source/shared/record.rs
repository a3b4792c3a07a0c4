use std::collections::BTreeMap;
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

use key::Key;
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
            planner.update(&mut next.keys, || Key::random(query.sealing).map(Arc::new))?;
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

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.withdrawn == Withdrawn::default()
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

    /// Remembers that these scopes were forgotten.
    pub(super) fn forget(&mut self, scopes: &[(ScopeDigest, Forgotten)]) {
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
        let scopes = scopes.filter(|_| self.forgets());
        keys.chain(tombstones)
            .chain(scopes)
            .max()
            .unwrap_or(Time(0))
    }

    #[cfg(feature = "redis")]
    fn forgets(&self) -> bool {
        let Withdrawn {
            scopes,
            scopes_floor,
            ..
        } = &self.withdrawn;
        !scopes.is_empty() || *scopes_floor != Forgotten::default()
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
pub(super) mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::withdrawn::{MAX_SCOPES, MAX_TOMBSTONES};
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);
    const NOW: Time = Time(1_800_000_000_000);
    const SIV: Sealing = Sealing::Aes256GcmSiv;

    pub(in crate::source::shared) fn query<'a>(
        now: Time,
        rotation: &'a Rotation,
        rotate: bool,
        revoked: &'a [KeyName],
    ) -> SourceQuery<'a> {
        SourceQuery {
            now,
            monotonic: Duration::ZERO,
            rotation,
            sealing: SIV,
            rotate,
            revoked,
            bulletin: None,
        }
    }

    /// A record of known secrets: what the golden files hold.
    pub(in crate::source::shared) fn golden() -> Record {
        let rotation = Rotation::new();
        let key = |first: u8, activates: Time| {
            let secret: Vec<u8> = (first..first + 32).collect();
            Planned {
                key: Arc::new(Key::new(&secret, SIV).unwrap()),
                window: rotation.window(activates.minus(HOUR / 12), activates),
            }
        };
        let mut withdrawn = Withdrawn {
            keys_floor: NOW.minus(20 * HOUR),
            scopes_floor: Forgotten {
                generation: 5,
                time: Time(6),
            },
            ..Withdrawn::default()
        };
        for number in 1..=2 {
            let tombstone = Tombstone {
                revoked: NOW.minus(HOUR),
                until: NOW.plus(u32::from(number) * HOUR),
            };
            withdrawn.bury(Id([number; 16]), tombstone);
            let forgotten = Forgotten {
                generation: NOW.0,
                time: NOW,
            };
            withdrawn.forget([number; 32], forgotten);
        }
        Record {
            version: 7,
            schedule: Schedule::of(&rotation),
            keys: vec![key(0, NOW), key(100, NOW.plus(HOUR))],
            withdrawn,
            unknown: Zeroizing::default(),
        }
    }

    #[cfg(feature = "redis")]
    pub(in crate::source::shared) fn secrets(record: &Record) -> Vec<Vec<u8>> {
        let secrets = record.keys.iter().map(|key| key.key.secret.to_vec());
        secrets.collect()
    }

    pub(in crate::source::shared) fn names(record: &Record) -> Vec<KeyName> {
        record.keys.iter().map(|key| *key.key.stek.name()).collect()
    }

    fn update(record: &Record, now: Time, rotate: bool, revoked: &[KeyName]) -> (Record, bool) {
        let rotation = Rotation::new();
        let mut base = record.clone();
        base.revoke(revoked.iter().copied(), now, &rotation);
        let query = query(now, &rotation, rotate, &[]);
        let updated = base.updated(Some(now), now.into(), &query).unwrap();
        let changed = !updated.says_the_same(record);
        (updated, changed)
    }

    #[test]
    fn an_update_rotates_and_drops_what_expired_or_was_revoked() {
        let (first, changed) = update(&Record::empty(&Rotation::new()), NOW, false, &[]);
        assert!(changed && first.keys.len() == 1);
        let (same, changed) = update(&first, NOW, false, &[]);
        assert!(!changed && names(&same) == names(&first));
        let (rotated, changed) = update(&first, NOW, true, &[]);
        assert!(changed && rotated.keys.len() == 2);
        let (cleared, changed) = update(&rotated, NOW, false, &names(&rotated));
        assert!(changed && cleared.keys.len() == 1);
        assert!(!names(&rotated).contains(&names(&cleared)[0]));
        let (later, changed) = update(&rotated, NOW.plus(24 * HOUR), false, &[]);
        assert!(changed && later.keys.len() == 1);
        assert!(!names(&rotated).contains(&names(&later)[0]));
    }

    #[test]
    fn an_unknown_key_stays_revoked_for_the_longest_life() {
        let empty = Record::empty(&Rotation::new());
        let unheard = [KeyName::from_bytes([7; KeyName::LEN])];
        let (revoked, _) = update(&empty, NOW, false, &unheard);
        let end = NOW.plus(13 * HOUR + HOUR / 12 * 3);
        for (now, remembered) in [(NOW, 1), (Time(end.0 - 1), 1), (end, 0)] {
            let (later, _) = update(&revoked, now, false, &[]);
            assert_eq!(later.withdrawn.tombstones.len(), remembered);
        }
    }

    #[test]
    fn what_is_revoked_with_one_algorithm_is_so_with_every_other() {
        let golden = golden();
        let with = |sealing| Record::decode(&golden.encode(), sealing, None).unwrap();
        let (siv, gcm) = (with(SIV), with(Sealing::Aes256Gcm));
        assert_ne!(names(&siv), names(&gcm));
        // By one that has the keys, and by one that learns what bears the name only later.
        for mut siv in [siv, Record::empty(&Rotation::new())] {
            siv.revoke(names(&golden), NOW, &Rotation::new());
            let (siv, _) = update(&siv.union(&golden), NOW, false, &[]);
            let (gcm, _) = update(&gcm.union(&siv), NOW, false, &[]);
            let secrets = golden.keys.iter().map(|key| key.key.secret.as_slice());
            let mut kept = secrets.filter(|secret| gcm.keys.iter().any(|key| key.key.has(secret)));
            assert_eq!(kept.next(), None);
        }
    }

    #[test]
    fn after_an_overflow_only_later_keys_are_used_and_one_still_seals() {
        let (mut record, _) = update(&Record::empty(&Rotation::new()), NOW, false, &[]);
        let first = names(&record);
        let name = |number: u32| {
            let mut name = [0; KeyName::LEN];
            name[..4].copy_from_slice(&number.to_be_bytes());
            KeyName::from_bytes(name)
        };
        let later = NOW.plus(HOUR / 60);
        for number in 0..MAX_TOMBSTONES as u32 + 1 {
            assert_eq!(names(&record), first, "after {number}");
            record.revoke([name(number)], later, &Rotation::new());
        }
        assert!(names(&record).is_empty());
        assert!(record.overflows(&Record::empty(&Rotation::new())));
        for clock in [later, later.minus(HOUR / 12)] {
            let (next, _) = update(&record, clock, false, &[]);
            assert_eq!(next.keys.len(), 1);
            assert!(next.keys[0].window.published > later);
            let (same, changed) = update(&next, clock, false, &[]);
            assert!(!changed && names(&same) == names(&next));
            let seals = next.keys[0].window.activates;
            assert_eq!(seals, Time(later.0 + 1));
        }
    }

    #[test]
    fn a_forgotten_scope_is_remembered_by_the_greater_numbers() {
        let mut record = golden();
        let forgotten = |generation, time| Forgotten { generation, time };
        record.forget(&[
            ([1; 32], forgotten(9, NOW.plus(HOUR))),
            ([3; 32], forgotten(5, Time(6))),
        ]);
        let (scopes, others) = record.forgotten();
        assert_eq!(others, forgotten(5, Time(6)));
        let known = forgotten(NOW.0, NOW);
        let first = forgotten(NOW.0, NOW.plus(HOUR));
        assert_eq!(
            scopes,
            [([1; 32], first), ([2; 32], known)],
            "the third is as all others are"
        );
    }

    #[test]
    fn rotating_without_end_keeps_the_record_within_its_bounds() {
        let mut record = Record::empty(&Rotation::new());
        for second in 0..MAX_KEYS as u32 + 20 {
            let now = NOW.plus(Duration::from_secs(1) * second);
            record = update(&record, now, true, &[]).0;
        }
        assert_eq!(record.keys.len(), MAX_KEYS);
        let unknown = [200, 0, 0, 0x3f, 0xfb].into_iter().chain([7; 0x3ffb]);
        record.unknown = Zeroizing::new(unknown.collect());
        for number in 0..MAX_TOMBSTONES as u128 {
            let (revoked, until) = (NOW, NOW.plus(HOUR));
            let id = Id(number.to_be_bytes());
            record.withdrawn.bury(id, Tombstone { revoked, until });
        }
        for number in 0..MAX_SCOPES {
            let mut scope = [0; 32];
            scope[..8].copy_from_slice(&number.to_be_bytes());
            let (generation, time) = (1, NOW);
            record
                .withdrawn
                .forget(scope, Forgotten { generation, time });
        }
        record.withdrawn.keep_within_bounds();
        assert_eq!(record.encode().len(), encoding::MAX_LEN);
        assert!(Record::decode(&record.encode(), SIV, Some(&record)).is_ok());
    }

    #[test]
    fn a_schedule_whose_keys_would_not_fit_is_refused() {
        let rotation = Rotation::new().interval(Duration::from_secs(10));
        let record = Record::empty(&rotation);
        let query = query(NOW, &rotation, false, &[]);
        let error = record.updated(Some(NOW), NOW.into(), &query);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("interval = 10s: too short"), "{error}");
        assert!(error.contains("4323 keys"), "{error}");
    }

    /// Some of the same few keys, brought forward or cut short, and of the same few withdrawals.
    fn records() -> impl Strategy<Value = Record> {
        static KEYS: LazyLock<Vec<Arc<Key>>> = LazyLock::new(|| {
            let keys = std::iter::repeat_with(|| Arc::new(Key::random(SIV).unwrap()));
            keys.take(4).collect()
        });
        let times = || (0_u64..4).prop_map(|hours| NOW.plus(HOUR * hours as u32));
        let key = (0_usize..4, times(), times());
        let tombstone = (0_u8..4, times(), times());
        let scope = (0_u8..4, 0_u64..4, times());
        let some = 0_usize..4;
        (
            prop::collection::vec(key, some.clone()),
            prop::collection::vec(tombstone, some.clone()),
            prop::collection::vec(scope, some),
            (1_u64..4, 1_u32..3),
        )
            .prop_map(|(keys, tombstones, scopes, (version, hours))| {
                let rotation = Rotation::new().interval(HOUR * hours);
                let mut record = Record {
                    version,
                    ..Record::empty(&rotation)
                };
                for (number, activates, expires) in keys {
                    let key = Arc::clone(&KEYS[number]);
                    let mut window = rotation.window(NOW, activates);
                    window.expires = window.retires.max(expires);
                    record = record.union(&Record {
                        keys: vec![Planned { key, window }],
                        ..Record::empty(&rotation)
                    });
                }
                for (number, revoked, until) in tombstones {
                    let tombstone = Tombstone { revoked, until };
                    record
                        .withdrawn
                        .bury(KEYS[usize::from(number)].id(), tombstone);
                }
                for (number, generation, time) in scopes {
                    record
                        .withdrawn
                        .forget([number; 32], Forgotten { generation, time });
                }
                record
            })
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_order_or_how_often_records_meet(
            [a, b, c] in [records(), records(), records()],
        ) {
            let ab = a.union(&b);
            for (one, other) in [
                (&a.union(&a), &a),
                (&ab, &b.union(&a)),
                (&ab.union(&b), &ab),
                (&ab.union(&c), &a.union(&b.union(&c))),
            ] {
                prop_assert!(one.says_the_same(other), "{one:?} {other:?}");
                let of = |record: &Record| (record.version, record.schedule);
                prop_assert_eq!(of(one), of(other));
            }
            let had = |record: &Record, key: &Planned<Arc<Key>>| {
                record.keys.iter().any(|other| Arc::ptr_eq(&key.key, &other.key))
            };
            for key in &ab.keys {
                prop_assert!(had(&a, key) || had(&b, key));
            }
            prop_assert!(a.keys.iter().chain(&b.keys).all(|key| had(&ab, key)));
            let mut live = ab.clone();
            live.drop_withdrawn();
            for key in &ab.keys {
                let buried = [&a, &b].iter().any(|r| r.withdrawn.tombstones.contains_key(&key.key.id()));
                prop_assert_eq!(had(&live, key), !buried);
            }
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let shown = format!("{:?}", golden());
        assert!(shown.contains("71f1a663d2cf2b6177cb5ecc457571b0"));
        assert!(!shown.contains("[0, 1, 2"), "{shown}");
    }
}
