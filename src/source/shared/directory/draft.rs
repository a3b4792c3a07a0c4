use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, linkat, openat, renameat};
use rustix::io::Errno;

use super::files::{Folder, RECORD, encode};
use super::lock::Lock;
use crate::hex::Hex;
use crate::source::shared::record::encoding::MAX_LEN;

/// A file with the next record, written and synced without the directory's lock. Wiped and removed
/// unless it takes the record's place.
pub(super) struct Draft<'a> {
    folder: &'a Folder,
    name: CString,
    /// `None` once it has the record's name.
    file: Option<File>,
}

/// Why there is no draft, or why it does not take the record's place.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no room for it.
    NoRoom(String),
    Other(String),
}

impl<'a> Draft<'a> {
    pub(super) fn new(folder: &'a Folder, record: &[u8]) -> Result<Self, Trouble> {
        loop {
            let name = name("new").map_err(Trouble::Other)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            let file = openat(&folder.fd, &*name, flags, mode);
            let file = file.map_err(|error| Trouble::new(folder, &name, error.into()))?;
            let mut draft = Self {
                folder,
                name,
                file: Some(File::from(file)),
            };
            if draft.claim().map_err(Trouble::Other)? {
                let written = draft.write(record);
                return match written {
                    Ok(()) => Ok(draft),
                    Err(error) => Err(Trouble::new(folder, &draft.name, error)),
                };
            }
        }
    }

    /// Locks the file, for whoever cleans up to see that it is in use. False if it was taken for
    /// abandoned before that.
    fn claim(&self) -> Result<bool, String> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => self.folder.is_still(&self.name, file),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(self.folder.trouble(&self.name, &error)),
        }
    }

    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write_all(&encode(record, 0))?;
        file.sync_all()
    }

    /// Takes the record's place. Returns what was there, which is still to be wiped.
    pub(super) fn put(mut self, _: &Lock<'_>) -> Result<Option<Replaced<'a>>, Trouble> {
        let replaced = Replaced::link(self.folder)?;
        let here = &self.folder.fd;
        renameat(here, &*self.name, here, RECORD)
            .map_err(|error| Trouble::new(self.folder, RECORD, error.into()))?;
        self.file = None;
        Ok(replaced)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // What goes wrong is left to whoever cleans up.
            let _ = self.folder.wipe(&self.name, file);
        }
    }
}

impl Trouble {
    fn new(folder: &Folder, name: &CStr, error: io::Error) -> Self {
        let why = folder.trouble(name, &error);
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::NoRoom(why),
            _ => Self::Other(why),
        }
    }

    pub(super) fn into_inner(self) -> String {
        match self {
            Self::NoRoom(why) | Self::Other(why) => why,
        }
    }
}

/// The record that was replaced, under another name.
pub(super) struct Replaced<'a> {
    folder: &'a Folder,
    name: CString,
    file: File,
}

impl<'a> Replaced<'a> {
    /// Gives the record another name, by which it is found if this process is killed.
    fn link(folder: &'a Folder) -> Result<Option<Self>, Trouble> {
        let there = folder.open_file(RECORD, OFlags::WRONLY);
        let Some(file) = there.map_err(Trouble::Other)? else {
            return Ok(None);
        };
        let name = name("old").map_err(Trouble::Other)?;
        // It was not renamed yet, so nobody else has it locked but who wipes a leftover of it.
        let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
        let here = &folder.fd;
        linkat(here, RECORD, here, &*name, AtFlags::empty())
            .map_err(|error| Trouble::new(folder, &name, error.into()))?;
        Ok(Some(Self { folder, name, file }))
    }

    pub(super) fn wipe(self) -> Result<(), String> {
        self.folder.wipe(&self.name, self.file)
    }
}

/// Writes the next record over the one that is there, for want of room for a draft. If this process
/// or the system ends just then, it is left damaged.
pub(super) fn overwrite(folder: &Folder, record: &[u8], _: &Lock<'_>) -> Result<(), String> {
    let Some(mut file) = folder.open_file(RECORD, OFlags::WRONLY)? else {
        return Err(folder.trouble(RECORD, &Errno::NOSPC));
    };
    let mut over = || {
        let there = file.metadata()?.len();
        let next = encode(record, usize::try_from(there).unwrap_or(0).min(MAX_LEN));
        let more = (next.len() as u64).saturating_sub(there);
        // First what may fail, while nothing is lost.
        file.seek(SeekFrom::End(0))?;
        if let Err(error) = io::copy(&mut io::repeat(0).take(more), &mut file) {
            let _ = file.set_len(there);
            return Err(error);
        }
        file.rewind()?;
        file.write_all(&next)?;
        file.set_len(next.len() as u64)?;
        file.sync_all()
    };
    over().map_err(|error| folder.trouble(RECORD, &error))
}

/// A name that no other file has.
fn name(kind: &str) -> Result<CString, String> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| "no random bytes".to_owned())?;
    let name = format!("{}.{kind}.{}", RECORD.to_string_lossy(), Hex(&random));
    CString::new(name).map_err(|error| error.to_string())
}
