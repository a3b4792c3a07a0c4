use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{
    AES_256_GCM, AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, RandomizedNonceKey, Tag, UnboundKey,
};
use zeroize::Zeroize;

/// The AEAD that seals tickets and stored sessions.
///
/// Defaults to [`Sealing::Aes256GcmSiv`], with the feature `fips` to [`Sealing::Aes256Gcm`], which
/// is then the only choice that builders accept. The algorithm is part of every
/// [`KeyName`](crate::KeyName): nodes that chose differently do not open each other's tickets.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Sealing {
    /// AES-256-GCM with random nonces, for those who need an approved algorithm. A nonce that
    /// repeats under one key breaks it, so a STEK seals at most [`Sealing::GCM_LIMIT`] times: well
    /// before, the ring rotates early, and past it no more tickets are made. Each process counts
    /// for itself, from its start: where many share a STEK, choose an interval so short that all
    /// of them together stay below the limit.
    Aes256Gcm,
    /// AES-256-GCM-SIV ([RFC 8452](https://www.rfc-editor.org/rfc/rfc8452)): a nonce that repeats,
    /// as after a fork or in a restored virtual machine, shows at most that two equal sessions are
    /// equal. Not approved by FIPS 140-3.
    Aes256GcmSiv,
}

impl Sealing {
    /// How often one key may seal with AES-256-GCM and random nonces: 2³² times
    /// ([SP 800-38D §8.3](https://csrc.nist.gov/pubs/sp/800/38/d/final)).
    pub const GCM_LIMIT: u64 = 1 << 32;

    /// Whether FIPS 140-3 approves it.
    pub const fn is_approved(self) -> bool {
        match self {
            Self::Aes256Gcm => true,
            Self::Aes256GcmSiv => false,
        }
    }

    const fn default_with(fips: bool) -> Self {
        match fips {
            true => Self::Aes256Gcm,
            false => Self::Aes256GcmSiv,
        }
    }

    /// Stands for the algorithm where keys are derived.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Aes256GcmSiv => 1,
            Self::Aes256Gcm => 2,
        }
    }
}

impl Default for Sealing {
    fn default() -> Self {
        Self::default_with(cfg!(feature = "fips"))
    }
}

pub(crate) const KEY_LEN: usize = 32;
pub(crate) const NONCE_LEN: usize = 12;
pub(crate) const TAG_LEN: usize = 16;

/// A key of either algorithm. aws-lc wipes what it expands from the key when it is dropped.
pub(crate) enum AeadKey {
    Gcm {
        key: RandomizedNonceKey,
        /// Seals so far. One contended counter, in this mode only: the limit must not be missed.
        sealed: AtomicU64,
    },
    GcmSiv(LessSafeKey),
}

impl AeadKey {
    pub(crate) fn new(sealing: Sealing, key: &[u8; KEY_LEN]) -> Option<Self> {
        Some(match sealing {
            Sealing::Aes256Gcm => Self::Gcm {
                key: RandomizedNonceKey::new(&AES_256_GCM, key).ok()?,
                sealed: AtomicU64::new(0),
            },
            Sealing::Aes256GcmSiv => Self::GcmSiv(LessSafeKey::new(
                UnboundKey::new(&AES_256_GCM_SIV, key).ok()?,
            )),
        })
    }

    /// Seals in place, writes the nonce where it belongs and returns the tag. `None` when the key's
    /// limit is reached or the random generator fails.
    #[inline(always)]
    pub(crate) fn seal(
        &self,
        aad: &[u8],
        nonce_out: &mut [u8; NONCE_LEN],
        in_out: &mut [u8],
    ) -> Option<[u8; TAG_LEN]> {
        let tag = match self {
            Self::Gcm { key, sealed } => seal_with_gcm(key, sealed, aad, nonce_out, in_out)?,
            Self::GcmSiv(key) => {
                draw_nonce(nonce_out)?;
                let nonce = Nonce::assume_unique_for_key(*nonce_out);
                key.seal_in_place_separate_tag(nonce, Aad::from(aad), in_out)
                    .ok()?
            }
        };
        tag.as_ref().try_into().ok()
    }

    /// Opens a ciphertext with its tag into a fresh buffer. `None` is all that anyone learns of a
    /// forgery.
    #[inline(always)]
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        sealed: &[u8],
    ) -> Option<Vec<u8>> {
        let mut out = sealed.to_vec();
        let (nonce, aad) = (Nonce::assume_unique_for_key(*nonce), Aad::from(aad));
        let opened = match self {
            Self::Gcm { key, .. } => key.open_in_place(nonce, aad, &mut out),
            Self::GcmSiv(key) => key.open_in_place(nonce, aad, &mut out),
        };
        match opened.map(|plaintext| plaintext.len()) {
            Ok(len) => {
                out.truncate(len);
                Some(out)
            }
            Err(_) => {
                wipe(out); // what was opened of a forgery may be most of a true session
                None
            }
        }
    }

    /// Whether the key has sealed so often that the next one should take over.
    pub(crate) fn is_worn(&self) -> bool {
        match self {
            Self::Gcm { sealed, .. } => sealed.load(Ordering::Relaxed) >= Sealing::GCM_LIMIT / 2,
            Self::GcmSiv(_) => false,
        }
    }

    #[cfg(test)]
    pub(crate) fn wear(&self, seals: u64) {
        if let Self::Gcm { sealed, .. } = self {
            sealed.store(seals, Ordering::Relaxed);
        }
    }
}

#[cold]
#[inline(never)]
fn wipe(mut opened: Vec<u8>) {
    opened.zeroize();
}

/// Said to be rare, so that the compiler optimises for the other algorithm.
#[cold]
#[inline(never)]
fn seal_with_gcm(
    key: &RandomizedNonceKey,
    sealed: &AtomicU64,
    aad: &[u8],
    nonce_out: &mut [u8; NONCE_LEN],
    in_out: &mut [u8],
) -> Option<Tag> {
    if sealed.fetch_add(1, Ordering::Relaxed) >= Sealing::GCM_LIMIT {
        sealed.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    let sealed = key.seal_in_place_separate_tag(Aad::from(aad), in_out);
    let (nonce, tag) = sealed.ok()?;
    *nonce_out = *nonce.as_ref();
    Some(tag)
}

/// Nonces drawn at once: a draw costs about as much as two seals, whatever its size.
const BATCH: usize = 256;

struct NonceBatch {
    nonces: [[u8; NONCE_LEN]; BATCH],
    used: usize,
}

thread_local! {
    static NONCES: RefCell<NonceBatch> = const {
        RefCell::new(NonceBatch { nonces: [[0; NONCE_LEN]; BATCH], used: BATCH })
    };
}

/// A random nonce. A forked process may see those left in the batch again: for AES-256-GCM-SIV
/// only.
#[inline(always)]
fn draw_nonce(out: &mut [u8; NONCE_LEN]) -> Option<()> {
    NONCES
        .try_with(|batch| {
            let batch = &mut *batch.try_borrow_mut().ok()?;
            match batch.nonces.get(batch.used) {
                Some(nonce) => *out = *nonce,
                None => *out = batch.draw()?,
            }
            batch.used = batch.used.wrapping_add(1);
            Some(())
        })
        .ok()?
}

impl NonceBatch {
    /// Draws the next ones. Returns the first.
    #[cold]
    fn draw(&mut self) -> Option<[u8; NONCE_LEN]> {
        aws_lc_rs::rand::fill(self.nonces.as_flattened_mut()).ok()?;
        self.used = 0;
        self.nonces.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn both_algorithms_open_what_they_sealed_and_nothing_else() {
        for sealing in [Sealing::Aes256Gcm, Sealing::Aes256GcmSiv] {
            let key = AeadKey::new(sealing, &[7; KEY_LEN]).unwrap();
            let mut text = *b"a session's bytes";
            let mut nonce = [0; NONCE_LEN];
            let tag = key.seal(b"aad", &mut nonce, &mut text).unwrap();
            assert_ne!(&text, b"a session's bytes");
            let mut sealed = [&text[..], &tag].concat();
            assert_eq!(sealed.len(), text.len() + TAG_LEN);
            assert_eq!(
                key.open(&nonce, b"aad", &sealed).unwrap(),
                b"a session's bytes"
            );
            assert!(key.open(&nonce, b"add", &sealed).is_none());
            *sealed.last_mut().unwrap() ^= 1;
            assert!(key.open(&nonce, b"aad", &sealed).is_none());
        }
    }

    #[test]
    fn the_default_resists_repeated_nonces_unless_approval_is_asked_for() {
        assert_eq!(Sealing::default_with(false), Sealing::Aes256GcmSiv);
        assert_eq!(Sealing::default_with(true), Sealing::Aes256Gcm);
    }

    #[test]
    fn only_aes_gcm_is_approved_and_only_so_often() {
        assert!(Sealing::Aes256Gcm.is_approved());
        assert!(!Sealing::Aes256GcmSiv.is_approved());
        assert_eq!(Sealing::GCM_LIMIT, 0x1_0000_0000);
    }

    #[test]
    fn nonces_do_not_repeat_within_and_across_batches() {
        let draw = |_| {
            let mut nonce = [0; NONCE_LEN];
            draw_nonce(&mut nonce).unwrap();
            nonce
        };
        let nonces: HashSet<_> = (0..10 * BATCH).map(draw).collect();
        assert_eq!(nonces.len(), 10 * BATCH);
    }

    #[test]
    fn aes_gcm_wears_out_at_half_its_limit_and_stops_at_the_limit() {
        let key = AeadKey::new(Sealing::Aes256Gcm, &[7; KEY_LEN]).unwrap();
        key.wear(Sealing::GCM_LIMIT / 2 - 1);
        assert!(!key.is_worn());
        assert!(key.seal(b"", &mut [0; NONCE_LEN], &mut [1, 2, 3]).is_some());
        assert!(key.is_worn());
        key.wear(Sealing::GCM_LIMIT - 1);
        assert!(key.seal(b"", &mut [0; NONCE_LEN], &mut [1, 2, 3]).is_some());
        assert!(key.seal(b"", &mut [0; NONCE_LEN], &mut [1, 2, 3]).is_none());
        assert!(key.seal(b"", &mut [0; NONCE_LEN], &mut [1, 2, 3]).is_none());
    }
}
