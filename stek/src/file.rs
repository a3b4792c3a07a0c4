//! Files that are replaced whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::Error;

/// New content that waits beside the file that it is to replace, until [`commit`](Self::commit).
pub(crate) struct Replacement {
    temporary: PathBuf,
    path: PathBuf,
}

impl Replacement {
    /// Writes the content with mode 600, or the mode and the owner of the file that is there.
    pub(crate) fn write(path: &Path, content: &[u8]) -> Result<Self, Error> {
        // The link's target is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.stek-{}", std::process::id()));
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

    /// Puts it in its place, for good.
    pub(crate) fn commit(self) -> Result<(), Error> {
        let replaced = fs::rename(&self.temporary, &self.path);
        replaced.map_err(Error::file(&self.path, "replace"))?;
        sync_directory(&self.path).map_err(Error::file(&self.path, "make sure of"))
    }

    /// Puts it where nothing is yet.
    pub(crate) fn commit_new(self) -> Result<(), Error> {
        let linked = fs::hard_link(&self.temporary, &self.path);
        linked.map_err(Error::file(&self.path, "make"))?;
        sync_directory(&self.path).map_err(Error::file(&self.path, "make sure of"))
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // It is gone if it was renamed.
        let _ = fs::remove_file(&self.temporary);
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

fn sync_directory(path: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(directory(path))?.sync_all(),
        false => Ok(()),
    }
}

/// Keeps other runs away from the files of this directory, until it is dropped.
#[cfg(unix)]
pub(crate) fn lock(path: &Path) -> Result<impl Drop, Error> {
    struct Lock(File);

    impl Drop for Lock {
        fn drop(&mut self) {
            let _ = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
        }
    }

    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let directory = directory(&path);
    let file = File::open(directory).map_err(Error::file(directory, "open"))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|error| Error::file(directory, "lock")(error.into()))?;
    Ok(Lock(file))
}

#[cfg(not(unix))]
pub(crate) fn lock(_path: &Path) -> Result<(), Error> {
    Ok(())
}
