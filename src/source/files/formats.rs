//! What a file of ticket keys looks like, in the formats of the servers that ship them.
//!
//! ```text
//!  0             16            32            48                           80
//!  | name        | AES-128     | HMAC        |                            nginx: 48
//!  | name        | HMAC        | AES-128     |                            Apache, Traffic Server: 48
//!  | name        | HMAC                      | AES-256                  | nginx, Envoy: 80
//! ```
//!
//! Traffic Server lists keys of 48 bytes one after the other, of which the first seals. HAProxy
//! lists keys of either length, each in base64 on a line of its own. H2O has YAML.

use std::str;

use zeroize::Zeroizing;

use crate::clock::Time;
use crate::source::text::is_text;

mod content;
mod entry;
mod h2o;
mod lines;
mod wrong;

pub(super) use content::Content;
pub(super) use entry::{FileKey, MAX_KEYS, Place};
use entry::{LONG, SHORT};
pub(super) use wrong::FormatError;

impl Content {
    /// Reads a file. The content tells the format: 48 or 80 bytes are a key, as even the shortest
    /// list, of two keys in base64, is longer.
    pub(super) fn parse(content: &[u8], now: Time) -> Self {
        if let Some(key) = FileKey::new(Zeroizing::new(content.to_vec())) {
            return Self::one(key);
        }
        match str::from_utf8(content) {
            Ok(text) if content.iter().all(is_text) => match text.contains(':') {
                true => h2o::parse(text, now),
                false => lines::parse(text),
            },
            _ => Self::binary(content),
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
        let mut advice = Vec::new();
        if content.chunks_exact(LONG).remainder().is_empty() {
            // Harmless if they are: the bytes are random, and the same on every node.
            let (short, long) = (keys.len(), content.chunks(LONG).len());
            advice.push(format!(
                "read as {short} keys of Traffic Server: if these are {long} keys of dnsdist, put \
                 each in a file of its own (`split -b 80`)"
            ));
        }
        Self {
            keys,
            is_list: true,
            advice,
            wrong,
            ..Self::default()
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
