use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tracing::warn;

use super::{SourceError, SourceKey, SourceQuery, StekSource};
use crate::clock::Time;
use crate::error::Error;
use crate::rotation::Window;
use crate::stek::{KeyName, Stek};

mod formats;
mod listing;

use formats::MAX_KEYS;
use listing::Listing;
#[cfg(any(test, fuzzing))]
pub use listing::fuzzed::run as fuzzed;

/// STEKs from key files that something else makes and ships: for those who have ticket keys of
/// nginx, Apache or HAProxy on every node already, or mount a Kubernetes secret.
///
/// ```no_run
/// use rustls_resumption::Resumption;
/// use rustls_resumption::source::KeyFiles;
///
/// let files = KeyFiles::new(["/etc/tickets/current.key", "/etc/tickets/previous.key"])?;
/// files.check()?; // better no server than one on random keys
/// let resumption = Resumption::builder().stek_source(files).build()?;
/// # Ok::<(), rustls_resumption::Error>(())
/// ```
///
/// # Formats
///
/// Seen from the content:
///
/// | server | file | seals |
/// | --- | --- | --- |
/// | nginx, Apache | 80 bytes: name (16), HMAC key (32), AES-256 key (32) | the key of the first file; the others open |
/// | nginx, Apache | 48 bytes: name (16), AES-128 key (16), HMAC key (16) | the same; accepted with a warning, as only 32 bytes are secret |
/// | HAProxy | one file: on each line, a key of either kind in base64 | the last line but one; all of them open, so the last is published ahead |
///
/// *The same keys do not make the same tickets.* From all the bytes of a key, its name included, a
/// STEK is derived; nodes with this crate open each other's tickets, in whichever format they have
/// the key, but a ticket of nginx stays one of nginx's. Of a list, HAProxy uses the last three
/// keys; here each opens as long as it is listed.
///
/// # When a key is used
///
/// The files are read every second, by path, so a replaced file or symbolic link (as Kubernetes
/// swaps `..data`) is found. The schedule's interval and ticket lifetime do not apply: a key lives
/// as long as it is listed, and one that is listed no more is wiped at once, with all it sealed.
///
/// A key that was not there before opens at once, but seals only after
/// [`publish_ahead`](crate::Rotation::publish_ahead), when the other nodes have it too. Until then
/// the one before goes on sealing, if it is still listed; so *list the old key behind the new one*.
/// If no other is listed, the new key seals at once. At start, the time since a file was changed
/// counts as the time that its keys were there.
///
/// A key that has sealed for longer than the schedule's [interval](crate::Rotation::interval)
/// (since it took over, or at start since its file was changed) is kept, warned about once and
/// shown as [`over_age`](crate::stats::StekStats::over_age): whoever ships the keys has ceased to.
///
/// # When something is wrong
///
/// The ring stays as it was, the trouble is logged once per change, each failed reading is counted
/// in [`source_failures`](crate::stats::StekStats::source_failures), and all is well again when
/// the files are. So it is with a file that
///
/// - is missing, not a regular file, or longer than 16 KiB;
/// - may be read by anyone or changed by others than its owner (on Unix);
/// - has another length, or a line that is not a key in base64;
/// - holds a key of which a part (AES or HMAC key) is all one byte, a key that another file holds,
///   a key with the name or the secret of another;
/// - changes while it is read. Replace a file by renaming another over it, and there is no such
///   moment.
pub struct KeyFiles {
    paths: Vec<PathBuf>,
    /// What was listed when the files were last read: names in order.
    listed: Option<Vec<KeyName>>,
    /// Those of the listed that are in use, in the same order.
    keys: Vec<Known>,
    active: Option<KeyName>,
    advice: Vec<String>,
}

/// A key that is in use.
struct Known {
    stek: Arc<Stek>,
    /// From when, in monotonic time, every node has it.
    ripe: Duration,
    /// Since when it seals, once it does.
    since: Time,
}

/// How often the files are read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// For how long changed files must stay as they are, so as not to be read half-written.
const REST: Duration = Duration::from_millis(20);

impl KeyFiles {
    /// Keys in these files: one key each, or one list. They are read when the ring asks, and by
    /// [`check`](KeyFiles::check).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming `paths` if there is none, more than 64, or one twice.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Result<Self, Error> {
        let paths: Vec<PathBuf> = paths.into_iter().map(Into::into).collect();
        let refuse = |why: String| Err(Error::config("paths", why));
        if !(1..=MAX_KEYS).contains(&paths.len()) {
            let count = paths.len();
            return refuse(format!("{count} files of keys: from 1 to {MAX_KEYS}"));
        }
        for (i, path) in paths.iter().enumerate() {
            if paths.iter().take(i).any(|other| other == path) {
                return refuse(format!("{} twice: list each file once", path.display()));
            }
        }
        Ok(Self {
            paths,
            listed: None,
            keys: Vec::new(),
            active: None,
            advice: Vec::new(),
        })
    }

    /// Reads the files and says what is wrong with them. For a server that should rather not start:
    /// `build` does not fail, but begins on random keys until the files are good.
    ///
    /// # Errors
    ///
    /// [`Error::WeakKey`] or [`Error::Source`] naming the file, what is wrong and what would be
    /// right.
    pub fn check(&self) -> Result<(), Error> {
        match Listing::read(&self.paths) {
            Ok(_) => Ok(()),
            Err(cause) => Err(match cause.downcast::<Error>() {
                Ok(error) => *error,
                Err(cause) => Error::source(self.name(), cause),
            }),
        }
    }

    /// What the files say, and the STEKs of it. What is new must be read twice the same.
    fn read(&self, query: &SourceQuery<'_>) -> Result<(Listing, Vec<Stek>), SourceError> {
        let read = || {
            let listing = Listing::read(&self.paths)?;
            let keys = listing.keys.iter();
            let steks = keys.map(|listed| Stek::derive(listed.key.as_bytes(), query.sealing));
            let steks = steks.collect::<Result<Vec<_>, Error>>()?;
            Ok::<_, SourceError>((listing, steks))
        };
        let (listing, steks) = read()?;
        let is_same = |listed: &Vec<KeyName>| steks.iter().map(Stek::name).eq(listed);
        if self.listed.as_ref().is_none_or(is_same) {
            return Ok((listing, steks));
        }
        thread::sleep(REST);
        let again = read()?;
        if !steks
            .iter()
            .map(Stek::name)
            .eq(again.1.iter().map(Stek::name))
        {
            return Err("the files change as they are read: rename whole files into place".into());
        }
        Ok(again)
    }

    fn advise(&mut self, advice: Vec<String>) {
        for advice in advice.iter().filter(|advice| !self.advice.contains(advice)) {
            warn!(%advice, "key files could be better");
        }
        self.advice = advice;
    }

    /// Which key seals: the one that is meant to, once every node has it. Until then the one that
    /// did before, or at start another that every node has. If there is none, it must be now.
    fn choose(&self, meant: Option<KeyName>, monotonic: Duration) -> Option<KeyName> {
        let listed = |name: Option<KeyName>| {
            let mut keys = self.keys.iter();
            keys.find(|key| Some(*key.stek.name()) == name)
        };
        let is_ripe = |key: &&Known| key.ripe <= monotonic;
        let chosen = listed(meant)
            .filter(is_ripe)
            .or_else(|| listed(self.active))
            .or_else(|| self.keys.iter().find(is_ripe))
            .or_else(|| listed(meant))
            .or_else(|| self.keys.first());
        chosen.map(|key| *key.stek.name())
    }
}

impl StekSource for KeyFiles {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        let (listing, steks) = self.read(query)?;
        let at_start = self.listed.is_none();
        let names: Vec<_> = steks.iter().map(|stek| *stek.name()).collect();
        let meant = names.get(listing.sealing).copied();
        self.listed = Some(names);
        self.advise(listing.advice);

        let mut before = std::mem::take(&mut self.keys);
        for (stek, listed) in steks.into_iter().zip(&listing.keys) {
            if query.revoked.contains(stek.name()) {
                continue;
            }
            let same = |key: &Known| key.stek.name() == stek.name();
            self.keys.push(match before.iter().position(same) {
                Some(index) => before.swap_remove(index),
                None => {
                    let there = match at_start {
                        true => query.now.since(listed.modified),
                        false => Duration::ZERO,
                    };
                    let unripe = query.rotation.ahead().saturating_sub(there);
                    Known {
                        stek: Arc::new(stek),
                        ripe: query.monotonic.saturating_add(unripe),
                        since: listed.modified,
                    }
                }
            });
        }

        let active = self.choose(meant, query.monotonic);
        let takes_over = !at_start && active != self.active;
        self.active = active;
        let keys = self.keys.iter_mut().map(|key| {
            if Some(*key.stek.name()) != active {
                return SourceKey::opening(Arc::clone(&key.stek));
            }
            if takes_over {
                key.since = query.now;
                key.warn_if_early(query.monotonic);
            }
            // If the wall clock was set back, it seals none the less.
            key.since = key.since.min(query.now);
            let window = Window {
                activates: key.since,
                ..SourceKey::ALWAYS
            };
            SourceKey::with_window(Arc::clone(&key.stek), window)
        });
        Ok(keys.collect())
    }

    fn name(&self) -> &'static str {
        "file"
    }

    fn poll_interval(&self) -> Duration {
        POLL_INTERVAL
    }

    fn can_rotate(&self) -> bool {
        false
    }
}

impl Known {
    fn warn_if_early(&self, monotonic: Duration) {
        if self.ripe > monotonic {
            warn!(
                key = %self.stek.name(),
                "STEK seals before other nodes may have it, as no other is listed: \
                 list the old key behind the new one"
            );
        }
    }
}

impl fmt::Debug for KeyFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFiles")
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use tempfile::TempDir;

    use super::listing::tests::{key, list, permit};
    use super::*;
    use crate::aead::Sealing;
    use crate::rotation::Rotation;

    const HOUR: Duration = Duration::from_secs(60 * 60);
    const AHEAD: Duration = Duration::from_secs(5 * 60);
    const SECOND: Duration = Duration::from_secs(1);
    /// On which the golden names depend.
    const SEALING: Sealing = Sealing::Aes256GcmSiv;

    fn name(number: u8) -> KeyName {
        *Stek::with_sealing(&key(number), SEALING).unwrap().name()
    }

    /// Files in a directory that goes away, and the source that reads them.
    struct Files {
        directory: TempDir,
        source: KeyFiles,
        wall: Time,
        monotonic: Duration,
        revoked: Vec<KeyName>,
    }

    impl Files {
        fn new(names: &[&str]) -> Self {
            let directory = TempDir::new().unwrap();
            let paths = names.iter().map(|name| directory.path().join(name));
            let source = KeyFiles::new(paths).unwrap();
            Self {
                directory,
                source,
                wall: Time(1_800_000_000_000),
                monotonic: 7 * HOUR,
                revoked: Vec::new(),
            }
        }

        /// Replaces a file as one should, dated long ago.
        fn write(&self, name: &str, content: impl AsRef<[u8]>) {
            self.write_at(name, content, Time(0));
        }

        fn write_at(&self, name: &str, content: impl AsRef<[u8]>, modified: Time) {
            let temporary = self.directory.path().join("temporary");
            fs::write(&temporary, content).unwrap();
            let file = File::options().write(true).open(&temporary).unwrap();
            file.set_modified(modified.into()).unwrap();
            permit(&temporary, 0o600);
            fs::rename(temporary, self.directory.path().join(name)).unwrap();
        }

        fn pass(&mut self, time: Duration) {
            self.wall = self.wall.plus(time);
            self.monotonic += time;
        }

        fn try_load(&mut self) -> Result<Vec<SourceKey>, SourceError> {
            self.source.load(&SourceQuery {
                now: self.wall,
                monotonic: self.monotonic,
                rotation: &Rotation::new(),
                sealing: SEALING,
                rotate: false,
                revoked: &self.revoked,
            })
        }

        /// Which key seals, and which open, itself included.
        fn load(&mut self) -> (KeyName, Vec<KeyName>) {
            let keys = self.try_load().unwrap();
            let active: Vec<_> = keys
                .iter()
                .filter(|key| key.window.seals(self.wall))
                .collect();
            assert_eq!(active.len(), 1, "exactly one seals");
            assert!(keys.iter().all(|key| key.window.opens(self.wall)));
            let opens = keys.iter().map(|key| *key.stek.name()).collect();
            (*active[0].stek.name(), opens)
        }

        fn error(&mut self) -> String {
            self.try_load().unwrap_err().to_string()
        }
    }

    #[test]
    fn the_first_file_seals_and_all_open() {
        let mut files = Files::new(&["a", "b", "c"]);
        files.write("a", key(1));
        files.write("b", key(2));
        files.write("c", key(3));
        assert_eq!(files.load(), (name(1), vec![name(1), name(2), name(3)]));
    }

    #[test]
    fn of_a_list_the_last_but_one_seals_and_all_open() {
        let mut files = Files::new(&["keys"]);
        files.write("keys", list(&[1, 2, 3]));
        assert_eq!(files.load(), (name(2), vec![name(1), name(2), name(3)]));
        files.write("keys", list(&[2, 3, 4]));
        files.pass(SECOND);
        assert_eq!(files.load(), (name(3), vec![name(2), name(3), name(4)]));
    }

    #[test]
    fn golden_key_names_are_the_same_in_either_format() {
        let mut files = Files::new(&["a"]);
        files.write("a", key(0));
        assert_eq!(
            files.load().0.to_string(),
            "e04d786fb51802d1001f190f031dd721"
        );
        files.write("a", &key(0)[..48]);
        assert_eq!(
            files.load().0.to_string(),
            "a1b0f55e3b691a632e55f43e91a7195e"
        );
        files.write("a", list(&[0, 1]));
        assert_eq!(files.load().0, name(0));
    }

    #[test]
    fn a_new_key_opens_at_once_and_seals_only_when_others_have_it() {
        let mut files = Files::new(&["a", "b"]);
        files.write("a", key(1));
        files.write("b", key(2));
        files.load();
        files.write("b", key(1));
        files.write("a", key(3));
        files.pass(SECOND);
        assert_eq!(files.load(), (name(1), vec![name(3), name(1)]));
        files.pass(AHEAD - SECOND);
        assert_eq!(files.load().0, name(1));
        files.pass(SECOND);
        assert_eq!(files.load().0, name(3));
    }

    #[test]
    fn a_new_key_without_another_seals_at_once() {
        let mut files = Files::new(&["a"]);
        files.write("a", key(1));
        files.load();
        files.write("a", key(2));
        assert_eq!(files.load(), (name(2), vec![name(2)]));
        // And is not dethroned by one still newer before its time.
        files.write("a", list(&[2, 3, 4]));
        assert_eq!(files.load().0, name(2));
        files.pass(AHEAD);
        assert_eq!(files.load().0, name(3));
    }

    #[test]
    fn at_start_a_key_just_shipped_waits_for_the_other_nodes_too() {
        let mut files = Files::new(&["a", "b"]);
        let just_now = files.wall.minus(AHEAD / 2);
        files.write_at("a", key(1), just_now);
        files.write("b", key(2));
        assert_eq!(files.load().0, name(2));
        files.pass(AHEAD / 2);
        assert_eq!(files.load().0, name(1));
    }

    #[test]
    fn at_start_nothing_waits_if_no_other_key_is_older() {
        for age in [Duration::ZERO, AHEAD / 2] {
            let mut files = Files::new(&["a", "b"]);
            let then = files.wall.minus(age);
            files.write_at("a", key(1), then);
            files.write_at("b", key(2), then);
            assert_eq!(files.load().0, name(1));
        }
    }

    #[test]
    fn a_key_seals_since_it_took_over_or_at_start_since_its_file_was_changed() {
        let mut files = Files::new(&["a", "b"]);
        let start = files.wall;
        files.write_at("a", key(1), start.minus(3 * HOUR));
        files.write("b", key(2));
        let since = |files: &mut Files| {
            let keys = files.try_load().unwrap();
            let active = keys
                .iter()
                .find(|key| key.window.seals(files.wall))
                .unwrap();
            active.window.activates
        };
        assert_eq!(since(&mut files), start.minus(3 * HOUR));
        files.write("b", key(1));
        files.write("a", key(3));
        files.load();
        files.pass(HOUR);
        assert_eq!(since(&mut files), start.plus(HOUR));
        files.wall = start; // set back
        assert_eq!(since(&mut files), start);
        // Dated in the future, by a wrong clock elsewhere.
        let mut files = Files::new(&["a"]);
        files.write_at("a", key(1), files.wall.plus(HOUR));
        assert_eq!(since(&mut files), files.wall);
    }

    #[test]
    fn unchanged_files_give_the_same_steks_again() {
        // With AES-256-GCM a STEK counts what it has sealed.
        let mut files = Files::new(&["a"]);
        files.write("a", list(&[1, 2]));
        let first = files.try_load().unwrap();
        files.write("a", list(&[1, 2, 3]));
        files.pass(SECOND);
        let second = files.try_load().unwrap();
        for (first, second) in first.iter().zip(&second) {
            assert!(Arc::ptr_eq(&first.stek, &second.stek));
        }
    }

    #[test]
    fn a_revoked_key_is_dropped_and_another_seals() {
        let mut files = Files::new(&["a", "b"]);
        files.write("a", key(1));
        files.write("b", key(2));
        files.load();
        files.revoked = vec![name(1)];
        assert_eq!(files.load(), (name(2), vec![name(2)]));
        files.revoked.push(name(2));
        assert!(files.try_load().unwrap().is_empty());
    }

    #[test]
    fn after_trouble_the_source_goes_on_where_it_was() {
        let mut files = Files::new(&["a", "b"]);
        files.write("a", key(1));
        files.write("b", key(2));
        files.load();
        files.write("a", "half");
        files.error();
        files.write("b", key(1));
        files.write("a", key(3));
        assert_eq!(files.load().0, name(1), "key 3 is new since the start");
    }

    #[test]
    fn a_file_that_is_written_over_in_place_is_read_whole_or_not_at_all() {
        let mut files = Files::new(&["a"]);
        files.write("a", key(1));
        files.load();
        let path = files.directory.path().join("a");
        let stop = std::sync::atomic::AtomicBool::new(false);
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in (1..3).cycle() {
                    fs::write(&path, key(number)).unwrap();
                    if stop.load(relaxed) {
                        break;
                    }
                }
            });
            let answers: Vec<_> = (0..30).map(|_| files.try_load()).collect();
            stop.store(true, relaxed);
            for keys in answers.into_iter().flatten() {
                let names: Vec<_> = keys.iter().map(|key| *key.stek.name()).collect();
                assert!([[name(1)], [name(2)]].iter().any(|one| names == one));
            }
        });
    }

    #[test]
    fn paths_that_make_no_sense_are_refused() {
        let refused = |paths: &[&str]| KeyFiles::new(paths).unwrap_err().to_string();
        assert!(refused(&[]).starts_with("paths: 0 files of keys"));
        assert!(refused(&["a", "b", "a"]).starts_with("paths: a twice"));
        assert!(refused(&["a"; 65]).starts_with("paths: 65 files of keys"));
        let shown = format!("{:?}", KeyFiles::new(["a"]).unwrap());
        assert_eq!(shown, "KeyFiles { paths: [\"a\"], .. }");
    }
}
