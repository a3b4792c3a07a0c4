use std::fmt::Display;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::formats::{Content, FileKey};
use crate::clock::Time;
use crate::error::Error;
use crate::source::SourceError;

/// The keys that the files list at one moment, checked.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// In the order of the files and lines, each once. Without those that cannot be used.
    pub(super) keys: Vec<ListedKey>,
    /// The index of the one that is meant to seal.
    pub(super) sealing: usize,
    /// What works, but should be improved.
    pub(super) advice: Vec<String>,
    /// Why the files as a whole cannot be used: what was found wrong first.
    pub(super) wrong: Option<SourceError>,
    /// The files of which no key is listed here: they tell nothing about the keys they held before.
    pub(super) silent: Vec<usize>,
}

/// A key, and where it is listed.
#[derive(Debug)]
pub(super) struct ListedKey {
    pub(super) key: FileKey,
    pub(super) place: String,
    /// The indices of the files in which it stands.
    pub(super) files: Vec<usize>,
    /// When its file was last changed: it has been listed at least since then.
    pub(super) modified: Time,
}

/// The longest file that is read: more than a list of the most keys takes.
const MAX_LEN: usize = 16 * 1024;
const TOO_LONG: usize = MAX_LEN + 1;

impl Listing {
    pub(super) fn read(paths: &[PathBuf], now: Time) -> Self {
        Self::of(
            paths.iter().map(|path| (&**path, Contents::read(path))),
            now,
        )
    }

    /// The same of contents, each of which is read when its turn comes.
    fn of<'a>(
        files: impl ExactSizeIterator<Item = (&'a Path, Result<Contents, SourceError>)>,
        now: Time,
    ) -> Self {
        let mut listing = Self::default();
        let count = files.len();
        let mut lists: Vec<(&Path, Contents)> = Vec::new();
        let mut twins = Vec::new();
        for (file, (path, contents)) in files.enumerate() {
            let contents = match contents {
                Ok(contents) => contents,
                Err(wrong) => {
                    listing.refuse(wrong);
                    continue;
                }
            };
            let place = path.display();
            if let Some(wrong) = &contents.wrong {
                listing.refuse(format!("{place}: {wrong}"));
            }
            let content = Content::parse(&contents.bytes, now);
            if let Some(wrong) = content.wrong {
                listing.refuse(format!("{place}: {wrong}"));
            }
            if count > 1 {
                let is_same = |(_, list): &&(&Path, Contents)| list.bytes == contents.bytes;
                if let Some((twin, _)) = lists.iter().find(is_same) {
                    let both = format!("{} and {place}", twin.display());
                    listing.advise(both, "the same list twice: it counts once");
                    twins.push(file);
                    continue;
                }
                if !lists.is_empty() || (content.is_list && file > 0) {
                    listing.refuse(format!("{place}: {STANDS_ALONE}"));
                }
            }
            if file == 0 {
                listing.sealing = content.sealing;
            }
            for advice in content.advice {
                listing.advise(&place, advice);
            }
            for (at, key) in content.keys {
                listing.add(key, format!("{place}{at}"), file, contents.modified);
            }
            if content.is_list {
                lists.push((path, contents));
            }
        }
        listing.settle(count, &twins);
        listing
    }

    fn refuse(&mut self, wrong: impl Into<SourceError>) {
        self.wrong.get_or_insert_with(|| wrong.into());
    }

    fn advise(&mut self, place: impl Display, advice: impl Display) {
        self.advice.push(format!("{place}: {advice}"));
    }

    fn add(&mut self, key: FileKey, place: String, file: usize, modified: Time) {
        if key.is_short() {
            self.advise(
                &place,
                "48 bytes, of which 32 are secret: a key of 80 bytes has 64",
            );
        }
        if key.is_text() {
            self.advise(
                &place,
                "a key made of text, of which each byte is worth 6 bits at most, or 4 if it is \
                 hexadecimal: make keys with `openssl rand 80`",
            );
        }
        self.keys.push(ListedKey {
            key,
            place,
            files: vec![file],
            modified,
        });
    }

    /// Leaves out weak keys and those that contradict each other, which are reasons to refuse, and
    /// merges those that are the same, which is none.
    fn settle(&mut self, files: usize, twins: &[usize]) {
        let mut kept: Vec<ListedKey> = Vec::new();
        let mut contradicted = Vec::new();
        // Where each key has gone, of those that are not weak.
        let mut places = Vec::new();
        for mut this in std::mem::take(&mut self.keys) {
            if let Some(why) = this.key.weakness() {
                self.refuse(Error::weak_key(&this.place, why));
                places.push(kept.len());
                continue;
            }
            let same = kept.iter_mut().enumerate().find(|(_, key)| key.is(&this));
            if let Some((index, same)) = same {
                let both = format!("{} and {}", same.place, this.place);
                same.modified = same.modified.min(this.modified);
                same.files.append(&mut this.files);
                self.advise(both, "the same key twice: it counts once");
                places.push(index);
                continue;
            }
            for (index, other) in kept.iter().enumerate() {
                if let Some(why) = other.contradicts(&this) {
                    let both = format!("{} and {}", other.place, this.place);
                    self.refuse(Error::weak_key(both, why));
                    contradicted.extend([index, kept.len()]);
                }
            }
            places.push(kept.len());
            kept.push(this);
        }
        self.sealing = places.get(self.sealing).copied().unwrap_or_default();
        let keys = kept.into_iter().enumerate();
        let keys = keys.filter(|(index, _)| !contradicted.contains(index));
        self.keys = keys.map(|(_, key)| key).collect();
        let told = self.keys.iter().flat_map(|key| &key.files).chain(twins);
        let told: Vec<usize> = told.copied().collect();
        self.silent = (0..files).filter(|file| !told.contains(file)).collect();
    }
}

impl ListedKey {
    fn is(&self, other: &Self) -> bool {
        self.key.as_bytes() == other.key.as_bytes()
    }

    fn contradicts(&self, other: &Self) -> Option<&'static str> {
        let same_name = self.key.name() == other.key.name();
        let same_secret = self.key.secret() == other.key.secret();
        match (same_name, same_secret) {
            (true, false) => Some("one name with two secrets: give each key a name of its own"),
            (false, true) => Some("one secret under two names: give each key a secret of its own"),
            _ => None,
        }
    }
}

const STANDS_ALONE: &str = "a list of keys stands alone, not beside other files";

/// What was read from a file.
struct Contents {
    bytes: Zeroizing<Vec<u8>>,
    modified: Time,
    /// Why they must not be used, though they could be read.
    wrong: Option<String>,
}

impl Contents {
    fn read(path: &Path) -> Result<Self, SourceError> {
        let at = |wrong: &dyn Display| format!("{}: {wrong}", path.display());
        // Before it is opened: opening a FIFO may block for ever.
        if !fs::metadata(path).map_err(|error| at(&error))?.is_file() {
            return Err(at(&"not a regular file").into());
        }
        let mut file = File::open(path).map_err(|error| at(&error))?;
        let metadata = file.metadata().map_err(|error| at(&error))?;
        let wrong = check_permissions(&metadata).err();
        // It never grows, so it leaves no copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(TOO_LONG));
        let mut limited = Read::by_ref(&mut file).take(TOO_LONG as u64);
        let read = limited.read_to_end(&mut bytes);
        read.map_err(|error| at(&error))?;
        if bytes.len() > MAX_LEN {
            return Err(at(&format!("more than {MAX_LEN} bytes: not a file of keys")).into());
        }
        let modified = metadata.modified().map_or(Time(u64::MAX), Time::from);
        Ok(Self {
            bytes,
            modified,
            wrong,
        })
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
    let mount = match mode {
        0o444 => " (for a Docker secret, `mode: 0440` where it is granted to the service)",
        0o644 => " (for a Kubernetes secret, `defaultMode: 0440` on the volume)",
        _ => "",
    };
    Err(format!(
        "mode {mode:o}: {who} may {what} it: `chmod 600`, or 640 if the group is to read it{mount}"
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
        read_paths(&paths)
    }

    fn read_paths(paths: &[PathBuf]) -> Result<Listing, String> {
        let mut listing = Listing::read(paths, Time(1_800_000_000_000));
        let wrong = listing.wrong.take().map(|wrong| wrong.to_string());
        wrong.map_or(Ok(listing), Err)
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
                "/1: a list of keys stands alone",
            ),
        ] {
            let error = error(&[&good, &wrong]);
            assert!(error.contains(message), "{error}");
        }
        let missing = read_paths(&["/none/such".into()]).unwrap_err();
        assert!(missing.starts_with("/none/such: No such file"));
        let directory = read_paths(&[std::env::temp_dir()]).unwrap_err();
        assert!(directory.ends_with(": not a regular file"));
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
            (changed(70..71), "/1: one name with two secrets"),
            (changed(0..1), "/1: one secret under two names"),
        ] {
            let error = error(&[&good, &wrong]);
            assert!(
                error.starts_with("weak key in /") && error.contains(message),
                "{error}"
            );
        }
    }

    #[test]
    fn the_same_key_twice_counts_once_and_is_advised_of() {
        let bytes = |listing: &Listing| {
            let keys = listing.keys.iter().map(|key| key.key.as_bytes().to_vec());
            keys.collect::<Vec<_>>()
        };
        let listing = read(&[&key(1), &key(2), &key(1)]).unwrap();
        assert_eq!(
            (bytes(&listing), listing.sealing),
            (vec![key(1), key(2)], 0)
        );
        assert_eq!(listing.keys[0].files, [0, 2]);
        let [advice] = &listing.advice[..] else {
            panic!("{:?}", listing.advice);
        };
        assert!(advice.contains("/0 and /") && advice.contains("/2: the same key twice"));
        // The one that seals may stand for several lines.
        for (lines, kept, sealing) in [
            (&[1, 2, 1][..], vec![key(1), key(2)], 1),
            (&[1, 2, 2], vec![key(1), key(2)], 1),
            (&[2, 1, 1, 3], vec![key(2), key(1), key(3)], 1),
            (&[1, 1], vec![key(1)], 0),
        ] {
            let listing = read(&[list(lines).as_bytes()]).unwrap();
            assert_eq!(
                (bytes(&listing), listing.sealing),
                (kept, sealing),
                "{lines:?}"
            );
        }
        let lines = list(&[1, 2, 3]);
        let twice = read(&[lines.as_bytes(), lines.as_bytes()]).unwrap();
        assert_eq!((twice.keys.len(), twice.sealing), (3, 1));
        assert!(twice.advice[0].ends_with("/1: the same list twice: it counts once"));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_is_reached_by_two_paths_counts_once() {
        use std::os::unix::fs::symlink;

        let directory = TempDir::new().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("..2026")).unwrap();
        fs::write(root.join("..2026/current"), key(1)).unwrap();
        permit(&root.join("..2026/current"), 0o400);
        symlink("..2026", root.join("..data")).unwrap();
        symlink("..data/current", root.join("current")).unwrap();
        let paths = ["current", "..data/current", "..2026/current"];
        let listing = read_paths(&paths.map(|path| root.join(path))).unwrap();
        assert_eq!((listing.keys.len(), listing.advice.len()), (1, 2));
    }

    #[test]
    fn what_is_not_good_tells_what_is_listed_all_the_same() {
        let told = |contents: &[&[u8]]| {
            let directory = TempDir::new().unwrap();
            let paths = (0..contents.len()).map(|i| directory.path().join(i.to_string()));
            let paths: Vec<_> = paths.collect();
            for (path, content) in paths.iter().zip(contents) {
                fs::write(path, content).unwrap();
                permit(
                    path,
                    if content.ends_with(b"\x0b") {
                        0o644
                    } else {
                        0o600
                    },
                );
            }
            let listing = Listing::read(&paths, Time(0));
            assert!(listing.wrong.is_some());
            let keys = listing.keys.iter().map(|key| key.key.as_bytes()[0]);
            (keys.collect::<Vec<_>>(), listing.silent)
        };
        let other = |name: u8, secret: u8| [&key(name)[..16], &key(secret)[16..]].concat();
        assert_eq!(told(&[b"half", &key(2), &key(3)]), (vec![2, 3], vec![0]));
        assert_eq!(told(&[&[0; 80], &key(2)]), (vec![2], vec![0]));
        // Neither of two that contradict each other.
        assert_eq!(
            told(&[&key(1), &key(2), &other(1, 3)]),
            (vec![2], vec![0, 2])
        );
        let world_readable = [&key(7)[..79], b"\x0b"].concat();
        assert_eq!(told(&[&key(1), &world_readable]), (vec![1, 7], vec![]));
        let lines = list(&[1, 2]) + "not a key\n" + &list(&[4]);
        assert_eq!(told(&[lines.as_bytes()]), (vec![1, 2, 4], vec![]));
        assert_eq!(told(&[b"nothing\nof it"]), (vec![], vec![0]));
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
            (
                0o444,
                "(for a Docker secret, `mode: 0440` where it is granted",
            ),
            (
                0o644,
                "(for a Kubernetes secret, `defaultMode: 0440` on the volume)",
            ),
        ] {
            permit(&paths[0], mode);
            let error = read_paths(&paths).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
        for mode in [0o600, 0o640, 0o400, 0o440] {
            permit(&paths[0], mode);
            read_paths(&paths).unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_fifo_does_not_make_it_wait() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("a");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let error = read_paths(&[path]).unwrap_err();
        assert!(error.ends_with(": not a regular file"), "{error}");
    }
}
