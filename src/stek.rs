use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::aead::{AeadKey, KEY_LEN, NONCE_LEN, Sealing};
use crate::error::Error;
use crate::hex::Hex;
use crate::kdf::Kdf;
use crate::scope::ScopeDigest;
use crate::session::CODEC_LINE;
use crate::siphash::siphash;

/// A session ticket encryption key ([STEK](crate::docs::glossary)).
///
/// Made from a secret of at least [`Stek::MIN_SECRET_LEN`] bytes, from which four things are
/// derived by HKDF-SHA256 ([RFC 5869](https://www.rfc-editor.org/rfc/rfc5869)), each under a label
/// of its own: the key that seals tickets, the key that seals sessions in a shared store, the key
/// of the hint in each ticket that tells one scope from another, and the [`KeyName`]. The ticket format's version, the line of rustls and the algorithm are part of each
/// label, so a STEK never opens what another format sealed: such a ticket bears an unknown name.
///
/// The secret itself is not kept, and the derived keys are wiped on drop. It cannot be cloned or
/// shown; rings share it by reference count.
///
/// ```
/// use rustls_resumption::Stek;
///
/// let mut secret = [0; 32];
/// assert!(Stek::from_bytes(&secret).is_err()); // all bytes equal
/// aws_lc_rs::rand::fill(&mut secret).unwrap();
/// println!("{}", Stek::from_bytes(&secret)?.name());
/// # Ok::<(), rustls_resumption::Error>(())
/// ```
pub struct Stek {
    name: KeyName,
    sealing: Sealing,
    ticket_key: AeadKey,
    store_key: AeadKey,
    /// Boxed, so that it is not copied where the STEK moves.
    hint_key: Box<Zeroizing<[u64; 2]>>,
}

impl Stek {
    /// The shortest secret that is accepted.
    pub const MIN_SECRET_LEN: usize = 32;

    /// A STEK from your own secret; it seals with the default [`Sealing`]. The caller's bytes are
    /// the caller's to wipe.
    ///
    /// # Errors
    ///
    /// [`Error::WeakKey`] if the secret is shorter than [`Stek::MIN_SECRET_LEN`] bytes or all its
    /// bytes are equal (all-zero STEKs went unnoticed for years: "We Really Need to Talk About
    /// Session Tickets", USENIX Security 2023).
    pub fn from_bytes(secret: &[u8]) -> Result<Self, Error> {
        Self::with_sealing(secret, Sealing::default())
    }

    /// The same, sealing with the given algorithm.
    ///
    /// # Errors
    ///
    /// As [`Stek::from_bytes`].
    pub fn with_sealing(secret: &[u8], sealing: Sealing) -> Result<Self, Error> {
        weakness(secret, Self::MIN_SECRET_LEN)
            .map_or(Ok(()), |why| Err(Error::weak_key("the STEK's secret", why)))?;
        Self::derive(secret, sealing)
    }

    /// The same for a secret that its source has already checked by rules of its own.
    pub(crate) fn derive(secret: &[u8], sealing: Sealing) -> Result<Self, Error> {
        let kdf = Kdf::new("rustls-resumption", secret);
        let format = [0, FORMAT_VERSION, sealing.code()];
        let label = |label: &'static str| [label.as_bytes(), &format, CODEC_LINE.as_bytes()];
        let key = |name| {
            let mut bytes = Zeroizing::new([0; KEY_LEN]);
            kdf.expand(&label(name), &mut *bytes)?;
            AeadKey::new(sealing, &bytes).ok_or(Error::Random)
        };
        let ticket_key = key("ticket key")?;
        let store_key = key("store key")?;
        let mut hint_bytes = Zeroizing::new([[0; 8]; 2]);
        kdf.expand(&label("hint key"), hint_bytes.as_flattened_mut())?;
        let hint_key = Box::new(Zeroizing::new(hint_bytes.map(u64::from_be_bytes)));
        let mut name = [0; KeyName::LEN];
        kdf.expand(&label("key name"), &mut name)?;
        Ok(Self {
            name: KeyName(name),
            sealing,
            ticket_key,
            store_key,
            hint_key,
        })
    }

    /// A fresh one from the random generator.
    pub(crate) fn random(sealing: Sealing) -> Result<Self, Error> {
        let mut secret = Zeroizing::new([0; Self::MIN_SECRET_LEN]);
        aws_lc_rs::rand::fill(&mut *secret).map_err(|_| Error::Random)?;
        Self::derive(&*secret, sealing)
    }

    /// Its public name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The algorithm it seals with.
    pub fn sealing(&self) -> Sealing {
        self.sealing
    }

    pub(crate) fn ticket_key(&self) -> &AeadKey {
        &self.ticket_key
    }

    pub(crate) fn store_key(&self) -> &AeadKey {
        &self.store_key
    }

    /// What a ticket of this nonce bears if it is of this scope: two bytes of SipHash-1-3, which give
    /// away neither the scope nor which tickets are of one.
    #[inline(always)]
    pub(crate) fn hint(&self, nonce: &[u8; NONCE_LEN], scope: &ScopeDigest) -> [u8; HINT_LEN] {
        // Of either as much as one word holds. That what is hashed is equal for two tickets, of one
        // scope or of two, is less likely than that their hints are.
        let [nonce, scope] = [nonce.first_chunk(), scope.first_chunk()]
            .map(|first| u64::from_le_bytes(*first.unwrap_or(&[0; 8])));
        let [a, b, ..] = siphash(&self.hint_key, nonce ^ scope).to_be_bytes();
        [a, b]
    }
}

impl fmt::Debug for Stek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stek")
            .field("name", &self.name)
            .field("sealing", &self.sealing)
            .finish_non_exhaustive()
    }
}

/// The public name of a STEK, sent in clear at the head of each ticket it sealed (the `key_name` of
/// [RFC 5077 §4](https://www.rfc-editor.org/rfc/rfc5077#section-4)). It reveals nothing about the
/// secret.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyName([u8; Self::LEN]);

/// From what is shown: 32 hexadecimal digits.
impl FromStr for KeyName {
    type Err = Error;

    fn from_str(digits: &str) -> Result<Self, Error> {
        let mut name = [0; Self::LEN];
        let decoded = base16ct::mixed::decode(digits, &mut name).map(<[u8]>::len);
        match decoded {
            Ok(Self::LEN) => Ok(Self(name)),
            _ => {
                let why = format!("{digits:?} is not a key name: it has 32 hexadecimal digits");
                Err(Error::config("key name", why))
            }
        }
    }
}

impl KeyName {
    /// Its length in bytes.
    pub const LEN: usize = 16;

    /// A name from its bytes.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyName({self})")
    }
}

/// The length of the hint in a ticket.
pub(crate) const HINT_LEN: usize = 2;

/// The version of the layouts of tickets and stored values. It is part of every key name, so what
/// another version sealed bears an unknown name.
pub(crate) const FORMAT_VERSION: u8 = 3;

/// Why a secret that must have at least `min_len` bytes is weak, if it is.
pub(crate) fn weakness(secret: &[u8], min_len: usize) -> Option<&'static str> {
    if secret.len() < min_len {
        return Some("too few bytes: at least 32 secret ones are needed, from a random generator");
    }
    if secret.iter().all(|byte| Some(byte) == secret.first()) {
        return Some("all bytes are equal: make the key with a random generator");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> [u8; 32] {
        std::array::from_fn(|i| i as u8)
    }

    #[test]
    fn weak_secrets_are_refused_and_say_why() {
        for (weak, why) in [
            (vec![], "too few bytes"),
            ((0..31).collect(), "too few bytes"),
            (vec![0; 32], "all bytes are equal"),
            (vec![0xa5; 48], "all bytes are equal"),
        ] {
            let error = Stek::from_bytes(&weak).unwrap_err().to_string();
            assert!(error.starts_with("weak key in the STEK's secret: "));
            assert!(error.contains(why), "{error}");
        }
        assert!(Stek::from_bytes(&secret()).is_ok());
    }

    #[test]
    fn the_name_depends_on_the_secret_and_the_algorithm_alone() {
        let siv = Stek::with_sealing(&secret(), Sealing::Aes256GcmSiv).unwrap();
        let gcm = Stek::with_sealing(&secret(), Sealing::Aes256Gcm).unwrap();
        let mut other = secret();
        other[31] ^= 1;
        let other = Stek::with_sealing(&other, Sealing::Aes256GcmSiv).unwrap();
        let again = Stek::with_sealing(&secret(), Sealing::Aes256GcmSiv).unwrap();
        assert_eq!(siv.name(), again.name(), "derived, not drawn");
        assert_ne!(siv.name(), gcm.name());
        assert_ne!(siv.name(), other.name());
    }

    #[test]
    fn golden_key_name() {
        let stek = Stek::with_sealing(&secret(), Sealing::Aes256GcmSiv).unwrap();
        assert_eq!(
            format!("{stek:?}"),
            "Stek { name: KeyName(c0499ab55a6f6c55edd6ca4194cf3c61), sealing: Aes256GcmSiv, .. }"
        );
    }

    #[test]
    fn ticket_and_store_keys_do_not_open_each_other() {
        let stek = Stek::from_bytes(&secret()).unwrap();
        let mut text = *b"text";
        let mut nonce = [0; NONCE_LEN];
        let tag = stek.ticket_key().seal(b"", &mut nonce, &mut text).unwrap();
        let sealed = [&text[..], &tag].concat();
        assert!(stek.store_key().open(&nonce, b"", &sealed).is_none());
        assert!(stek.ticket_key().open(&nonce, b"", &sealed).is_some());
    }
}
