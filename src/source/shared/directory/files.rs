//! The files of a key directory.
//!
//! ```text
//!  steks.2         the record
//!  steks.2.new.…   a draft of the next one, until it is whole and takes the place of steks.2
//!  steks.2.old.…   what was replaced, until it is wiped
//!
//!  steks.2:        0        4                     n-32            n
//!                  | length | record | zeros …    | their SHA-256 |
//! ```
//!
//! Big-endian. The zeros are there for the next record, should it be the last thing for which there
//! is room: it can then be written over this one.
//!
//! The record is replaced by renaming, so it is read without a lock. Whoever replaces it holds the
//! directory's lock for a moment: to see that the record is what it started from, and to rename.
//! Each file beside the record is locked by its writer for as long as that lives, so that what a
//! killed process left can be told from what another still uses.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, fsync, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::reader::Reader;
use crate::source::shared::record::encoding::FORMAT;

pub(super) const RECORD: &CStr = c"steks.2";

/// What the names of the files beside the record begin with.
pub(super) const BESIDE: [&str; 2] = ["steks.2.new", "steks.2.old"];

/// Another format is another file: processes of two releases do not get in each other's way.
const _: () = assert!(FORMAT == 2);

/// How long files are: a multiple of this, as they are on most media, and no shorter than what is
/// in them and the room that a revocation may need.
const BLOCK_LEN: usize = 4096;
const ROOM: usize = 256;
const LENGTH_LEN: usize = 4;

/// What tells one record from another.
pub(super) type Checksum = [u8; SHA256_OUTPUT_LEN];

/// A whole record, and its checksum.
pub(super) struct Contents {
    pub(super) record: Zeroizing<Vec<u8>>,
    pub(super) checksum: Checksum,
}

/// The record as it was found.
pub(super) enum Found {
    Nothing,
    Whole(Contents),
    /// Why it cannot be a record.
    Torn(String),
}

/// A key directory that was opened, and found to be ours alone.
pub(super) struct Folder {
    pub(super) fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the directory, which is created if it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match openat(CWD, path, flags, Mode::empty()) {
            Err(Errno::NOENT) => match mkdirat(CWD, path, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => openat(CWD, path, flags, Mode::empty()),
                Err(error) => Err(error),
            },
            opened => opened,
        };
        let shown = path.display();
        let fd = directory.map_err(|error| match error {
            Errno::NOENT => format!("{shown}: {error}: create the directory that it is to be in"),
            Errno::NOTDIR => format!("{shown}: {error}: name a directory"),
            _ => format!("{shown}: {error}"),
        })?;
        let stat = fstat(&fd).map_err(|error| format!("{shown}: {error}"))?;
        check_access(path, &stat, "0700")?;
        let path = path.to_owned();
        Ok(Self { fd, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The record as it is at this moment. Without the directory's lock it may be torn because it
    /// was replaced after it was opened, and wiped before it was read.
    pub(super) fn look(&self, max_len: usize) -> Result<Found, String> {
        let Some(file) = self.open_file(RECORD, OFlags::RDONLY)? else {
            return Ok(Found::Nothing);
        };
        let stat = fstat(&file).map_err(|error| self.trouble(RECORD, &error))?;
        self.check_file(&stat)?;
        let len = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if len > file_len(max_len) {
            return Ok(Found::Torn(format!("{len} bytes long")));
        }
        // Of its final size at once: a buffer that grows leaves copies of secrets behind. What was cut
        // short meanwhile has no checksum that is right.
        let mut bytes = Zeroizing::new(Vec::with_capacity(len));
        file.take(len as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| self.trouble(RECORD, &error))?;
        Ok(parse(&bytes, max_len).unwrap_or_else(Found::Torn))
    }

    /// Whether this file still has this name.
    pub(super) fn is_still(&self, name: &CStr, file: &File) -> Result<bool, String> {
        let stat = fstat(file).map_err(|error| self.trouble(name, &error))?;
        let named = self.stat(name)?;
        Ok(named.is_some_and(|named| is_same_file(&named, &stat)))
    }

    /// Overwrites a file and unlinks it.
    pub(super) fn wipe(&self, name: &CStr, mut file: File) -> Result<(), String> {
        let len = file.metadata().map_or(0, |metadata| metadata.len());
        // Best effort: a file that cannot be overwritten must still be unlinked.
        let _ = io::Seek::rewind(&mut file);
        let _ = io::copy(&mut io::repeat(0).take(len), &mut file);
        let _ = file.sync_all();
        self.unlink(name)
    }

    pub(super) fn unlink(&self, name: &CStr) -> Result<(), String> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.trouble(name, &error)),
        }
    }

    /// Makes what was renamed last.
    pub(super) fn sync(&self) -> Result<(), String> {
        fsync(&self.fd).map_err(|error| self.trouble(RECORD, &error))
    }

    pub(super) fn stat(&self, name: &CStr) -> Result<Option<Stat>, String> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.trouble(name, &error)),
        }
    }

    pub(super) fn open_file(&self, name: &CStr, flags: OFlags) -> Result<Option<File>, String> {
        // A FIFO must not block, and no link may lead out of the directory.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
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

    pub(super) fn trouble(&self, name: &CStr, error: &dyn std::error::Error) -> String {
        let path = self.path.join(name.to_string_lossy().as_ref());
        format!("{}: {error}", path.display())
    }
}

/// How long the file of a record of this length is, at least.
fn file_len(record: usize) -> usize {
    let len = record.saturating_add(LENGTH_LEN + ROOM + SHA256_OUTPUT_LEN);
    len.checked_next_multiple_of(BLOCK_LEN).unwrap_or(len)
}

/// A file with this record, in one that is so long if that is enough.
pub(super) fn encode(record: &[u8], there: usize) -> Zeroizing<Vec<u8>> {
    let least = record.len().saturating_add(LENGTH_LEN + SHA256_OUTPUT_LEN);
    let len = match there < least {
        true => file_len(record.len()),
        false => there,
    };
    let mut out = Zeroizing::new(Vec::with_capacity(len));
    out.extend_from_slice(
        &u32::try_from(record.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    out.extend_from_slice(record);
    out.resize(len.saturating_sub(SHA256_OUTPUT_LEN), 0);
    let checksum = digest(&SHA256, &out);
    out.extend_from_slice(checksum.as_ref());
    out
}

/// The record in a file, or why there is none.
fn parse(file: &[u8], max_len: usize) -> Result<Found, String> {
    let cut_short = || "it is cut short".to_owned();
    let (body, checksum) = file.split_last_chunk().ok_or_else(cut_short)?;
    if digest(&SHA256, body).as_ref() != checksum {
        return Err("its checksum is wrong".into());
    }
    let record = Reader::new(body)
        .vector::<LENGTH_LEN>()
        .ok_or_else(cut_short)?;
    match record.len() {
        len if len > max_len => Err(format!("its record is {len} bytes long")),
        _ => Ok(Found::Whole(Contents {
            record: Zeroizing::new(record.to_vec()),
            checksum: *checksum,
        })),
    }
}

pub(super) fn is_same_file(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
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
    fn what_belongs_to_another_user_is_refused_and_the_error_says_how_to_fix_it() {
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
    fn files_are_opened_without_blocking_and_closed_on_exec() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(&parent.path().join("keys")).unwrap();
        std::fs::write(record(folder.path()), b"record").unwrap();
        for flags in [OFlags::RDONLY, OFlags::WRONLY] {
            let file = folder.open_file(RECORD, flags).unwrap().unwrap();
            assert!(
                fcntl_getfl(&file)
                    .unwrap()
                    .contains(flags | OFlags::NONBLOCK)
            );
            assert_eq!(fcntl_getfd(&file).unwrap(), FdFlags::CLOEXEC);
        }
        assert_eq!(fcntl_getfd(&folder.fd).unwrap(), FdFlags::CLOEXEC);
    }
}
