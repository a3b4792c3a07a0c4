use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::formats::{self, FileKey, FormatError, Keys};
use crate::clock::Time;
use crate::error::Error;
use crate::source::SourceError;

/// The keys that the files list at one moment, checked.
#[derive(Debug)]
pub(super) struct Listing {
    /// In the order of the files and lines.
    pub(super) keys: Vec<ListedKey>,
    /// The index of the one that is meant to seal.
    pub(super) sealing: usize,
    /// What works, but should be improved.
    pub(super) advice: Vec<String>,
}

/// A key, and where it is listed.
#[derive(Debug)]
pub(super) struct ListedKey {
    pub(super) key: FileKey,
    place: String,
    /// When its file was last changed: it has been listed at least since then.
    pub(super) modified: Time,
}

/// The longest file that is read: more than a list of the most keys takes.
const MAX_LEN: usize = 16 * 1024;
const TOO_LONG: usize = MAX_LEN + 1;

/// How many keys of a list HAProxy itself uses, unless it was built otherwise.
const HAPROXY_KEYS: usize = 3;

impl Listing {
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, SourceError> {
        Self::of(paths.iter().map(|path| (&**path, Contents::read(path))))
    }

    /// The same of contents, each of which is read when its turn comes.
    fn of<'a>(
        files: impl ExactSizeIterator<Item = (&'a Path, Result<Contents, SourceError>)>,
    ) -> Result<Self, SourceError> {
        let mut listing = Self {
            keys: Vec::new(),
            sealing: 0,
            advice: Vec::new(),
        };
        let stands_alone = files.len() == 1;
        for (path, contents) in files {
            let contents = contents?;
            let at = |wrong: FormatError| format!("{}: {wrong}", path.display());
            match formats::parse(&contents.bytes).map_err(at)? {
                Keys::One(key) => listing.add(key, path.display().to_string(), contents.modified),
                Keys::List(_) if !stands_alone => {
                    let why = "a list of keys in base64 stands alone, not beside other files";
                    return Err(format!("{}: {why}", path.display()).into());
                }
                Keys::List(keys) => {
                    // At least two, of which the last is the next to seal.
                    listing.sealing = keys.len().saturating_sub(2);
                    listing.advise_on_length(path, keys.len());
                    for (number, key) in keys {
                        let place = format!("{} line {number}", path.display());
                        listing.add(key, place, contents.modified);
                    }
                }
            }
        }
        listing.check()?;
        Ok(listing)
    }

    fn add(&mut self, key: FileKey, place: String, modified: Time) {
        if key.is_short() {
            self.advice.push(format!(
                "{place}: 48 bytes, of which 32 are secret: a key of 80 bytes has 64"
            ));
        }
        self.keys.push(ListedKey {
            key,
            place,
            modified,
        });
    }

    fn advise_on_length(&mut self, path: &Path, keys: usize) {
        if keys > HAPROXY_KEYS {
            let path = path.display();
            self.advice.push(format!(
                "{path}: {keys} keys, of which HAProxy uses the last {HAPROXY_KEYS}: here every \
                 listed key opens, so remove those that are no longer in use"
            ));
        }
    }

    /// Refuses weak keys, and keys that contradict each other.
    fn check(&self) -> Result<(), Error> {
        for (i, this) in self.keys.iter().enumerate() {
            if let Some(why) = this.key.weakness() {
                return Err(Error::weak_key(&this.place, why));
            }
            for earlier in self.keys.iter().take(i) {
                let same_name = this.key.name() == earlier.key.name();
                let same_secret = this.key.secret() == earlier.key.secret();
                let why = match (same_name, same_secret) {
                    (true, true) => "the same key twice: list each once",
                    (true, false) => "one name with two secrets: give each key a name of its own",
                    (false, true) => {
                        "one secret under two names: give each key a secret of its own"
                    }
                    (false, false) => continue,
                };
                let places = format!("{} and {}", earlier.place, this.place);
                return Err(Error::weak_key(places, why));
            }
        }
        Ok(())
    }
}

/// What was read from a file.
struct Contents {
    bytes: Zeroizing<Vec<u8>>,
    modified: Time,
}

impl Contents {
    fn read(path: &Path) -> Result<Self, SourceError> {
        let at = |wrong: &dyn std::fmt::Display| format!("{}: {wrong}", path.display());
        // Before it is opened: opening a FIFO may block for ever.
        if !fs::metadata(path).map_err(|error| at(&error))?.is_file() {
            return Err(at(&"not a regular file").into());
        }
        let mut file = File::open(path).map_err(|error| at(&error))?;
        let metadata = file.metadata().map_err(|error| at(&error))?;
        check_permissions(&metadata).map_err(|wrong| at(&wrong))?;
        // It never grows, so it leaves no copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(TOO_LONG));
        let mut limited = Read::by_ref(&mut file).take(TOO_LONG as u64);
        let read = limited.read_to_end(&mut bytes);
        read.map_err(|error| at(&error))?;
        if bytes.len() > MAX_LEN {
            return Err(at(&format!("more than {MAX_LEN} bytes: not a file of keys")).into());
        }
        let modified = metadata.modified().map_or(Time(u64::MAX), Time::from);
        Ok(Self { bytes, modified })
    }
}

/// Refuses a file that anyone but its owner may change, or anyone but its owner and group may read.
#[cfg(unix)]
fn check_permissions(metadata: &fs::Metadata) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;

    let mode = metadata.permissions().mode() & 0o7777;
    let who = match mode {
        mode if mode & 0o007 != 0 => "anyone",
        mode if mode & 0o020 != 0 => "the group",
        _ => return Ok(()),
    };
    let what = match who {
        "anyone" if mode & 0o004 != 0 => "read",
        _ => "change",
    };
    Err(format!(
        "mode {mode:o}: {who} may {what} it: `chmod 600`, or 640 if the group is to read it"
    ))
}

#[cfg(not(unix))]
fn check_permissions(_metadata: &fs::Metadata) -> Result<(), String> {
    Ok(())
}

#[cfg(any(test, rustls_resumption_fuzzing))]
#[path = "../../../fuzz/bodies/private/key_file.rs"]
pub(super) mod fuzzed;

#[cfg(test)]
pub(super) mod tests {
    use tempfile::TempDir;

    use super::super::formats::tests::base64;
    use super::*;

    /// A key of 80 bytes, another for each number.
    pub(crate) fn key(number: u8) -> Vec<u8> {
        (0..80).map(|i| number.wrapping_add(i)).collect()
    }

    pub(crate) fn list(keys: &[u8]) -> String {
        keys.iter()
            .map(|number| base64(&key(*number)) + "\n")
            .collect()
    }

    #[cfg(unix)]
    pub(crate) fn permit(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[cfg(not(unix))]
    pub(crate) fn permit(_path: &Path, _mode: u32) {}

    #[test]
    fn a_file_may_be_of_16_kib() {
        assert_eq!(MAX_LEN, 16_384);
    }

    /// Reads files of these contents, named `0`, `1` and so on.
    fn read(contents: &[&[u8]]) -> Result<Listing, String> {
        let directory = TempDir::new().unwrap();
        let paths = (0..contents.len()).map(|i| directory.path().join(i.to_string()));
        let paths: Vec<_> = paths.collect();
        for (path, content) in paths.iter().zip(contents) {
            fs::write(path, content).unwrap();
            permit(path, 0o600);
        }
        Listing::read(&paths).map_err(|error| error.to_string())
    }

    fn error(contents: &[&[u8]]) -> String {
        read(contents).unwrap_err()
    }

    #[test]
    fn keys_are_listed_in_order_and_one_of_them_is_to_seal() {
        let listing = read(&[&key(1), &key(2), &key(3)]).unwrap();
        let keys: Vec<_> = listing.keys.iter().map(|key| key.key.as_bytes()).collect();
        assert_eq!(
            (keys, listing.sealing),
            (vec![&key(1)[..], &key(2), &key(3)], 0)
        );
        let listing = read(&[list(&[1, 2, 3]).as_bytes()]).unwrap();
        let keys: Vec<_> = listing.keys.iter().map(|key| key.key.as_bytes()).collect();
        assert_eq!(
            (keys, listing.sealing),
            (vec![&key(1)[..], &key(2), &key(3)], 1)
        );
        assert!(listing.advice.is_empty());
    }

    #[test]
    fn whatever_is_wrong_with_a_file_is_said_with_its_name() {
        let good = key(1);
        for (wrong, message) in [
            (vec![], "/1: empty"),
            (good[..79].to_vec(), "/1: 79 bytes"),
            (b"not a key".to_vec(), "/1: line 1: not base64"),
            (vec![b'\n'; MAX_LEN], "/1: empty"),
            (vec![b'\n'; MAX_LEN + 1], "/1: more than 16384 bytes"),
            (
                list(&[5, 6]).into_bytes(),
                "/1: a list of keys in base64 stands alone",
            ),
        ] {
            let error = error(&[&good, &wrong]);
            assert!(error.contains(message), "{error}");
        }
        let missing = Listing::read(&["/none/such".into()]).unwrap_err();
        assert!(missing.to_string().starts_with("/none/such: No such file"));
        let directory = Listing::read(&[std::env::temp_dir()]).unwrap_err();
        assert!(directory.to_string().ends_with(": not a regular file"));
    }

    #[test]
    fn keys_that_are_weak_or_contradict_each_other_are_refused() {
        let good = key(1);
        let changed = |range: std::ops::Range<usize>| {
            let mut key = good.clone();
            key[range].fill(0);
            key
        };
        for (wrong, message) in [
            (changed(16..80), "/1: all bytes are equal"),
            (changed(16..48), "/1: all bytes are equal"),
            (changed(48..80), "/1: all bytes are equal"),
            (changed(0..80), "/1: all bytes are equal"),
            (good.clone(), "/1: the same key twice"),
            (changed(70..71), "/1: one name with two secrets"),
            (changed(0..1), "/1: one secret under two names"),
        ] {
            let error = error(&[&good, &wrong]);
            assert!(
                error.starts_with("weak key in /") && error.contains(message),
                "{error}"
            );
        }
        let twice = error(&[list(&[1, 2, 1]).as_bytes()]);
        assert!(twice.contains("/0 line 1 and /"), "{twice}");
        assert!(twice.contains("/0 line 3: the same key twice"), "{twice}");
    }

    #[test]
    fn what_could_be_better_is_advised() {
        let listing = read(&[&key(1)[..48]]).unwrap();
        assert!(
            listing.advice[0]
                .ends_with("/0: 48 bytes, of which 32 are secret: a key of 80 bytes has 64")
        );
        let listing = read(&[list(&[1, 2, 3, 4]).as_bytes()]).unwrap();
        assert!(listing.advice[0].contains("/0: 4 keys, of which HAProxy uses the last 3"));
    }

    #[cfg(unix)]
    #[test]
    fn files_that_others_may_read_or_change_are_refused() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, key(1)).unwrap();
        let paths = [path];
        for (mode, message) in [
            (0o644, "mode 644: anyone may read it: `chmod 600`, or 640"),
            (0o604, "mode 604: anyone may read it"),
            (0o602, "mode 602: anyone may change it"),
            (0o660, "mode 660: the group may change it"),
            (0o666, "mode 666: anyone may read it"),
        ] {
            permit(&paths[0], mode);
            let error = Listing::read(&paths).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        for mode in [0o600, 0o640, 0o400, 0o440] {
            permit(&paths[0], mode);
            Listing::read(&paths).unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_fifo_does_not_make_it_wait() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("a");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let error = Listing::read(&[path]).unwrap_err().to_string();
        assert!(error.ends_with(": not a regular file"), "{error}");
    }
}
