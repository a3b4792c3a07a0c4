//! The files of a key directory, under its lock.
//!
//! ```text
//!  steks.1       the record, then its SHA-256
//!  steks.1.new   the next one, until it is whole and takes the place of steks.1
//!  steks.1.old   what was replaced, until it is wiped
//! ```

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, fsync, linkat,
    mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::source::shared::record::encoding::FORMAT;

const RECORD: &CStr = c"steks.1";
const NEXT: &CStr = c"steks.1.new";
const REPLACED: &CStr = c"steks.1.old";

/// Another format is another file: processes of two releases do not get in each other's way.
const _: () = assert!(FORMAT == 1);

/// How long another process may hold the lock. What is done under it takes well under a
/// millisecond, or a few on a slow medium.
const LOCK_WAIT: Duration = Duration::from_millis(500);
const LOCK_RETRY: Duration = Duration::from_millis(2);

/// The directory, locked for as long as this value lives. The kernel unlocks it when the directory
/// is closed, however the process ends.
pub(super) struct Locked {
    directory: OwnedFd,
    path: PathBuf,
}

impl Locked {
    pub(super) fn new(path: &Path) -> Result<Self, String> {
        let directory = open(path)?;
        let begin = Instant::now();
        // Without blocking: a process that is stopped under the lock must not stop the others too.
        while let Err(error) = flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            let path = path.display();
            if !matches!(error, Errno::WOULDBLOCK | Errno::INTR) {
                return Err(format!("{path}: cannot be locked: {error}"));
            }
            if begin.elapsed() >= LOCK_WAIT {
                return Err(format!(
                    "{path}: locked by another process for more than {LOCK_WAIT:?}: `fuser {path}` \
                     tells which; end or continue it"
                ));
            }
            thread::sleep(LOCK_RETRY);
        }
        let path = path.to_owned();
        Ok(Self { directory, path })
    }

    /// Wipes the leftovers of a process that was killed while it wrote.
    pub(super) fn clean_up(&self) -> Result<(), String> {
        self.wipe(NEXT)?;
        let (Some(record), Some(replaced)) = (self.stat(RECORD)?, self.stat(REPLACED)?) else {
            return self.wipe(REPLACED);
        };
        if (record.st_dev, record.st_ino) == (replaced.st_dev, replaced.st_ino) {
            // Killed before the next record took its place: this one is still current.
            return self.unlink(REPLACED);
        }
        self.wipe(REPLACED)
    }

    /// The record's bytes, if there is one.
    pub(super) fn read(&self, max_len: usize) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        let Some(mut file) = self.open_file(RECORD, OFlags::RDONLY)? else {
            return Ok(None);
        };
        let stat = fstat(&file).map_err(|error| self.trouble(RECORD, &error))?;
        self.check_file(&stat)?;
        let len = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if len > max_len.saturating_add(SHA256_OUTPUT_LEN) {
            return Err(damaged(&self.path, &format!("{len} bytes long")));
        }
        // Of its final size at once: a buffer that grows leaves copies of secrets behind.
        let mut bytes = Zeroizing::new(vec![0; len]);
        file.read_exact(&mut bytes)
            .map_err(|error| self.trouble(RECORD, &error))?;
        let Some((record, sum)) = bytes.split_last_chunk::<SHA256_OUTPUT_LEN>() else {
            return Err(damaged(&self.path, "it is cut short"));
        };
        if digest(&SHA256, record).as_ref() != sum {
            return Err(damaged(&self.path, "its checksum is wrong"));
        }
        let len = record.len();
        bytes.truncate(len);
        Ok(Some(bytes))
    }

    /// Replaces the record, and wipes the old one.
    pub(super) fn write(&self, record: &[u8]) -> Result<(), String> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let at = |error| self.trouble(NEXT, &error);
        let mut next = File::from(openat(&self.directory, NEXT, flags, mode).map_err(at)?);
        next.write_all(record)
            .and_then(|()| next.write_all(digest(&SHA256, record).as_ref()))
            .and_then(|()| next.sync_all())
            .map_err(|error| self.trouble(NEXT, &error))?;
        let here = &self.directory;
        match linkat(here, RECORD, here, REPLACED, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(self.trouble(REPLACED, &error)),
        }
        renameat(here, NEXT, here, RECORD)
            .and_then(|()| fsync(here))
            .map_err(|error| self.trouble(RECORD, &error))?;
        self.wipe(REPLACED)
    }

    /// Overwrites a file, if it is there, and unlinks it.
    fn wipe(&self, name: &CStr) -> Result<(), String> {
        let Some(mut file) = self.open_file(name, OFlags::WRONLY)? else {
            return Ok(());
        };
        let len = file.metadata().map_or(0, |metadata| metadata.len());
        // Best effort: a file that cannot be overwritten must still be unlinked.
        let _ = std::io::copy(&mut std::io::repeat(0).take(len), &mut file);
        let _ = file.sync_all();
        self.unlink(name)
    }

    fn unlink(&self, name: &CStr) -> Result<(), String> {
        unlinkat(&self.directory, name, AtFlags::empty())
            .map_err(|error| self.trouble(name, &error))
    }

    fn stat(&self, name: &CStr) -> Result<Option<Stat>, String> {
        match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.trouble(name, &error)),
        }
    }

    fn open_file(&self, name: &CStr, flags: OFlags) -> Result<Option<File>, String> {
        // A FIFO must not block, and no link may lead out of the directory.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(File::from(file))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.trouble(name, &error)),
        }
    }

    fn check_file(&self, stat: &Stat) -> Result<(), String> {
        let path = record(&self.path);
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(format!("{}: not a file: remove it", path.display()));
        }
        check_access(&path, stat, "0600")
    }

    fn trouble(&self, name: &CStr, error: &dyn std::error::Error) -> String {
        let path = self.path.join(name.to_string_lossy().as_ref());
        format!("{}: {error}", path.display())
    }
}

/// What is wrong with the record, and how to get rid of it.
pub(super) fn damaged(directory: &Path, why: &str) -> String {
    format!(
        "{}: damaged: {why}: remove it, and a process that still holds keys writes them again",
        record(directory).display()
    )
}

/// Where the record is.
pub(super) fn record(directory: &Path) -> PathBuf {
    directory.join(RECORD.to_string_lossy().as_ref())
}

/// Opens the directory, which is created if it is missing, and checks that it is ours alone.
pub(super) fn open(path: &Path) -> Result<OwnedFd, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => match mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => openat(CWD, path, flags, Mode::empty()),
            Err(error) => Err(error),
        },
        opened => opened,
    };
    let shown = path.display();
    let directory = directory.map_err(|error| match error {
        Errno::NOENT => format!("{shown}: {error}: create the directory that it is to be in"),
        Errno::NOTDIR => format!("{shown}: {error}: name a directory"),
        _ => format!("{shown}: {error}"),
    })?;
    let stat = fstat(&directory).map_err(|error| format!("{shown}: {error}"))?;
    check_access(path, &stat, "0700")?;
    Ok(directory)
}

fn check_access(path: &Path, stat: &Stat, right: &str) -> Result<(), String> {
    let path = path.display();
    let (owner, user) = (stat.st_uid, geteuid().as_raw());
    if owner != user {
        return Err(format!(
            "{path}: belongs to user {owner}, but this process runs as user {user}: run \
             `chown {user} {path}`, or choose another directory"
        ));
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    if mode.intersects(Mode::RWXG | Mode::RWXO) {
        return Err(format!(
            "{path}: open to group or others (mode {:04o}): run `chmod {right} {path}`, and if \
             anyone may have looked at its keys, revoke them",
            mode.as_raw_mode()
        ));
    }
    Ok(())
}

/// Whether erased files are gone from there. Assumed where it cannot be found out.
pub(super) fn is_memory(directory: impl AsFd) -> bool {
    #[cfg(target_os = "linux")]
    {
        const TMPFS: u32 = 0x0102_1994;
        const RAMFS: u32 = 0x8584_58f6;
        // The kernel's type has another width and sign on each architecture; the magic has 32 bits.
        let kind = rustix::fs::fstatfs(directory).map(|stat| stat.f_type as u32);
        kind.is_ok_and(|kind| matches!(kind, TMPFS | RAMFS))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = directory;
        true
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::fcntl_getfl;
    use rustix::io::{FdFlags, fcntl_getfd};

    use super::*;

    #[test]
    fn what_belongs_to_somebody_else_is_refused_and_the_error_says_how_to_mend_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut stat = rustix::fs::stat(file.path()).unwrap();
        assert_eq!(check_access(Path::new("keys"), &stat, "0700"), Ok(()));
        let user = stat.st_uid;
        stat.st_uid += 1;
        let error = check_access(Path::new("keys"), &stat, "0700").unwrap_err();
        let owner = stat.st_uid;
        assert!(
            error.starts_with(&format!(
                "keys: belongs to user {owner}, but this process runs as"
            )),
            "{error}"
        );
        assert!(error.contains(&format!("`chown {user} keys`")), "{error}");
    }

    #[test]
    fn no_file_is_waited_for_or_passed_on_to_a_program_that_is_started() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("keys");
        let directory = Locked::new(&path).unwrap();
        directory.write(b"record").unwrap();
        for flags in [OFlags::RDONLY, OFlags::WRONLY] {
            let file = directory.open_file(RECORD, flags).unwrap().unwrap();
            assert!(
                fcntl_getfl(&file)
                    .unwrap()
                    .contains(flags | OFlags::NONBLOCK)
            );
            assert_eq!(fcntl_getfd(&file).unwrap(), FdFlags::CLOEXEC);
        }
        assert_eq!(fcntl_getfd(&directory.directory).unwrap(), FdFlags::CLOEXEC);
    }
}
