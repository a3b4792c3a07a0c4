//! A thousand rings over thirty days: without sockets or sleeping, and the same in each run.
//!
//! Two fleets of 500 nodes, one with a secret in common, one with a store, each behind a load
//! balancer that sends a client to another node each time. Clocks are wrong and are set, the store
//! answers some with what it held a while ago and others not at all, nodes restart, and twice the
//! store is down for all. Each client comes back with the ticket it got last, however old.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use comfy_table::{CellAlignment, Table, presets};
use rustls_resumption::{FakeClock, KeyName};
use test_support::session;

use chance::Chance;
use node::{Node, Origin};
use store::{Store, Window};

mod chance;
mod node;
mod store;

const SEED: u64 = 20_260_101;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

// The schedule.
const INTERVAL: Duration = Duration::from_secs(8 * 60 * 60);
const LIFETIME: Duration = DAY;
const AHEAD: Duration = Duration::from_secs(3 * 60 * 60);

// The world.
const NODES: usize = 500;
const CLIENTS: usize = 2_000;
const DAYS: u32 = 30;
const TICK: Duration = Duration::from_secs(30 * 60);
/// Each node asks its source every so many ticks.
const TICKS_BETWEEN_STEPS: u64 = 2;
const VISITS_PER_TICK: usize = 100;
/// No clock is further from the right time.
const SKEW: Duration = Duration::from_secs(10 * 60);
const MAX_DELAY: Duration = Duration::from_secs(30 * 60);
/// The load balancer sends clients to so many nodes at a time.
const POOL: u64 = 20;

/// When the store is down for all. The first ends before the next key is due.
const SHORT_OUTAGE: [Duration; 2] = [
    Duration::from_secs(5 * 86_400),
    Duration::from_secs(5 * 86_400 + 3 * 3_600),
];
const LONG_OUTAGE: [Duration; 2] = [
    Duration::from_secs(15 * 86_400),
    Duration::from_secs(17 * 86_400 + 12 * 3_600),
];

/// So long after an outage every node has what the store has, and sees the keys it seals with next.
const RECOVERY: Duration = Duration::from_secs(3 * 60 * 60);

#[test]
fn a_thousand_rings_through_thirty_days() {
    let begin = Instant::now();
    let mut chance = Chance::new(SEED);
    // The store's first key has been there for a while when the nodes start.
    let start = 3 * HOUR;
    let store = Arc::new(Mutex::new(Store::new(
        Duration::ZERO,
        Chance::new(chance.number()),
    )));
    Node::start(&Origin::Store(Arc::clone(&store)), Duration::ZERO, SKEW);
    store.lock().unwrap().pass(start);
    let origins = [
        Origin::Secret(chance.secret()),
        Origin::Store(Arc::clone(&store)),
    ];
    // Each on a thread of its own, with a chance of its own.
    let lives = origins.map(|origin| {
        let mut chance = Chance::new(chance.number());
        let fleet = Fleet::start(origin, start, &mut chance);
        thread::spawn(move || fleet.live(start, chance))
    });
    let [derived, stored] = lives.map(|life| life.join().unwrap());
    let store = store.lock().unwrap();
    print(&derived, &stored, &store, begin.elapsed());

    // All that was to happen did.
    for fleet in [&derived, &stored] {
        let restarts: u64 = fleet.nodes.iter().map(|node| node.restarts).sum();
        assert!(restarts > 1_000, "{restarts} restarts");
        assert!(fleet.clocks_set > 1_000);
        assert!(fleet.too_late > 5_000, "{} came too late", fleet.too_late);
    }
    assert!(stored.failures() > 10_000);
    assert!(
        stored.sealed_alone > 1_000,
        "some sealed with keys of their own"
    );
    assert_eq!(derived.sealed_alone, 0);

    // A client that is in time resumes, unless its nodes cannot have the same keys.
    for fleet in [&derived, &stored] {
        let row = fleet.row(Case::Well);
        assert!(row.returned > 50_000);
        assert_eq!(row.resumed, row.returned);
    }
    for case in [Case::ShortOutage, Case::LongOutage, Case::Unwell] {
        assert!(stored.row(case).returned > 100);
    }
    let [short, long] = [Case::ShortOutage, Case::LongOutage].map(|case| stored.row(case).share());
    assert!(
        short > 0.9,
        "only who restarted then, or was cut off before, lacks keys"
    );
    assert!(
        0.0 < long && long < short,
        "each node resumes what it sealed itself"
    );

    // No key outlives its schedule: but by a wrong clock, and the time until the next step.
    let lateness = SKEW + TICK * (TICKS_BETWEEN_STEPS as u32 + 1);
    let life = AHEAD + INTERVAL + LIFETIME + lateness;
    assert!(store.longest_life <= life, "{:?}", store.longest_life);
    assert!(store.longest_life > INTERVAL + LIFETIME, "it was looked at");
    // One published, one active, those retired, and one that waits for the next step.
    let most = 2 + LIFETIME.div_duration_f64(INTERVAL) as u64 + 1;
    assert!(derived.most_keys <= most, "{} keys", derived.most_keys);
}

/// A moment of wall time.
fn wall(since_beginning: Duration) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(FakeClock::START) + since_beginning
}

/// What the store is doing, and what cases it makes of a visit.
#[derive(Clone, Copy)]
struct Phase {
    is_down: bool,
    case: Case,
}

impl Phase {
    fn at(now: Duration) -> Self {
        for (case, [begin, end]) in [
            (Case::ShortOutage, SHORT_OUTAGE),
            (Case::LongOutage, LONG_OUTAGE),
        ] {
            if begin <= now && now < end + RECOVERY {
                return Self {
                    is_down: now < end,
                    case,
                };
            }
        }
        Self {
            is_down: false,
            case: Case::Well,
        }
    }
}

/// What may keep a client from resuming, the graver ones last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Case {
    Well,
    Unwell,
    ShortOutage,
    LongOutage,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Well => "all is well",
            Self::Unwell => "the source fails at one of the two nodes",
            Self::ShortOutage => "the store is down for 3 hours",
            Self::LongOutage => "the store is down for 60 hours",
        })
    }
}

struct Fleet {
    origin: Origin,
    nodes: Vec<Node>,
    clients: Vec<Option<Ticket>>,
    rows: [Row; 4],
    /// Tickets whose key had expired. None of them may be opened.
    too_late: u64,
    /// Tickets sealed with a key that no other node has.
    sealed_alone: u64,
    clocks_set: u64,
    most_keys: u64,
}

/// Of clients that came back in time, in some case.
#[derive(Clone, Copy, Default)]
struct Row {
    returned: u64,
    resumed: u64,
}

/// What a client has, and what the simulation knows of it.
struct Ticket {
    bytes: Vec<u8>,
    window: Window,
    /// The node that sealed it and how often that had restarted, if no other has the key.
    alone: Option<(usize, u64)>,
    case: Case,
}

impl Fleet {
    fn start(origin: Origin, now: Duration, chance: &mut Chance) -> Self {
        let mut skew = || any(2 * SKEW, chance);
        let nodes = (0..NODES).map(|_| Node::start(&origin, now, skew()));
        Self {
            nodes: nodes.collect(),
            origin,
            clients: (0..CLIENTS).map(|_| None).collect(),
            rows: Default::default(),
            too_late: 0,
            sealed_alone: 0,
            clocks_set: 0,
            most_keys: 0,
        }
    }

    fn live(mut self, start: Duration, mut chance: Chance) -> Self {
        let store = match &self.origin {
            Origin::Secret(_) => None,
            Origin::Store(store) => Some(Arc::clone(store)),
        };
        let store = || store.as_ref().map(|store| store.lock().unwrap());
        let mut now = start;
        for tick in 0.. {
            let phase = Phase::at(now);
            if let Some(mut store) = store() {
                store.is_down = phase.is_down;
            }
            self.suffer(now, &mut chance);
            self.step(tick);
            for _ in 0..VISITS_PER_TICK {
                self.visit(now, phase, &mut chance);
            }
            self.pass(TICK);
            if let Some(mut store) = store() {
                store.pass(TICK);
            }
            now += TICK;
            if now > start + DAYS * DAY {
                break;
            }
        }
        self
    }

    /// Each node restarts every ten days or so, as often its clock is set, twice as often its
    /// source fails for some hours, and every day its line becomes slower or faster.
    fn suffer(&mut self, now: Duration, chance: &mut Chance) {
        for node in &mut self.nodes {
            if chance.once_in(480) {
                node.restart(now);
            }
            if chance.once_in(480) {
                node.set_clock(any(2 * SKEW, chance));
                self.clocks_set += 1;
            }
            if chance.once_in(240) {
                node.line().fails_until = now + any(12 * HOUR, chance);
            }
            if chance.once_in(48) {
                node.line().delay = any(MAX_DELAY, chance);
            }
        }
    }

    fn step(&self, tick: u64) {
        for (node, number) in self.nodes.iter().zip(0_u64..) {
            if (number + tick).is_multiple_of(TICKS_BETWEEN_STEPS) {
                node.step();
            }
        }
    }

    fn pass(&self, time: Duration) {
        self.nodes.iter().for_each(|node| node.pass(time));
    }

    /// Some client comes to one of the nodes that the load balancer uses at this time.
    fn visit(&mut self, now: Duration, phase: Phase, chance: &mut Chance) {
        let hour = now.as_secs() / HOUR.as_secs();
        let index = ((hour * 37 + chance.below(POOL)) % NODES as u64) as usize;
        let client = chance.below(CLIENTS as u64) as usize;
        let node = &self.nodes[index];
        let case = match self.origin {
            Origin::Secret(_) => Case::Well,
            Origin::Store(_) if phase.case == Case::Well && !node.is_well(now) => Case::Unwell,
            Origin::Store(_) => phase.case,
        };
        if chance.once_in(10) {
            self.most_keys = self.most_keys.max(node.keys());
        }
        if let Some(ticket) = self.clients[client].take() {
            let is_resumed = node.open(&ticket.bytes).is_some();
            let Window {
                published, expires, ..
            } = ticket.window;
            let reads = node.reads();
            if is_resumed {
                assert!(
                    published <= reads && reads < expires,
                    "opened outside its window"
                );
                let own = (index, node.restarts);
                assert!(ticket.alone.is_none_or(|sealer| sealer == own));
            }
            // In time by every clock, or too late by that of the node.
            if now + SKEW < expires {
                self.rows[ticket.case.max(case) as usize].add(is_resumed);
            } else if reads >= expires {
                self.too_late += 1;
            }
        }
        self.clients[client] = self.seal(index, case, chance);
    }

    fn seal(&mut self, index: usize, case: Case, chance: &mut Chance) -> Option<Ticket> {
        let node = &self.nodes[index];
        let bytes = node.seal(&session::tls13(&chance.secret(), b""))?;
        let reads = node.reads();
        let activates = match &self.origin {
            Origin::Secret(_) => INTERVAL * (reads.as_secs() / INTERVAL.as_secs()) as u32,
            Origin::Store(store) => {
                let name = KeyName::from_bytes(bytes[..KeyName::LEN].try_into().unwrap());
                let window = store.lock().unwrap().window(&name);
                if let Some(window) = window {
                    assert!(window.activates <= reads && reads < window.retires);
                    return Some(Ticket {
                        bytes,
                        window,
                        alone: None,
                        case,
                    });
                }
                self.sealed_alone += 1;
                // At the latest.
                reads
            }
        };
        let alone = matches!(self.origin, Origin::Store(_)).then_some((index, node.restarts));
        Some(Ticket {
            bytes,
            window: Window {
                published: activates.saturating_sub(AHEAD),
                activates,
                retires: activates + INTERVAL,
                expires: activates + INTERVAL + LIFETIME,
            },
            alone,
            case,
        })
    }

    fn row(&self, case: Case) -> Row {
        self.rows[case as usize]
    }

    fn failures(&self) -> u64 {
        self.nodes.iter().map(|node| node.line().failures).sum()
    }
}

impl Row {
    fn add(&mut self, is_resumed: bool) {
        self.returned += 1;
        self.resumed += u64::from(is_resumed);
    }

    fn share(self) -> f64 {
        self.resumed as f64 / self.returned as f64
    }
}

/// A time of up to so much, in whole seconds.
fn any(most: Duration, chance: &mut Chance) -> Duration {
    Duration::from_secs(chance.below(most.as_secs() + 1))
}

fn print(derived: &Fleet, stored: &Fleet, store: &Store, took: Duration) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["STEKs", "when", "came back in time", "resumed", "share"]);
    for (fleet, source) in [(derived, "derived"), (stored, "store")] {
        for case in [
            Case::Well,
            Case::Unwell,
            Case::ShortOutage,
            Case::LongOutage,
        ] {
            let row = fleet.row(case);
            if row.returned > 0 {
                table.add_row([
                    source.to_owned(),
                    case.to_string(),
                    row.returned.to_string(),
                    row.resumed.to_string(),
                    // Never rounded up.
                    format!("{:.2} %", (row.share() * 10_000.0).floor() / 100.0),
                ]);
            }
        }
    }
    for column in 2..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!(
        "{} rings, {DAYS} days, seed {SEED}, in {:.1} s",
        2 * NODES,
        took.as_secs_f64()
    );
    println!("{table}");
    for (fleet, source) in [(derived, "derived"), (stored, "store")] {
        let restarts: u64 = fleet.nodes.iter().map(|node| node.restarts).sum();
        println!(
            "{source}: {} expired tickets offered, 0 opened; {restarts} restarts, {} clocks set, \
             {} failures of the source, {} tickets sealed with local keys, {} keys at most in a ring",
            fleet.too_late,
            fleet.clocks_set,
            fleet.failures(),
            fleet.sealed_alone,
            fleet.most_keys,
        );
    }
    println!(
        "store: {} keys; the longest that one was in any memory: {:.2} h",
        store.made(),
        store.longest_life.as_secs_f64() / 3_600.0
    );
}
