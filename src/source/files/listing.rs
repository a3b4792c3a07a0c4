use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::contents::Contents;
use super::formats::{Content, FileKey};
use crate::clock::Time;
use crate::error::Error;
use crate::source::SourceError;

/// The keys that the files list at one moment, checked.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// In the order of the files and lines, each once. Without those that cannot be used.
    pub(super) keys: Vec<ListedKey>,
    /// The index of the one that is meant to seal.
    pub(super) sealing: usize,
    /// What works, but should be improved.
    pub(super) advice: Vec<String>,
    /// Why the files cannot be used: the first problem found.
    pub(super) wrong: Option<SourceError>,
    /// The files of which no key could be read: they say nothing about the keys they held before.
    pub(super) silent: Vec<usize>,
}

/// A key, and where it is listed.
#[derive(Debug)]
pub(super) struct ListedKey {
    pub(super) key: FileKey,
    pub(super) place: String,
    /// The indices of the files in which it stands.
    pub(super) files: Vec<usize>,
    /// When its file was last changed: it has been listed at least since then.
    pub(super) modified: Time,
}

impl Listing {
    pub(super) fn read(paths: &[PathBuf], now: Time) -> Self {
        Self::of(
            paths.iter().map(|path| (&**path, Contents::read(path))),
            now,
        )
    }

    /// The same with contents, each of which is read when its turn comes.
    fn of<'a>(
        files: impl ExactSizeIterator<Item = (&'a Path, Result<Contents, SourceError>)>,
        now: Time,
    ) -> Self {
        let mut listing = Self::default();
        let count = files.len();
        let mut lists: Vec<(&Path, Contents)> = Vec::new();
        let mut twins = Vec::new();
        for (file, (path, contents)) in files.enumerate() {
            let contents = match contents {
                Ok(contents) => contents,
                Err(wrong) => {
                    listing.refuse(wrong);
                    continue;
                }
            };
            let place = path.display();
            if let Some(wrong) = &contents.wrong {
                listing.refuse(format!("{place}: {wrong}"));
            }
            let content = Content::parse(&contents.bytes, now);
            if let Some(wrong) = content.wrong {
                listing.refuse(format!("{place}: {wrong}"));
            }
            if count > 1 {
                let is_same = |(_, list): &&(&Path, Contents)| list.bytes == contents.bytes;
                if let Some((twin, _)) = lists.iter().find(is_same) {
                    let both = format!("{} and {place}", twin.display());
                    listing.advise(both, "the same list twice: it counts once");
                    twins.push(file);
                    continue;
                }
                if !lists.is_empty() || (content.is_list && file > 0) {
                    listing.refuse(format!("{place}: {ONLY_FILE}"));
                }
            }
            if file == 0 {
                listing.sealing = content.sealing;
            }
            for advice in content.advice {
                listing.advise(&place, advice);
            }
            for (at, key) in content.keys {
                listing.add(key, format!("{place}{at}"), file, contents.modified);
            }
            if content.is_list {
                lists.push((path, contents));
            }
        }
        listing.settle(count, &twins);
        listing
    }

    fn refuse(&mut self, wrong: impl Into<SourceError>) {
        self.wrong.get_or_insert_with(|| wrong.into());
    }

    fn advise(&mut self, place: impl Display, advice: impl Display) {
        self.advice.push(format!("{place}: {advice}"));
    }

    fn add(&mut self, key: FileKey, place: String, file: usize, modified: Time) {
        if key.is_short() {
            self.advise(
                &place,
                "48 bytes, of which 32 are secret: a key of 80 bytes has 64",
            );
        }
        if key.is_text() {
            self.advise(
                &place,
                "a key made of text, each byte of which holds 6 random bits at most, or 4 if it is \
                 hexadecimal: make keys with `openssl rand 80`",
            );
        }
        self.keys.push(ListedKey {
            key,
            place,
            files: vec![file],
            modified,
        });
    }

    /// Drops weak keys and those that contradict each other, for which the files are refused, and
    /// merges equal ones, for which they are not.
    fn settle(&mut self, files: usize, twins: &[usize]) {
        let mut kept: Vec<ListedKey> = Vec::new();
        let mut contradicted = Vec::new();
        // Where each key that is not weak went.
        let mut places = Vec::new();
        for mut this in std::mem::take(&mut self.keys) {
            if let Some(why) = this.key.weakness() {
                self.refuse(Error::weak_key(&this.place, why));
                places.push(kept.len());
                continue;
            }
            let same = kept.iter_mut().enumerate().find(|(_, key)| key.is(&this));
            if let Some((index, same)) = same {
                let both = format!("{} and {}", same.place, this.place);
                same.modified = same.modified.min(this.modified);
                same.files.append(&mut this.files);
                self.advise(both, "the same key twice: it counts once");
                places.push(index);
                continue;
            }
            for (index, other) in kept.iter().enumerate() {
                if let Some(why) = other.contradicts(&this) {
                    let both = format!("{} and {}", other.place, this.place);
                    self.refuse(Error::weak_key(both, why));
                    contradicted.extend([index, kept.len()]);
                }
            }
            places.push(kept.len());
            kept.push(this);
        }
        self.sealing = places.get(self.sealing).copied().unwrap_or_default();
        let keys = kept.into_iter().enumerate();
        let keys = keys.filter(|(index, _)| !contradicted.contains(index));
        self.keys = keys.map(|(_, key)| key).collect();
        let told = self.keys.iter().flat_map(|key| &key.files).chain(twins);
        let told: Vec<usize> = told.copied().collect();
        self.silent = (0..files).filter(|file| !told.contains(file)).collect();
    }
}

impl ListedKey {
    fn is(&self, other: &Self) -> bool {
        self.key.as_bytes() == other.key.as_bytes()
    }

    fn contradicts(&self, other: &Self) -> Option<&'static str> {
        let same_name = self.key.name() == other.key.name();
        let same_secret = self.key.secret() == other.key.secret();
        match (same_name, same_secret) {
            (true, false) => Some("one name with two secrets: give each key a name of its own"),
            (false, true) => Some("one secret under two names: give each key a secret of its own"),
            _ => None,
        }
    }
}

const ONLY_FILE: &str = "a list of keys must be the only file";

#[cfg(any(test, rustls_resumption_fuzzing))]
#[path = "../../../fuzz/bodies/private/key_file.rs"]
pub(super) mod fuzzed;

#[cfg(test)]
pub(super) mod tests;
