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

#[cfg(test)]
mod tests {
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
        for written in prepare(&files, Format::H2o, &keys).unwrap() {
            written.commit().unwrap();
        }
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
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 0);
    }
}
