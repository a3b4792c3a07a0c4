use std::fmt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use tracing::warn;

use super::{SourceError, SourceKey, SourceQuery, StekSource, Withdrawal};
use crate::aead::Sealing;
use crate::error::Error;
use crate::stek::{KeyName, Stek};

mod contents;
mod formats;
mod inventory;
mod listing;
mod succession;

use formats::MAX_KEYS;
pub use inventory::{InventoryKey, KeyInventory};
use listing::Listing;
#[cfg(any(test, rustls_resumption_fuzzing))]
pub use listing::fuzzed::run as fuzzed;
use succession::Succession;

/// STEKs from key files that other software makes and ships: for fleets that already have the
/// ticket keys of nginx, Apache, HAProxy, H2O or Traffic Server on every node, or mount a
/// Kubernetes secret.
///
/// ```no_run
/// use rustls_resumption::Resumption;
/// use rustls_resumption::source::KeyFiles;
///
/// let files = KeyFiles::new(["/etc/tickets/current.key", "/etc/tickets/previous.key"])?;
/// files.check()?; // better no server than one with random keys
/// let resumption = Resumption::builder().stek_source(files).build()?;
/// # Ok::<(), rustls_resumption::Error>(())
/// ```
///
/// # Formats
///
/// Recognized by the content:
///
/// | server | file | seals |
/// | --- | --- | --- |
/// | nginx, Envoy | 80 bytes: name (16), HMAC key (32), AES-256 key (32) | the key of the first file; the others open |
/// | nginx, Apache | 48 bytes: name (16), AES-128 key (16), HMAC key (16), the last two the other way round in Apache | the same; accepted with a warning, as only 32 bytes are secret |
/// | HAProxy | one file: on each line, a key of either kind in base64 | the last line but one; all of them open, so the last is published ahead |
/// | Traffic Server | one file: keys of 48 bytes, one after the other | the first; the others open |
/// | H2O | one file: YAML, a list of mappings | the newest whose `not_before` has passed; all of them open, whatever their `not_after` says |
///
/// Only the YAML that H2O itself writes is read: block style, values on one line. The error for a
/// file in another format, such as dnsdist's, lighttpd's or GnuTLS's, says how to convert it.
///
/// *The same keys do not make the same tickets.* A STEK is derived from all the bytes of a key, its
/// name included. Nodes with this crate open each other's tickets, in whichever format they have
/// the key, but they neither open tickets of nginx nor make any that nginx opens. HAProxy uses the
/// last three keys of a list; here every listed key opens.
///
/// # When a key is used
///
/// The files are read every second, by path, so a replaced file or symbolic link (as Kubernetes
/// swaps `..data`) is noticed. The schedule's interval and ticket lifetime do not apply: a key
/// lives as long as it is listed. Once it is not, it is wiped at once, and its tickets no longer
/// resume.
///
/// A key that was not listed before opens at once, but seals only after
/// [`publish_ahead`](crate::Rotation::publish_ahead), when the other nodes have it too. Until then
/// the previous key continues to seal, if it is still listed; so *list the old key after the new
/// one*. If no other key is listed, the new one seals at once. At the start, a key counts as listed
/// since its file was changed. Where all files are written anew at once, as Kubernetes does, they
/// look alike to a node that starts within `publish_ahead`: there the first seals at once, and other
/// nodes may lack it until they have the files too. A list as HAProxy reads it has no such gap.
///
/// A key that has sealed for longer than the schedule's [interval](crate::Rotation::interval)
/// (since it took over, or at the start since its file was changed) is kept, warned about once and
/// shown as [`over_age`](crate::stats::StekStats::over_age): new keys are no longer being shipped.
///
/// A key that is listed twice, as the same name and secret, counts once, and is warned about: a
/// link to a file that is listed itself, or a rotator that copied instead of moving.
///
/// # When something is wrong
///
/// No new keys are taken over, the problem is logged once per change, each failed read is counted
/// in [`source_failures`](crate::stats::StekStats::source_failures), and the source recovers by
/// itself once the files are valid. That applies to a file that
///
/// - is missing, not a regular file, or longer than 32 KiB;
/// - may be read by anyone or changed by others than its owner (on Unix);
/// - has another length, or a line that is not a key;
/// - holds a key of which a part (AES or HMAC key) is all one byte, a key with the name of another
///   or with the secret of another;
/// - changes while it is read. Replace a file by renaming another over it to avoid that.
///
/// Meanwhile the current keys stay in use, except those that were *certainly removed*: a key that
/// no file lists, in two reads in a row, is wiped although the rest is refused, unless a file that
/// held it is missing or no key can be read from it. So to remove a key, put another in its place;
/// deleting its file does not remove it. If the active key is removed, another that every node has
/// takes over.
pub struct KeyFiles {
    paths: Vec<PathBuf>,
    /// The keys that were listed when the files were last valid, in order.
    listed: Option<Vec<Listed>>,
    /// Those that were missing when the files were last read, and were invalid.
    missing: Vec<KeyName>,
    succession: Succession,
    /// The last advice, so that it is logged once.
    advice: Vec<String>,
}

/// A key that was listed, and the indices of the files in which it was.
struct Listed {
    name: KeyName,
    files: Vec<usize>,
}

/// How often the files are read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long changed files must stay the same before they are used: they might be half written.
const SETTLE: Duration = Duration::from_millis(20);

impl KeyFiles {
    /// Keys in these files: one key each, or one list. They are read when the ring asks, and by
    /// [`check`](KeyFiles::check).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming `paths` if there is none, more than 64, or one twice.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Result<Self, Error> {
        let paths: Vec<PathBuf> = paths.into_iter().map(Into::into).collect();
        let refuse = |why: String| Err(Error::config("paths", why));
        if !(1..=MAX_KEYS).contains(&paths.len()) {
            let count = paths.len();
            return refuse(format!("{count} key files: must be from 1 to {MAX_KEYS}"));
        }
        for (i, path) in paths.iter().enumerate() {
            if paths.iter().take(i).any(|other| other == path) {
                return refuse(format!("{} twice: list each file once", path.display()));
            }
        }
        Ok(Self {
            paths,
            listed: None,
            missing: Vec::new(),
            succession: Succession::default(),
            advice: Vec::new(),
        })
    }

    /// Reads the files and reports what is wrong with them. For a server that should not start with
    /// random keys: without this it does until the files are valid, as `build` does not fail.
    ///
    /// # Errors
    ///
    /// [`Error::WeakKey`] or [`Error::Source`] naming the file, what is wrong and what would be
    /// right.
    pub fn check(&self) -> Result<(), Error> {
        self.listing().map(drop)
    }

    /// Reads the files and tells what they hold, key by key: for tools that show keys, ship them or
    /// write them in another format, as the program `stek` does. Key names depend on the algorithm
    /// that the server seals with.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("current.key");
    /// # std::fs::write(&path, (0..80).collect::<Vec<u8>>()).unwrap();
    /// # #[cfg(unix)]
    /// # std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    /// use rustls_resumption::Sealing;
    /// use rustls_resumption::source::KeyFiles;
    ///
    /// for key in KeyFiles::new([path])?.inspect(Sealing::default())?.keys() {
    ///     println!("{} in {}", key.name(), key.place());
    /// }
    /// # Ok::<(), rustls_resumption::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`check`](KeyFiles::check).
    pub fn inspect(&self, sealing: Sealing) -> Result<KeyInventory, Error> {
        KeyInventory::of(self.listing()?, sealing)
    }

    fn listing(&self) -> Result<Listing, Error> {
        let mut listing = Listing::read(&self.paths, SystemTime::now().into());
        let Some(cause) = listing.wrong.take() else {
            return Ok(listing);
        };
        Err(match cause.downcast::<Error>() {
            Ok(error) => *error,
            Err(cause) => Error::source(self.name(), cause),
        })
    }

    /// What the files list, and the STEKs of these keys. New ones must be read twice with the same
    /// result.
    fn read(&self, query: &SourceQuery<'_>) -> Result<(Listing, Vec<Stek>), SourceError> {
        let read = || {
            let listing = Listing::read(&self.paths, query.now);
            let keys = listing.keys.iter();
            let steks = keys.map(|listed| Stek::derive(listed.key.as_bytes(), query.sealing));
            let steks = steks.collect::<Result<Vec<_>, Error>>()?;
            Ok::<_, SourceError>((listing, steks))
        };
        let (listing, steks) = read()?;
        let names = || steks.iter().map(Stek::name);
        let is_same = |listed: &Vec<Listed>| names().eq(listed.iter().map(|key| &key.name));
        if listing.wrong.is_some() || self.listed.as_ref().is_none_or(is_same) {
            return Ok((listing, steks));
        }
        thread::sleep(SETTLE);
        let again = read()?;
        if again.0.wrong.is_none() && !names().eq(again.1.iter().map(Stek::name)) {
            return Err("the files changed while they were read: replace files by renaming".into());
        }
        Ok(again)
    }

    /// Which keys stay in use while the files are invalid: all but those that were certainly
    /// removed. That is, twice in a row no file has them, and each that had them has others.
    fn refuse(
        &mut self,
        wrong: SourceError,
        silent: &[usize],
        steks: &[Stek],
        query: &SourceQuery<'_>,
    ) -> SourceError {
        let Some(listed) = &mut self.listed else {
            return wrong;
        };
        let is_missing = |key: &&Listed| {
            steks.iter().all(|stek| *stek.name() != key.name)
                && key.files.iter().all(|file| !silent.contains(file))
        };
        let missing = listed.iter().filter(is_missing).map(|key| key.name);
        let (gone, missing): (Vec<_>, Vec<_>) =
            missing.partition(|name| self.missing.contains(name));
        self.missing = missing;
        if gone.is_empty() {
            return wrong;
        }
        listed.retain(|key| !gone.contains(&key.name));
        for &key in &gone {
            query.log.tell(move || {
                warn!(%key, "STEK removed from key files that are otherwise invalid; wiping it");
            });
        }
        let keys = self.succession.withdraw(&gone, query);
        Box::new(Withdrawal { keys, cause: wrong })
    }

    fn advise(&mut self, advice: Vec<String>, query: &SourceQuery<'_>) {
        for advice in advice.iter().filter(|advice| !self.advice.contains(advice)) {
            let advice = advice.clone();
            let line = move || warn!(%advice, "key files are usable, but should be improved");
            query.log.tell(line);
        }
        self.advice = advice;
    }
}

impl StekSource for KeyFiles {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        let (listing, steks) = self.read(query)?;
        if let Some(wrong) = listing.wrong {
            return Err(self.refuse(wrong, &listing.silent, &steks, query));
        }
        let at_start = self.listed.is_none();
        let wanted = steks.get(listing.sealing).map(|stek| *stek.name());
        self.missing.clear();
        self.advise(listing.advice, query);
        let modified = listing.keys.iter().map(|key| key.modified);
        let modified: Vec<_> = modified.collect();
        let listed = steks.iter().zip(listing.keys).map(|(stek, key)| Listed {
            name: *stek.name(),
            files: key.files,
        });
        self.listed = Some(listed.collect());
        let listed = steks.into_iter().zip(modified);
        Ok(self.succession.update(listed, wanted, at_start, query))
    }

    fn name(&self) -> &'static str {
        "file"
    }

    fn poll_interval(&self) -> Duration {
        POLL_INTERVAL
    }

    fn can_rotate(&self) -> bool {
        false
    }
}

impl fmt::Debug for KeyFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFiles")
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
