use std::fmt;
use std::time::SystemTime;

use super::formats::FileKey;
use super::listing::Listing;
use crate::aead::Sealing;
use crate::error::Error;
use crate::stek::{KeyName, Stek};

/// What key files hold at one moment: for tools that show, ship or convert keys. See
/// [`KeyFiles::inspect`](super::KeyFiles::inspect).
#[derive(Debug)]
pub struct KeyInventory {
    keys: Vec<InventoryKey>,
    advice: Vec<String>,
}

impl KeyInventory {
    pub(super) fn of(listing: Listing, sealing: Sealing) -> Result<Self, Error> {
        let keys = listing.keys.into_iter().enumerate();
        let keys = keys.map(|(index, listed)| {
            Ok(InventoryKey {
                name: *Stek::derive(listed.key.as_bytes(), sealing)?.name(),
                key: listed.key,
                place: listed.place,
                modified: listed.modified.into(),
                seals: index == listing.sealing,
            })
        });
        Ok(Self {
            keys: keys.collect::<Result<_, Error>>()?,
            advice: listing.advice,
        })
    }

    /// The keys in the order of the files and lines, each once.
    pub fn keys(&self) -> &[InventoryKey] {
        &self.keys
    }

    /// What works, but should be improved: what the source logs as warnings.
    pub fn advice(&self) -> &[String] {
        &self.advice
    }
}

/// A key in a file. Its secret is wiped on drop, and not shown by [`Debug`].
pub struct InventoryKey {
    name: KeyName,
    key: FileKey,
    place: String,
    modified: SystemTime,
    seals: bool,
}

impl InventoryKey {
    /// The name of the STEK that is made of it, as in [`Stats`](crate::Stats) and logs.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Its file, and where it is there: `keys line 3`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// When its file was last changed.
    pub fn modified(&self) -> SystemTime {
        self.modified
    }

    /// Whether it is the one that is meant to seal now. A server that has just read it for the
    /// first time seals with another until [`publish_ahead`](crate::Rotation::publish_ahead) has
    /// passed.
    pub fn seals(&self) -> bool {
        self.seals
    }

    /// From when until when H2O seals with it, in seconds since 1970: its `not_before` and
    /// `not_after`. `None` in other formats.
    pub fn h2o_times(&self) -> Option<(u64, u64)> {
        self.key.h2o_times()
    }

    /// The secret: the whole key as nginx has it, of 48 or 80 bytes. One of H2O whose HMAC key has
    /// 64 bytes is as nginx would have it, 96 or 112 bytes: name, HMAC key, AES key. The caller's
    /// copies are the caller's to wipe.
    pub fn expose_bytes(&self) -> &[u8] {
        self.key.as_bytes()
    }
}

impl fmt::Debug for InventoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InventoryKey")
            .field("name", &self.name)
            .field("place", &self.place)
            .field("seals", &self.seals)
            .finish_non_exhaustive()
    }
}
