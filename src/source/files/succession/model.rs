//! Key files that an operator ships to three nodes, as a model: in every order, while nodes restart.
//!
//! Time passes in ticks, of which publish-ahead is two: one within which a list reaches every node,
//! one within which every node reads it.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use stateright::{Model, Property};

use super::*;
use crate::aead::Sealing;
use crate::errands::Errands;
use crate::models;
use crate::rotation::Rotation;

const TICK: Duration = Duration::from_secs(60);
const START: Time = Time(1_800_000_000_000);
const NODES: usize = 3;
/// Within so many ticks a list reaches all nodes.
const SHIPPED: u32 = 1;
/// How many lists are shipped.
const LISTS: u8 = 2;

const OPENS: &str = "a key seals only once all nodes open with it";
const RESUMES: &str = "what was sealed opens on every node whose files list its key";
const SEALS: &str =
    "every node has one key that seals, the one meant to once it was listed for publish-ahead";

#[derive(Clone)]
struct Fleet {
    rotation: Rotation,
    order: Order,
    dated: Dated,
    /// How many ticks pass.
    ticks: u32,
    restarts: u8,
    fault: Option<Fault>,
    /// Of each key.
    names: Vec<KeyName>,
}

/// In which order a list has its keys.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// The first seals, and the one before it follows.
    First,
    /// The last but one seals, and the one after it is published ahead.
    LastButOne,
}

/// Which times the files have.
#[derive(Clone, Copy, PartialEq)]
enum Dated {
    /// All that of the list, which is written as a whole.
    Alike,
    /// Each that at which its key came: files are renamed.
    Each,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// A list reaches the last node a tick too late.
    IsShippedLate,
    /// A list has the new key alone.
    LacksTheOldKey,
}

#[derive(Clone, Debug)]
struct Standing {
    passed: u32,
    /// When the list that is shipped reached the first node.
    shipping_since: u32,
    nodes: Vec<Node>,
    restarts: u8,
    sealed: BTreeSet<KeyName>,
}

#[derive(Clone, Debug)]
struct Node {
    /// Which list its files are, and when they became it.
    list: u8,
    since: u32,
    /// The same of the list that it read last.
    read: u8,
    read_at: u32,
    asked: u32,
    succession: Succession,
    keys: Vec<SourceKey>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    IsShippedTo(usize),
    Asks(usize),
    Restarts(usize),
    Passes,
}

impl Fleet {
    fn new(order: Order, dated: Dated) -> Self {
        Self {
            rotation: Rotation::new().publish_ahead(2 * TICK),
            order,
            dated,
            ticks: 4,
            restarts: 1,
            fault: None,
            names: (0..=LISTS + 1)
                .map(|number| *Self::stek(number).name())
                .collect(),
        }
    }

    fn name(&self, number: u8) -> KeyName {
        self.names[usize::from(number)]
    }

    fn time(passed: u32) -> Time {
        START.plus(passed * TICK)
    }

    fn stek(number: u8) -> Stek {
        let mut secret = *b"the secret of a model's key: 00 ";
        secret[30] = number;
        Stek::derive(&secret, Sealing::Aes256GcmSiv).unwrap()
    }

    /// The numbers of a list's keys, and which of them seals.
    fn list(&self, list: u8) -> (Vec<u8>, u8) {
        let keys = match self.order {
            Order::First if self.fault == Some(Fault::LacksTheOldKey) => vec![list],
            Order::First => vec![list, list - 1],
            Order::LastButOne => vec![list - 1, list, list + 1],
        };
        (keys, list)
    }

    fn ask(&self, standing: &mut Standing, index: usize, at_start: bool) {
        let now = Self::time(standing.passed);
        let node = &mut standing.nodes[index];
        let (keys, seals) = self.list(node.list);
        let last = keys.iter().copied().max();
        let listed = keys.into_iter().map(|number| {
            let is_new = self.dated == Dated::Alike || Some(number) == last;
            let changed = match is_new && node.list > 1 {
                true => Self::time(node.since),
                false => START.minus(24 * 60 * TICK),
            };
            (Self::stek(number), changed)
        });
        let query = SourceQuery {
            now,
            monotonic: now.since(Time(0)),
            rotation: &self.rotation,
            sealing: Sealing::Aes256GcmSiv,
            rotate: false,
            revoked: &[],
            bulletin: None,
            log: &Errands::AT_ONCE,
        };
        let wanted = Some(self.name(seals));
        node.keys = node.succession.update(listed, wanted, at_start, &query);
        if node.read != node.list || at_start {
            (node.read, node.read_at) = (node.list, standing.passed);
        }
        node.asked = standing.passed;
        standing.sealed.extend(Self::sealing(standing, index));
    }

    fn sealing(standing: &Standing, index: usize) -> Option<KeyName> {
        let now = Self::time(standing.passed);
        let mut keys = standing.nodes[index].keys.iter();
        let key = keys.find(|key| key.window.seals(now));
        key.map(|key| *key.stek.name())
    }

    fn opens(standing: &Standing, index: usize, name: &KeyName) -> bool {
        let mut keys = standing.nodes[index].keys.iter();
        keys.any(|key| key.stek.name() == name)
    }

    /// Whether every node has the list that is shipped.
    fn has_arrived(standing: &Standing) -> bool {
        let newest = standing.nodes.iter().map(|node| node.list).max();
        standing.nodes.iter().all(|node| Some(node.list) == newest)
    }
}

impl Model for Fleet {
    type State = Standing;
    type Action = Step;

    fn init_states(&self) -> Vec<Standing> {
        let node = Node {
            list: 1,
            since: 0,
            read: 1,
            read_at: 0,
            asked: 0,
            succession: Succession::default(),
            keys: Vec::new(),
        };
        let mut standing = Standing {
            passed: 0,
            shipping_since: 0,
            nodes: vec![node; NODES],
            restarts: self.restarts,
            sealed: BTreeSet::new(),
        };
        for node in 0..NODES {
            self.ask(&mut standing, node, true);
        }
        vec![standing]
    }

    fn actions(&self, standing: &Standing, steps: &mut Vec<Step>) {
        let passed = standing.passed;
        let has_arrived = Self::has_arrived(standing);
        let newest = standing.nodes.iter().map(|node| node.list).max();
        // A list is shipped once the key of the one before seals everywhere.
        let settled = 1 + SHIPPED + self.rotation.ahead().div_duration_f64(TICK) as u32;
        let may_begin = passed >= standing.shipping_since + settled && newest < Some(LISTS);
        for (index, node) in standing.nodes.iter().enumerate() {
            let may_ship = match has_arrived {
                true => may_begin || newest == Some(1),
                false => Some(node.list) < newest,
            };
            if may_ship {
                steps.push(Step::IsShippedTo(index));
            }
            if node.read != node.list || node.asked != passed {
                steps.push(Step::Asks(index));
            }
            if standing.restarts > 0 {
                steps.push(Step::Restarts(index));
            }
        }
        let late = u32::from(self.fault == Some(Fault::IsShippedLate)) * 2;
        let in_time = has_arrived || passed < standing.shipping_since + SHIPPED + late;
        // They read every second, which is far less than a tick.
        let mut nodes = standing.nodes.iter();
        let have_asked = nodes.all(|node| node.asked == passed && node.read == node.list);
        if passed < self.ticks && in_time && have_asked {
            steps.push(Step::Passes);
        }
    }

    fn next_state(&self, last: &Standing, step: Step) -> Option<Standing> {
        let mut next = last.clone();
        match step {
            Step::IsShippedTo(index) => {
                if Self::has_arrived(&next) {
                    next.shipping_since = next.passed;
                }
                let node = &mut next.nodes[index];
                node.list += 1;
                node.since = next.passed;
            }
            Step::Asks(index) => self.ask(&mut next, index, false),
            Step::Restarts(index) => {
                next.restarts -= 1;
                next.nodes[index].succession = Succession::default();
                self.ask(&mut next, index, true);
            }
            Step::Passes => next.passed += 1,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(OPENS, |_: &Self, standing: &Standing| {
                let mut sealing = (0..NODES).filter_map(|index| Self::sealing(standing, index));
                sealing.all(|name| (0..NODES).all(|index| Self::opens(standing, index, &name)))
            }),
            Property::always(RESUMES, |fleet: &Self, standing: &Standing| {
                let mut nodes = standing.nodes.iter().enumerate();
                nodes.all(|(index, node)| {
                    let listed = fleet.list(node.list).0.into_iter();
                    let mut names = listed.map(|number| fleet.name(number));
                    names.all(|name| {
                        !standing.sealed.contains(&name) || Self::opens(standing, index, &name)
                    })
                })
            }),
            Property::always(SEALS, |fleet: &Self, standing: &Standing| {
                let mut nodes = standing.nodes.iter().enumerate();
                nodes.all(|(index, node)| {
                    let meant = fleet.name(fleet.list(node.read).1);
                    let is_due = node.asked >= node.read_at + 2;
                    let seals = Self::sealing(standing, index);
                    seals.is_some_and(|name| !is_due || name == meant)
                })
            }),
        ]
    }
}

/// All that decides what may follow.
impl Hash for Standing {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.passed, self.shipping_since, self.restarts).hash(state);
        self.sealed.hash(state);
        for node in &self.nodes {
            (node.list, node.since, node.read, node.read_at, node.asked).hash(state);
            node.succession.active.hash(state);
            for key in &node.succession.keys {
                (key.stek.name(), key.everywhere_from, key.seals_since.0).hash(state);
            }
        }
    }
}

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        models::hashed(self) == models::hashed(other)
    }
}

#[test]
fn keys_shipped_in_any_order_open_everywhere_before_they_seal() {
    let fleets = [
        (Order::First, Dated::Each),
        (Order::LastButOne, Dated::Alike),
    ];
    for (order, dated) in fleets {
        models::holds(Fleet::new(order, dated), 60);
    }
    let fleet = Fleet {
        restarts: 0,
        ..Fleet::new(Order::First, Dated::Alike)
    };
    models::holds(fleet, 60);
}

#[test]
fn a_node_that_starts_while_files_dated_alike_are_shipped_is_found_to_seal_too_early() {
    models::refutation(Fleet::new(Order::First, Dated::Alike), OPENS, 60);
}

#[test]
fn keys_that_arrive_too_late_or_without_the_old_are_found_to_cost_sessions() {
    for fault in [Fault::IsShippedLate, Fault::LacksTheOldKey] {
        for property in [OPENS, RESUMES] {
            let fleet = Fleet {
                fault: Some(fault),
                ..Fleet::new(Order::First, Dated::Each)
            };
            models::refutation(fleet, property, 60);
        }
    }
}

#[test]
fn a_node_that_publishes_ahead_for_longer_is_found_to_seal_late() {
    let fleet = Fleet::new(Order::First, Dated::Each);
    let rotation = fleet.rotation.publish_ahead(3 * TICK);
    models::refutation(Fleet { rotation, ..fleet }, SEALS, 60);
}
