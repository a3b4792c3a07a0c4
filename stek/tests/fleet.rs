//! The program against servers that read what it writes.
#![cfg(unix)]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::{ClientConfig, ServerConfig};
use rustls_resumption::source::KeyFiles;
use rustls_resumption::{FakeClock, Resumption, Sealing};
use tempfile::TempDir;
use test_support::handshake::{FULL, RESUMED, VERSIONS, client, kind, server_config};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// As many files as hold keys for the three hours that tickets live here and five minutes, at 54
/// minutes a key.
const FILES: &[&str] = &["0.key", "1.key", "2.key", "3.key", "4.key"];

fn stek(args: &[&str], files: &[PathBuf], rest: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stek"));
    command.args(args).args(files).args(rest).output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{errors}");
    out
}

#[track_caller]
fn refused(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A directory on some machine, with files of keys.
struct Host {
    directory: TempDir,
    files: Vec<PathBuf>,
}

impl Host {
    fn new(files: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let files = files.iter().map(|file| directory.path().join(file));
        Self {
            files: files.collect(),
            directory,
        }
    }

    fn made(format: &str) -> Self {
        let host = Self::new(if format == "nginx" { FILES } else { &["keys"] });
        done(&stek(
            &["new"],
            &host.files,
            &["--format", format, "--lifetime", "3h"],
        ));
        host
    }

    /// Rotates at this time, by the clock of the test.
    fn rotate(&self, time: SystemTime) -> String {
        done(&self.run(&["rotate", "--now"], time))
    }

    /// Runs with this time, by the clock of the test.
    fn run(&self, args: &[&str], time: SystemTime) -> Output {
        let clock = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let rest = ["--lifetime", "3h", "--clock", &clock.to_string()];
        stek(args, &self.files, &rest)
    }

    /// Copies the files of another, as whatever ships them does.
    fn receive(&self, from: &Self) {
        // The oldest first, so that no key is missing meanwhile.
        for (to, from) in self.files.iter().zip(&from.files).rev() {
            let temporary = to.with_extension("temporary");
            fs::copy(from, &temporary).unwrap();
            fs::rename(temporary, to).unwrap();
        }
    }

    /// A host with the same files.
    fn twin(&self) -> Self {
        let names = self
            .files
            .iter()
            .map(|file| file.file_name().unwrap().to_str().unwrap());
        let twin = Self::new(&names.collect::<Vec<_>>());
        twin.receive(self);
        twin
    }

    /// Dates all files so long ago.
    fn date(&self, age: Duration) {
        for file in &self.files {
            let file = File::options().write(true).open(file).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
    }

    fn names(&self) -> Vec<String> {
        let files = KeyFiles::new(&self.files).unwrap();
        let inventory = files.inspect(Sealing::Aes256GcmSiv).unwrap();
        inventory
            .keys()
            .iter()
            .map(|key| key.name().to_string())
            .collect()
    }

    fn sealing(&self) -> String {
        let files = KeyFiles::new(&self.files).unwrap();
        let inventory = files.inspect(Sealing::Aes256GcmSiv).unwrap();
        let sealing = inventory.keys().iter().find(|key| key.seals());
        sealing.unwrap().name().to_string()
    }
}

struct Node {
    time: FakeClock,
    resumption: Resumption,
    server: Arc<ServerConfig>,
}

impl Node {
    fn new(host: &Host, start: SystemTime) -> Self {
        let time = FakeClock::starting_at(start);
        let files = KeyFiles::new(&host.files).unwrap();
        files.check().unwrap();
        let builder = Resumption::builder().stek_source(files).clock(time.clock());
        let resumption = builder.max_session_age(7 * 24 * HOUR).build().unwrap();
        let mut server = server_config();
        resumption.install(&mut server, "a");
        Self {
            time,
            resumption,
            server: Arc::new(server),
        }
    }

    fn pass(&self, time: Duration) {
        self.time.advance(time);
        self.resumption.step();
    }
}

fn resumes_everywhere(client: &Arc<ClientConfig>, nodes: &[Node], when: &str) {
    for (i, node) in nodes.iter().enumerate() {
        assert_eq!(kind(client, &node.server), RESUMED, "at node {i} {when}");
    }
}

const FORMATS: [&str; 4] = ["nginx", "haproxy", "h2o", "traffic-server"];

#[test]
fn keys_that_arrive_later_than_made_but_within_publish_ahead_cost_nothing() {
    for (format, version) in FORMATS.into_iter().flat_map(|f| VERSIONS.map(|v| (f, v))) {
        let source = Host::made(format);
        let hosts = [(); 3].map(|()| source.twin());
        let start = SystemTime::now() + SECOND;
        let nodes = hosts.each_ref().map(|host| Node::new(host, start));
        let client = client(version);
        assert_eq!(kind(&client, &nodes[0].server), FULL);
        let mut used = vec![];
        for rotation in 0..6 {
            source.rotate(nodes[0].time.wall());
            // At once, after two minutes, and at four.
            for host in &hosts {
                host.receive(&source);
                nodes.iter().for_each(|node| node.pass(SECOND));
                let when = format!("{format}, rotation {rotation}");
                resumes_everywhere(&client, &nodes, &when);
                nodes.iter().for_each(|node| node.pass(2 * MINUTE));
            }
            nodes
                .iter()
                .for_each(|node| node.pass(HOUR - 6 * MINUTE - 3 * SECOND));
            let active = nodes
                .each_ref()
                .map(|node| node.resumption.stats().steks.active);
            assert_eq!(active[0], active[1]);
            assert_eq!(active[0], active[2]);
            used.push(active[0]);
            resumes_everywhere(&client, &nodes, "when all have it");
        }
        used.dedup();
        assert_eq!(used.len(), 6, "{format}: each rotation brought another key");
        for node in &nodes {
            let stats = node.resumption.stats();
            assert_eq!(stats.steks.source_failures, 0, "{format}");
            assert_eq!(stats.tickets.refused.total(), 0, "{format}: {stats}");
        }
    }
}

#[test]
fn tickets_open_for_a_ticket_lifetime_and_no_longer() {
    for format in FORMATS {
        let host = Host::made(format);
        let node = Node::new(&host, SystemTime::now() + SECOND);
        // One client for each hour after the ticket was made.
        let clients: Vec<_> = (0..9).map(|_| client(VERSIONS[1])).collect();
        for client in &clients {
            assert_eq!(kind(client, &node.server), FULL);
        }
        let resumed = clients.iter().map(|client| {
            host.rotate(node.time.wall());
            node.pass(SECOND);
            node.pass(HOUR - SECOND);
            kind(client, &node.server) == RESUMED
        });
        let resumed: Vec<bool> = resumed.collect();
        assert_eq!(resumed[..3], [true; 3], "{format}: within its life");
        assert!(!resumed[8], "{format}: long after it: {resumed:?}");
        assert!(host.names().len() <= 7, "{format}");
    }
}

#[test]
fn it_rotates_when_it_is_time_and_not_before() {
    for format in ["nginx", "haproxy", "traffic-server"] {
        let host = Host::made(format);
        let before = host.names();
        let rotate = || done(&stek(&["rotate"], &host.files, &["--lifetime", "3h"]));
        assert!(rotate().starts_with("nothing to do: the next rotation is in 5"));
        assert_eq!(host.names(), before);
        // A timer that is early now and then does not lose an hour.
        host.date(53 * MINUTE);
        assert!(rotate().starts_with("nothing to do"));
        host.date(55 * MINUTE);
        assert!(rotate().starts_with("made 1 key"), "{format}");
        assert_ne!(host.names(), before);
        host.date(Duration::ZERO);
        let future = SystemTime::now() + HOUR;
        let file = File::options().write(true).open(&host.files[0]).unwrap();
        file.set_modified(future).unwrap();
        let said = refused(&stek(&["rotate"], &host.files, &["--lifetime", "3h"]), 1);
        assert!(
            said.contains("lies in the future: correct the clock"),
            "{said}"
        );
    }
}

#[test]
fn a_rotation_that_was_killed_halfway_is_done_by_the_next_run_and_loses_no_key() {
    let host = Host::made("nginx");
    let rotate = || done(&stek(&["rotate"], &host.files, &["--lifetime", "3h"]));
    for replaced in (0..FILES.len()).chain((0..FILES.len()).rev()) {
        host.date(55 * MINUTE);
        let before = host.names();
        // As a run leaves them that was killed after so many renames.
        for i in (1..FILES.len()).rev().take(replaced) {
            fs::copy(&host.files[i - 1], &host.files[i]).unwrap();
        }
        assert!(rotate().starts_with("made 1 key"), "{replaced} replaced");
        let after = host.names();
        assert!(!before.contains(&after[0]), "{replaced} replaced");
        assert_eq!(after[1..], before[..FILES.len() - 1], "{replaced} replaced");
        assert!(rotate().starts_with("nothing to do"));
    }
}

#[test]
fn a_key_that_now_drops_before_its_time_is_warned_of() {
    for format in FORMATS {
        let host = Host::made(format);
        let rotate = |clock: &[&str]| {
            let rest = [&["--now", "--lifetime", "3h"], clock].concat();
            let output = stek(&["rotate"], &host.files, &rest);
            let dropped = !done(&output).contains("dropped 0");
            (dropped, String::from_utf8(output.stderr).unwrap())
        };
        for _ in 0..7 {
            let (dropped, warning) = rotate(&[]);
            let says = "not yet time for a new key: tickets under what was dropped may not have";
            assert_eq!(warning.contains(says), dropped, "{format}: {warning}");
            assert_eq!(warning.is_empty(), !dropped, "{format}: {warning}");
        }
        let (dropped, _) = rotate(&[]);
        assert_eq!(dropped, format != "h2o", "{format}: it has dates");
        // In time there is nothing to warn of.
        let later = SystemTime::now() + HOUR;
        let later = later.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let (dropped, warning) = rotate(&["--clock", &later.to_string()]);
        assert_eq!((dropped, warning), (format != "h2o", String::new()));
    }
}

#[test]
fn files_are_replaced_whole_with_their_modes_and_nothing_is_left_behind() {
    for format in FORMATS {
        let host = Host::made(format);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert!(
            host.files.iter().all(|file| mode(file) == 0o600),
            "{format}"
        );
        for file in &host.files {
            fs::set_permissions(file, fs::Permissions::from_mode(0o640)).unwrap();
        }
        let inode = fs::metadata(&host.files[0]).unwrap().ino();
        host.rotate(SystemTime::now());
        assert!(
            host.files.iter().all(|file| mode(file) == 0o640),
            "{format}"
        );
        assert_ne!(
            fs::metadata(&host.files[0]).unwrap().ino(),
            inode,
            "{format}: renamed"
        );
        let left = fs::read_dir(host.directory.path()).unwrap().count();
        assert_eq!(left, host.files.len(), "{format}");
    }
}

#[test]
fn what_a_killed_run_left_is_wiped_and_hinders_none_that_has_its_process_id() {
    for format in FORMATS {
        let host = Host::made(format);
        let file = host.files.last().unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let beside = |suffix: &str| file.with_file_name(format!(".{name}.stek-{suffix}"));
        // Killed while it wrote, and after `new` had given its file the other name.
        fs::write(beside("1"), "secrets").unwrap();
        fs::hard_link(file, beside("2")).unwrap();
        // Made by somebody else.
        symlink(file, beside("3")).unwrap();
        fs::write(beside("old"), "").unwrap();
        let mut left = File::open(beside("1")).unwrap();
        let (mut used, before) = (File::open(file).unwrap(), fs::read(file).unwrap());

        let as_before = "echo secrets > $0$$ && exec \"$@\" --now --lifetime 3h";
        let mut command = Command::new("sh");
        command.args(["-c", as_before]).arg(beside(""));
        command.arg(env!("CARGO_BIN_EXE_stek")).arg("rotate");
        done(&command.args(&host.files).output().unwrap());

        let mut bytes = Vec::new();
        left.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [0; 7], "{format}: overwritten");
        bytes.clear();
        used.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, before, "{format}: it was in use");
        fs::remove_file(beside("old")).unwrap();
        let left = fs::read_dir(host.directory.path()).unwrap().count();
        assert_eq!(left, host.files.len(), "{format}");
    }
}

#[test]
fn it_overwrites_no_file_and_writes_none_that_would_be_refused() {
    let host = Host::made("haproxy");
    let before = fs::read(&host.files[0]).unwrap();
    let said = refused(&stek(&["new"], &host.files, &[]), 1);
    assert!(
        said.contains("exists already: it is not overwritten"),
        "{said}"
    );
    let out = host.directory.path().join("out");
    let convert = ["--to", "nginx", "--out", out.to_str().unwrap()];
    let said = refused(&stek(&["convert"], &host.files, &convert), 2);
    assert!(
        said.contains("2 keys take 2 files in this format, and 1 were named"),
        "{said}"
    );
    assert_eq!(fs::read(&host.files[0]).unwrap(), before);
    fs::set_permissions(&host.files[0], fs::Permissions::from_mode(0o644)).unwrap();
    let said = refused(&stek(&["rotate", "--now"], &host.files, &[]), 1);
    assert!(said.contains("mode 644: anyone may read it"), "{said}");
    assert_eq!(fs::read(&host.files[0]).unwrap(), before);
    assert_eq!(fs::read_dir(host.directory.path()).unwrap().count(), 1);
}

#[test]
fn a_schedule_that_would_drop_keys_too_early_is_refused() {
    let host = Host::new(&["a", "b"]);
    let said = refused(&stek(&["new"], &host.files, &[]), 2);
    assert!(
        said.contains("2 files of one key each are too few"),
        "{said}"
    );
    assert!(said.contains("15 are needed"), "{said}");
    let host = Host::made("haproxy");
    let rest = ["--now", "--interval", "1m"];
    let said = refused(&stek(&["rotate"], &host.files, &rest), 2);
    assert!(said.contains("servers take 64 at most"), "{said}");
    let said = refused(&stek(&["rotate"], &host.files, &["--interval", "soon"]), 2);
    assert!(said.contains("--interval"), "{said}");
}

#[test]
fn times_beyond_all_that_there_are_are_refused_like_any_others() {
    // As long as the flags take.
    const LONGEST: &str = "500000000000years";
    let host = Host::made("haproxy");
    let rest = ["--now", "--interval", LONGEST, "--publish-ahead", LONGEST];
    done(&stek(&["rotate"], &host.files, &rest));
    let rest = ["--now", "--lifetime", LONGEST, "--publish-ahead", LONGEST];
    let said = refused(&stek(&["rotate"], &host.files, &rest), 2);
    assert!(said.contains("servers take 64 at most"), "{said}");
    let host = Host::made("h2o");
    let entry = fs::read_to_string(&host.files[0]).unwrap();
    let dated = entry.lines().map(|line| match line.split_once("not_") {
        Some((indent, _)) if line.contains("before") => format!("{indent}not_before: {}", u64::MAX),
        Some((indent, _)) => format!("{indent}not_after: {}", u64::MAX),
        None => line.to_owned(),
    });
    fs::write(&host.files[0], dated.collect::<Vec<_>>().join("\n")).unwrap();
    let said = refused(&stek(&["rotate"], &host.files, &[]), 1);
    assert!(said.contains("lies in the future"), "{said}");
}

#[test]
fn a_list_that_was_converted_to_h2o_is_rotated_after_the_key_that_is_published_ahead() {
    let (from, to) = (Host::made("haproxy"), Host::new(&["keys"]));
    let now = SystemTime::now();
    let out = format!("--out={}", to.files[0].display());
    done(&from.run(&["convert", "--to", "h2o", &out], now));
    let rotate = |after| done(&to.run(&["rotate"], now + after));
    // It begins in an hour, so in time the next is made 54 minutes after it might have been.
    let said = rotate(SECOND);
    assert_eq!(said, "nothing to do: the next rotation is in 1h 48m 59s\n");
    assert!(rotate(108 * MINUTE).starts_with("nothing to do"));
    assert!(rotate(109 * MINUTE + SECOND).starts_with("made 1 key, dropped 0"));
}

#[test]
fn a_key_of_h2o_made_by_a_clock_that_was_ahead_does_not_stop_rotation() {
    const AHEAD: &str = "so a clock was ahead when it was made";
    for ahead in [24 * HOUR, 365 * 24 * HOUR] {
        let host = Host::new(&["keys"]);
        let start = SystemTime::now() - 4 * HOUR;
        done(&host.run(&["new", "--format", "h2o"], start));
        let rotate = |args: &[&str], time| {
            let output = host.run(&[&["rotate"], args].concat(), time);
            let warning = String::from_utf8(output.stderr.clone()).unwrap();
            (done(&output), warning)
        };
        let (said, _) = rotate(&[], start + HOUR + ahead);
        assert!(said.starts_with("made 1 key, dropped 0"), "{said}");
        for hour in 1..4 {
            let (said, warning) = rotate(&[], start + hour * HOUR);
            assert!(said.starts_with("made 1 key, dropped 0"), "{said}");
            assert!(warning.contains(AHEAD), "{warning}");
            // What is said at each run is read by nobody.
            let (said, warning) = rotate(&[], start + hour * HOUR + MINUTE);
            assert!(said.starts_with("nothing to do"), "{said}");
            assert_eq!(warning, "");
        }
        let (names, sealing) = (host.names(), host.sealing());
        let (_, warning) = rotate(&["--now"], start + 4 * HOUR);
        assert!(warning.contains("1 key would have begun far too late: dated back"));
        assert!(names.iter().all(|name| host.names().contains(name)));
        assert_eq!(host.sealing(), sealing, "until the new one begins");
        let (said, warning) = rotate(&[], start + 5 * HOUR);
        assert!(said.starts_with("made 1 key"), "{said}");
        assert_eq!(warning, "");
    }
}

#[test]
fn now_dates_the_only_key_of_h2o_back_and_it_seals_until_the_next_begins() {
    let (host, now) = (Host::new(&["keys"]), SystemTime::now());
    let ahead = now + 365 * 24 * HOUR;
    done(&host.run(&["new", "--format", "h2o"], ahead));
    let sealing = host.sealing();
    let said = refused(&host.run(&["rotate"], now), 1);
    assert!(said.contains("lies in the future: correct"), "{said}");
    host.rotate(now);
    assert_eq!((host.sealing(), host.names().len()), (sealing, 2));
    let said = done(&host.run(&["rotate"], now + MINUTE));
    assert!(said.starts_with("nothing to do"), "{said}");
}

#[test]
fn one_run_whose_clock_is_ahead_drops_no_key_of_h2o_early_and_after_a_pause_the_next_does() {
    let start = SystemTime::now();
    for pause in [8 * HOUR, 30 * 24 * HOUR, 3_650 * 24 * HOUR] {
        let host = Host::new(&["keys"]);
        done(&host.run(&["new", "--format", "h2o"], start));
        for hour in 1..9 {
            done(&host.run(&["rotate"], start + hour * HOUR));
        }
        let before = host.names();
        // Like a run in time, which drops the one that sealed until four hours ago.
        let ahead = host.run(&["rotate"], start + 9 * HOUR + pause);
        let warning = String::from_utf8(ahead.stderr.clone()).unwrap();
        assert!(warning.contains("rotations were missed, or the clock is ahead"));
        assert!(done(&ahead).starts_with("made 1 key, dropped 1"));
        assert_eq!(host.names()[..before.len() - 1], before[1..]);
        let next = host.run(&["rotate"], start + 10 * HOUR + pause);
        assert_eq!(String::from_utf8(next.stderr.clone()).unwrap(), "");
        assert!(done(&next).contains(": 3 keys in all"));
    }
}

#[test]
fn keys_keep_their_names_in_every_format_they_fit() {
    let sorted = |host: &Host| {
        let mut names = host.names();
        names.sort();
        names
    };
    let made = Host::made("haproxy");
    for _ in 0..3 {
        made.rotate(SystemTime::now());
    }
    let (names, sealing) = (sorted(&made), made.sealing());
    assert_eq!(names.len(), 5);
    let mut from = made;
    for format in ["h2o", "nginx", "haproxy", "nginx", "h2o", "haproxy"] {
        let to = Host::new(if format == "nginx" { FILES } else { &["keys"] });
        let mut rest = vec!["--to", format, "--out"];
        rest.extend(to.files.iter().map(|file| file.to_str().unwrap()));
        done(&stek(&["convert"], &from.files, &rest));
        assert_eq!(to.sealing(), sealing, "{format}: the same one seals");
        // From nginx there is none published ahead, so HAProxy gets one.
        match (format, names.len() == to.names().len()) {
            (_, true) => assert_eq!(sorted(&to), names, "{format}"),
            (format, false) => assert_eq!((format, to.names().len()), ("haproxy", 6)),
        }
        if to.names().len() != names.len() {
            break;
        }
        from = to;
    }
}

#[test]
fn convert_keeps_the_key_that_seals_where_two_of_h2o_begin_together() {
    let entry = || {
        let host = Host::new(&["keys"]);
        let rest = ["--format", "h2o", "--clock", "1700000000"];
        done(&stek(&["new"], &host.files, &rest));
        fs::read_to_string(&host.files[0]).unwrap()
    };
    let from = Host::made("h2o");
    fs::write(&from.files[0], entry() + &entry()).unwrap();
    assert_eq!(from.sealing(), from.names()[0]);
    for (format, out) in [
        ("nginx", &["0", "1"][..]),
        ("haproxy", &["0"]),
        ("h2o", &["0"]),
    ] {
        let to = Host::new(out);
        let mut rest = vec!["--to", format, "--out"];
        rest.extend(to.files.iter().map(|file| file.to_str().unwrap()));
        done(&stek(&["convert"], &from.files, &rest));
        assert_eq!(to.sealing(), from.sealing(), "{format}");
    }
}

#[test]
fn check_reports_what_the_server_would_and_show_prints_no_secret() {
    let host = Host::made("haproxy");
    host.rotate(SystemTime::now());
    assert!(done(&stek(&["check"], &host.files, &[])).contains("good: 3 keys"));
    let shown = done(&stek(&["show"], &host.files, &[]));
    for name in host.names() {
        assert!(shown.contains(&name), "{shown}");
    }
    assert_eq!(shown.matches("  seals  ").count(), 1, "{shown}");
    let content = fs::read_to_string(&host.files[0]).unwrap();
    for line in content.lines() {
        for part in line.as_bytes().chunks(12) {
            assert!(!shown.contains(std::str::from_utf8(part).unwrap()));
        }
    }
    let fips = done(&stek(&["show"], &host.files, &["--sealing", "gcm"]));
    assert!(
        !fips.contains(&host.names()[0]),
        "another algorithm has other names"
    );
    // The same key twice is good, and said.
    let twice = [content.as_str(), content.lines().next().unwrap(), "\n"].concat();
    fs::write(&host.files[0], twice).unwrap();
    let said = done(&stek(&["check"], &host.files, &[]));
    assert!(
        said.contains("warning: ") && said.contains("the same key twice"),
        "{said}"
    );
    fs::write(&host.files[0], content.lines().next().unwrap()).unwrap();
    let said = refused(&stek(&["check"], &host.files, &[]), 1);
    assert!(said.contains("base64 of one key"), "{said}");
    let error = KeyFiles::new(&host.files).unwrap().check().unwrap_err();
    assert!(said.contains(&error.to_string()), "{said}");
    let said = refused(&stek(&["check"], &["/none/such".into()], &[]), 1);
    assert!(said.contains("/none/such: No such file"), "{said}");
}

#[test]
fn runs_at_the_same_time_do_not_lose_each_others_keys() {
    let host = Host::made("haproxy");
    let mut command = Command::new(env!("CARGO_BIN_EXE_stek"));
    command.arg("rotate").args(&host.files).arg("--now");
    command.stdout(Stdio::null());
    let runs: Vec<_> = (0..4).map(|_| command.spawn().unwrap()).collect();
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    assert_eq!(host.names().len(), 6);
}
