//! A record as Redis holds it: sealed under a key-encryption key (KEK).
//!
//! ```text
//!  0        1          9       21              n-16  n
//!  | format | KEK name | nonce | the record …  | tag |
//!                              |<-- sealed --->|
//! ```
//!
//! The additional data is everything before the nonce, then the name of the key in Redis: a value
//! that is moved to another key does not open. The algorithm is bound into both the KEK's key and
//! its name, so with the feature `fips` both differ.

use std::fmt;

use zeroize::Zeroizing;

use super::record::encoding::FORMAT;
use crate::aead::{AeadKey, KEY_LEN, Sealing};
use crate::error::Error;
use crate::hex::Hex;
use crate::kdf::Kdf;
use crate::sealed::{self, Envelope};
use crate::source::shared_secret;

/// How long a record of this length is once it is sealed.
pub(super) const fn sealed_len(record: usize) -> usize {
    record.saturating_add(HEAD_LEN + sealed::OVERHEAD)
}

const NAME_LEN: usize = 8;
const HEAD_LEN: usize = 1 + NAME_LEN;

/// Key-encryption keys, of which the first seals and all open.
pub(super) struct Keks {
    sealing: Sealing,
    first: Kek,
    others: Vec<Kek>,
}

struct Kek {
    name: Name,
    key: AeadKey,
}

/// Tells KEKs apart without revealing anything about them.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Name([u8; NAME_LEN]);

impl Keks {
    pub(super) fn new(secret: &[u8]) -> Result<Self, Error> {
        Self::with_sealing(secret, Sealing::default())
    }

    fn with_sealing(secret: &[u8], sealing: Sealing) -> Result<Self, Error> {
        Ok(Self {
            sealing,
            first: Kek::new("kek", secret, sealing)?,
            others: Vec::new(),
        })
    }

    pub(super) fn add(&mut self, secret: &[u8]) -> Result<(), Error> {
        let kek = Kek::new("also_kek", secret, self.sealing)?;
        if self.all().any(|other| other.name == kek.name) {
            let why = "the same as another KEK: give each once";
            return Err(Error::config("also_kek", why));
        }
        self.others.push(kek);
        Ok(())
    }

    pub(super) fn seal(&self, record: &[u8], redis_key: &str) -> Result<Vec<u8>, Error> {
        let Kek { name, key } = &self.first;
        let head = [&[FORMAT][..], &name.0].concat();
        let aad = [&head, redis_key.as_bytes()].concat();
        sealed::seal(key, &head, &aad, [record]).ok_or(Error::Random)
    }

    /// An error says why the record does not open.
    pub(super) fn open(
        &self,
        sealed: &[u8],
        redis_key: &str,
    ) -> Result<Zeroizing<Vec<u8>>, String> {
        let Some(envelope) = Envelope::<HEAD_LEN>::parse(sealed) else {
            return Err(format!("{} bytes are too few for STEKs", sealed.len()));
        };
        let [format, name @ ..] = envelope.head;
        if *format != FORMAT {
            return Err(format!("its format is {format}, here {FORMAT} is known"));
        }
        let Some(kek) = self.all().find(|kek| kek.name.0 == *name) else {
            let (theirs, ours) = (Name(*name), self);
            return Err(format!("sealed under the KEK {theirs}, here is {ours:?}"));
        };
        let aad = [envelope.head, redis_key.as_bytes()].concat();
        let opened = envelope.open(&kek.key, &aad);
        opened
            .map(Zeroizing::new)
            .ok_or_else(|| "damaged, or of another key's name".into())
    }

    fn all(&self) -> impl Iterator<Item = &Kek> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl fmt::Debug for Keks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.all().map(|kek| kek.name))
            .finish()
    }
}

impl Kek {
    fn new(field: &'static str, secret: &[u8], sealing: Sealing) -> Result<Self, Error> {
        shared_secret::check(field, secret)?;
        let kdf = Kdf::new("rustls-resumption", secret);
        let version: &[u8] = match sealing {
            Sealing::Aes256Gcm => &[0, FORMAT, sealing.code()],
            Sealing::Aes256GcmSiv => &[0, FORMAT],
        };
        let mut key = Zeroizing::new([0; KEY_LEN]);
        kdf.expand(&[b"key-encryption key", version], &mut *key)?;
        let mut name = [0; NAME_LEN];
        kdf.expand(&[b"key-encryption key's name", version], &mut name)?;
        Ok(Self {
            name: Name(name),
            key: AeadKey::new(sealing, &key).ok_or(Error::Random)?,
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(any(test, rustls_resumption_fuzzing))]
#[path = "../../../fuzz/bodies/private/redis_record.rs"]
pub(super) mod fuzzed;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;
    use crate::source::shared::record::tests::golden;

    fn secret(first: u8) -> Vec<u8> {
        (first..first + 32).collect()
    }

    #[test]
    fn golden_redis_record() {
        let sealed = hex::decode(include_str!("../../../tests/golden/redis-record.hex"));
        let keks = Keks::with_sealing(&secret(200), Sealing::Aes256GcmSiv).unwrap();
        let record = keks.open(&sealed, "fleet:steks:2").unwrap();
        assert_eq!(record, golden().encode());
    }

    #[test]
    fn what_was_sealed_opens_under_any_of_the_keks_and_its_own_key_alone() {
        let old = Keks::new(&secret(0)).unwrap();
        let mut new = Keks::new(&secret(1)).unwrap();
        let sealed = old.seal(b"record", "a").unwrap();
        assert_eq!((sealed.len(), sealed_len(6)), (43, 43));
        assert_eq!(*old.open(&sealed, "a").unwrap(), b"record");
        let error = old.open(&sealed, "b").unwrap_err();
        assert_eq!(error, "damaged, or of another key's name");
        let error = new.open(&sealed, "a").unwrap_err();
        let (ours, theirs) = (new.first.name, old.first.name);
        assert_eq!(
            error,
            format!("sealed under the KEK {theirs}, here is [{ours}]")
        );
        new.add(&secret(0)).unwrap();
        assert_eq!(*new.open(&sealed, "a").unwrap(), b"record");
        let resealed = new.seal(b"record", "a").unwrap();
        assert!(old.open(&resealed, "a").is_err(), "the first seals");
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_refused() {
        let keks = Keks::new(&secret(0)).unwrap();
        let sealed = keks.seal(b"record", "a").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut forged = sealed.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(keks.open(&forged, "a").is_err(), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(keks.open(&sealed[..len], "a").is_err(), "length {len}");
        }
        let mut other = sealed;
        other[0] = 9;
        let error = keks.open(&other, "a").unwrap_err();
        assert_eq!(error, "its format is 9, here 2 is known");
    }

    #[test]
    fn weak_and_repeated_keks_are_refused_by_name() {
        let error = Keks::new(&[7; 40]).unwrap_err().to_string();
        assert!(
            error.starts_with("weak key in kek: all bytes are equal"),
            "{error}"
        );
        let mut keks = Keks::new(&secret(0)).unwrap();
        let error = keks.add(&secret(1)[..31]).unwrap_err().to_string();
        assert!(
            error.starts_with("weak key in also_kek: too few"),
            "{error}"
        );
        let error = keks.add(&secret(0)).unwrap_err().to_string();
        assert_eq!(error, "also_kek: the same as another KEK: give each once");
    }

    #[test]
    fn keks_are_shown_by_their_names_alone() {
        let shown = |sealing| format!("{:?}", Keks::with_sealing(&secret(200), sealing).unwrap());
        assert_eq!(shown(Sealing::Aes256GcmSiv), "[93f34dc0bbd62e17]");
        assert_ne!(shown(Sealing::Aes256Gcm), "[93f34dc0bbd62e17]");
    }
}
