//! The envelope in which every secret leaves the process.
//!
//! ```text
//!  0      h       h+12         n-16  n
//!  | head | nonce | ciphertext | tag |
//! ```
//!
//! The head is in clear and names the key, so that whoever opens can find it. What it says counts
//! only if it is part of the additional data: that is left to each format, which may bind more.

use zeroize::Zeroize;

use crate::aead::{AeadKey, NONCE_LEN, TAG_LEN};

/// By how much an envelope is longer than its head and what is sealed in it.
pub(crate) const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// Seals the parts of a plaintext, one after another, behind a head. One allocation, of the exact
/// size. `None` when the key's limit is reached or the random generator fails.
///
/// Inlined, so that parts whose length is known are copied by a few instructions each.
#[inline(always)]
pub(crate) fn seal<const PARTS: usize>(
    key: &AeadKey,
    head: &[u8],
    aad: &[u8],
    plaintext: [&[u8]; PARTS],
) -> Option<Vec<u8>> {
    let len: usize = plaintext.iter().map(|part| part.len()).sum();
    let mut sealed = Vec::with_capacity(len.saturating_add(head.len()).saturating_add(OVERHEAD));
    sealed.extend_from_slice(head);
    sealed.extend_from_slice(&[0; NONCE_LEN]);
    for part in plaintext {
        sealed.extend_from_slice(part);
    }
    let done = seal_in_place(key, head.len(), aad, &mut sealed);
    if done.is_none() {
        sealed.zeroize(); // it still holds the plaintext
    }
    done.map(|()| sealed)
}

#[inline(always)]
fn seal_in_place(key: &AeadKey, head: usize, aad: &[u8], sealed: &mut Vec<u8>) -> Option<()> {
    let (nonce, in_out) = sealed.get_mut(head..)?.split_first_chunk_mut()?;
    let tag = key.seal(aad, nonce, in_out)?;
    sealed.extend_from_slice(&tag);
    Some(())
}

/// The parts of an envelope whose head is of this length.
#[derive(Clone, Copy)]
pub(crate) struct Envelope<'a, const HEAD: usize> {
    pub(crate) head: &'a [u8; HEAD],
    pub(crate) nonce: &'a [u8; NONCE_LEN],
    /// The ciphertext and the tag.
    sealed: &'a [u8],
}

impl<'a, const HEAD: usize> Envelope<'a, HEAD> {
    /// `None` if there are too few bytes.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk()?;
        let (nonce, sealed) = rest.split_first_chunk()?;
        (sealed.len() >= TAG_LEN).then_some(Self {
            head,
            nonce,
            sealed,
        })
    }

    /// Opens into a fresh buffer. `None` is all that anyone learns of a forgery.
    #[inline]
    pub(crate) fn open(&self, key: &AeadKey, aad: &[u8]) -> Option<Vec<u8>> {
        key.open(self.nonce, aad, self.sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aead::{KEY_LEN, Sealing};

    fn key(sealing: Sealing) -> AeadKey {
        AeadKey::new(sealing, &[7; KEY_LEN]).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_behind_its_head_and_never_moved() {
        for sealing in [Sealing::Aes256Gcm, Sealing::Aes256GcmSiv] {
            let key = key(sealing);
            let sealed = seal(&key, b"head", b"bound", [b"plain", b"", b"text"]).unwrap();
            assert_eq!(sealed.len(), 4 + OVERHEAD + 9);
            assert_eq!(sealed.capacity(), sealed.len());
            let envelope = Envelope::<4>::parse(&sealed).unwrap();
            assert_eq!(envelope.head, b"head");
            assert_eq!(envelope.open(&key, b"bound").unwrap(), b"plaintext");
            assert!(envelope.open(&key, b"unbound").is_none());
        }
    }

    #[test]
    fn input_that_is_too_short_is_no_envelope() {
        assert!(Envelope::<4>::parse(&[0; 4 + OVERHEAD]).is_some());
        assert!(Envelope::<4>::parse(&[0; 3 + OVERHEAD]).is_none());
    }

    #[test]
    fn a_worn_key_seals_nothing() {
        let key = key(Sealing::Aes256Gcm);
        key.wear(Sealing::GCM_LIMIT);
        assert!(seal(&key, b"head", b"", [b"text"]).is_none());
    }
}
