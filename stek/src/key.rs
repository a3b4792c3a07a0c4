use std::fmt;

use zeroize::Zeroizing;

use crate::error::Error;

/// A ticket key: a name (16 bytes), a key for HMAC, and one for AES.
///
/// ```text
///  nginx, Apache   48 bytes   two parts of 16, in an order of their own
///  nginx, Envoy    80 bytes   HMAC 32, AES-256 32
///  H2O             96         HMAC 64, AES-128 16
///  H2O             112        HMAC 64, AES-256 32
/// ```
#[derive(Clone)]
pub(crate) struct Key {
    bytes: Zeroizing<Vec<u8>>,
    /// When H2O seals with it, in seconds since 1970.
    pub(crate) times: Option<Times>,
}

#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
}

/// The parts of a key whose order is known.
pub(crate) struct Parts<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) hmac: &'a [u8],
    pub(crate) cipher: &'a [u8],
}

pub(crate) const SHORT: usize = 48;
pub(crate) const LONG: usize = 80;

impl Key {
    pub(crate) fn random(len: usize) -> Result<Self, Error> {
        let mut bytes = Zeroizing::new(vec![0; len]);
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Random)?;
        Ok(Self { bytes, times: None })
    }

    pub(crate) fn from_bytes(bytes: &[u8], times: Option<Times>) -> Self {
        Self {
            bytes: Zeroizing::new(bytes.to_vec()),
            times,
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// When H2O begins to seal with it.
    pub(crate) fn begins(&self) -> u64 {
        self.times.map_or(0, |times| times.not_before)
    }

    /// The parts, unless the key has 48 bytes, of which nginx and Apache make different ones.
    pub(crate) fn parts(&self) -> Option<Parts<'_>> {
        let hmac = match self.bytes.len() {
            LONG => 32,
            96 | 112 => 64,
            _ => return None,
        };
        let (name, secret) = self.bytes.split_at_checked(16)?;
        let (hmac, cipher) = secret.split_at_checked(hmac)?;
        Some(Parts { name, hmac, cipher })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}
