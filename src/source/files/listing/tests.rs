use std::fs;

use tempfile::TempDir;

use super::super::contents::MAX_LEN;
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
fn every_error_names_its_file() {
    let good = key(1);
    for (wrong, message) in [
        (vec![], "/1: empty"),
        (good[..79].to_vec(), "/1: 79 bytes"),
        (b"not a key".to_vec(), "/1: line 1: not base64"),
        (vec![b'\n'; MAX_LEN], "/1: empty"),
        (vec![b'\n'; MAX_LEN + 1], "/1: more than 32768 bytes"),
        (
            list(&[5, 6]).into_bytes(),
            "/1: a list of keys must be the only file",
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
fn a_key_listed_twice_counts_once_and_gives_advice() {
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
fn a_key_reached_by_two_paths_counts_once() {
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
fn files_with_errors_still_list_their_good_keys() {
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
fn a_key_made_of_text_gives_advice_and_one_of_random_bytes_gives_none() {
    let text = b"0123456789abcdef".repeat(5);
    let listing = read(&[&text, &key(1)]).unwrap();
    let [advice] = &listing.advice[..] else {
        panic!("{:?}", listing.advice);
    };
    assert!(advice.contains("/0: a key made of text"), "{advice}");
}

#[test]
fn usable_but_poor_keys_give_advice() {
    let listing = read(&[&key(1)[..48]]).unwrap();
    assert!(
        listing.advice[0]
            .ends_with("/0: 48 bytes, of which 32 are secret: a key of 80 bytes has 64")
    );
    // HAProxy uses the last three keys of a list, and `stek` keeps more: each opens tickets here.
    let listing = read(&[list(&[1, 2, 3, 4]).as_bytes()]).unwrap();
    assert!(listing.advice.is_empty(), "{:?}", listing.advice);
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
fn a_fifo_is_refused_without_blocking() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let error = read_paths(&[path]).unwrap_err();
    assert!(error.ends_with(": not a regular file"), "{error}");
}
