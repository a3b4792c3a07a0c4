//! Files that are replaced whole or not at all.

use std::fs::{self, File, OpenOptions};
#[cfg(unix)]
use std::io::Read;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::Error;

/// New content that waits beside the file that it is to replace, until [`replace`](Self::replace).
pub(crate) struct Replacement {
    temporary: PathBuf,
    path: PathBuf,
}

impl Replacement {
    /// Writes the content with mode 600, or the mode and the owner of the file that is there.
    pub(crate) fn write(path: &Path, content: &[u8]) -> Result<Self, Error> {
        // The link's target is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let process = std::process::id();
        let temporary = path.with_file_name(format!("{}{process}", waiting(&path)));
        let failed = |cause| Error::file(&temporary, "write")(cause);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary).map_err(failed)?;
        // From here on it is removed on failure.
        let this = Self { temporary, path };
        let failed = |cause| Error::file(&this.temporary, "write")(cause);
        file.write_all(content).map_err(failed)?;
        keep_owner_and_mode(&this.path, &file)?;
        file.sync_all().map_err(failed)?;
        Ok(this)
    }

    /// Where the content waits.
    pub(crate) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Puts it in its place, where it is for good after [`sync_directory`].
    pub(crate) fn replace(self) -> Result<PathBuf, Error> {
        let replaced = fs::rename(&self.temporary, &self.path);
        replaced.map_err(Error::file(&self.path, "replace"))?;
        Ok(self.path.clone())
    }

    /// The same where nothing is yet.
    pub(crate) fn make(self) -> Result<PathBuf, Error> {
        let linked = fs::hard_link(&self.temporary, &self.path);
        linked.map_err(Error::file(&self.path, "make"))?;
        Ok(self.path.clone())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // It is gone if it was renamed.
        let _ = wipe(&self.temporary);
    }
}

/// What the names of files that wait beside this one begin with; a process ID follows.
fn waiting(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.stek-")
}

/// Wipes what killed runs left beside this file: the process ID may be this one's, and there are
/// keys in it. To be called under the [`lock`], when nothing of this run waits there yet.
#[cfg(unix)]
pub(crate) fn clean_up(path: &Path) -> Result<(), Error> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let (directory, waiting) = (directory(&path), waiting(&path));
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    for entry in entries.map_err(Error::file(directory, "list"))? {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(&waiting));
        if process.is_some_and(|process| process.parse::<u32>().is_ok()) {
            wipe(&entry.path()).map_err(Error::file(&entry.path(), "remove"))?;
        }
    }
    Ok(())
}

/// Without a lock, what waits there may be in use.
#[cfg(not(unix))]
pub(crate) fn clean_up(_path: &Path) -> Result<(), Error> {
    Ok(())
}

/// Overwrites a file, as far as that goes, and removes it.
pub(crate) fn wipe(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Ok(mut file) = open_to_wipe(path) {
        let len = file.metadata().map_or(0, |metadata| metadata.len());
        let _ = io::copy(&mut io::repeat(0).take(len), &mut file);
        let _ = file.sync_all();
    }
    fs::remove_file(path)
}

/// The file, if it has no other name: under that it is in use.
#[cfg(unix)]
fn open_to_wipe(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{Mode, OFlags};

    // A FIFO must not block, and nothing else is to be overwritten by way of a link.
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    match metadata.is_file() && metadata.nlink() == 1 {
        true => Ok(file),
        false => Err(io::ErrorKind::Unsupported.into()),
    }
}

pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    fs::read(path)
        .map(Zeroizing::new)
        .map_err(Error::file(path, "read"))
}

/// A server that may read the file through its group must still be able to.
#[cfg(unix)]
fn keep_owner_and_mode(path: &Path, file: &File) -> Result<(), Error> {
    use std::os::unix::fs::{MetadataExt, fchown};

    let there = match fs::metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file(path, "look at")(error)),
    };
    let made = file.metadata().map_err(Error::file(path, "look at"))?;
    if (made.uid(), made.gid()) != (there.uid(), there.gid()) {
        fchown(file, Some(there.uid()), Some(there.gid()))
            .map_err(Error::file(path, "keep the owner and group of"))?;
    }
    file.set_permissions(there.permissions())
        .map_err(Error::file(path, "keep the mode of"))
}

#[cfg(not(unix))]
fn keep_owner_and_mode(_path: &Path, _file: &File) -> Result<(), Error> {
    Ok(())
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes sure that a file which was put there is there after a power failure.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(directory(path))?.sync_all(),
        false => Ok(()),
    }
}

/// Keeps other runs away from the directories of these files, until it is dropped.
#[cfg(unix)]
pub(crate) fn lock(files: &[PathBuf]) -> Result<impl Drop, Error> {
    use std::os::unix::fs::MetadataExt;

    struct Lock(Vec<File>);

    impl Drop for Lock {
        fn drop(&mut self) {
            for file in &self.0 {
                let _ = rustix::fs::flock(file, rustix::fs::FlockOperation::Unlock);
            }
        }
    }

    let mut directories = Vec::new();
    for path in files {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let directory = directory(&path).to_path_buf();
        let file = File::open(&directory).map_err(Error::file(&directory, "open"))?;
        let metadata = file.metadata();
        let metadata = metadata.map_err(Error::file(&directory, "look at"))?;
        directories.push(((metadata.dev(), metadata.ino()), directory, file));
    }
    // Each once, and in the same order in each run, so that none waits for ever.
    directories.sort_by_key(|(id, ..)| *id);
    directories.dedup_by_key(|(id, ..)| *id);
    let mut lock = Lock(Vec::new());
    for (_, directory, file) in directories {
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| Error::file(&directory, "lock")(error.into()))?;
        lock.0.push(file);
    }
    Ok(lock)
}

#[cfg(not(unix))]
pub(crate) fn lock(_files: &[PathBuf]) -> Result<(), Error> {
    Ok(())
}
