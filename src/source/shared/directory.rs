use std::path::{Path, PathBuf};
use std::time::Instant;

use tracing::warn;

use super::record::{Record, encoding};
use super::{Backend, Reading, Shared};
use crate::error::Error;
use crate::source::{SourceError, SourceKey, SourceQuery, StekSource};

mod files;

use files::Locked;

/// STEKs in a directory that any number of processes on one host share: several servers, or one
/// that must keep its keys across restarts. Unix only.
///
/// The directory belongs to this process's user and is closed to all others (mode 0700); it is
/// created if it is missing. **Put it on a tmpfs**, such as a `RuntimeDirectory=` of systemd with
/// `RuntimeDirectoryPreserve=yes`: elsewhere old keys may survive their erasure on the medium, and
/// a warning says so.
///
/// ```no_run
/// use rustls_resumption::Resumption;
/// use rustls_resumption::source::KeyDirectory;
///
/// let resumption = Resumption::builder()
///     .stek_source(KeyDirectory::new("/run/my-server/steks")?)
///     .build()?;
/// # Ok::<(), rustls_resumption::Error>(())
/// ```
///
/// # What is in it
///
/// One file, readable by its owner alone, with the secrets, their windows and the schedule. Each
/// process reads it every [`SourceQuery::DEFAULT_INTERVAL`], and the first to do so when a rotation
/// is due makes it, under a lock that the kernel releases when its holder dies. The file is
/// replaced as a whole, so a process that is killed at any moment leaves either the old or the new
/// one; leftovers beside it are wiped by the next process. A replaced file is overwritten before it
/// is unlinked. That is the best that can be done, and enough on a tmpfs that is not swapped out; a
/// copy-on-write or journalling file system, or a flash medium, may keep old blocks.
///
/// # Trouble
///
/// If the directory is open to others or belongs to another user, if the lock is held for more than
/// half a second, or if the file is damaged, the ring keeps its current keys until they expire, and
/// the log says what to do. If the file is missing, or an old copy of it was restored, a process
/// that still holds newer keys writes them again.
///
/// # Revocation and rotation by hand
///
/// [`revoke`](crate::Resumption::revoke) and [`revoke_all`](crate::Resumption::revoke_all) also
/// remove the keys from the directory, and the other processes drop them when they next read it.
/// [`rotate_now`](crate::Resumption::rotate_now) rotates for all; a process that has not yet read
/// the new key answers its tickets with full handshakes.
#[derive(Debug)]
pub struct KeyDirectory(Shared<Directory>);

impl KeyDirectory {
    /// The directory at `path`, which is created if only it, not its parent, is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Source`] if it cannot be created or opened, if it does not belong to this user, or
    /// if it is open to others.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let trouble = |why: String| Error::source(NAME, why);
        // Absolute, so that it means the same after the process changes its working directory.
        let path = std::path::absolute(path)
            .map_err(|error| trouble(format!("{}: {error}", path.display())))?;
        let directory = files::open(&path).map_err(trouble)?;
        if !files::is_memory(&directory) {
            warn!(
                directory = %path.display(),
                "key directory is not on a tmpfs: erased STEKs may remain on the medium"
            );
        }
        Ok(Self(Shared::new(Directory { path })))
    }
}

impl StekSource for KeyDirectory {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        self.0.load(query)
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn fleet_agrees(&self) -> Option<bool> {
        self.0.fleet_agrees()
    }
}

const NAME: &str = "directory";

/// A record in a file, which whoever holds the directory's lock may read and replace.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
}

impl Backend for Directory {
    type Basis = Locked;

    fn place(&self) -> String {
        files::record(&self.path).display().to_string()
    }

    /// No longer than the lock may be waited for: it has a limit of its own.
    fn read(
        &mut self,
        query: &SourceQuery<'_>,
        _deadline: Instant,
    ) -> Result<Reading<Locked>, SourceError> {
        let locked = Locked::new(&self.path)?;
        locked.clean_up()?;
        Ok(Reading {
            record: locked.read(encoding::MAX_LEN)?,
            now: query.now,
            basis: locked,
        })
    }

    fn replace(
        &mut self,
        locked: Locked,
        next: &Record,
        _deadline: Instant,
    ) -> Result<bool, SourceError> {
        locked.write(&next.encode())?;
        Ok(true)
    }

    fn damaged(&self, why: &str) -> SourceError {
        files::damaged(&self.path, why).into()
    }
}

#[cfg(test)]
mod tests;
