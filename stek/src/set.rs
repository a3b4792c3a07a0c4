use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls_resumption::Sealing;
use rustls_resumption::source::{KeyFiles, KeyInventory};

use crate::error::Error;
use crate::file::{self, Replacement};
use crate::format::Format;
use crate::key::{Key, Times};

/// The keys of some files that a server would take.
pub(crate) struct KeySet {
    pub(crate) format: Format,
    /// In the order of the files, the lines or the entries, each once.
    pub(crate) keys: Vec<Key>,
    /// The index of the one that seals.
    pub(crate) sealing: usize,
    /// What could be better.
    pub(crate) advice: Vec<String>,
    /// When the last rotation was done: when the file of the key that seals was changed. Of several
    /// files that one is replaced last, so the others may be newer if a run was killed.
    pub(crate) modified: SystemTime,
}

/// What a server would say about these files.
pub(crate) fn inspect(files: &[PathBuf], sealing: Sealing) -> Result<KeyInventory, Error> {
    let files = KeyFiles::new(files).map_err(Error::Keys)?;
    files.inspect(sealing).map_err(Error::Keys)
}

impl KeySet {
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self, Error> {
        let inventory = inspect(files, Sealing::Aes256GcmSiv)?;
        let format = match files {
            [file] => Format::of(&file::read(file)?),
            _ => Format::Nginx,
        };
        let keys = inventory.keys().iter().map(|key| {
            let times = key.h2o_times().map(|(not_before, not_after)| Times {
                not_before,
                not_after,
            });
            Key::from_bytes(key.expose_bytes(), times)
        });
        let sealing = inventory.keys().iter().position(|key| key.seals());
        let sealing = sealing.unwrap_or(0);
        let modified = inventory.keys().get(sealing).map(|key| key.modified());
        Ok(Self {
            format,
            keys: keys.collect(),
            sealing,
            modified: modified.unwrap_or(SystemTime::UNIX_EPOCH),
            advice: inventory.advice().to_vec(),
        })
    }
}

/// Writes keys beside their files, and makes sure that a server would take them.
pub(crate) fn prepare(
    files: &[PathBuf],
    format: Format,
    keys: &[Key],
) -> Result<Vec<Replacement>, Error> {
    let contents = format.write(keys)?;
    if contents.len() != files.len() {
        return Err(Error::Usage(format!(
            "{} keys take {} files in this format, and {} were named",
            keys.len(),
            contents.len(),
            files.len()
        )));
    }
    for file in files {
        file::clean_up(file)?;
    }
    let written = files.iter().zip(&contents);
    let written = written.map(|(path, content)| Replacement::write(path, content));
    let written = written.collect::<Result<Vec<_>, _>>()?;
    let temporary = written.iter().map(Replacement::temporary);
    let temporary: Vec<PathBuf> = temporary.map(Path::to_path_buf).collect();
    match inspect(&temporary, Sealing::Aes256GcmSiv) {
        Ok(_) => Ok(written),
        Err(error) => Err(refused(&error, &temporary, files)),
    }
}

/// What would be refused, by the names of the files that it was for: those it is in will be gone.
fn refused(error: &Error, temporary: &[PathBuf], files: &[PathBuf]) -> Error {
    let mut told = error.to_string();
    for (temporary, file) in temporary.iter().zip(files) {
        let [temporary, file] = [temporary, file].map(|path| path.display().to_string());
        told = told.replace(&temporary, &file);
    }
    Error::Wrong(told)
}

/// Makes all files or none.
pub(crate) fn make(
    prepared: Vec<Replacement>,
    mut sync: impl FnMut(&Path) -> io::Result<()>,
) -> Result<(), Error> {
    let mut made = Vec::new();
    for file in prepared {
        let result = file.make().and_then(|path| {
            made.push(path.clone());
            sync(&path).map_err(Error::file(&path, "make sure of"))
        });
        if let Err(error) = result {
            // Half a set is of no use, and nobody reads it yet.
            for file in &made {
                let _ = file::wipe(file);
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Replaces the files, the oldest first, so that no key is ever missing.
pub(crate) fn replace(
    prepared: Vec<Replacement>,
    mut sync: impl FnMut(&Path) -> io::Result<()>,
) -> Result<(), Error> {
    let files = prepared.len();
    for (done, file) in prepared.into_iter().rev().enumerate() {
        let path = file.replace().map_err(|cause| cause.after(done, files))?;
        let synced = sync(&path).map_err(Error::file(&path, "make sure of"));
        synced.map_err(|cause| cause.after(done + 1, files))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    #[cfg(unix)]
    use std::{fs::File, io::Read};

    use tempfile::TempDir;

    use super::*;

    /// A key of H2O, as long and with times as late as there are.
    fn longest() -> Key {
        let times = Times {
            not_before: u64::MAX,
            not_after: u64::MAX,
        };
        let mut key = Key::random(112).unwrap();
        key.times = Some(times);
        key
    }

    #[test]
    fn the_most_keys_are_read_in_the_longest_format() {
        let directory = TempDir::new().unwrap();
        let files = [directory.path().join("keys.yaml")];
        let keys: Vec<Key> = (0..64).map(|_| longest()).collect();
        let prepared = prepare(&files, Format::H2o, &keys).unwrap();
        replace(prepared, file::sync_directory).unwrap();
        let set = KeySet::read(&files).unwrap();
        assert_eq!((set.format, set.keys.len()), (Format::H2o, 64));
    }

    #[test]
    fn what_would_be_refused_is_told_by_the_name_of_its_own_file() {
        let directory = TempDir::new().unwrap();
        let files = ["new", "old"].map(|name| directory.path().join(name));
        let keys = [Key::random(80).unwrap(), Key::from_bytes(&[7; 80], None)];
        let Err(error) = prepare(&files, Format::Nginx, &keys) else {
            panic!("a weak key");
        };
        let old = files[1].display();
        let told = format!("the keys would be refused: weak key in {old}: all bytes are equal");
        assert!(error.to_string().starts_with(&told), "{error}");
        let left = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 0);
    }

    /// Keys for three files, of which nothing is there yet.
    fn three(directory: &TempDir) -> (Vec<PathBuf>, Vec<Replacement>) {
        let files = ["0", "1", "2"].map(|name| directory.path().join(name));
        let keys = [(); 3].map(|()| Key::random(80).unwrap());
        let prepared = prepare(&files, Format::Nginx, &keys).unwrap();
        (files.to_vec(), prepared)
    }

    /// Fails once this many directories were synced, after a look at the file in it.
    fn failing(at: usize, mut look: impl FnMut(&Path)) -> impl FnMut(&Path) -> io::Result<()> {
        let mut done = 0;
        move |path| {
            look(path);
            done += 1;
            match done > at {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn of_files_that_cannot_all_be_made_none_is_left_and_all_are_wiped() {
        for at in 0..3 {
            let directory = TempDir::new().unwrap();
            let (files, prepared) = three(&directory);
            let mut made = Vec::new();
            let sync = failing(at, |path| made.push(File::open(path).unwrap()));
            let error = make(prepared, sync).unwrap_err();
            assert_eq!(error.exit_status(), 1, "nothing was changed");
            let told = format!("{}: cannot make sure of it", files[at].display());
            assert!(error.to_string().starts_with(&told), "{error}");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
            assert_eq!(made.len(), at + 1);
            for mut file in made {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes, [0; 80]);
            }
        }
    }

    #[test]
    fn a_failure_after_a_file_was_replaced_is_told_as_such() {
        for at in 0..3 {
            let directory = TempDir::new().unwrap();
            let (files, prepared) = three(&directory);
            make(prepared, file::sync_directory).unwrap();
            let before = files.iter().map(|file| fs::read(file).unwrap());
            let before: Vec<_> = before.collect();
            let (_, prepared) = three(&directory);
            let error = replace(prepared, failing(at, |_| ())).unwrap_err();
            assert_eq!(error.exit_status(), 3);
            let told = match at {
                2 => "all is replaced, but a power failure may bring back",
                _ => &format!("the last {} of the files are already replaced", at + 1),
            };
            assert!(error.to_string().contains(told), "{error}");
            for (i, before) in before.iter().enumerate() {
                let is_replaced = fs::read(&files[i]).unwrap() != *before;
                assert_eq!(is_replaced, i + at >= 2, "file {i}");
            }
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
        }
    }

    #[test]
    fn a_failure_before_any_file_was_replaced_changes_nothing() {
        let directory = TempDir::new().unwrap();
        let (files, prepared) = three(&directory);
        fs::remove_file(prepared[2].temporary()).unwrap();
        let error = replace(prepared, file::sync_directory).unwrap_err();
        assert_eq!(error.exit_status(), 1);
        assert!(files.iter().all(|file| !file.exists()));
    }
}
