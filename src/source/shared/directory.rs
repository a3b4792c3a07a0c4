use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::warn;

use super::record::encoding;
use super::{Backend, Next, Reading, Shared};
use crate::error::Error;
use crate::source::{SourceError, SourceKey, SourceQuery, StekSource};

mod draft;
mod files;
mod leftovers;
mod lock;

use draft::{Draft, Trouble, overwrite};
use files::{Checksum, Folder};
use lock::Lock;

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
/// process reads it every [`SourceQuery::DEFAULT_INTERVAL`], without a lock, and the first to do so
/// when a rotation is due makes it. The file is replaced as a whole, under a lock that the kernel
/// releases when its holder dies, so a process that is killed at any moment leaves either the old
/// or the new one; leftovers beside it are wiped by the next process. A child that was forked under
/// the lock, and that runs no other program, has it too: should the parent be killed before it
/// releases it, it is held until that child ends. The next file is written and synced before the
/// lock is taken: a busy disk makes a rotation wait, but no process waits for another. A replaced
/// file is overwritten before it is unlinked. That is the best that can be done, and enough on a
/// tmpfs that is not swapped out; a copy-on-write or journalling file system, or a flash medium, may
/// keep old blocks.
///
/// # Trouble
///
/// If the directory is open to others or belongs to another user, or if the file is damaged, the
/// ring keeps its current keys until they expire, and the log says what to do. It does the same if
/// a rotation or revocation is due and the lock is held for 2 seconds without a change, or was held
/// whenever it was tried for 10 seconds. If the file is missing, or an old copy of it was restored,
/// a process that still holds newer keys writes them again.
///
/// # Revocation and rotation by hand
///
/// [`revoke`](crate::Resumption::revoke) and [`revoke_all`](crate::Resumption::revoke_all) also
/// remove the keys from the directory, and the other processes drop them when they next read it.
/// If the file system is full, a revocation overwrites the file in place.
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
        let folder = Folder::open(&path).map_err(trouble)?;
        if !files::is_memory(&folder.fd) {
            warn!(
                directory = %path.display(),
                "key directory is not on a tmpfs: erased STEKs may remain on the medium"
            );
        }
        Ok(Self(Shared::new(Directory { path, until: None })))
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

/// A record in a file, which whoever holds the directory's lock may replace.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Until when the lock is tried, in all attempts of one load.
    until: Option<Instant>,
}

/// What was read, in a directory that is still open.
struct Basis {
    folder: Folder,
    checksum: Option<Checksum>,
    /// Whether the lock was taken before it was read, and is held for as long as this value lives.
    is_locked: bool,
}

impl Drop for Basis {
    fn drop(&mut self) {
        if self.is_locked {
            drop(Lock::kept(&self.folder));
        }
    }
}

/// How often a process prepares the next record without the lock, only to find that another was
/// faster. After that it takes the lock before it reads.
const OVERTAKEN: usize = 3;

impl Backend for Directory {
    type Basis = Basis;

    const HAS_CLOCK: bool = false;

    /// Others may be about to rotate or to revoke as well, each of them waiting for the disk.
    fn limit(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn place(&self) -> String {
        files::record(&self.path).display().to_string()
    }

    fn read(
        &mut self,
        query: &SourceQuery<'_>,
        attempt: usize,
        deadline: Instant,
    ) -> Result<Reading<Basis>, SourceError> {
        let deadline = match self.until {
            Some(until) if attempt > 0 => until,
            _ => *self.until.insert(deadline),
        };
        let folder = Folder::open(&self.path)?;
        leftovers::clean_up(&folder)?;
        let is_locked = attempt >= OVERTAKEN;
        let found = match is_locked {
            true => {
                let lock = Lock::new(&folder, deadline)?;
                let found = lock.read(encoding::MAX_LEN)?;
                lock.keep();
                found
            }
            false => Lock::read_without(&folder, encoding::MAX_LEN, deadline)?,
        };
        let checksum = found.as_ref().map(|found| found.checksum);
        Ok(Reading {
            record: found.map(|found| found.record),
            now: query.now,
            basis: Basis {
                folder,
                checksum,
                is_locked,
            },
        })
    }

    fn replace(
        &mut self,
        basis: Basis,
        next: &Next,
        deadline: Instant,
    ) -> Result<bool, SourceError> {
        let deadline = self.until.unwrap_or(deadline);
        let folder = &basis.folder;
        let record = next.record.encode();
        // Before the lock is taken, for syncing may take its time.
        let draft = match Draft::new(folder, &record) {
            Err(Trouble::NoRoom(_)) if next.withdraws => None,
            draft => Some(draft.map_err(Trouble::into_inner)?),
        };
        let lock = match basis.is_locked {
            true => Lock::kept(folder),
            false => Lock::new(folder, deadline)?,
        };
        let found = lock.read(encoding::MAX_LEN)?;
        if found.map(|found| found.checksum) != basis.checksum {
            return Ok(false);
        }
        let replaced = match draft.map(|draft| draft.put(&lock)) {
            // There may be room for a file, and for no further name.
            None | Some(Err(Trouble::NoRoom(_))) if next.withdraws => {
                overwrite(folder, &record, &lock)?;
                None
            }
            put => put.transpose().map_err(Trouble::into_inner)?.flatten(),
        };
        drop(lock);
        folder.sync()?;
        if let Some(replaced) = replaced {
            replaced.wipe()?;
        }
        Ok(true)
    }

    fn damaged(&self, why: &str) -> SourceError {
        files::damaged(&self.path, why).into()
    }
}

#[cfg(test)]
mod tests;
