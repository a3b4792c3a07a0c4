//! Processes that share a key directory: what one seals another opens, even if some are killed.
#![cfg(unix)]

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Lines, Write, stdin};
use std::os::unix::fs::PermissionsExt;
use std::panic::{UnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base16ct::lower::encode_string;
use rustls::server::ProducesTickets;
use rustls_resumption::source::{KeyDirectory, SourceQuery};
use rustls_resumption::stats::StekStats;
use rustls_resumption::{FakeClock, Resumption, Rotation};
use tempfile::TempDir;
use test_support::handshake::followed;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn decoded(hex: &str) -> Vec<u8> {
    base16ct::lower::decode_vec(hex).unwrap()
}

/// A server, as far as its tickets go. Each has a clock of its own, and all start at one time.
struct Server {
    time: FakeClock,
    resumption: Resumption,
    ring: Arc<dyn ProducesTickets>,
}

impl Server {
    fn new(directory: &Path) -> Self {
        let time = FakeClock::new();
        let resumption = Resumption::builder()
            .stek_source(KeyDirectory::new(directory).unwrap())
            .clock(time.clock())
            .build()
            .unwrap();
        let ring = resumption.ticketer("a");
        Self {
            time,
            resumption,
            ring,
        }
    }

    fn advance(&self, by: Duration) {
        self.time.advance(by);
        self.resumption.step();
    }

    /// Long enough to look at the directory again.
    fn look(&self) {
        self.advance(SourceQuery::DEFAULT_INTERVAL);
    }

    /// In a handshake that begins now.
    fn seal(&self) -> Vec<u8> {
        followed(&self.resumption, || self.ring.encrypt(b"session")).unwrap()
    }

    fn opens(&self, ticket: &[u8]) -> bool {
        self.ring.decrypt(ticket).is_some()
    }

    fn active(&self) -> String {
        self.resumption.stats().steks.active.unwrap().to_string()
    }

    fn failures(&self) -> u64 {
        self.stats().source_failures
    }

    fn stats(&self) -> StekStats {
        self.resumption.stats().steks
    }
}

/// Another process with a server on the same directory: this program again, which in the middle of
/// the same test finds that it is the other one.
struct Process {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStderr>>,
}

const OTHER: &str = "KEY_DIRECTORY_OF_THE_OTHER_PROCESS";

impl Process {
    fn start(test: &str, directory: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([&format!("key_directory::{test}"), "--exact", "--nocapture"])
            .env(OTHER, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null()) // the test harness's own
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            orders: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stderr.take().unwrap()).lines(),
            child,
        }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    fn answer(&mut self) -> String {
        self.answers.next().expect("an answer").unwrap()
    }

    fn ask(&mut self, order: &str) -> String {
        self.order(order);
        self.answer()
    }

    fn seal(&mut self) -> Vec<u8> {
        decoded(&self.ask("seal"))
    }

    fn opens(&mut self, ticket: &[u8]) -> bool {
        self.ask(&format!("open {}", encode_string(ticket))) == "yes"
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// True in the other process, which has done then what it was told.
fn am_the_other_process() -> bool {
    let Some(directory) = std::env::var_os(OTHER) else {
        return false;
    };
    let server = Server::new(Path::new(&directory));
    let mut crowd = Vec::new();
    for order in stdin().lines().map_while(Result::ok) {
        let (order, argument) = order.split_once(' ').unwrap_or((&order, ""));
        match order {
            "seal" => eprintln!("{}", encode_string(&server.seal())),
            "open" => match server.opens(&decoded(argument)) {
                true => eprintln!("yes"),
                false => eprintln!("no"),
            },
            "look" => {
                server.look();
                eprintln!("{}", server.active());
            }
            "revoke" => {
                let _ = server.resumption.revoke_all();
                eprintln!("{}", server.active());
            }
            // Has so many servers more, as if each were a process.
            "crowd" => {
                let more = || Server::new(Path::new(&directory));
                crowd = (0..argument.parse().unwrap())
                    .map(|_: u64| more())
                    .collect();
                eprintln!("{}", crowd.len());
            }
            // Says how many of these have this key active when they have looked, and how often
            // they could not.
            "poll" => {
                crowd.iter().for_each(Server::look);
                let agree = crowd.iter().filter(|it| it.active() == argument).count();
                let failures: u64 = crowd.iter().map(Server::failures).sum();
                eprintln!("{agree} {failures}");
            }
            // So many times; each ticket is of another key.
            "rotate" => (0..argument.parse().unwrap()).for_each(|_: u64| {
                server.resumption.rotate_now().unwrap();
                eprintln!("{}", encode_string(&server.seal()));
            }),
            other => unreachable!("{other}"),
        }
    }
    true
}

/// A key directory that goes away with the first of the two.
fn fresh() -> (TempDir, PathBuf) {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("steks");
    (parent, directory)
}

fn entries(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[test]
fn what_one_process_seals_another_opens() {
    if am_the_other_process() {
        return;
    }
    let (_parent, directory) = fresh();
    let ours = Server::new(&directory);
    let mut other = Process::start("what_one_process_seals_another_opens", &directory);
    assert!(other.opens(&ours.seal()));
    assert!(ours.opens(&other.seal()));

    let rotated = decoded(&other.ask("rotate 1"));
    assert!(!ours.opens(&rotated), "we have not looked yet");
    ours.look();
    assert!(ours.opens(&rotated));
    assert_eq!(ours.active(), other.ask("look"));
}

#[test]
fn after_all_processes_ended_the_next_one_continues_with_their_keys() {
    const TEST: &str = "after_all_processes_ended_the_next_one_continues_with_their_keys";
    if am_the_other_process() {
        return;
    }
    let (_parent, directory) = fresh();
    let mut first = Process::start(TEST, &directory);
    let tickets = [first.seal(), decoded(&first.ask("rotate 1")), first.seal()];
    first.kill();
    let mut second = Process::start(TEST, &directory);
    assert!(tickets.iter().all(|ticket| second.opens(ticket)));
}

#[test]
fn a_process_killed_at_any_moment_harms_nobody() {
    const TEST: &str = "a_process_killed_at_any_moment_harms_nobody";
    if am_the_other_process() {
        return;
    }
    let mut random = 0x5eed_u64;
    let mut killed_in_mid_rotation = 0;
    let (mut _parent, mut directory) = fresh();
    let mut ours = Server::new(&directory);
    for round in 1..=200 {
        if round % 20 == 0 {
            (_parent, directory) = fresh(); // lest the keys become many
            ours = Server::new(&directory);
        }
        let mut other = Process::start(TEST, &directory);
        other.order("rotate 1000000");
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let tickets: Vec<_> = (0..random >> 62)
            .map(|_| decoded(&other.answer()))
            .collect();
        for _ in 0..(random >> 40) % 50_000 {
            std::hint::spin_loop();
        }
        other.kill();
        killed_in_mid_rotation += usize::from(entries(&directory) > 1);

        ours.look();
        assert_eq!(ours.failures(), 0);
        assert_eq!(entries(&directory), 1, "what it left is cleaned up");
        assert!(tickets.iter().all(|ticket| ours.opens(ticket)));
        ours.resumption.rotate_now().unwrap();
    }
    assert!(killed_in_mid_rotation > 0, "it did meet the moment");
}

/// Four processes rotate so often each at the same time, and no key is lost.
fn rotate_at_the_same_time(test: &str, directory: &Path, times: usize) {
    let mut others: Vec<_> = (0..4).map(|_| Process::start(test, directory)).collect();
    for other in &mut others {
        other.order(&format!("rotate {times}"));
    }
    let mut tickets = Vec::new();
    for other in &mut others {
        tickets.extend((0..times).map(|_| decoded(&other.answer())));
    }
    let ours = Server::new(directory);
    assert_eq!(
        tickets.iter().filter(|ticket| ours.opens(ticket)).count(),
        4 * times
    );
    let stats = ours.resumption.stats().steks;
    assert!(stats.keys >= 4 * times as u64, "{} keys", stats.keys);
    assert!(
        others
            .iter_mut()
            .all(|other| other.ask("look") == ours.active())
    );
}

#[test]
fn processes_that_rotate_at_the_same_time_lose_no_key() {
    const TEST: &str = "processes_that_rotate_at_the_same_time_lose_no_key";
    if am_the_other_process() {
        return;
    }
    let (_parent, directory) = fresh();
    rotate_at_the_same_time(TEST, &directory, 20);
}

#[test]
fn processes_that_rotate_on_a_busy_disk_lose_no_key() {
    const TEST: &str = "processes_that_rotate_on_a_busy_disk_lose_no_key";
    if am_the_other_process() {
        return;
    }
    let (parent, directory) = fresh();
    on_a_busy_disk(parent.path(), || {
        rotate_at_the_same_time(TEST, &directory, 5);
    });
}

/// Does this while four threads write and sync files beside it.
fn on_a_busy_disk(parent: &Path, work: impl FnOnce() + UnwindSafe) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let file = parent.join(format!("busy-{writer}"));
            let done = &done;
            scope.spawn(move || {
                let megabyte = vec![writer; 1 << 20];
                // It ends, even if the test does not.
                let end = Instant::now() + 2 * MINUTE;
                while !done.load(Ordering::Relaxed) && Instant::now() < end {
                    let mut file = File::create(&file).unwrap();
                    (0..16).for_each(|_| file.write_all(&megabyte).unwrap());
                    file.sync_all().unwrap();
                }
            });
        }
        let worked = catch_unwind(work);
        done.store(true, Ordering::Relaxed);
        worked.unwrap();
    });
}

#[test]
fn a_thousand_that_poll_on_a_busy_disk_follow_those_that_rotate() {
    const TEST: &str = "a_thousand_that_poll_on_a_busy_disk_follow_those_that_rotate";
    if am_the_other_process() {
        return;
    }
    let (parent, directory) = fresh();
    on_a_busy_disk(parent.path(), || {
        let start = |_| Process::start(TEST, &directory);
        let mut pollers: Vec<_> = (0..8).map(start).collect();
        let mut rotators: Vec<_> = (0..2).map(start).collect();
        pollers.iter_mut().for_each(|it| it.order("crowd 125"));
        for poller in &mut pollers {
            assert_eq!(poller.answer(), "125");
        }
        let ours = Server::new(&directory);
        for _ in 0..5 {
            let before = ours.active();
            let order = format!("poll {before}");
            rotators.iter_mut().for_each(|it| it.order("rotate 1"));
            pollers.iter_mut().for_each(|it| it.order(&order));
            let tickets: Vec<_> = rotators
                .iter_mut()
                .map(|it| decoded(&it.answer()))
                .collect();
            for poller in &mut pollers {
                assert!(poller.answer().ends_with(" 0"), "while others rotate");
            }
            ours.look();
            assert_ne!(ours.active(), before);
            assert!(tickets.iter().all(|ticket| ours.opens(ticket)));
            let order = format!("poll {}", ours.active());
            pollers.iter_mut().for_each(|it| it.order(&order));
            for poller in &mut pollers {
                assert_eq!(poller.answer(), "125 0");
            }
        }
    });
}

/// The other process's part, in a file system of its own that soon has no room.
#[cfg(target_os = "linux")]
fn revoke_without_room(parent: &Path) {
    let directory = parent.join("steks");
    let ours = Server::new(&directory);
    let ticket = ours.seal();
    let filler = parent.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[1; 512]).is_ok() {}
    let error = ours.resumption.rotate_now().unwrap_err().to_string();
    assert!(error.contains("No space left on device"), "{error}");
    assert!(ours.opens(&ticket));

    let _ = ours.resumption.revoke_all();
    assert!(!ours.opens(&ticket) && !ours.stats().fallen_back);
    let late = Server::new(&directory);
    assert!(
        !late.opens(&ticket),
        "the key stands in the directory no more"
    );
    assert!(late.opens(&ours.seal()));
    assert_eq!(entries(&directory), 1);

    drop(file);
    fs::remove_file(filler).unwrap();
    late.resumption.rotate_now().unwrap();
    ours.look();
    late.look();
    assert!(ours.opens(&late.seal()));
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_revoked_while_the_file_system_is_full_does_not_come_back() {
    const TEST: &str = "what_is_revoked_while_the_file_system_is_full_does_not_come_back";
    const FULL: &str = "KEY_DIRECTORY_WITHOUT_ROOM";
    if let Some(parent) = std::env::var_os(FULL) {
        return revoke_without_room(Path::new(&parent));
    }
    let parent = TempDir::new().unwrap();
    // A mount that only the other process sees, so that nobody has to clean up after it.
    let mounted = |command: &str| {
        Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c"])
            .arg(format!(
                "mount -t tmpfs -o size=64k none \"$1\" && {command}"
            ))
            .args(["sh".as_ref(), parent.path()])
            .arg(std::env::current_exe().unwrap())
            .arg(format!("key_directory::{TEST}"))
            .env(FULL, parent.path())
            .output()
    };
    if !mounted("true").is_ok_and(|output| output.status.success()) {
        eprintln!("not tried: no file system can be mounted here");
        return;
    }
    let output = mounted("exec \"$2\" \"$3\" --exact --nocapture").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn what_one_process_revokes_is_gone_for_all() {
    const TEST: &str = "what_one_process_revokes_is_gone_for_all";
    if am_the_other_process() {
        return;
    }
    let (_parent, directory) = fresh();
    let ours = Server::new(&directory);
    let ticket = ours.seal();
    let mut other = Process::start(TEST, &directory);
    assert!(other.opens(&ticket));
    let fresh = other.ask("revoke");
    assert!(!other.opens(&ticket));
    ours.look();
    assert!(!ours.opens(&ticket));
    assert_eq!(ours.active(), fresh);
    let late = Server::new(&directory);
    assert!(!late.opens(&ticket));
    assert!(late.opens(&ours.seal()));
}

#[test]
fn three_servers_whose_clocks_differ_resume_each_others_sessions_across_five_rotations() {
    let (_parent, directory) = fresh();
    let servers = [(); 3].map(|()| Server::new(&directory));
    servers[0]
        .time
        .step_forward(Rotation::DEFAULT_PUBLISH_AHEAD / 2);
    servers[2]
        .time
        .step_back(Rotation::DEFAULT_PUBLISH_AHEAD / 2);
    let mut active = Vec::new();
    let mut tickets = Vec::new();
    for _ in 0..5 * 60 {
        for server in &servers {
            server.advance(MINUTE);
            tickets.push(server.seal());
            active.push(server.active());
        }
        let latest = &tickets[tickets.len() - 3..];
        for server in &servers {
            assert!(latest.iter().all(|ticket| server.opens(ticket)));
        }
    }
    active.sort();
    active.dedup();
    assert!(active.len() >= 6, "{} keys sealed", active.len());
    for server in &servers {
        assert!(tickets.iter().all(|ticket| server.opens(ticket)));
        let stats = server.resumption.stats().steks;
        assert_eq!((stats.source_failures, stats.fallen_back), (0, false));
        assert_eq!(stats.fleet_agrees, Some(true));
    }
}

#[test]
fn restarts_do_not_extend_the_life_of_a_ticket() {
    let (_parent, directory) = fresh();
    let ticket = Server::new(&directory).seal();
    let late = Server::new(&directory);
    // It was activated so long ago that it seals also where a clock is behind.
    late.advance(13 * HOUR - Rotation::DEFAULT_PUBLISH_AHEAD - Duration::from_millis(1));
    assert!(late.opens(&ticket));
    late.advance(Duration::from_millis(1));
    assert!(!late.opens(&ticket));
    late.look();
    let early = Server::new(&directory);
    assert!(
        !early.opens(&ticket),
        "its clock is behind, but the key is gone"
    );
}

#[test]
fn a_broken_directory_leaves_the_keys_unchanged_until_it_is_repaired() {
    let (_parent, directory) = fresh();
    let ours = Server::new(&directory);
    let ticket = ours.seal();
    type Change = fn(&Path);
    let wrong: [(Change, Change); 3] = [
        (
            |directory| fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap(),
            |directory| fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap(),
        ),
        (
            |directory| fs::write(directory.join("steks.2"), b"garbage").unwrap(),
            |directory| fs::remove_file(directory.join("steks.2")).unwrap(),
        ),
        (
            |directory| {
                fs::remove_dir_all(directory).unwrap();
                fs::write(directory, b"a file").unwrap();
            },
            |directory| fs::remove_file(directory).unwrap(),
        ),
    ];
    for (failures, (break_it, mend_it)) in (1..).zip(wrong) {
        break_it(&directory);
        ours.look();
        assert_eq!(ours.failures(), failures);
        assert!(ours.opens(&ticket) && ours.opens(&ours.seal()));
        mend_it(&directory);
        ours.look();
        assert_eq!(ours.failures(), failures);
        assert!(Server::new(&directory).opens(&ticket), "it has it again");
    }
}

#[test]
fn a_directory_unreadable_for_long_means_local_keys_until_it_recovers() {
    let (_parent, directory) = fresh();
    let ours = Server::new(&directory);
    let ticket = ours.seal();
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
    ours.advance(2 * HOUR);
    let stats = ours.stats();
    assert!(stats.fallen_back && stats.fleet_agrees.is_none());
    let trouble = stats.last_trouble.unwrap();
    assert!(
        !trouble.is_over && trouble.what.contains("mode 0755"),
        "{trouble}"
    );
    let local = ours.seal();
    assert!(ours.opens(&local) && ours.opens(&ticket));
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    ours.look();
    let stats = ours.stats();
    assert!(!stats.fallen_back && stats.last_trouble.unwrap().is_over);
    assert!(ours.opens(&local) && ours.opens(&ticket));
}
