//! What a file of ticket keys looks like, in the formats of the servers that ship them.
//!
//! ```text
//!  0             16            32            48                           80
//!  | name        | AES-128     | HMAC        |                            nginx, Apache: 48 bytes
//!  | name        | HMAC        | AES-128     |                            Traffic Server: 48 bytes
//!  | name        | HMAC                      | AES-256                  | nginx, Apache: 80 bytes
//! ```
//!
//! Traffic Server lists keys of 48 bytes one after the other, of which the first seals. HAProxy
//! lists keys of either length, each in base64 on a line of its own. H2O has YAML.

use std::fmt;
use std::str;

use zeroize::Zeroizing;

use crate::clock::Time;
use crate::stek::weakness;

mod h2o;
mod lines;
mod wrong;

pub(super) use wrong::FormatError;

/// A key as it is written in a file.
pub(super) struct FileKey {
    bytes: Zeroizing<Vec<u8>>,
    /// Where the second of the two secret parts, for AES and HMAC, begins.
    second: usize,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The keys that could be read, in their order.
    pub(super) keys: Vec<(Place, FileKey)>,
    /// The index of the one that is meant to seal.
    pub(super) sealing: usize,
    /// Whether the file is a whole set of keys, not one key of a set.
    pub(super) is_list: bool,
    /// What works, but should be improved.
    pub(super) advice: Vec<String>,
    /// Why the file cannot be used.
    pub(super) wrong: Option<FormatError>,
}

/// Where in its file a key is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    WholeFile,
    /// Counted from 1.
    Line(usize),
    /// Counted from 1, in a binary file.
    Key(usize),
}

/// The most keys that a list may have.
pub(super) const MAX_KEYS: usize = 64;

const NAME_LEN: usize = 16;
const SHORT: usize = 48;
const LONG: usize = 80;

/// How many keys of a list HAProxy itself uses, unless it was built otherwise.
const HAPROXY_KEYS: usize = 3;

impl FileKey {
    /// A key of nginx, Apache, HAProxy or Traffic Server.
    fn new(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        let second = match bytes.len() {
            SHORT => 32,
            LONG => 48,
            _ => return None,
        };
        Some(Self { bytes, second })
    }

    /// The whole key, from which a STEK is derived: the name too, so that it is bound to the
    /// secret.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn name(&self) -> &[u8] {
        self.bytes.get(..NAME_LEN).unwrap_or_default()
    }

    pub(super) fn secret(&self) -> &[u8] {
        self.bytes.get(NAME_LEN..).unwrap_or_default()
    }

    /// Whether it has no more than 32 secret bytes, made for AES-128.
    pub(super) fn is_short(&self) -> bool {
        self.bytes.len() == SHORT
    }

    /// Whether it was made of printable characters.
    pub(super) fn is_text(&self) -> bool {
        self.bytes.iter().all(u8::is_ascii_graphic)
    }

    /// Why the key is weak, if it is. An AES or HMAC key that is all one byte comes from a broken
    /// generator or a sparse copy.
    pub(super) fn weakness(&self) -> Option<&'static str> {
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

impl Content {
    /// Reads a file. The content tells the format: 48 or 80 bytes are a key, as even the shortest
    /// list, of two keys in base64, is longer.
    pub(super) fn parse(content: &[u8], now: Time) -> Self {
        if let Some(key) = FileKey::new(Zeroizing::new(content.to_vec())) {
            return Self::one(key);
        }
        let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        match str::from_utf8(content) {
            Ok(text) if content.iter().all(is_text) => match text.contains(':') {
                true => h2o::parse(text, now),
                false => lines::parse(text),
            },
            _ => Self::binary(content),
        }
    }

    fn one(key: FileKey) -> Self {
        Self {
            keys: vec![(Place::WholeFile, key)],
            ..Self::default()
        }
    }

    fn refused(wrong: FormatError) -> Self {
        Self {
            wrong: Some(wrong),
            ..Self::default()
        }
    }

    /// Keys of 48 bytes one after the other, as Traffic Server has them.
    fn binary(content: &[u8]) -> Self {
        if let Some(wrong) = FormatError::of_binary(content) {
            return Self::refused(wrong);
        }
        let keys = content
            .chunks(SHORT)
            .map(|key| Zeroizing::new(key.to_vec()));
        let keys: Vec<_> = (1..)
            .map(Place::Key)
            .zip(keys.filter_map(FileKey::new))
            .collect();
        let wrong = (keys.len() > MAX_KEYS).then_some(FormatError::TooManyKeys);
        Self {
            keys,
            is_list: true,
            wrong,
            ..Self::default()
        }
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

#[cfg(test)]
pub(super) mod tests;
