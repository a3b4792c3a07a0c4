//! The format of a session in a shared store.
//!
//! ```text
//!  0          16      28        35       38        41                   n-16  n
//!  | key name | nonce | lineage | issued | expires | rustls's session … | tag |
//!  |                  |<------------------- sealed -------------------->|     |
//! ```
//!
//! Times are in whole seconds after the birth in the lineage, big-endian; [`Lineage`] draws its own
//! bytes. Sealed
//! under the STEK's store key, with the key name and the session's [`Binding`] as additional data,
//! so that no value opens for another scope, version or session ID, however a store may mix them
//! up.

use aws_lc_rs::digest::{Context, SHA256};
use zeroize::Zeroizing;

use super::StoreKey;
use crate::clock::Time;
use crate::lineage::Lineage;
use crate::reader::Reader;
use crate::scope::Scope;
use crate::sealed::{self, Envelope};
use crate::session::Version;
use crate::stek::{KeyName, Stek};

/// The largest value that is written or opened. Only a client's certificate chain can make a
/// session large.
pub(super) const MAX_LEN: usize = 64 * 1024;

/// What a value is bound to: it opens for this scope, TLS version and session ID alone.
#[derive(Clone, Copy)]
pub(super) struct Binding<'a> {
    pub(super) scope: &'a [u8; Scope::DIGEST_LEN],
    pub(super) version: Version,
    pub(super) id: &'a [u8; 32],
}

/// When a session was issued, when its full handshake was, and when it expires: the first and the
/// last in whole seconds after the second.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Times {
    pub(super) issued: Time,
    pub(super) expires: Time,
    pub(super) lineage: Lineage,
}

const TIMES_LEN: usize = Lineage::LEN + 2 * Time::AFTER_LEN;
const OVERHEAD: usize = KeyName::LEN + TIMES_LEN + sealed::OVERHEAD;

const AAD_LEN: usize = KeyName::LEN + Binding::LEN;

impl Binding<'_> {
    const LEN: usize = Scope::DIGEST_LEN + 2 + 32;

    /// The key of the session in the store. Every part has a fixed length, so no two bindings share
    /// an encoding.
    pub(super) fn key(&self) -> StoreKey {
        let mut context = Context::new(&SHA256);
        context.update(b"rustls-resumption store key 1");
        context.update(self.scope);
        context.update(&self.version.wire());
        context.update(self.id);
        let mut key = [0; StoreKey::LEN];
        key.copy_from_slice(context.finish().as_ref()); // SHA-256 is 32 bytes
        StoreKey(key)
    }

    fn aad(&self, name: &KeyName) -> [u8; AAD_LEN] {
        let mut aad = [0; AAD_LEN];
        let parts: [&[u8]; 4] = [name.as_bytes(), self.scope, &self.version.wire(), self.id];
        let bytes = parts.into_iter().flatten();
        aad.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        aad
    }
}

/// Seals a session. One allocation, of the value's exact size.
pub(super) fn seal(
    stek: &Stek,
    binding: &Binding<'_>,
    times: &Times,
    session: &[u8],
) -> Option<Vec<u8>> {
    let Times {
        issued,
        expires,
        lineage,
    } = times;
    let issued = issued.to_bytes_after(lineage.birth);
    let expires = expires.to_bytes_after(lineage.birth);
    let plaintext = [&lineage.to_bytes()[..], &issued, &expires, session];
    let name = stek.name();
    let aad = binding.aad(name);
    sealed::seal(stek.store_key(), name.as_bytes(), &aad, plaintext)
}

/// The key name in a value, if its length is that of a value.
pub(super) fn key_name(value: &[u8]) -> Option<KeyName> {
    if !(OVERHEAD..=MAX_LEN).contains(&value.len()) {
        return None;
    }
    value.first_chunk().copied().map(KeyName::from_bytes)
}

/// Opens a value with the STEK of its key name. `None` if it is forged, or has another binding.
pub(super) fn open(
    stek: &Stek,
    binding: &Binding<'_>,
    value: &[u8],
) -> Option<(Times, Zeroizing<Vec<u8>>)> {
    let envelope = Envelope::<{ KeyName::LEN }>::parse(value)?;
    let opened = envelope.open(stek.store_key(), &binding.aad(stek.name()))?;
    let mut opened = Zeroizing::new(opened);
    let times = Times::read(&opened)?;
    let session_len = opened.len().checked_sub(TIMES_LEN)?;
    opened.copy_within(TIMES_LEN.., 0);
    opened.truncate(session_len);
    Some((times, opened))
}

impl Times {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let lineage = Lineage::from_bytes(reader.array()?);
        let mut time = || Some(Time::from_bytes_after(lineage.birth, reader.array()?));
        Some(Self {
            issued: time()?,
            expires: time()?,
            lineage,
        })
    }
}

#[cfg(any(test, rustls_resumption_fuzzing))]
#[path = "../../fuzz/bodies/private/store_value.rs"]
pub(super) mod fuzzed;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aead::Sealing;
    use crate::hex;
    use crate::ticket::tests::stek;

    const ID: &[u8; 32] = b"an ID as rustls makes: 32 bytes!";

    fn scope() -> Scope {
        Scope::new("api")
    }

    fn binding<'a>(scope: &'a Scope, version: Version, id: &'a [u8; 32]) -> Binding<'a> {
        Binding {
            scope: scope.digest(),
            version,
            id,
        }
    }

    fn times() -> Times {
        Times {
            issued: Time(1_800_000_000_456),
            expires: Time(1_800_086_400_456),
            lineage: Lineage::of_full_handshake(Time(1_799_990_000_456))
                .of_unknown_age()
                .renewed(Time(1_799_999_000_456)),
        }
    }

    #[test]
    fn a_value_opens_to_what_was_sealed_and_is_as_long_as_it_says() {
        let scope = scope();
        let binding = binding(&scope, Version::Tls13, ID);
        for sealing in [Sealing::Aes256Gcm, Sealing::Aes256GcmSiv] {
            let stek = stek(sealing);
            for len in [0, 1, 130, MAX_LEN - OVERHEAD] {
                let session = vec![0x5a; len];
                let value = seal(&stek, &binding, &times(), &session).unwrap();
                assert_eq!(value.len(), OVERHEAD + len);
                assert_eq!(value.capacity(), value.len());
                assert_eq!(key_name(&value), Some(*stek.name()));
                let (opened, bytes) = open(&stek, &binding, &value).unwrap();
                assert_eq!((opened, &*bytes), (times(), &session));
            }
        }
    }

    #[test]
    fn a_value_opens_in_its_own_place_alone() {
        let (scope, other) = (scope(), Scope::new("another"));
        let stek = stek(Sealing::default());
        let mut near = *ID;
        near[31] ^= 1;
        let bindings = [
            binding(&scope, Version::Tls13, ID),
            binding(&scope, Version::Tls12, ID),
            binding(&scope, Version::Tls13, &near),
            binding(&other, Version::Tls13, ID),
        ];
        for (i, made) in bindings.iter().enumerate() {
            let value = seal(&stek, made, &times(), b"session").unwrap();
            for (j, asked) in bindings.iter().enumerate() {
                assert_eq!(open(&stek, asked, &value).is_some(), i == j, "{i} {j}");
                assert_eq!(made.key() == asked.key(), i == j, "{i} {j}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_refused() {
        let scope = scope();
        let binding = binding(&scope, Version::Tls12, ID);
        let stek = stek(Sealing::default());
        let value = seal(&stek, &binding, &times(), b"session").unwrap();
        let names_it = |value: &[u8]| key_name(value) == Some(*stek.name());
        for bit in 0..value.len() * 8 {
            let mut forged = value.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let opens = names_it(&forged) && open(&stek, &binding, &forged).is_some();
            assert!(!opens, "bit {bit}");
        }
        for len in 0..value.len() {
            assert!(
                open(&stek, &binding, &value[..len]).is_none(),
                "length {len}"
            );
        }
        let mut longer = value;
        longer.push(0);
        assert!(open(&stek, &binding, &longer).is_none());
    }

    #[test]
    fn what_is_too_short_or_too_long_has_no_key_name() {
        assert_eq!(key_name(&[7; OVERHEAD - 1]), None);
        assert!(key_name(&[7; OVERHEAD]).is_some());
        assert!(key_name(&vec![7; MAX_LEN]).is_some());
        assert_eq!(key_name(&vec![7; MAX_LEN + 1]), None);
        assert_eq!((MAX_LEN, OVERHEAD), (65_536, 57));
    }

    #[test]
    fn golden_value_and_key() {
        let scope = scope();
        let binding = binding(&scope, Version::Tls13, ID);
        let golden = hex::decode(include_str!("../../tests/golden/store-value.hex"));
        let (opened, bytes) = open(&stek(Sealing::Aes256GcmSiv), &binding, &golden).unwrap();
        assert_eq!((opened, bytes.as_slice()), (times(), &b"golden"[..]));
        let golden = hex::decode(include_str!("../../tests/golden/store-key.hex"));
        assert_eq!(binding.key().as_bytes().as_slice(), golden);
    }
}
