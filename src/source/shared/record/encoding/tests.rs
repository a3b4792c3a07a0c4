use proptest::prelude::*;

use super::super::tests::{golden, names};
use super::*;
use crate::hex;

const HOUR: Duration = Duration::from_secs(60 * 60);
const SIV: Sealing = Sealing::Aes256GcmSiv;

#[test]
fn golden_record() {
    let bytes = hex::decode(include_str!("../../../../../tests/golden/record.hex"));
    assert_eq!(*golden().encode(), bytes);
    assert_eq!(golden().encode().capacity(), bytes.len(), "it never moved");
    let read = Record::decode(&bytes, SIV, None).unwrap();
    assert_eq!(format!("{read:?}"), format!("{:?}", golden()));
    assert_eq!(
        names(&read)[0].to_string(),
        "c0499ab55a6f6c55edd6ca4194cf3c61",
        "the same secret as in the STEK's own golden test"
    );
}

#[test]
fn every_truncation_and_what_cannot_be_is_refused_and_says_why() {
    let good = golden().encode().to_vec();
    for len in 0..good.len() {
        let error = Record::decode(&good[..len], SIV, None).unwrap_err();
        assert!(error.contains("cut short"), "length {len}: {error}");
    }
    let changed = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        Record::decode(&changed, SIV, None).unwrap_err()
    };
    let first = HEADER_LEN + BLOCK_HEADER_LEN;
    let second = first + KEY_LEN;
    let secret = first + 32;
    let revoked = second + KEY_LEN;
    let forgotten = revoked + BLOCK_HEADER_LEN + KEYS_FLOOR_LEN + 2 * TOMBSTONE_LEN;
    for (error, why) in [
        (changed(0, &[9]), "its format is 9, here 2 is known"),
        (changed(33, &[2]), "a block of kind 2 in place of kind 1"),
        (
            changed(33 + 4, &[64]),
            "a block of kind 0 in place of kind 2",
        ),
        (
            changed(revoked + BLOCK_HEADER_LEN + KEYS_FLOOR_LEN, &[0xff]),
            "revoked keys out",
        ),
        (
            changed(forgotten + BLOCK_HEADER_LEN + SCOPES_FLOOR_LEN, &[0xff]),
            "forgotten scopes out of order",
        ),
        (changed(secret, &[0; 32]), "key 0: weak key"),
        (
            changed(second + 32, &good[secret..secret + 32]),
            "key 1: the same secret as another",
        ),
        (
            changed(second, &[0x3f]),
            "key 1: its window is out of order",
        ),
        (
            changed(first + 24, &[0x3f]),
            "key 0: it expires more than 7 days after",
        ),
    ] {
        assert!(error.starts_with(why), "{error}");
    }
}

#[test]
fn a_number_than_which_none_could_be_greater_is_refused() {
    let good = golden().encode().to_vec();
    let keys = HEADER_LEN + BLOCK_HEADER_LEN;
    let revoked = keys + 2 * KEY_LEN + BLOCK_HEADER_LEN;
    let forgotten = revoked + KEYS_FLOOR_LEN + 2 * TOMBSTONE_LEN + BLOCK_HEADER_LEN;
    let numbers = |from: usize, count: usize| (0..count).map(move |i| from + 8 * i);
    let all = numbers(1, 4)
        .chain(numbers(keys, 4))
        .chain(numbers(keys + KEY_LEN, 4))
        .chain(numbers(revoked, 1))
        .chain(numbers(revoked + KEYS_FLOOR_LEN + Id::LEN, 2))
        .chain(numbers(forgotten, 2))
        .chain(numbers(forgotten + SCOPES_FLOOR_LEN + 32, 2));
    for at in all {
        let read = |number: u64| {
            let mut changed = good.clone();
            changed[at..at + 8].copy_from_slice(&number.to_be_bytes());
            Record::decode(&changed, SIV, None)
                .err()
                .unwrap_or_default()
        };
        let is_too_great = |number| read(number).ends_with(TOO_GREAT);
        assert!(!is_too_great(MAX_NUMBER), "at {at}");
        assert!(is_too_great(MAX_NUMBER + 1), "at {at}");
        assert!(is_too_great(u64::MAX), "at {at}");
    }
}

#[test]
fn more_than_fits_is_refused() {
    let read = |record: &Record| Record::decode(&record.encode(), SIV, None).map(drop);
    let refused = |most: usize, what: &str| Err(format!("more than {most} {what}"));
    let mut record = golden();
    let window = record.keys[0].window;
    let key = || Planned {
        key: Arc::new(Key::random(SIV).unwrap()),
        window,
    };
    record.keys.resize_with(MAX_KEYS, key);
    for number in 0..MAX_TOMBSTONES as u128 - 2 {
        let (revoked, until) = (Time(1), Time(2));
        let tombstone = Tombstone { revoked, until };
        let tombstones = &mut record.withdrawn.tombstones;
        tombstones.insert(Id(number.to_be_bytes()), tombstone);
    }
    for number in 0..MAX_SCOPES - 2 {
        let mut scope = [0; 32];
        scope[..8].copy_from_slice(&number.to_be_bytes());
        record.withdrawn.scopes.insert(scope, Forgotten::default());
    }
    assert_eq!(read(&record), Ok(()));
    let mut more = record.clone();
    more.keys.push(key());
    assert_eq!(read(&more), refused(MAX_KEYS, "keys"));
    let mut more = record.clone();
    let tombstone = more.withdrawn.tombstones[&Id([1; 16])];
    more.withdrawn.tombstones.insert(Id([9; 16]), tombstone);
    assert_eq!(read(&more), refused(MAX_TOMBSTONES, "revoked keys"));
    let mut more = record;
    more.withdrawn.scopes.insert([9; 32], Forgotten::default());
    assert_eq!(read(&more), refused(MAX_SCOPES, "forgotten scopes"));
}

#[test]
fn blocks_that_are_not_known_are_written_again_as_they_are() {
    let with = |kind: u8, len: usize| {
        let mut bytes = golden().encode().to_vec();
        begin(&mut bytes, kind, len);
        bytes.resize(bytes.len() + len, 7);
        bytes
    };
    let most = MAX_UNKNOWN_LEN - BLOCK_HEADER_LEN;
    for good in [with(0, 0), with(9, 30), with(200, most)] {
        let read = Record::decode(&good, SIV, None).unwrap();
        assert_eq!(*read.encode(), good);
    }
    for (bad, why) in [
        (with(KEYS, 0), "a second block of kind 1"),
        (
            with(9, most + 1),
            "16385 bytes of blocks that are not known here",
        ),
        (with(9, 9)[..370].to_vec(), "it is cut short"),
    ] {
        assert_eq!(Record::decode(&bad, SIV, None).unwrap_err(), why);
    }
}

#[test]
fn a_key_may_outlive_its_sealing_by_seven_days_and_no_longer() {
    let mut record = golden();
    for (more, fits) in [(0, true), (1, false)] {
        let window = &mut record.keys[0].window;
        window.expires = window
            .retires
            .plus(7 * 24 * HOUR + Duration::from_millis(more));
        assert_eq!(Record::decode(&record.encode(), SIV, None).is_ok(), fits);
    }
}

#[test]
fn keys_that_are_known_are_not_derived_again() {
    let known = golden();
    let read = Record::decode(&known.encode(), SIV, Some(&known)).unwrap();
    let same = |(a, b): (&Planned<Arc<Key>>, _)| Arc::ptr_eq(&a.key, b);
    let others = known.keys.iter().map(|key| &key.key);
    assert!(read.keys.iter().zip(others).all(same));
    let gcm = Record::decode(&known.encode(), Sealing::Aes256Gcm, Some(&known)).unwrap();
    assert_ne!(
        names(&gcm),
        names(&known),
        "another algorithm, another STEK"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Record::decode(&bytes, SIV, None);
    }

    #[test]
    fn a_damaged_record_is_refused_or_can_be_written_again(
        at in 0_usize..400, value in any::<u8>(),
    ) {
        let mut bytes = golden().encode().to_vec();
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(record) = Record::decode(&bytes, SIV, None) {
            prop_assert_eq!(&*record.encode(), &bytes);
        }
    }
}
