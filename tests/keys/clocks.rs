//! Clocks that are stepped, stand still, begin at 1970 or end after 2106, and machines that are
//! suspended: with each source nothing opens outside its window, nothing panics, and everything
//! recovers.
#![cfg(unix)]

use std::cell::Cell;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::server::ProducesTickets;
use rustls_resumption::source::{DerivedSource, KeyDirectory, KeyFiles};
use rustls_resumption::{FakeClock, Resumption, ResumptionBuilder, Rotation};
use tempfile::TempDir;
use test_support::session::tls13;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How far clocks of hosts may differ.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// Where STEKs come from, and when what they sealed may open.
struct Origin {
    name: &'static str,
    add_to: Box<dyn Fn(ResumptionBuilder) -> ResumptionBuilder>,
    /// Elapsed time decides, not the wall clock: there is one process.
    is_alone: bool,
    /// Keys live as long as they are listed, so it is the session's age that ends it.
    is_listed: bool,
}

fn origins() -> Vec<Origin> {
    let secret: Vec<u8> = (0..80).collect();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("key");
    fs::write(&file, &secret).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let origin = |name, add_to| Origin {
        name,
        add_to,
        is_alone: name == "random",
        is_listed: name == "files",
    };
    vec![
        origin("random", Box::new(|builder| builder)),
        origin(
            "derived",
            Box::new(move |builder| builder.stek_source(DerivedSource::new(&secret).unwrap())),
        ),
        origin(
            "files",
            Box::new(move |builder| {
                assert!(directory.path().exists()); // it lives as long as this
                let source = KeyFiles::new([&file]).unwrap();
                source.check().unwrap();
                builder.stek_source(source)
            }),
        ),
        // Each time another one.
        origin("directory", {
            let parent = TempDir::new().unwrap();
            let number = Cell::new(0);
            Box::new(move |builder| {
                number.set(number.get() + 1);
                let directory = parent.path().join(format!("steks-{}", number.get()));
                builder.stek_source(KeyDirectory::new(directory).unwrap())
            })
        }),
        origin("redis", {
            let redis = test_support::redis::RedisServer::start();
            let kek: Vec<u8> = (100..132).collect();
            let number = Cell::new(0);
            Box::new(move |builder| {
                let source =
                    rustls_resumption::source::RedisSource::new(&redis.url(), &kek).unwrap();
                number.set(number.get() + 1);
                builder.stek_source(source.prefix(&format!("fleet-{}", number.get())))
            })
        }),
    ]
}

struct Server<'a> {
    origin: &'a Origin,
    time: FakeClock,
    resumption: Resumption,
    ring: Arc<dyn ProducesTickets>,
    life: Duration,
    /// How much time has really passed, and where the wall clock should be.
    elapsed: Duration,
    start: SystemTime,
    sealed: Vec<Sealed>,
    opened: u64,
}

struct Sealed {
    ticket: Vec<u8>,
    elapsed: Duration,
    wall: SystemTime,
}

impl<'a> Server<'a> {
    fn new(origin: &'a Origin, start: SystemTime, interval: Duration, lifetime: Duration) -> Self {
        let time = FakeClock::starting_at(start);
        let rotation = Rotation::new().interval(interval).ticket_lifetime(lifetime);
        let builder = Resumption::builder().rotation(rotation).clock(time.clock());
        let resumption = (origin.add_to)(builder).build().unwrap();
        let life = match origin.is_listed {
            true => DAY,
            false => interval + lifetime,
        };
        let mut server = Self {
            origin,
            time,
            ring: resumption.ticketer("a"),
            resumption,
            life,
            elapsed: Duration::ZERO,
            start,
            sealed: Vec::new(),
            opened: 0,
        };
        server.seal();
        server.check("at the start");
        server
    }

    fn seal(&mut self) -> bool {
        // Of TLS 1.3, so that what was opened before says nothing of its age.
        let Some(ticket) = self.ring.encrypt(&tls13(b"secret", b"")) else {
            return false;
        };
        self.sealed.push(Sealed {
            ticket,
            elapsed: self.elapsed,
            wall: self.time.wall(),
        });
        true
    }

    /// Nothing opens that is over its time by the clock that decides.
    fn check(&mut self, when: &str) {
        let now = self.time.wall();
        for sealed in &self.sealed {
            if self.ring.decrypt(&sealed.ticket).is_none() {
                continue;
            }
            self.opened += 1;
            let is_young = match self.origin.is_alone {
                true => self.elapsed - sealed.elapsed < self.life,
                false => now < sealed.wall + self.life && sealed.wall <= now + SKEW,
            };
            let name = self.origin.name;
            assert!(is_young, "{name}, {when}: sealed at {:?}", sealed.wall);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.time.advance(time);
        self.elapsed += time;
        self.check("before anybody stepped the ring");
        self.seal();
        self.step();
    }

    fn step(&mut self) {
        self.resumption.step();
        self.check("after a step");
        let name = self.origin.name;
        assert!(self.seal(), "{name}: something seals after each step");
        let newest = &self.sealed[self.sealed.len() - 1].ticket;
        assert!(self.ring.decrypt(newest).is_some(), "{name}");
    }

    /// The wall clock is stepped by so many seconds.
    fn step_wall(&mut self, by: i64) {
        let step = Duration::from_secs(by.unsigned_abs());
        match by < 0 {
            true => self.time.step_back(step),
            false => self.time.step_forward(step),
        }
        self.check("the clock was stepped");
        self.seal();
        self.step();
    }

    /// The wall clock is set right, and after that all is as it should be: what is sealed opens for
    /// the ticket lifetime, and then no longer.
    fn recover(&mut self, right: SystemTime) {
        // Once more if it stood before 1970, of which it shows nothing.
        for _ in 0..2 {
            match right.duration_since(self.time.wall()) {
                Ok(behind) => self.time.step_forward(behind),
                Err(ahead) => self.time.step_back(ahead.duration()),
            }
        }
        self.step();
        self.pass(MINUTE);
        self.pass(MINUTE);
        let stats = self.resumption.stats().steks;
        assert!(!stats.fallen_back, "{}: {stats:?}", self.origin.name);
        assert!(self.resumption.ready());
        self.seal();
        let ticket = self.sealed[self.sealed.len() - 1].ticket.clone();
        let mut open = 0;
        let mut passed = Duration::ZERO;
        while passed < self.life {
            open += u32::from(self.ring.decrypt(&ticket).is_some());
            self.pass(HOUR);
            passed += HOUR;
        }
        assert!(open >= 12, "{}: {open} hours", self.origin.name);
        assert!(self.ring.decrypt(&ticket).is_none());
    }

    /// What its clock would show, had nothing befallen it. Redis's own has not gone on.
    fn right_time(&self) -> SystemTime {
        match self.origin.name {
            "redis" => self.start,
            _ => self.start + self.elapsed,
        }
    }
}

/// The time that the sources' own clocks show, where they have one.
fn now() -> SystemTime {
    SystemTime::now()
}

/// A server on the default schedule.
fn server(origin: &Origin, start: SystemTime) -> Server<'_> {
    Server::new(origin, start, HOUR, 12 * HOUR)
}

#[test]
fn a_frozen_clock_changes_nothing() {
    for origin in &origins() {
        let mut server = server(origin, now());
        for _ in 0..50 {
            server.step();
        }
        let stats = server.resumption.stats();
        assert_eq!(stats.tickets.opened, server.opened + 50, "all of them open");
        assert_eq!((stats.steks.rotations, stats.steks.fallen_back), (0, false));
        server.recover(server.right_time());
    }
}

#[test]
fn clocks_stepped_by_hours_and_days_both_ways_open_nothing_out_of_its_time() {
    const H: i64 = 3_600;
    for steps in [
        [5 * H, -5 * H],
        [-5 * H, 5 * H],
        [72 * H, -72 * H],
        [-72 * H, 72 * H],
        [720 * H, -720 * H],
        [-720 * H, 720 * H],
        [14 * H, -28 * H],
        [-1, 1],
    ] {
        for origin in &origins() {
            let mut server = server(origin, now());
            for step in steps {
                server.pass(20 * MINUTE);
                server.step_wall(step);
                server.pass(MINUTE);
                server.pass(20 * MINUTE);
            }
            server.recover(server.right_time());
        }
    }
}

#[test]
fn a_clock_that_begins_at_1970_works_and_is_set_right() {
    for origin in &origins() {
        let mut server = server(origin, UNIX_EPOCH);
        for _ in 0..5 {
            server.pass(HOUR);
        }
        server.step_wall(-3_600 * 24); // before the beginning of time
        for _ in 0..5 {
            server.pass(HOUR);
        }
        server.recover(now());
    }
}

#[test]
fn a_clock_after_2106_works_and_is_set_right() {
    for origin in &origins() {
        let end_of_32_bits = UNIX_EPOCH + Duration::from_secs(1 << 32);
        let mut server = server(origin, end_of_32_bits - 3 * HOUR);
        for _ in 0..6 {
            server.pass(HOUR);
        }
        let last = server.sealed.len() - 1;
        let ticket = server.sealed[last].ticket.clone();
        server.pass(HOUR);
        assert!(server.ring.decrypt(&ticket).is_some(), "{}", origin.name);
        server.recover(now());
    }
}

#[test]
fn after_a_suspension_of_hours_or_a_week_nothing_expired_opens() {
    for origin in &origins() {
        for asleep in [6 * HOUR, 14 * HOUR, 7 * DAY] {
            // With a clock that runs on, or that is set on waking.
            for is_counted in [true, false] {
                let mut server = server(origin, now());
                let ticket = server.sealed[0].ticket.clone();
                match is_counted {
                    true => server.time.advance(asleep),
                    false => server.time.step_forward(asleep),
                }
                server.elapsed += asleep;
                server.check("awake");
                let opens = server.ring.decrypt(&ticket).is_some();
                // Redis's own clock did not go on.
                if origin.name != "redis" {
                    assert_eq!(opens, asleep < server.life, "{}", origin.name);
                }
                server.step();
                server.recover(server.right_time());
            }
        }
    }
}

#[test]
fn a_rotation_many_times_a_second_is_kept() {
    for origin in &origins() {
        let (interval, lifetime) = (Duration::from_millis(250), Duration::from_secs(1));
        let mut server = Server::new(origin, now(), interval, lifetime);
        for _ in 0..100 {
            server.pass(Duration::from_millis(100));
        }
        let stats = server.resumption.stats().steks;
        if !origin.is_listed && origin.name != "redis" {
            assert!(stats.rotations >= 20, "{}: {stats:?}", origin.name);
            assert!(stats.keys <= 10, "{}: {stats:?}", origin.name);
        }
        server.pass(10 * MINUTE); // nothing for long
        server.step_wall(-3_600);
        server.step_wall(3_600);
        for _ in 0..10 {
            server.pass(Duration::from_millis(100));
        }
    }
}
