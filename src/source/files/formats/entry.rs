use std::fmt;

use zeroize::Zeroizing;

use crate::stek::weakness;

/// A key as it is written in a file.
pub(in crate::source::files) struct FileKey {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Where the second of the two secret parts, for AES and HMAC, begins.
    pub(super) second: usize,
    /// When H2O seals with it, in seconds: from, and until.
    pub(super) h2o_times: Option<(u64, u64)>,
}

/// Where in its file a key is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::source::files) enum Place {
    WholeFile,
    /// Counted from 1.
    Line(usize),
    /// Counted from 1, in a binary file.
    Key(usize),
}

/// The most keys that a list may have.
pub(in crate::source::files) const MAX_KEYS: usize = 64;

pub(in crate::source::files) const NAME_LEN: usize = 16;
pub(in crate::source::files) const SHORT: usize = 48;
pub(in crate::source::files) const LONG: usize = 80;

impl FileKey {
    /// A key of nginx, Apache, HAProxy or Traffic Server.
    pub(in crate::source::files) fn new(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        let second = match bytes.len() {
            SHORT => 32,
            LONG => 48,
            _ => return None,
        };
        Some(Self {
            bytes,
            second,
            h2o_times: None,
        })
    }

    /// The whole key, from which a STEK is derived: the name too, so that it is bound to the
    /// secret.
    pub(in crate::source::files) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(in crate::source::files) fn name(&self) -> &[u8] {
        self.bytes.get(..NAME_LEN).unwrap_or_default()
    }

    pub(in crate::source::files) fn secret(&self) -> &[u8] {
        self.bytes.get(NAME_LEN..).unwrap_or_default()
    }

    pub(in crate::source::files) fn h2o_times(&self) -> Option<(u64, u64)> {
        self.h2o_times
    }

    /// Whether it has no more than 32 secret bytes, made for AES-128.
    pub(in crate::source::files) fn is_short(&self) -> bool {
        self.bytes.len() == SHORT
    }

    /// Whether it was made of printable characters.
    pub(in crate::source::files) fn is_text(&self) -> bool {
        self.bytes.iter().all(u8::is_ascii_graphic)
    }

    /// Why the key is weak, if it is. An AES or HMAC key that is all one byte comes from a broken
    /// generator or a sparse copy.
    pub(in crate::source::files) fn weakness(&self) -> Option<&'static str> {
        let parts = [
            self.bytes.get(NAME_LEN..self.second),
            self.bytes.get(self.second..),
        ];
        let mut parts = parts.into_iter().flatten();
        parts.find_map(|part| weakness(part, 0))
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKey").finish_non_exhaustive()
    }
}

impl fmt::Display for Place {
    /// What follows the name of the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WholeFile => Ok(()),
            Self::Line(number) => write!(f, " line {number}"),
            Self::Key(number) => write!(f, " key {number}"),
        }
    }
}
