use std::fs::{self, File, Permissions};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use test_support::log::Log;

use super::*;
use crate::clock::{Time, instant_in};
use crate::hex;
use crate::rotation::Rotation;
use crate::source::shared::record::tests::{golden, names, query};
use crate::stek::KeyName;

const HOUR: Duration = Duration::from_secs(60 * 60);
const NOW: Time = Time(1_800_000_000_000);

/// Where the first key's secret stands in the file.
const SECRET: Range<usize> = 74..106;

/// A source, and the directory that goes away with this value.
fn fresh() -> (TempDir, KeyDirectory) {
    let parent = TempDir::new().unwrap();
    let source = KeyDirectory::new(parent.path().join("keys")).unwrap();
    (parent, source)
}

fn path(source: &KeyDirectory) -> &Path {
    &source.0.backend.path
}

fn load(source: &mut KeyDirectory, now: Time, rotate: bool) -> Result<Vec<KeyName>, String> {
    let rotation = Rotation::new();
    let keys = source.load(&query(now, &rotation, rotate, &[]));
    let keys = keys.map_err(|error| error.to_string())?;
    Ok(keys.iter().map(|key| *key.stek.name()).collect())
}

/// Puts this record into the directory, whatever is there.
fn put(path: &Path, record: &[u8]) {
    let folder = Folder::open(path).unwrap();
    let draft = Draft::new(&folder, record)
        .map_err(Trouble::into_inner)
        .unwrap();
    let lock = Lock::new(&folder, instant_in(HOUR)).unwrap();
    if let Some(replaced) = draft.put(&lock).unwrap() {
        replaced.wipe().unwrap();
    }
}

fn entries(source: &KeyDirectory) -> Vec<String> {
    let entries = fs::read_dir(path(source)).unwrap();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn golden_key_directory() {
    let (_parent, mut source) = fresh();
    let bytes = hex::decode(include_str!("../../../../tests/golden/key-directory.hex"));
    let file = files::record(path(&source));
    fs::write(&file, &bytes).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(load(&mut source, NOW, false).unwrap(), names(&golden()));
    put(path(&source), &golden().encode());
    assert_eq!(fs::read(file).unwrap(), bytes);
}

#[test]
fn a_record_is_read_up_to_its_greatest_length_and_no_longer() {
    let (_parent, source) = fresh();
    put(path(&source), &[7; 100]);
    let folder = Folder::open(path(&source)).unwrap();
    let read = |max_len| Lock::read_without(&folder, max_len, instant_in(HOUR));
    let found = read(100).unwrap().unwrap();
    assert_eq!(found.record.as_slice(), [7; 100]);
    let error = read(99).map(drop).unwrap_err();
    assert!(error.contains("its record is 100 bytes long"), "{error}");
}

#[test]
fn the_directory_and_the_file_are_for_their_owner_alone() {
    let (_parent, mut source) = fresh();
    load(&mut source, NOW, false).unwrap();
    assert_eq!(mode(path(&source)), 0o700);
    assert_eq!(mode(&files::record(path(&source))), 0o600);
    assert_eq!(entries(&source), ["steks.2"]);
}

#[test]
fn a_directory_open_to_others_is_refused_and_the_error_says_how_to_fix_it() {
    let parent = TempDir::new().unwrap();
    for wrong in [0o750, 0o705, 0o720, 0o701] {
        let path = parent.path().join(format!("{wrong:o}"));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(wrong)).unwrap();
        let error = KeyDirectory::new(&path).unwrap_err().to_string();
        let mend = format!("run `chmod 0700 {}`", path.display());
        assert!(error.contains(&mend), "{error}");
        assert!(error.contains(&format!("mode {wrong:04o}")), "{error}");
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        KeyDirectory::new(&path).unwrap();
    }
}

#[test]
fn a_path_that_is_no_directory_or_has_no_parent_is_refused_by_name() {
    let parent = TempDir::new().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = KeyDirectory::new(&file).unwrap_err().to_string();
    assert!(error.ends_with("name a directory"), "{error}");
    let error = KeyDirectory::new(parent.path().join("a/b")).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("/a/b: No such file"), "{error}");
    assert!(error.contains("create the directory"), "{error}");
}

#[test]
fn a_damaged_file_is_an_error_whose_advice_works() {
    let (_parent, mut source) = fresh();
    let keys = load(&mut source, NOW, false).unwrap();
    let file = files::record(path(&source));
    let good = fs::read(&file).unwrap();
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= value;
        bytes
    };
    for (bytes, why) in [
        (good[..good.len() - 1].to_vec(), "its checksum is wrong"),
        (with(50, 1), "its checksum is wrong"),
        (Vec::new(), "it is cut short"),
        (vec![7; 200_000], "200000 bytes long"),
        (
            hex::decode(include_str!("../../../../tests/golden/ticket.hex")),
            "its checksum is wrong",
        ),
    ] {
        fs::write(&file, &bytes).unwrap();
        let error = load(&mut source, NOW, false).unwrap_err();
        let said = format!("{}: damaged: {why}: remove it", file.display());
        assert!(error.starts_with(&said), "{error}");
        assert_eq!(fs::read(&file).unwrap(), bytes, "it is left as it was");
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(load(&mut source, NOW, false).unwrap(), keys);
    assert_eq!(load(&mut fresh().1, NOW, false).unwrap().len(), 1);
}

#[test]
fn a_record_of_another_format_and_a_file_of_another_kind_are_refused() {
    let (_parent, mut source) = fresh();
    let mut record = golden().encode();
    record[0] = 9;
    put(path(&source), &record);
    let error = load(&mut source, NOW, false).unwrap_err();
    assert!(
        error.contains("its format is 9, here 2 is known"),
        "{error}"
    );

    let file = files::record(path(&source));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let error = load(&mut source, NOW, false).unwrap_err();
    assert!(error.contains("not a file: remove it"), "{error}");
}

#[test]
fn a_link_is_not_followed_even_to_a_good_record() {
    let (parent, mut source) = fresh();
    load(&mut source, NOW, false).unwrap();
    let file = files::record(path(&source));
    let elsewhere = parent.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    let error = load(&mut source, NOW, false).unwrap_err();
    let said = format!("{}: Too many levels of symbolic links", file.display());
    assert!(error.starts_with(&said), "{error}");
    fs::rename(&elsewhere, &file).unwrap();
    load(&mut source, NOW, false).unwrap();
}

#[test]
fn a_fifo_in_place_of_the_record_is_refused_without_blocking() {
    let (_parent, mut source) = fresh();
    let file = files::record(path(&source));
    let made = Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(&file)
        .status();
    assert!(made.unwrap().success());
    let (answer, answered) = channel();
    // Were it waited for, the test would fail none the less.
    thread::spawn(move || answer.send(load(&mut source, NOW, false)));
    let answer = answered.recv_timeout(Duration::from_secs(30)).unwrap();
    let said = format!("{}: not a file: remove it", file.display());
    assert_eq!(answer.unwrap_err(), said);
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let (_parent, mut source) = fresh();
    load(&mut source, NOW, false).unwrap();
    let file = files::record(path(&source));
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let error = load(&mut source, NOW, false).unwrap_err();
    assert!(error.contains("chmod 0600"), "{error}");
}

#[test]
fn leftovers_of_a_killed_process_are_wiped_and_never_the_record() {
    let (_parent, mut source) = fresh();
    let keys = load(&mut source, NOW, false).unwrap();
    let file = files::record(path(&source));
    let beside = |name: &str| path(&source).join(name);

    // Killed while it wrote the next record.
    fs::write(beside("steks.2.new"), b"half a rec").unwrap();
    assert_eq!(load(&mut source, NOW, false).unwrap(), keys);
    // Killed after it had linked the old one, before the next took its place.
    let beside = |name: &str| path(&source).join(name);
    fs::write(beside("steks.2.new"), b"a whole record").unwrap();
    fs::hard_link(&file, beside("steks.2.old")).unwrap();
    assert_eq!(load(&mut source, NOW, false).unwrap(), keys);
    // Killed after that, before it had wiped the old one.
    let old = path(&source).join("steks.2.old");
    fs::write(&old, b"secrets").unwrap();
    let mut left = File::open(&old).unwrap();
    assert_eq!(load(&mut source, NOW, false).unwrap(), keys);
    assert_eq!(entries(&source), ["steks.2"]);
    let mut bytes = Vec::new();
    left.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [0; 7], "overwritten before it was unlinked");
}

#[test]
fn what_an_operator_puts_beside_the_record_stays_and_does_no_harm() {
    let (_parent, mut source) = fresh();
    let keys = load(&mut source, NOW, false).unwrap();
    let beside = |name: &str| path(&source).join(name);
    fs::copy(files::record(path(&source)), beside("steks.2.bak")).unwrap();
    fs::create_dir(beside("steks.2.d")).unwrap();
    fs::create_dir(beside("steks.2.new.d")).unwrap();
    symlink("nowhere", beside("steks.2.old.link")).unwrap();
    assert_eq!(load(&mut source, NOW, false).unwrap(), keys);
    let there = [
        "steks.2",
        "steks.2.bak",
        "steks.2.d",
        "steks.2.new.d",
        "steks.2.old.link",
    ];
    assert_eq!(entries(&source), there);
}

#[test]
fn expired_and_revoked_secrets_are_overwritten_and_stand_in_no_file() {
    let (_parent, mut source) = fresh();
    load(&mut source, NOW, false).unwrap();
    let file = files::record(path(&source));
    let mut replaced = File::open(&file).unwrap();
    let secret = fs::read(&file).unwrap()[SECRET].to_vec();
    let contains = |bytes: &[u8]| bytes.windows(32).any(|window| window == secret);
    assert!(contains(&fs::read(&file).unwrap()));
    load(&mut source, NOW.plus(14 * HOUR), false).unwrap();
    assert!(!contains(&fs::read(&file).unwrap()));
    let mut bytes = Vec::new();
    replaced.read_to_end(&mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0) && bytes.len() > SECRET.end);

    let secret = fs::read(&file).unwrap()[SECRET].to_vec();
    let names = load(&mut source, NOW.plus(14 * HOUR), false).unwrap();
    let rotation = Rotation::new();
    let revoking = query(NOW.plus(14 * HOUR), &rotation, false, &names);
    let keys = source.load(&revoking).unwrap();
    assert!(keys.iter().all(|key| !names.contains(key.stek.name())));
    let contains = |bytes: &[u8]| bytes.windows(32).any(|window| window == secret);
    assert!(!contains(&fs::read(&file).unwrap()));
}

#[test]
fn a_held_lock_is_waited_for_up_to_the_deadline() {
    let (_parent, mut source) = fresh();
    let keys = load(&mut source, NOW, false).unwrap();
    let path = path(&source).to_owned();
    let folder = Folder::open(&path).unwrap();
    let held = Lock::new(&folder, instant_in(HOUR)).unwrap();
    assert_eq!(
        load(&mut source, NOW, false).unwrap(),
        keys,
        "reading takes none"
    );
    let error = load(&mut source, NOW, true).unwrap_err();
    assert!(error.contains("locked by another process"), "{error}");
    assert_eq!(entries(&source), ["steks.2"], "what it prepared is gone");
    drop(held);
    assert_eq!(load(&mut source, NOW, false).unwrap(), keys);
    assert_eq!(load(&mut source, NOW, true).unwrap().len(), 2);
}

#[test]
fn the_time_for_the_lock_is_that_of_all_attempts_of_a_load_and_of_no_other_load() {
    let (_parent, source) = fresh();
    let mut directory = source.0.backend;
    let rotation = Rotation::new();
    let query = query(NOW, &rotation, false, &[]);
    let [soon, later] = [1, 2].map(|hours| instant_in(hours * HOUR));
    for (attempt, deadline, until) in [(0, soon, soon), (1, later, soon), (0, later, later)] {
        directory.read(&query, attempt, deadline).unwrap();
        assert_eq!(directory.until, Some(until));
    }
}

#[test]
fn a_record_that_was_missing_is_logged_with_its_path() {
    let (_parent, mut source) = fresh();
    load(&mut source, NOW, false).unwrap();
    let file = files::record(path(&source));
    fs::remove_file(&file).unwrap();
    let (log, loaded) = Log::of(|| load(&mut source, NOW, false));
    loaded.unwrap();
    let said = format!("place={} ", file.display());
    let warnings = log.warnings();
    assert!(warnings[0].contains(&said), "{warnings:?}");
}

#[test]
fn a_lock_that_is_held_while_a_child_is_forked_is_released_none_the_less() {
    let (_parent, mut source) = fresh();
    let keys = load(&mut source, NOW, false).unwrap();
    let rotation = Rotation::new();
    let read = source.0.backend.read(
        &query(NOW, &rotation, false, &keys),
        OVERTAKEN,
        instant_in(HOUR),
    );
    let basis = read.unwrap().basis;
    // What the child has: the same open directory.
    let _child = basis.folder.fd.try_clone().unwrap();
    let other = Folder::open(path(&source)).unwrap();
    assert!(Lock::if_free(&other).unwrap().is_none(), "it is held");
    drop(basis);
    assert!(Lock::if_free(&other).unwrap().is_some());
}

#[test]
fn who_waits_for_the_lock_sees_that_the_record_changes() {
    let (_parent, mut source) = fresh();
    let folder = Folder::open(path(&source)).unwrap();
    let mut seen = vec![lock::version(&folder)];
    assert_eq!(seen, [None]);
    for rotate in [false, true, true] {
        load(&mut source, NOW, rotate).unwrap();
        let version = lock::version(&folder);
        assert!(version.is_some() && !seen.contains(&version));
        assert_eq!(lock::version(&folder), version);
        seen.push(version);
    }
}

#[test]
fn a_record_that_is_replaced_and_wiped_meanwhile_is_read_again() {
    let (_parent, mut source) = fresh();
    load(&mut source, NOW, false).unwrap();
    let path = path(&source).to_owned();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut writer = KeyDirectory::new(&path).unwrap();
            (0..200).for_each(|_| drop(load(&mut writer, NOW, true).unwrap()));
        });
        while !writer.is_finished() {
            let mut reader = KeyDirectory::new(&path).unwrap();
            assert!(!load(&mut reader, NOW, false).unwrap().is_empty());
        }
    });
    assert_eq!(entries(&source), ["steks.2"]);
}

#[test]
fn a_draft_that_is_in_use_is_not_taken_for_abandoned() {
    let (_parent, source) = fresh();
    let folder = Folder::open(path(&source)).unwrap();
    let draft = Draft::new(&folder, b"record");
    let draft = draft.map_err(Trouble::into_inner).unwrap();
    leftovers::clean_up(&Folder::open(path(&source)).unwrap()).unwrap();
    assert_eq!(entries(&source).len(), 1);
    drop(draft);
    assert!(entries(&source).is_empty(), "it wipes itself");
}

#[test]
fn a_record_is_overwritten_by_a_shorter_one_and_by_a_longer_one() {
    let (_parent, source) = fresh();
    put(path(&source), &[1; 100]);
    let folder = Folder::open(path(&source)).unwrap();
    for len in [90, 5000, 100] {
        let lock = Lock::new(&folder, instant_in(HOUR)).unwrap();
        overwrite(&folder, &vec![2; len], &lock).unwrap();
        let found = lock.read(5000).unwrap().unwrap();
        assert_eq!(found.record.as_slice(), vec![2; len]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_told_from_a_disk() {
    let is_memory = |path: &str| files::is_memory(File::open(path).unwrap());
    assert!(is_memory("/dev/shm"));
    assert!(!is_memory("/proc"));
}
