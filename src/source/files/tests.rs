use std::fs::{self, File};
use std::sync::Arc;

use tempfile::TempDir;

use super::listing::tests::{key, list, permit};
use super::*;
use crate::aead::Sealing;
use crate::clock::Time;
use crate::errands::Errands;
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
            bulletin: None,
            log: &Errands::AT_ONCE,
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
fn the_last_but_one_key_of_a_list_seals_and_all_open() {
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
        "8c0bbd21fd814c0995835258fa1a13be"
    );
    files.write("a", &key(0)[..48]);
    assert_eq!(
        files.load().0.to_string(),
        "e8bef8d47d3ecafdcaf5d212a8deb4af"
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
fn a_revoked_key_is_listed_and_another_seals() {
    let mut files = Files::new(&["a", "b"]);
    files.write("a", key(1));
    files.write("b", key(2));
    files.load();
    files.revoked = vec![name(1)];
    assert_eq!(
        files.load(),
        (name(2), vec![name(1), name(2)]),
        "so the ring never forgets it"
    );
    files.revoked.push(name(2));
    let keys = files.try_load().unwrap();
    assert!(keys.iter().all(|key| !key.window.seals(files.wall)));
}

#[test]
fn after_an_error_the_source_continues_where_it_was() {
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
fn a_file_overwritten_in_place_is_read_whole_or_not_at_all() {
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
fn missing_too_many_and_repeated_paths_are_refused() {
    let refused = |paths: &[&str]| KeyFiles::new(paths).unwrap_err().to_string();
    assert!(refused(&[]).starts_with("paths: 0 key files"));
    assert!(refused(&["a", "b", "a"]).starts_with("paths: a twice"));
    assert!(refused(&["a"; 65]).starts_with("paths: 65 key files"));
    let shown = format!("{:?}", KeyFiles::new(["a"]).unwrap());
    assert_eq!(shown, "KeyFiles { paths: [\"a\"], .. }");
}

/// Loads often enough for a removed key to be certain.
fn keys_kept(files: &mut Files) -> Option<Vec<KeyName>> {
    files.error();
    files.pass(SECOND);
    let error = files.try_load().unwrap_err();
    let withdrawal = error.downcast::<Withdrawal>().ok()?;
    let names = withdrawal.keys.iter().map(|key| *key.stek.name());
    Some(names.collect())
}

#[test]
fn a_key_removed_from_otherwise_invalid_files_is_dropped() {
    let mut files = Files::new(&["a", "b", "c"]);
    for (number, name) in [(1, "a"), (2, "b"), (3, "c")] {
        files.write(name, key(number));
    }
    files.load();
    files.write("c", key(4));
    files.write("b", "half");
    // What `b` held may be there again: only `c` has another key for certain.
    assert_eq!(keys_kept(&mut files), Some(vec![name(1), name(2)]));
    assert_eq!(keys_kept(&mut files), None, "it went once");
    // Nothing new is taken over, and what comes back is new.
    files.write("b", key(3));
    files.write("c", key(2));
    assert_eq!(files.load(), (name(1), vec![name(1), name(3), name(2)]));
    files.write("a", key(3));
    files.write("b", key(1));
    assert_eq!(files.load().0, name(1));
}

#[test]
fn another_key_seals_if_the_active_one_was_removed() {
    let mut files = Files::new(&["keys"]);
    files.write("keys", list(&[1, 2, 3]));
    assert_eq!(files.load().0, name(2));
    files.write("keys", list(&[1, 3]) + "what is this");
    files.error();
    files.pass(SECOND);
    let error = files.try_load().unwrap_err();
    assert!(error.to_string().contains("line 3: not base64"), "{error}");
    let withdrawal = error.downcast::<Withdrawal>().unwrap();
    let sealing = withdrawal
        .keys
        .iter()
        .find(|key| key.window.seals(files.wall));
    assert_eq!(*sealing.unwrap().stek.name(), name(1));
}

#[test]
fn an_unreadable_file_or_a_single_read_removes_no_key() {
    let mut files = Files::new(&["a", "b"]);
    files.write("a", key(1));
    files.write("b", key(2));
    files.load();
    let path = files.directory.path().join("a");
    for spoil in [&[][..], &key(1)[..37], &[0; 80], b"a key", &key(2)[..79]] {
        files.write("a", spoil);
        assert_eq!(keys_kept(&mut files), None);
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(keys_kept(&mut files), None);
    // Moved to the other file, while its own is missing.
    files.write("b", key(1));
    files.error();
    files.write("b", key(2));
    assert_eq!(keys_kept(&mut files), None, "it was away once");
    permit(&files.directory.path().join("b"), 0o644);
    assert_eq!(keys_kept(&mut files), None, "it is still listed");
    // At the start nothing is known.
    let mut files = Files::new(&["a", "b"]);
    files.write("a", key(1));
    assert_eq!(keys_kept(&mut files), None);
}

#[test]
fn h2os_next_key_seals_when_it_begins_and_every_node_has_it() {
    let mut files = Files::new(&["keys.yaml"]);
    let begins = files.wall.plus(HOUR).0 / 1_000;
    let entry = |number: u8, not_before: u64| {
        let key: String = (0..96).map(|i| format!("{:02x}", i ^ number)).collect();
        format!(
            "- name: {}\n  cipher: aes-256-cbc\n  hash: sha256\n  key: {key}\n  not_before: \
             {not_before}\n  not_after: {}\n",
            format!("{number:02x}").repeat(16),
            not_before + 7_200,
        )
    };
    files.write("keys.yaml", entry(1, 0) + &entry(2, begins));
    let (first, opens) = files.load();
    assert_eq!((opens.len(), first), (2, opens[0]));
    let inventory = files.source.inspect(SEALING).unwrap();
    let times = inventory.keys()[1].h2o_times();
    assert_eq!(times, Some((begins, begins + 7_200)));
    files.pass(HOUR - SECOND);
    assert_eq!(files.load().0, first);
    files.pass(SECOND);
    assert_eq!(files.load().0, opens[1]);
}

#[test]
fn an_inventory_shows_what_the_source_would_do_and_no_secret() {
    let files = Files::new(&["a"]);
    files.write("a", list(&[1, 2, 3, 3]));
    let inventory = files.source.inspect(SEALING).unwrap();
    let names = inventory.keys().iter().map(|key| *key.name());
    assert!(names.eq([name(1), name(2), name(3)]));
    let seals = inventory.keys().iter().map(InventoryKey::seals);
    assert!(seals.eq([false, false, true]), "the third line's");
    let [first, ..] = inventory.keys() else {
        panic!("none");
    };
    assert_eq!(
        (first.expose_bytes(), first.h2o_times()),
        (&key(1)[..], None)
    );
    assert_eq!(first.modified(), SystemTime::UNIX_EPOCH);
    assert!(first.place().ends_with("/a line 1"));
    assert!(
        inventory
            .advice()
            .iter()
            .any(|advice| advice.contains("the same key twice"))
    );
    let shown = format!("{first:?}");
    assert!(shown.starts_with("InventoryKey { name: KeyName(") && shown.ends_with(", .. }"));
    assert!(!shown.contains("bytes"), "{shown}");
    files.write("a", "nothing");
    let error = files.source.inspect(SEALING).unwrap_err().to_string();
    assert_eq!(error, files.source.check().unwrap_err().to_string());
}
