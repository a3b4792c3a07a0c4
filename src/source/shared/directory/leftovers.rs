use std::ffi::{CStr, CString};
use std::fs::File;

use rustix::fs::{Dir, FlockOperation, OFlags, flock, fstat};
use rustix::io::Errno;

use super::files::{BESIDE, Folder, RECORD, is_same_file};
use super::lock::Lock;

/// Wipes what processes that were killed left beside the record. If another holds the lock,
/// that is left for the next time.
pub(super) fn clean_up(folder: &Folder) -> Result<(), String> {
    let names = beside(folder)?;
    if names.is_empty() {
        return Ok(());
    }
    let Some(lock) = Lock::if_free(folder)? else {
        return Ok(());
    };
    let mut left = Vec::new();
    for name in names {
        // What cannot be opened no process of ours left: a directory, or a file of another user. Nothing
        // in the way of the record, in any case.
        let file = abandoned(folder, &name).unwrap_or_default();
        left.extend(file.map(|file| (name, file)));
    }
    let record = folder.stat(RECORD)?;
    // Syncing may take its time. These files are locked, so nobody else begins to wipe them.
    drop(lock);
    for (name, file) in left {
        let stat = fstat(&file).map_err(|error| folder.trouble(&name, &error))?;
        // Killed before the next record took its place, this one is still current; or it was,
        // a moment ago, and whoever replaces it now wipes it.
        let is_record = record.is_some_and(|record| is_same_file(&record, &stat));
        match is_record {
            true => folder.unlink(&name)?,
            false => folder.wipe(&name, file)?,
        }
    }
    Ok(())
}

fn beside(folder: &Folder) -> Result<Vec<CString>, String> {
    let trouble = |error: Errno| format!("{}: {error}", folder.path().display());
    let mut names = Vec::new();
    for entry in Dir::read_from(&folder.fd).map_err(trouble)? {
        let entry = entry.map_err(trouble)?;
        let name = entry.file_name().to_bytes();
        if BESIDE.iter().any(|kind| name.starts_with(kind.as_bytes())) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// The file of this name, locked, unless its writer is alive.
fn abandoned(folder: &Folder, name: &CStr) -> Result<Option<File>, String> {
    let Some(file) = folder.open_file(name, OFlags::WRONLY)? else {
        return Ok(None);
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        // It may have taken the record's place, or be gone, since it was opened.
        Ok(()) => Ok(folder.is_still(name, &file)?.then_some(file)),
        Err(_) => Ok(None),
    }
}
