use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::withdrawn::{MAX_SCOPES, MAX_TOMBSTONES};
use super::*;
use crate::errands::Errands;
use crate::rotation::Window;
#[cfg(feature = "redis")]
use crate::source::shared::kek;

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
        // The clocks agree, unless a test says otherwise.
        monotonic: now.since(Time(0)),
        rotation,
        sealing: SIV,
        rotate,
        revoked,
        bulletin: None,
        log: &Errands::AT_ONCE,
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

/// The page `choosing` says so.
#[cfg(feature = "redis")]
#[test]
fn what_lies_in_redis_is_109_bytes_longer_than_its_keys_of_64() {
    let mut record = golden();
    record.withdrawn = Withdrawn::default();
    record.unknown = Zeroizing::default();
    let len = kek::sealed_len(record.encode().len());
    assert_eq!(len, 109 + 64 * record.keys.len());
}

#[cfg(feature = "redis")]
pub(in crate::source::shared) fn secrets(record: &Record) -> Vec<Vec<u8>> {
    let secrets = record.keys.iter().map(|key| key.key.secret.to_vec());
    secrets.collect()
}

/// Hashes all that matters of a record, so not its version.
pub(in crate::source::shared) fn hash<H: Hasher>(record: &Record, state: &mut H) {
    for Planned { key, window } in &record.keys {
        let Window {
            published,
            activates,
            retires,
            expires,
        } = *window;
        (
            key.id().0,
            [published, activates, retires, expires].map(|time| time.0),
        )
            .hash(state);
    }
    let Withdrawn {
        tombstones,
        keys_floor,
        ..
    } = &record.withdrawn;
    keys_floor.0.hash(state);
    for (id, Tombstone { revoked, until }) in tombstones {
        (id.0, revoked.0, until.0).hash(state);
    }
}

pub(in crate::source::shared) fn names(record: &Record) -> Vec<KeyName> {
    record.keys.iter().map(|key| *key.key.stek.name()).collect()
}

fn update(record: &Record, now: Time, rotate: bool, revoked: &[KeyName]) -> (Record, bool) {
    let rotation = Rotation::new();
    let mut base = record.clone();
    base.revoke(revoked.iter().copied(), now, &rotation);
    let query = query(now, &rotation, rotate, &[]);
    let updated = base
        .updated(Some(now), now.into(), &query, || Key::random(SIV))
        .unwrap();
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
fn what_has_expired_does_not_go_back_into_a_record() {
    let golden = golden();
    let end = golden.keys[0].window.expires;
    let before = golden.unexpired(Time(end.0 - 1));
    assert_eq!(names(&before), names(&golden));
    assert_eq!(names(&golden.unexpired(end)), names(&golden)[1..]);
}

#[cfg(feature = "redis")]
#[test]
fn a_record_lasts_until_its_keys_have_expired_and_what_it_withdrew_cannot_come_back() {
    let mut record = golden();
    let keys = record.keys.iter().map(|key| key.window.expires).max();
    let keys = keys.unwrap();
    let forgotten = NOW.plus(7 * 24 * HOUR).plus(MIN_SKEW);
    assert_eq!(record.expires(), forgotten);
    // For want of room.
    let scopes = std::mem::take(&mut record.withdrawn.scopes);
    record.withdrawn.scopes_floor = *scopes.values().next().unwrap();
    assert_eq!(record.expires(), forgotten);
    record.withdrawn.scopes_floor = Forgotten::default();
    assert_eq!(record.expires(), keys);
    let tombstones = record.withdrawn.tombstones.values_mut();
    tombstones.for_each(|tombstone| tombstone.until = keys.plus(HOUR));
    assert_eq!(record.expires(), keys.plus(HOUR));
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
    let more = [
        ([1; 32], forgotten(9, NOW.plus(HOUR))),
        ([3; 32], forgotten(5, Time(6))),
    ];
    record.forget(&more, Forgotten::default());
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
    let error = record.updated(Some(NOW), NOW.into(), &query, || Key::random(SIV));
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
    assert!(shown.contains("c0499ab55a6f6c55edd6ca4194cf3c61"));
    assert!(!shown.contains("[0, 1, 2"), "{shown}");
}
