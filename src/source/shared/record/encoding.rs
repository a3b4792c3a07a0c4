//! A record as bytes.
//!
//! ```text
//!  0        1         9          17         25            33
//!  | format | version | interval | lifetime | publish     | blocks …
//!  |        |         |          |          | ahead       |
//!
//!  block:     0      1        5
//!             | kind | length | its bytes …
//!
//!  1, keys:   0           8           16        24        32       64
//!             | published | activates | retires | expires | secret | …
//!
//!  2, revoked keys:
//!             0       8    24        32      40
//!             | floor | ID | revoked | until | …
//!
//!  3, forgotten scopes:
//!             0                  8            16              48           56     64
//!             | floor generation | floor time | scope digest | generation | time | …
//! ```
//!
//! Big-endian; times are milliseconds since the Unix epoch, durations milliseconds. The three
//! blocks stand in this order. Blocks of other kinds, which a later release may add, follow them,
//! and are written again as they are.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::key::Key;
use super::schedule::{Schedule, millis};
use super::withdrawn::{Id, MAX_SCOPES, MAX_TOMBSTONES, Tombstone, Withdrawn};
use super::{MAX_KEYS, Record};
use crate::aead::Sealing;
use crate::clock::Time;
use crate::reader::Reader;
use crate::rotation::{Rotation, Window};
use crate::scope::Scope;
use crate::source::bulletin::Forgotten;
use crate::source::plan::Planned;

/// The version of this layout. It is part of the name under which each record is kept, so records
/// of two layouts stand beside each other.
pub(in crate::source::shared) const FORMAT: u8 = 2;

/// The longest record.
pub(in crate::source::shared) const MAX_LEN: usize = HEADER_LEN
    + 3 * BLOCK_HEADER_LEN
    + MAX_KEYS * KEY_LEN
    + KEYS_FLOOR_LEN
    + MAX_TOMBSTONES * TOMBSTONE_LEN
    + SCOPES_FLOOR_LEN
    + MAX_SCOPES * SCOPE_LEN
    + MAX_UNKNOWN_LEN;

const CUT_SHORT: &str = "it is cut short";

const HEADER_LEN: usize = 1 + 4 * 8;
const BLOCK_HEADER_LEN: usize = 1 + 4;
const KEY_LEN: usize = 4 * 8 + Key::SECRET_LEN;
const KEYS_FLOOR_LEN: usize = 8;
const TOMBSTONE_LEN: usize = Id::LEN + 2 * 8;
const SCOPES_FLOOR_LEN: usize = 2 * 8;
const SCOPE_LEN: usize = Scope::DIGEST_LEN + 2 * 8;

/// How much a later release may add.
const MAX_UNKNOWN_LEN: usize = 16 * 1024;

/// The kinds of blocks.
const KEYS: u8 = 1;
const REVOKED: u8 = 2;
const FORGOTTEN: u8 = 3;

impl Record {
    /// Reads a record. STEKs of keys that `known` has too are taken from there. An error says what
    /// is wrong with the bytes, and nothing that is in them.
    pub(in crate::source::shared) fn decode(
        bytes: &[u8],
        sealing: Sealing,
        known: Option<&Self>,
    ) -> Result<Self, String> {
        let mut reader = Reader::new(bytes);
        let format = reader.u8().ok_or(CUT_SHORT)?;
        if format != FORMAT {
            return Err(format!("its format is {format}, here {FORMAT} is known"));
        }
        let mut record = Self::read_header(&mut reader).ok_or(CUT_SHORT)?;
        let keys = block(&mut reader, KEYS)?;
        record.read_keys(keys, sealing, known)?;
        record.withdrawn = Withdrawn::default();
        read_revoked(block(&mut reader, REVOKED)?, &mut record.withdrawn)?;
        read_forgotten(block(&mut reader, FORGOTTEN)?, &mut record.withdrawn)?;
        record.unknown = Zeroizing::new(unknown(&mut reader)?.to_vec());
        Ok(record)
    }

    /// The record without its blocks.
    fn read_header(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            version: reader.u64()?,
            schedule: Schedule {
                interval: Duration::from_millis(reader.u64()?),
                ticket_lifetime: Duration::from_millis(reader.u64()?),
                publish_ahead: Duration::from_millis(reader.u64()?),
            },
            keys: Vec::new(),
            withdrawn: Withdrawn::default(),
            unknown: Zeroizing::default(),
        })
    }

    fn read_keys(
        &mut self,
        mut reader: Reader<'_>,
        sealing: Sealing,
        known: Option<&Self>,
    ) -> Result<(), String> {
        let mut number = 0_usize;
        while !reader.is_empty() {
            if number >= MAX_KEYS {
                return Err(format!("more than {MAX_KEYS} keys"));
            }
            let of_key = |why: &str| format!("key {number}: {why}");
            let (window, secret) = read_key(&mut reader).ok_or_else(|| of_key(CUT_SHORT))?;
            check_window(window).map_err(of_key)?;
            if self.keys.iter().any(|other| other.key.has(secret)) {
                return Err(of_key("the same secret as another"));
            }
            let known = known.and_then(|known| known.find(secret, sealing));
            let key = match known {
                Some(key) => key,
                None => Arc::new(Key::new(secret, sealing).map_err(|e| of_key(&e.to_string()))?),
            };
            self.keys.push(Planned { key, window });
            number = number.saturating_add(1);
        }
        Ok(())
    }

    /// Of its final size at once: a buffer that grows leaves copies of secrets behind.
    pub(in crate::source::shared) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let Withdrawn {
            tombstones,
            keys_floor,
            scopes,
            scopes_floor,
        } = &self.withdrawn;
        let of_keys = self.keys.len().saturating_mul(KEY_LEN);
        let of_revoked = tombstones.len().saturating_mul(TOMBSTONE_LEN);
        let of_revoked = of_revoked.saturating_add(KEYS_FLOOR_LEN);
        let of_forgotten = scopes.len().saturating_mul(SCOPE_LEN);
        let of_forgotten = of_forgotten.saturating_add(SCOPES_FLOOR_LEN);
        let blocks = [of_keys, of_revoked, of_forgotten, self.unknown.len()];
        let headers = HEADER_LEN + 3 * BLOCK_HEADER_LEN;
        let len = blocks.into_iter().fold(headers, usize::saturating_add);
        let mut out = Zeroizing::new(Vec::with_capacity(len));

        out.push(FORMAT);
        out.extend_from_slice(&self.version.to_be_bytes());
        let Schedule {
            interval,
            ticket_lifetime,
            publish_ahead,
        } = self.schedule;
        for duration in [interval, ticket_lifetime, publish_ahead] {
            out.extend_from_slice(&millis(duration).to_be_bytes());
        }
        begin(&mut out, KEYS, of_keys);
        for Planned { key, window } in &self.keys {
            let Window {
                published,
                activates,
                retires,
                expires,
            } = *window;
            for time in [published, activates, retires, expires] {
                out.extend_from_slice(&time.0.to_be_bytes());
            }
            out.extend_from_slice(&key.secret);
        }
        begin(&mut out, REVOKED, of_revoked);
        out.extend_from_slice(&keys_floor.0.to_be_bytes());
        for (id, Tombstone { revoked, until }) in tombstones {
            out.extend_from_slice(&id.0);
            out.extend_from_slice(&revoked.0.to_be_bytes());
            out.extend_from_slice(&until.0.to_be_bytes());
        }
        begin(&mut out, FORGOTTEN, of_forgotten);
        let put = |out: &mut Vec<u8>, Forgotten { generation, time }: &Forgotten| {
            out.extend_from_slice(&generation.to_be_bytes());
            out.extend_from_slice(&time.0.to_be_bytes());
        };
        put(&mut out, scopes_floor);
        for (scope, forgotten) in scopes {
            out.extend_from_slice(scope);
            put(&mut out, forgotten);
        }
        out.extend_from_slice(&self.unknown);
        out
    }
}

/// The head of a block.
fn begin(out: &mut Vec<u8>, kind: u8, len: usize) {
    out.push(kind);
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
}

/// The block of this kind, which must come next.
fn block<'a>(reader: &mut Reader<'a>, kind: u8) -> Result<Reader<'a>, String> {
    let found = reader.u8().ok_or(CUT_SHORT)?;
    if found != kind {
        return Err(format!("a block of kind {found} in place of kind {kind}"));
    }
    Ok(Reader::new(reader.vector::<4>().ok_or(CUT_SHORT)?))
}

/// Whole blocks of kinds that are not known here.
fn unknown<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], String> {
    let mut blocks = *reader;
    while !blocks.is_empty() {
        let kind = blocks.u8().ok_or(CUT_SHORT)?;
        if (KEYS..=FORGOTTEN).contains(&kind) {
            return Err(format!("a second block of kind {kind}"));
        }
        blocks.vector::<4>().ok_or(CUT_SHORT)?;
    }
    let len = reader.len();
    if len > MAX_UNKNOWN_LEN {
        return Err(format!("{len} bytes of blocks that are not known here"));
    }
    reader.take(len).ok_or_else(|| CUT_SHORT.into())
}

fn read_key<'a>(reader: &mut Reader<'a>) -> Option<(Window, &'a [u8])> {
    let window = Window {
        published: Time(reader.u64()?),
        activates: Time(reader.u64()?),
        retires: Time(reader.u64()?),
        expires: Time(reader.u64()?),
    };
    Some((window, reader.take(Key::SECRET_LEN)?))
}

fn read_revoked(mut reader: Reader<'_>, withdrawn: &mut Withdrawn) -> Result<(), String> {
    withdrawn.keys_floor = Time(reader.u64().ok_or(CUT_SHORT)?);
    while !reader.is_empty() {
        let (id, tombstone) = read_tombstone(&mut reader).ok_or(CUT_SHORT)?;
        let last = withdrawn.tombstones.last_key_value();
        if last.is_some_and(|(last, _)| *last >= id) {
            return Err("revoked keys out of order".into());
        }
        withdrawn.tombstones.insert(id, tombstone);
        if withdrawn.tombstones.len() > MAX_TOMBSTONES {
            return Err(format!("more than {MAX_TOMBSTONES} revoked keys"));
        }
    }
    Ok(())
}

fn read_tombstone(reader: &mut Reader<'_>) -> Option<(Id, Tombstone)> {
    let id = Id(reader.array()?);
    let revoked = Time(reader.u64()?);
    let until = Time(reader.u64()?);
    Some((id, Tombstone { revoked, until }))
}

fn read_forgotten(mut reader: Reader<'_>, withdrawn: &mut Withdrawn) -> Result<(), String> {
    withdrawn.scopes_floor = read_generation(&mut reader).ok_or(CUT_SHORT)?;
    while !reader.is_empty() {
        let scope = reader.array().ok_or(CUT_SHORT)?;
        let forgotten = read_generation(&mut reader).ok_or(CUT_SHORT)?;
        let last = withdrawn.scopes.last_key_value();
        if last.is_some_and(|(last, _)| *last >= scope) {
            return Err("forgotten scopes out of order".into());
        }
        withdrawn.scopes.insert(scope, forgotten);
        if withdrawn.scopes.len() > MAX_SCOPES {
            return Err(format!("more than {MAX_SCOPES} forgotten scopes"));
        }
    }
    Ok(())
}

fn read_generation(reader: &mut Reader<'_>) -> Option<Forgotten> {
    Some(Forgotten {
        generation: reader.u64()?,
        time: Time(reader.u64()?),
    })
}

fn check_window(window: Window) -> Result<(), &'static str> {
    let Window {
        published,
        activates,
        retires,
        expires,
    } = window;
    if !(published <= activates && activates <= retires && retires <= expires) {
        return Err("its window is out of order");
    }
    if expires.since(retires) > Rotation::MAX_TICKET_LIFETIME {
        return Err("it expires more than 7 days after it retires");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{golden, names};
    use super::*;
    use crate::hex;

    const HOUR: Duration = Duration::from_secs(60 * 60);
    const SIV: Sealing = Sealing::Aes256GcmSiv;

    #[test]
    fn golden_record() {
        let bytes = hex::decode(include_str!("../../../../tests/golden/record.hex"));
        assert_eq!(*golden().encode(), bytes);
        assert_eq!(golden().encode().capacity(), bytes.len(), "it never moved");
        let read = Record::decode(&bytes, SIV, None).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", golden()));
        assert_eq!(
            names(&read)[0].to_string(),
            "71f1a663d2cf2b6177cb5ecc457571b0",
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
                changed(second, &[0xff; 8]),
                "key 1: its window is out of order",
            ),
            (
                changed(first + 24, &[0xff; 8]),
                "key 0: it expires more than 7 days after",
            ),
        ] {
            assert!(error.starts_with(why), "{error}");
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
}
