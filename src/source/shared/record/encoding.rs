//! A record as bytes.
//!
//! ```text
//!  0        1         9          17         25            33      35
//!  | format | version | interval | lifetime | publish     | count | keys …
//!  |        |         |          |          | ahead       |       |
//!
//!  key:  0           8           16        24        32       64
//!        | published | activates | retires | expires | secret |
//! ```
//!
//! Big-endian; times are milliseconds since the Unix epoch, durations milliseconds.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Key, MAX_KEYS, Record, Schedule, millis};
use crate::aead::Sealing;
use crate::clock::Time;
use crate::reader::Reader;
use crate::rotation::{Rotation, Window};
use crate::source::plan::Planned;

/// The version of this layout. It is part of the name under which each record is kept, so records
/// of two layouts stand beside each other.
pub(in crate::source::shared) const FORMAT: u8 = 1;

/// The longest record.
pub(in crate::source::shared) const MAX_LEN: usize = HEADER_LEN + MAX_KEYS * KEY_LEN;

const CUT_SHORT: &str = "it is cut short";

const HEADER_LEN: usize = 1 + 4 * 8 + 2;
const KEY_LEN: usize = 4 * 8 + Key::SECRET_LEN;

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
        let (mut record, count) = Self::read_header(&mut reader).ok_or(CUT_SHORT)?;
        if count > MAX_KEYS {
            return Err(format!("it claims {count} keys: at most {MAX_KEYS} fit"));
        }
        for number in 0..count {
            let of_key = |why: &str| format!("key {number}: {why}");
            let (window, secret) = read_key(&mut reader).ok_or_else(|| of_key(CUT_SHORT))?;
            check_window(window).map_err(of_key)?;
            if record.keys.iter().any(|other| other.key.has(secret)) {
                return Err(of_key("the same secret as another"));
            }
            let known = known.and_then(|known| known.find(secret, sealing));
            let key = match known {
                Some(key) => key,
                None => Arc::new(Key::new(secret, sealing).map_err(|e| of_key(&e.to_string()))?),
            };
            record.keys.push(Planned { key, window });
        }
        match reader.len() {
            0 => Ok(record),
            more => Err(format!("{more} bytes too many")),
        }
    }

    /// The record without its keys, and how many of those follow.
    fn read_header(reader: &mut Reader<'_>) -> Option<(Self, usize)> {
        let record = Self {
            version: reader.u64()?,
            schedule: Schedule {
                interval: Duration::from_millis(reader.u64()?),
                ticket_lifetime: Duration::from_millis(reader.u64()?),
                publish_ahead: Duration::from_millis(reader.u64()?),
            },
            keys: Vec::new(),
        };
        Some((record, reader.u16()?.into()))
    }

    /// Of its final size at once: a buffer that grows leaves copies of secrets behind.
    pub(in crate::source::shared) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let len = HEADER_LEN.saturating_add(self.keys.len().saturating_mul(KEY_LEN));
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
        let count = u16::try_from(self.keys.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_be_bytes());
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
        out
    }
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
        let second = HEADER_LEN + KEY_LEN;
        let secret = HEADER_LEN + 32;
        for (error, why) in [
            (changed(0, &[2]), "its format is 2, here 1 is known"),
            (changed(33, &[4, 1]), "it claims 1025 keys: at most 1024"),
            (changed(33, &[0, 1]), "64 bytes too many"),
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
                changed(HEADER_LEN + 24, &[0xff; 8]),
                "key 0: it expires more than 7 days after",
            ),
        ] {
            assert!(error.starts_with(why), "{error}");
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
            at in 0_usize..163, value in any::<u8>(),
        ) {
            let mut bytes = golden().encode().to_vec();
            bytes[at] = value;
            if let Ok(record) = Record::decode(&bytes, SIV, None) {
                prop_assert_eq!(&*record.encode(), &bytes);
            }
        }
    }
}
