//! Nodes that get their STEKs as files.

use std::fs::{self, File};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls_resumption::source::KeyFiles;
use rustls_resumption::{FakeClock, KeyName, Resumption, Rotation, Stek};
use tempfile::TempDir;
use test_support::handshake::{FULL, RESUMED, VERSIONS, client, kind};
use test_support::log::Log;

use super::{HOUR, MINUTE, Node, assert_resumes_everywhere};

const SECOND: Duration = Duration::from_secs(1);

/// A key of 80 bytes, another for each number.
fn key(number: usize) -> Vec<u8> {
    (0..80).map(|i| (number * 7 + i * 3) as u8).collect()
}

fn name(number: usize) -> KeyName {
    *Stek::from_bytes(&key(number)).unwrap().name()
}

/// Lines of these keys in base64, by OpenSSL, as HAProxy's manual says.
fn list(numbers: impl IntoIterator<Item = usize>) -> String {
    let mut lines = String::new();
    for number in numbers {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), key(number)).unwrap();
        let openssl = std::process::Command::new("openssl")
            .args(["base64", "-A", "-in"])
            .arg(file.path())
            .output()
            .unwrap();
        lines.push_str(&String::from_utf8(openssl.stdout).unwrap());
        lines.push('\n');
    }
    lines
}

/// Replaces a file as one should.
fn write(path: &Path, content: impl AsRef<[u8]>) {
    let temporary = path.with_extension("temporary");
    let mut options = File::options();
    let options = options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&temporary).unwrap();
    std::io::Write::write_all(&mut file, content.as_ref()).unwrap();
    fs::rename(temporary, path).unwrap();
}

/// A node with a directory of its own, in which something puts its keys.
struct Host {
    directory: TempDir,
    files: &'static [&'static str],
}

const NGINX: &[&str] = &["current", "previous", "before"];
const HAPROXY: &[&str] = &["keys"];

impl Host {
    fn new(files: &'static [&'static str]) -> Self {
        let directory = TempDir::new().unwrap();
        Self { directory, files }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let paths = self
            .files
            .iter()
            .map(|file| self.directory.path().join(file));
        paths.collect()
    }

    /// Ships the keys of which `number` is the one to seal.
    fn ship(&self, number: usize) {
        let paths = self.paths();
        match self.files {
            HAPROXY => write(&paths[0], list(number - 1..number + 2)),
            // The oldest first, so that no two files ever hold the same key for long.
            _ => (0..paths.len())
                .rev()
                .for_each(|i| write(&paths[i], key(number - i))),
        }
    }

    fn node(&self) -> Node {
        let source = KeyFiles::new(self.paths()).unwrap();
        Node::new(source, Rotation::new(), FakeClock::new())
    }
}

fn active(node: &Node) -> KeyName {
    node.resumption.stats().steks.active.unwrap()
}

#[test]
fn three_nodes_resume_each_others_clients_across_rotations_shipped_one_by_one() {
    for (files, version) in [NGINX, HAPROXY]
        .into_iter()
        .flat_map(|f| VERSIONS.map(|v| (f, v)))
    {
        let hosts = [(); 3].map(|()| Host::new(files));
        hosts.iter().for_each(|host| host.ship(10));
        let nodes = hosts.each_ref().map(Host::node);
        let client = client(version);
        assert_eq!(kind(&client, &nodes[2].server), FULL);
        for number in 11..17 {
            for host in &hosts {
                host.ship(number);
                for _ in 0..2 {
                    let when = format!("while key {number} is shipped");
                    assert_resumes_everywhere(&client, &nodes, &when);
                    nodes.iter().for_each(|node| node.pass(MINUTE));
                }
            }
            nodes.iter().for_each(|node| node.pass(5 * MINUTE));
            assert!(nodes.iter().all(|node| active(node) == name(number)));
            assert_resumes_everywhere(&client, &nodes, "when all have it");
            nodes.iter().for_each(|node| node.pass(HOUR - 11 * MINUTE));
        }
        for node in &nodes {
            assert!(node.resumption.stats().steks.rotations >= 5);
        }
    }
}

#[test]
fn nodes_open_each_others_tickets_whatever_the_format_of_their_key_files() {
    for version in VERSIONS {
        let hosts = [Host::new(NGINX), Host::new(HAPROXY)];
        hosts.iter().for_each(|host| host.ship(10));
        let nodes = hosts.each_ref().map(Host::node);
        let client = client(version);
        assert_eq!(kind(&client, &nodes[0].server), FULL);
        for _ in 0..3 {
            assert_resumes_everywhere(&client, &nodes, "in the other format");
        }
    }
}

#[test]
fn a_key_that_is_no_longer_listed_opens_nothing() {
    let host = Host::new(NGINX);
    host.ship(10);
    let node = host.node();
    let client = client(VERSIONS[1]);
    kind(&client, &node.server);
    host.ship(11);
    node.pass(SECOND);
    assert_eq!(kind(&client, &node.server), RESUMED);
    host.ship(20);
    node.pass(SECOND);
    assert_eq!(kind(&client, &node.server), FULL);
    assert_eq!(node.resumption.stats().tickets.refused.expired_key, 1);
}

/// As Kubernetes mounts a secret: what changes is one symbolic link to a directory.
#[test]
fn a_swapped_symbolic_link_is_found() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    let mount = |version: &str, number| {
        fs::create_dir(root.join(version)).unwrap();
        for (file, number) in [("current", number), ("previous", number - 1)] {
            let path = root.join(version).join(file);
            fs::write(&path, key(number)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        }
        symlink(version, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    mount("..2026_01", 10);
    let paths = ["current", "previous"].map(|file| root.join(file));
    for path in &paths {
        symlink(Path::new("..data").join(path.file_name().unwrap()), path).unwrap();
    }
    let source = KeyFiles::new(paths).unwrap();
    let node = Node::new(source, Rotation::new(), FakeClock::new());
    assert_eq!(active(&node), name(10));
    mount("..2026_02", 11);
    fs::remove_dir_all(root.join("..2026_01")).unwrap();
    node.pass(SECOND);
    let client = client(VERSIONS[1]);
    kind(&client, &node.server);
    assert_eq!(
        active(&node),
        name(10),
        "until other nodes have the new one"
    );
    node.pass(5 * MINUTE);
    assert_eq!(active(&node), name(11));
    assert_eq!(kind(&client, &node.server), RESUMED);
}

#[test]
fn a_change_is_found_without_a_restart() {
    let host = Host::new(NGINX);
    host.ship(10);
    let source = KeyFiles::new(host.paths()).unwrap();
    let rotation = Rotation::new().publish_ahead(Duration::from_millis(200));
    let builder = Resumption::builder().stek_source(source).rotation(rotation);
    let resumption = builder.build().unwrap(); // on the system's clock
    assert_eq!(resumption.stats().steks.active, Some(name(10)));
    host.ship(11);
    // Waits for the event: how long it takes does not matter here.
    while resumption.stats().steks.active != Some(name(11)) {
        std::thread::yield_now();
    }
}

#[test]
fn a_bad_key_file_leaves_the_ring_unchanged_and_is_logged_once() {
    type Spoil = fn(&Path);
    let spoil: [(&str, Spoil); 11] = [
        ("is empty", |path| write(path, "")),
        ("is half-written", |path| write(path, &key(11)[..37])),
        ("is truncated", |path| write(path, &key(11)[..79])),
        ("is all zero", |path| write(path, [0; 80])),
        ("has a secret that is all zero", |path| {
            write(path, [&key(11)[..16], &[0; 64]].concat());
        }),
        ("has another's name", |path| {
            write(path, [&key(9)[..16], &key(11)[16..]].concat());
        }),
        ("has another's secret", |path| {
            write(path, [&key(11)[..16], &key(9)[16..]].concat());
        }),
        ("is unparsable", |path| write(path, "a key, once")),
        ("is huge", |path| write(path, vec![b'A'; 1 << 20])),
        ("is world-readable", |path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        }),
        ("has vanished", |path| fs::remove_file(path).unwrap()),
    ];
    for (what, spoil) in spoil {
        let host = Host::new(NGINX);
        host.ship(10);
        let node = host.node();
        let client = client(VERSIONS[1]);
        kind(&client, &node.server);
        let before = node.resumption.stats().steks;
        let (log, ()) = Log::of(|| {
            spoil(&host.paths()[0]);
            for _ in 0..5 {
                node.pass(SECOND);
            }
        });
        let stats = node.resumption.stats().steks;
        assert_eq!(
            (stats.active, stats.keys),
            (before.active, before.keys),
            "{what}"
        );
        assert!(!stats.fallen_back);
        assert_eq!(stats.source_failures, 5, "{what}: each reading is counted");
        let warnings = log.warnings();
        assert_eq!(warnings.len(), 1, "{what}: {warnings:?}");
        let file = host.paths()[0].display().to_string();
        assert!(warnings[0].contains(&file), "{}", warnings[0]);
        assert_eq!(kind(&client, &node.server), RESUMED, "{what}");

        host.ship(11);
        node.pass(SECOND);
        assert_eq!(node.resumption.stats().steks.source_failures, 5);
        node.pass(5 * MINUTE);
        assert_eq!(active(&node), name(11), "{what}, and is mended");
        assert_eq!(
            kind(&client, &node.server),
            RESUMED,
            "{what}, and is mended"
        );
    }
}

#[test]
fn a_server_without_its_key_files_starts_with_local_keys_and_joins_when_they_appear() {
    let host = Host::new(NGINX);
    let source = KeyFiles::new(host.paths()).unwrap();
    let error = source.check().unwrap_err().to_string();
    assert!(error.contains("current: No such file"), "{error}");
    let node = host.node();
    assert!(!node.resumption.ready() && node.resumption.stats().steks.fallen_back);
    let client = client(VERSIONS[1]);
    kind(&client, &node.server);
    assert_eq!(kind(&client, &node.server), RESUMED);
    host.ship(10);
    KeyFiles::new(host.paths()).unwrap().check().unwrap();
    node.pass(SECOND);
    assert!(node.resumption.ready());
    assert_eq!(active(&node), name(10));
    assert_eq!(
        kind(&client, &node.server),
        RESUMED,
        "what it sealed before still opens"
    );
}

#[test]
fn the_files_are_read_once_a_second() {
    let host = Host::new(NGINX);
    host.ship(10);
    let node = host.node();
    fs::remove_file(&host.paths()[0]).unwrap();
    node.pass(SECOND - Duration::from_millis(1));
    assert_eq!(node.resumption.stats().steks.source_failures, 0);
    node.pass(Duration::from_millis(1));
    assert_eq!(node.resumption.stats().steks.source_failures, 1);
}

#[cfg(target_os = "linux")]
#[test]
fn changed_files_are_read_twice_and_the_same_ones_once() {
    use std::mem::MaybeUninit;

    use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

    let host = Host::new(NGINX);
    host.ship(10);
    let node = host.node();
    let readings = || {
        let seen = inotify::init(CreateFlags::NONBLOCK).unwrap();
        // Both, as events of one kind in a row count as one.
        let flags = WatchFlags::OPEN | WatchFlags::CLOSE;
        inotify::add_watch(&seen, &host.paths()[0], flags).unwrap();
        node.pass(SECOND);
        let mut buffer = [MaybeUninit::uninit(); 512];
        let mut seen = Reader::new(seen, &mut buffer);
        let events = std::iter::from_fn(|| seen.next().ok().map(drop)).count();
        events / 2
    };
    assert_eq!(readings(), 1);
    host.ship(11);
    assert_eq!(readings(), 2);
    assert_eq!(readings(), 1);
}

#[test]
fn a_key_that_seals_before_other_nodes_may_have_it_is_logged() {
    let host = Host::new(&["current", "previous"]);
    host.ship(10);
    let node = host.node();
    let warnings = |number, previous: usize, time| {
        write(&host.paths()[1], key(previous));
        write(&host.paths()[0], key(number));
        let (log, ()) = Log::of(|| {
            node.pass(SECOND);
            node.pass(time);
        });
        assert_eq!(active(&node), name(number));
        log.warnings()
    };
    assert!(warnings(11, 10, 5 * MINUTE).is_empty(), "waited for");
    assert!(
        warnings(12, 11, 6 * MINUTE).is_empty(),
        "waited for and longer"
    );
    let warnings = warnings(20, 21, 6 * MINUTE);
    assert_eq!(warnings.len(), 1, "none of before is listed: {warnings:?}");
    let early = "STEK seals before other nodes may have it";
    for said in [early, &name(20).to_string()] {
        assert!(warnings[0].contains(said), "{}", warnings[0]);
    }
}

#[test]
fn an_active_key_older_than_the_interval_is_kept_and_reported_once() {
    let host = Host::new(NGINX);
    host.ship(10);
    let clock = FakeClock::new();
    let file = File::options().write(true).open(&host.paths()[0]).unwrap();
    file.set_modified(clock.wall() - 50 * MINUTE).unwrap();
    let source = KeyFiles::new(host.paths()).unwrap();
    let node = Node::new(source, Rotation::new(), clock);
    let steks = || node.resumption.stats().steks;
    assert_eq!(
        (steks().active_age, steks().over_age),
        (Some(50 * MINUTE), false)
    );
    let (log, ()) = Log::of(|| (0..30).for_each(|_| node.pass(MINUTE)));
    assert_eq!(
        (steks().active_age, steks().over_age),
        (Some(80 * MINUTE), true)
    );
    assert!(node.resumption.stats().to_string().contains(", OVER AGE, "));
    let warnings = log.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains(&name(10).to_string()),
        "{}",
        warnings[0]
    );

    host.ship(11);
    node.pass(SECOND);
    node.pass(5 * MINUTE);
    assert_eq!(active(&node), name(11));
    assert_eq!(
        (steks().active_age, steks().over_age),
        (Some(Duration::ZERO), false)
    );
}

#[test]
fn a_file_without_a_date_is_over_age_like_any_other() {
    let host = Host::new(NGINX);
    host.ship(10);
    let file = File::options().write(true).open(&host.paths()[0]).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap(); // as in a reproducible image
    let source = KeyFiles::new(host.paths()).unwrap();
    let node = Node::new(source, Rotation::new(), FakeClock::new());
    let steks = node.resumption.stats().steks;
    assert!(steks.over_age && steks.active_age > Some(24 * 365 * HOUR));
}

#[test]
fn a_48_byte_key_is_accepted_with_a_warning() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a");
    write(&path, &key(1)[..48]);
    let (log, node) = Log::of(|| {
        let source = KeyFiles::new([&path]).unwrap();
        let node = Node::new(source, Rotation::new(), FakeClock::new());
        (0..5).for_each(|_| node.pass(SECOND));
        node
    });
    assert!(node.resumption.ready());
    let warnings = log.warnings();
    let about_length = warnings
        .iter()
        .filter(|warning| warning.contains("48 bytes"));
    assert_eq!(about_length.count(), 1, "{warnings:?}");
}

#[test]
fn a_revoked_key_stays_revoked_although_it_is_listed() {
    let host = Host::new(NGINX);
    host.ship(10);
    let node = host.node();
    assert_eq!(node.resumption.revoke(&name(10)).steks, 1);
    for _ in 0..3 {
        assert_eq!(active(&node), name(9), "another that every node has");
        node.pass(SECOND);
    }
    for _ in 0..100 {
        node.pass(6 * HOUR); // and is so for weeks
        let names: Vec<_> = node
            .resumption
            .steks()
            .iter()
            .map(|stek| stek.name)
            .collect();
        assert!(
            active(&node) == name(9) && !names.contains(&name(10)),
            "{names:?}"
        );
    }
    let error = node.resumption.rotate_now().unwrap_err().to_string();
    assert!(error.starts_with("STEK source `file`: rotates by its schedule only"));
}

#[test]
fn a_key_listed_twice_counts_once_and_is_logged_once() {
    let host = Host::new(NGINX);
    host.ship(10);
    let node = host.node();
    let client = client(VERSIONS[1]);
    kind(&client, &node.server);
    // As after a rotator that copied instead of moving, and lost the key that had sealed.
    let (log, ()) = Log::of(|| {
        write(&host.paths()[0], key(9));
        (0..5).for_each(|_| node.pass(SECOND));
    });
    let stats = node.resumption.stats().steks;
    assert_eq!((stats.active, stats.keys), (Some(name(9)), 2));
    assert_eq!((stats.source_failures, stats.fallen_back), (0, false));
    let warnings = log.warnings();
    let about = |said: &str| warnings.iter().filter(|line| line.contains(said)).count();
    assert_eq!(
        about("the same key twice: it counts once"),
        1,
        "{warnings:?}"
    );
    assert_eq!(
        kind(&client, &node.server),
        FULL,
        "what was taken out opens nothing"
    );
    assert_eq!(node.resumption.stats().tickets.refused.expired_key, 1);
    KeyFiles::new(host.paths()).unwrap().check().unwrap();
}

#[test]
fn a_removed_key_opens_nothing_although_other_files_are_refused() {
    for spoil in ["half a key", ""] {
        let host = Host::new(NGINX);
        host.ship(10);
        let node = host.node();
        let client = client(VERSIONS[1]);
        kind(&client, &node.server); // under key 10
        let paths = host.paths();
        write(&paths[0], key(30)); // it was stolen
        write(&paths[2], spoil);
        let (log, ()) = Log::of(|| (0..3).for_each(|_| node.pass(SECOND)));
        let stats = node.resumption.stats().steks;
        assert_eq!((stats.active, stats.keys), (Some(name(9)), 2));
        assert_eq!((stats.source_failures, stats.fallen_back), (3, false));
        assert_eq!(kind(&client, &node.server), FULL);
        let removed = format!("key={} ", name(10));
        let said =
            |line: &&String| line.contains("STEK removed") && format!("{line} ").contains(&removed);
        assert_eq!(
            log.warnings().iter().filter(said).count(),
            1,
            "{:?}",
            log.warnings()
        );
        assert_eq!(kind(&client, &node.server), RESUMED);
        host.ship(11);
        node.pass(SECOND);
        assert_eq!(node.resumption.stats().steks.source_failures, 3);
        assert_eq!(kind(&client, &node.server), RESUMED);
    }
}
