use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::files::{Contents, Folder, Found, RECORD, damaged};

/// How long the lock is waited for while nobody replaces the record: what is done under it takes
/// well under a millisecond, but a process that is overtaken time and again syncs under it, too.
const WITHOUT_CHANGE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(2);

/// How often a record that is torn is read again before that is believed.
const READS: usize = 4;
const BETWEEN_READS: Duration = Duration::from_millis(1);

/// The directory's lock, held for as long as this value lives. The kernel releases it when the
/// directory is closed, however the process ends; but a child that was forked meanwhile has it open
/// as well, so it is released by hand.
pub(super) struct Lock<'a>(&'a Folder);

impl<'a> Lock<'a> {
    pub(super) fn new(folder: &'a Folder, deadline: Instant) -> Result<Self, String> {
        let mut last = (version(folder), Instant::now());
        loop {
            if let Some(lock) = Self::if_free(folder)? {
                return Ok(lock);
            }
            let now = Instant::now();
            let version = version(folder);
            if version != last.0 {
                last = (version, now);
            }
            let path = folder.path().display();
            if now >= deadline {
                return Err(format!(
                    "{path}: other processes held its lock whenever it was tried"
                ));
            }
            if now.saturating_duration_since(last.1) >= WITHOUT_CHANGE {
                return Err(format!(
                    "{path}: locked by another process for more than {WITHOUT_CHANGE:?}: `fuser \
                     {path}` tells which; end or continue it"
                ));
            }
            thread::sleep(RETRY);
        }
    }

    /// Keeps it until the [`kept`](Self::kept) one is dropped.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }

    /// The one that was kept.
    pub(super) fn kept(folder: &'a Folder) -> Self {
        Self(folder)
    }

    /// Without waiting. `None` if another holds it.
    pub(super) fn if_free(folder: &'a Folder) -> Result<Option<Self>, String> {
        // Without blocking: a process that is stopped under the lock must not stop the others too.
        match flock(&folder.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(folder))),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
            Err(error) => {
                let path = folder.path().display();
                Err(format!("{path}: cannot be locked: {error}"))
            }
        }
    }

    /// The record, which nobody replaces meanwhile.
    pub(super) fn read(&self, max_len: usize) -> Result<Option<Contents>, String> {
        match self.0.look(max_len)? {
            Found::Nothing => Ok(None),
            Found::Whole(contents) => Ok(Some(contents)),
            Found::Torn(why) => Err(damaged(self.0.path(), &why)),
        }
    }

    /// The same without the lock, unless the record seems to be damaged.
    pub(super) fn read_without(
        folder: &Folder,
        max_len: usize,
        deadline: Instant,
    ) -> Result<Option<Contents>, String> {
        for _ in 0..READS {
            match folder.look(max_len)? {
                Found::Nothing => return Ok(None),
                Found::Whole(contents) => return Ok(Some(contents)),
                Found::Torn(_) => thread::sleep(BETWEEN_READS),
            }
        }
        Lock::new(folder, deadline)?.read(max_len)
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // If it fails, closing the directory does it.
        let _ = flock(&self.0.fd, FlockOperation::Unlock);
    }
}

/// Changes whenever the record is replaced or written to.
pub(super) fn version(folder: &Folder) -> Option<(u64, i64, u64)> {
    let stat = folder.stat(RECORD).ok().flatten()?;
    #[allow(clippy::unnecessary_cast, reason = "other systems have other types")]
    Some((
        stat.st_ino as u64,
        stat.st_mtime as i64,
        stat.st_mtime_nsec as u64,
    ))
}
