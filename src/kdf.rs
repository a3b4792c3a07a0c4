use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use zeroize::Zeroize;

use crate::error::Error;

/// HKDF-SHA256 ([RFC 5869](https://www.rfc-editor.org/rfc/rfc5869)), keyed with one secret: from it
/// follow as many independent keys and names as there are labels.
pub(crate) struct Kdf(Prk);

impl Kdf {
    /// The salt keeps apart what derives from the same secret for different ends.
    pub(crate) fn new(salt: &str, secret: &[u8]) -> Self {
        Self(Salt::new(HKDF_SHA256, salt.as_bytes()).extract(secret))
    }

    /// Fills `out` with the key of this label, whose parts are joined as they are: make sure that
    /// no two labels join to the same bytes. On failure `out` is wiped.
    pub(crate) fn expand(&self, label: &[&[u8]], out: &mut [u8]) -> Result<(), Error> {
        let filled = self.0.expand(label, Len(out.len()));
        filled.and_then(|okm| okm.fill(out)).map_err(|_| {
            out.zeroize();
            Error::Random
        })
    }
}

/// How aws-lc-rs asks for the length of what is expanded.
struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    /// Against Python's `hmac`.
    #[test]
    fn it_is_hkdf_sha256_and_joins_the_parts_of_a_label() {
        let kdf = Kdf::new("salt", &[0x0b; 22]);
        let mut out = [0; 42];
        kdf.expand(&[b"la", b"", b"bel"], &mut out).unwrap();
        let expected =
            "23eb3576a5604e9e44b22637e35fd053ad93beff22c8f7e5c857ab709056f10b7b5e1a207bd438595041";
        assert_eq!(hex::Hex(&out).to_string(), expected);
    }

    #[test]
    fn more_than_hkdf_gives_is_an_error_and_leaves_nothing() {
        let mut out = vec![7; 255 * 32 + 1];
        assert!(Kdf::new("salt", b"secret").expand(&[], &mut out).is_err());
        assert!(out.iter().all(|byte| *byte == 0));
    }
}
