//! Many threads doing everything at once, on the system's clock: the contracts hold throughout.
//! Runs for `STRESS_SECONDS` seconds, 3 if that is not set.
#![cfg(target_os = "linux")]

use std::collections::{HashSet, VecDeque};
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, thread};

use rustls::server::{ProducesTickets, StoresServerSessions};
use rustls_resumption::{KeyName, Resumption, Rotation, Stats};
use test_support::alone::alone;
use test_support::handshake::followed;
use test_support::process::resident;
use test_support::session::{id, tls12, tls13};

const WORKERS: u64 = 4;
const PHASES: u32 = 10;
const ENTRIES: usize = 6_000;
const BYTES: usize = 400_000;
const INTERVAL: Duration = Duration::from_millis(200);
const LIFETIME: Duration = Duration::from_secs(2);
const TTL: Duration = Duration::from_secs(1);

/// The crate's clock is coarse and grows by steps, the test's is not.
const MARGIN: Duration = Duration::from_millis(500);

/// The last two are forgotten now and then.
const SCOPES: [&str; 4] = ["a", "b", "c", "d"];

#[test]
fn the_contracts_hold_among_many_threads() {
    alone(|| {
        let seconds = env::var("STRESS_SECONDS").map_or(3.0, |seconds| seconds.parse().unwrap());
        let phase = Duration::from_secs_f64(seconds) / PHASES;
        let world = World::new();
        let mut done = Tally::default();
        let mut memory = Vec::new();
        for number in 0..PHASES {
            done += world.run(phase, number);
            check(&world.resumption.stats(), &done);
            memory.push(resident() / 1024);
        }
        let stats = world.resumption.stats();
        println!("{stats}");
        println!("{done:?}");
        println!("resident after each phase, KiB: {memory:?}");
        let (sealed, opened) = (done.sealed, done.opened);
        let (to_fail, to_miss) = (done.had_to_fail, done.had_to_miss);
        println!("figure: {sealed} sealed, {opened} opened, none of {to_fail} that had to fail");
        println!("figure: none of {to_miss} sessions found that had to be gone");
        let warm = memory[PHASES as usize / 2 - 1];
        let grown = memory[PHASES as usize - 1].saturating_sub(warm);
        assert!(grown < 4_096, "{grown} KiB more than at half-time");
    });
}

/// What was done, as those who did it saw it.
#[derive(Debug, Default)]
struct Tally {
    sealed: u64,
    not_sealed: u64,
    opened: u64,
    refused: u64,
    /// Tickets of which it was certain that they must open, and that they must not.
    had_to_open: u64,
    had_to_fail: u64,
    stored: u64,
    not_stored: u64,
    got: u64,
    taken: u64,
    missed: u64,
    /// Look-ups of sessions that had to be gone.
    had_to_miss: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.sealed += other.sealed;
        self.not_sealed += other.not_sealed;
        self.opened += other.opened;
        self.refused += other.refused;
        self.had_to_open += other.had_to_open;
        self.had_to_fail += other.had_to_fail;
        self.stored += other.stored;
        self.not_stored += other.not_stored;
        self.got += other.got;
        self.taken += other.taken;
        self.missed += other.missed;
        self.had_to_miss += other.had_to_miss;
    }
}

/// Whether the statistics agree with what was done, while nobody does anything.
fn check(stats: &Stats, done: &Tally) {
    let (tickets, cache) = (&stats.tickets, &stats.cache);
    assert_eq!(tickets.sealed, done.sealed);
    assert_eq!(tickets.opened, done.opened);
    let not_sealed = tickets.not_sealed;
    // A scope may be forgotten while a handshake is under way.
    assert_eq!(not_sealed.no_key + not_sealed.revoked, done.not_sealed);
    assert_eq!((not_sealed.too_long, not_sealed.too_old), (0, 0));
    let refused = tickets.refused;
    let reasons = [
        refused.unknown_key_name,
        refused.malformed,
        refused.forged,
        refused.wrong_scope,
        refused.expired_key,
        refused.revoked,
    ];
    assert_eq!(reasons.iter().sum::<u64>(), done.refused, "{refused:?}");
    assert_eq!((refused.too_long, refused.too_old), (0, 0));

    assert!(cache.entries <= ENTRIES as u64, "{cache:?}");
    assert!(cache.bytes <= BYTES as u64, "{cache:?}");
    assert_eq!(cache.stored, done.stored);
    let not_stored = cache.not_stored;
    assert_eq!(not_stored.no_room + not_stored.revoked, done.not_stored);
    assert_eq!(cache.hits, done.got + done.taken);
    let misses = cache.misses;
    let missed = misses.unknown + misses.expired + misses.other_version;
    assert_eq!(missed, done.missed);
    let left = cache.evictions;
    let left = left.entries + left.bytes + left.forgotten + left.replaced + cache.expired;
    assert_eq!(cache.stored, cache.entries + done.taken + left, "{cache:?}");
}

/// What all threads have in common.
struct World {
    resumption: Resumption,
    scopes: [InScope; 4],
    tickets: Mutex<VecDeque<Arc<Sealed>>>,
    /// Some that are kept until long after their time.
    old: Mutex<VecDeque<Arc<Sealed>>>,
    revoked: Mutex<Revoked>,
    /// How many sessions were stored; each has the next number.
    numbers: AtomicU64,
    /// What is known of a session, by its number: the latest of those that share a place.
    ledger: Vec<Mutex<Stored>>,
}

struct InScope {
    ticketer: Arc<dyn ProducesTickets>,
    storage: Arc<dyn StoresServerSessions>,
    /// How often forgetting the scope has begun, and ended. One thread does it.
    begun: AtomicU64,
    done: AtomicU64,
}

/// Names of keys whose revocation has begun, and ended.
#[derive(Default)]
struct Revoked {
    begun: HashSet<KeyName>,
    done: HashSet<KeyName>,
}

struct Sealed {
    ticket: Vec<u8>,
    session: Vec<u8>,
    scope: usize,
    before: Moment,
    after: Moment,
}

/// When something was done to a scope.
#[derive(Clone, Copy)]
struct Moment {
    time: Instant,
    begun: u64,
    done: u64,
}

#[derive(Default)]
struct Stored {
    number: u64,
    /// `None` while it is being stored.
    after: Option<Moment>,
    is_taken: bool,
}

impl World {
    fn new() -> Self {
        let rotation = Rotation::new().interval(INTERVAL).ticket_lifetime(LIFETIME);
        let resumption = Resumption::builder()
            .rotation(rotation)
            .cache_entries(ENTRIES)
            .cache_bytes(BYTES)
            .session_ttl(TTL)
            .build()
            .unwrap();
        let scopes = SCOPES.map(|scope| InScope {
            ticketer: resumption.ticketer(scope),
            storage: resumption.session_storage(scope),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
        });
        Self {
            resumption,
            scopes,
            tickets: Mutex::default(),
            old: Mutex::default(),
            revoked: Mutex::default(),
            numbers: AtomicU64::new(1),
            ledger: (0..1 << 14).map(|_| Mutex::default()).collect(),
        }
    }

    /// All threads do what they do, for so long.
    fn run(&self, time: Duration, phase: u32) -> Tally {
        let end = Instant::now() + time;
        let stop = AtomicBool::new(false);
        let goes_on = || !stop.load(Ordering::Relaxed);
        // Not in step with each other, and seldom enough to leave the workers something to do.
        let every = |millis: u64, mut act: Box<dyn FnMut() + Send + '_>| {
            while goes_on() {
                act();
                thread::sleep(Duration::from_millis(millis));
            }
        };
        let mut sum = Tally::default();
        thread::scope(|scope| {
            scope.spawn(|| every(19, Box::new(|| self.resumption.rotate_now().unwrap())));
            scope.spawn(|| every(97, Box::new(|| self.revoke())));
            scope.spawn(|| every(31, Box::new(|| self.forget(2))));
            scope.spawn(|| every(173, Box::new(|| self.forget(3))));
            let mut before = self.resumption.stats();
            scope.spawn(move || every(7, Box::new(|| self.look_on(&mut before))));
            let workers: Vec<_> = (0..WORKERS)
                .map(|number| {
                    let mut worker = Worker {
                        world: self,
                        random: 1 + number + WORKERS * u64::from(phase),
                        tally: Tally::default(),
                    };
                    scope.spawn(move || {
                        while Instant::now() < end {
                            (0..16).for_each(|_| worker.act());
                        }
                        worker.tally
                    })
                })
                .collect();
            let tallies: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
            stop.store(true, Ordering::Relaxed);
            tallies.into_iter().for_each(|tally| sum += tally.unwrap());
        });
        sum
    }

    fn revoke(&self) {
        let tickets = self.tickets.lock().unwrap();
        let Some(name) = tickets.back().map(|sealed| sealed.key_name()) else {
            return;
        };
        drop(tickets);
        self.revoked.lock().unwrap().begun.insert(name);
        let _ = self.resumption.revoke(&name);
        self.revoked.lock().unwrap().done.insert(name);
    }

    fn forget(&self, scope: usize) {
        self.scopes[scope].begun.fetch_add(1, Ordering::SeqCst);
        let _ = self.resumption.forget(SCOPES[scope]);
        self.scopes[scope].done.fetch_add(1, Ordering::SeqCst);
    }

    /// A timer of one's own and somebody who reads the statistics; counters only grow.
    fn look_on(&self, before: &mut Stats) {
        self.resumption.step();
        let now = self.resumption.stats();
        assert!(now.cache.bytes <= BYTES as u64);
        assert!(now.tickets.sealed >= before.tickets.sealed);
        assert!(now.tickets.opened >= before.tickets.opened);
        assert!(now.cache.stored >= before.cache.stored);
        assert!(now.cache.hits >= before.cache.hits);
        assert!(now.steks.rotations >= before.steks.rotations);
        *before = now;
    }

    fn moment(&self, scope: usize) -> Moment {
        Moment {
            time: Instant::now(),
            begun: self.scopes[scope].begun.load(Ordering::SeqCst),
            done: self.scopes[scope].done.load(Ordering::SeqCst),
        }
    }

    fn place(&self, number: u64) -> &Mutex<Stored> {
        &self.ledger[number as usize % self.ledger.len()]
    }
}

impl Sealed {
    fn key_name(&self) -> KeyName {
        KeyName::from_bytes(self.ticket[..16].try_into().unwrap())
    }
}

struct Worker<'a> {
    world: &'a World,
    random: u64,
    tally: Tally,
}

impl Worker<'_> {
    fn act(&mut self) {
        match self.random(8) {
            0 => self.seal(),
            1 | 2 => self.open(),
            3 => self.offer_junk(),
            4 => self.store(),
            _ => self.look_up(),
        }
    }

    fn random(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % bound
    }

    fn seal(&mut self) {
        let scope = self.random(4) as usize;
        let secret = self.random(u64::MAX).to_be_bytes();
        let filling = vec![secret[0]; self.random(300) as usize];
        let session = tls13(&secret, &filling);
        let before = self.world.moment(scope);
        let ticketer = &self.world.scopes[scope].ticketer;
        // None seals for a moment after a revocation, or if the timer was late.
        let ticket = loop {
            match followed(&self.world.resumption, || ticketer.encrypt(&session)) {
                Some(ticket) => break ticket,
                None => self.tally.not_sealed += 1,
            }
            thread::yield_now();
        };
        self.tally.sealed += 1;
        let sealed = Arc::new(Sealed {
            ticket,
            session,
            scope,
            before,
            after: self.world.moment(scope),
        });
        if self.random(64) == 0 {
            let mut old = self.world.old.lock().unwrap();
            old.push_back(Arc::clone(&sealed));
            old.truncate(4_096);
        }
        let mut tickets = self.world.tickets.lock().unwrap();
        tickets.push_back(sealed);
        if tickets.len() > 512 {
            tickets.pop_front();
        }
    }

    fn pick(&mut self) -> Option<Arc<Sealed>> {
        if self.random(4) == 0 {
            let mut old = self.world.old.lock().unwrap();
            let at = self.random(old.len().max(1) as u64) as usize;
            let sealed = Arc::clone(old.get(at)?);
            if sealed.after.time.elapsed() > INTERVAL + LIFETIME + 2 * MARGIN {
                old.swap_remove_back(at);
            }
            return Some(sealed);
        }
        let at = self.random(512) as usize;
        let tickets = self.world.tickets.lock().unwrap();
        tickets.get(at).cloned()
    }

    fn open(&mut self) {
        let Some(sealed) = self.pick() else { return };
        let (world, name) = (self.world, sealed.key_name());
        let before = world.moment(sealed.scope);
        let was_revoked = world.revoked.lock().unwrap().done.contains(&name);
        let opened = world.scopes[sealed.scope].ticketer.decrypt(&sealed.ticket);
        let after = world.moment(sealed.scope);
        let had_to_fail = was_revoked
            || before.done > sealed.after.begun
            || before.time - sealed.after.time > INTERVAL + LIFETIME + MARGIN;
        let had_to_open = after.begun == sealed.before.done
            && after.time - sealed.before.time < LIFETIME - MARGIN
            && !world.revoked.lock().unwrap().begun.contains(&name);
        assert!(!(had_to_fail && opened.is_some()), "it was out of use");
        assert!(!(had_to_open && opened.is_none()), "it was in its window");
        self.tally.had_to_fail += u64::from(had_to_fail);
        self.tally.had_to_open += u64::from(had_to_open);
        match opened {
            Some(session) => {
                assert_eq!(session, sealed.session);
                self.tally.opened += 1;
            }
            None => self.tally.refused += 1,
        }
    }

    /// A true ticket that was changed, cut, or offered in another scope.
    fn offer_junk(&mut self) {
        let Some(sealed) = self.pick() else { return };
        let mut ticket = sealed.ticket.clone();
        let mut scope = sealed.scope;
        let at = self.random(ticket.len() as u64) as usize;
        match self.random(3) {
            0 => ticket[at] ^= 1 << self.random(8),
            1 => ticket.truncate(at),
            _ => scope = (scope + 1 + self.random(3) as usize) % 4,
        }
        assert_eq!(self.world.scopes[scope].ticketer.decrypt(&ticket), None);
        self.tally.refused += 1;
    }

    fn store(&mut self) {
        let number = self.world.numbers.fetch_add(1, Ordering::Relaxed);
        let fresh = Stored {
            number,
            after: None,
            is_taken: false,
        };
        *self.world.place(number).lock().unwrap() = fresh;
        let mut value = value(number);
        value.reserve(self.random(100) as usize);
        let scope = scope_of(number);
        let storage = &self.world.scopes[scope].storage;
        let stored = followed(&self.world.resumption, || {
            storage.put(id(number).to_vec(), value)
        });
        match stored {
            true => self.tally.stored += 1,
            false => self.tally.not_stored += 1,
        }
        let after = self.world.moment(scope);
        let mut place = self.world.place(number).lock().unwrap();
        if place.number == number {
            place.after = Some(after);
        }
    }

    /// Of a session that was stored lately, so that several threads ask for the same.
    fn look_up(&mut self) {
        let last = self.world.numbers.load(Ordering::Relaxed);
        let reach = [16, 256, 4_096][self.random(3) as usize];
        let number = last.saturating_sub(self.random(reach)).max(1);
        let scope = match self.random(16) {
            0 => self.random(4) as usize,
            _ => scope_of(number),
        };
        let storage = &self.world.scopes[scope].storage;
        let had_to_miss = scope != scope_of(number) || self.is_gone(number, scope);
        let take = is_tls13(number) != (self.random(16) == 0);
        let found = match take {
            true => storage.take(&id(number)),
            false => storage.get(&id(number)),
        };
        self.tally.had_to_miss += u64::from(had_to_miss);
        let Some(found) = found else {
            self.tally.missed += 1;
            return;
        };
        assert!(!had_to_miss, "it was forgotten, expired or another scope's");
        assert_eq!(take, is_tls13(number), "the other version's");
        assert_eq!(found, value(number));
        match take {
            true => self.tally.taken += 1,
            false => self.tally.got += 1,
        }
        let mut place = self.world.place(number).lock().unwrap();
        if take && place.number == number {
            assert!(!place.is_taken, "taken twice");
            place.is_taken = true;
        }
    }

    fn is_gone(&self, number: u64, scope: usize) -> bool {
        let now = self.world.moment(scope);
        let place = self.world.place(number).lock().unwrap();
        let stored = place.after.filter(|_| place.number == number);
        stored.is_some_and(|stored| {
            place.is_taken || now.done > stored.begun || now.time - stored.time > TTL + MARGIN
        })
    }
}

fn scope_of(number: u64) -> usize {
    (number % 4) as usize
}

fn is_tls13(number: u64) -> bool {
    number % 8 < 4
}

fn value(number: u64) -> Vec<u8> {
    let secret = number.to_be_bytes().repeat(6);
    match is_tls13(number) {
        true => tls13(&secret, &vec![number as u8; (number % 997) as usize]),
        false => tls12(&secret),
    }
}
