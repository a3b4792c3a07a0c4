//! A change of the secret on three nodes, as a model: in every order of nodes, as
//! [`also_open`](DerivedSource::also_open) describes it.
//!
//! Time passes in ticks. Publish-ahead is one, for the difference between clocks; an interval and the
//! ticket lifetime are three each.

use std::collections::BTreeMap;
use std::hash::Hash;

use stateright::{Model, Property};

use super::*;
use crate::aead::Sealing;
use crate::errands::Errands;
use crate::models;
use crate::stek::KeyName;

const TICK: Duration = Duration::from_secs(5 * 60);
const LIFETIME: u32 = 3;
const START: Time = Time(1_800_000_000_000);
const NODES: usize = 3;

const OPENS: &str = "a key seals only once all nodes open with it";
const RESUMES: &str = "a ticket opens on every node for its lifetime";
const SEALS: &str = "every node has a key that seals";

/// What was rolled out to a node: the old secret, it with the new, the new with it, the new.
const STAGES: [&[usize]; 4] = [&[0], &[0, 1], &[1, 0], &[1]];

#[derive(Clone)]
struct Fleet {
    rotation: Rotation,
    /// By how many ticks the clock of the last node is ahead of the others'.
    skew: i64,
    ticks: u32,
    fault: Option<Fault>,
    /// The keys of each stage at each time, which are the same on all nodes.
    keys: BTreeMap<(usize, u64), Vec<SourceKey>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The first of the three steps is left out.
    NotOpenedBefore,
    /// The last step comes before what the old secret sealed has expired.
    ClosedTooEarly,
    /// Epochs begin after the clocks' time.
    OriginAhead,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Standing {
    passed: u32,
    stages: Vec<usize>,
    /// When the last node left the first of the three steps.
    sealed_old_until: u32,
    /// When each key last sealed.
    sealed: BTreeMap<KeyName, u32>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// A node restarts with what is rolled out next.
    Restarts(usize),
    Passes,
}

impl Fleet {
    fn new(skew: i64, fault: Option<Fault>) -> Self {
        let rotation = Rotation::new()
            .interval(LIFETIME * TICK)
            .ticket_lifetime(LIFETIME * TICK)
            .publish_ahead(TICK);
        let mut fleet = Self {
            rotation,
            skew,
            ticks: 9,
            fault,
            keys: BTreeMap::new(),
        };
        for stage in 0..STAGES.len() {
            for passed in 0..=fleet.ticks {
                for node in [0, NODES - 1] {
                    let now = fleet.time(node, passed);
                    let keys = fleet.source_keys(stage, now);
                    fleet.keys.insert((stage, now.0), keys);
                }
            }
        }
        fleet
    }

    /// What the source answers in a process that was started with this.
    fn source_keys(&self, stage: usize, now: Time) -> Vec<SourceKey> {
        let source = |which: usize| {
            let secret = [
                b"0123456789abcdefghijklmnopqrstuv",
                b"vutsrqponmlkjihgfedcba9876543210",
            ];
            DerivedSource::new(secret[which]).unwrap()
        };
        let mut secrets = STAGES[stage].iter();
        let mut shared = source(*secrets.next().unwrap());
        if self.fault == Some(Fault::OriginAhead) {
            shared = shared.origin(START.plus(4 * TICK).into());
        }
        for other in secrets {
            shared = shared.also_open(source(*other), self.rotation).unwrap();
        }
        let answer = shared.load(&SourceQuery {
            now,
            monotonic: now.since(Time(0)),
            rotation: &self.rotation,
            sealing: Sealing::Aes256GcmSiv,
            rotate: false,
            revoked: &[],
            bulletin: None,
            log: &Errands::AT_ONCE,
        });
        answer.unwrap_or_default()
    }

    fn time(&self, node: usize, passed: u32) -> Time {
        let time = START.plus(passed * TICK);
        let skew = self.skew * TICK.as_millis() as i64;
        match node == NODES - 1 {
            true => Time(time.0.saturating_add_signed(skew)),
            false => time,
        }
    }

    fn keys(&self, standing: &Standing, node: usize) -> impl Iterator<Item = &SourceKey> {
        let now = self.time(node, standing.passed);
        self.keys[&(standing.stages[node], now.0)].iter()
    }

    fn sealing(&self, standing: &Standing, node: usize) -> Option<KeyName> {
        let now = self.time(node, standing.passed);
        let key = self.keys(standing, node).find(|key| key.window.seals(now));
        key.map(|key| *key.stek.name())
    }

    fn opens(&self, standing: &Standing, node: usize, name: &KeyName) -> bool {
        let now = self.time(node, standing.passed);
        let mut keys = self.keys(standing, node);
        keys.any(|key| key.stek.name() == name && key.window.opens(now))
    }

    /// Notes what seals, as long as it matters.
    fn settle(&self, standing: &mut Standing) {
        for node in 0..NODES {
            if let Some(name) = self.sealing(standing, node) {
                standing.sealed.insert(name, standing.passed);
            }
        }
        let passed = standing.passed;
        standing.sealed.retain(|_, at| passed < *at + LIFETIME);
    }

    fn next_stage(&self, stage: usize) -> usize {
        match self.fault {
            Some(Fault::NotOpenedBefore) if stage == 0 => 2,
            _ => stage + 1,
        }
    }
}

impl Model for Fleet {
    type State = Standing;
    type Action = Step;

    fn init_states(&self) -> Vec<Standing> {
        let mut standing = Standing {
            passed: 0,
            stages: vec![0; NODES],
            sealed_old_until: 0,
            sealed: BTreeMap::new(),
        };
        self.settle(&mut standing);
        vec![standing]
    }

    fn actions(&self, standing: &Standing, steps: &mut Vec<Step>) {
        let slowest = standing.stages.iter().min().copied().unwrap_or_default();
        let newest = standing.stages.iter().max().copied().unwrap_or_default();
        let is_under_way = slowest != newest;
        let may_close = self.fault == Some(Fault::ClosedTooEarly)
            || standing.passed
                >= standing.sealed_old_until + LIFETIME + self.skew.unsigned_abs() as u32;
        for (node, stage) in standing.stages.iter().enumerate() {
            let next = self.next_stage(*stage);
            let is_next = *stage == slowest && (!is_under_way || next == newest);
            if next < STAGES.len() && is_next && (next < 3 || may_close) {
                steps.push(Step::Restarts(node));
            }
        }
        if standing.passed < self.ticks {
            steps.push(Step::Passes);
        }
    }

    fn next_state(&self, last: &Standing, step: Step) -> Option<Standing> {
        let mut next = last.clone();
        match step {
            Step::Restarts(node) => {
                next.stages[node] = self.next_stage(next.stages[node]);
                if next.stages[node] == 2 {
                    next.sealed_old_until = next.passed;
                }
            }
            Step::Passes => next.passed += 1,
        }
        self.settle(&mut next);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(OPENS, |fleet: &Self, standing: &Standing| {
                let mut sealing = (0..NODES).filter_map(|node| fleet.sealing(standing, node));
                sealing.all(|name| (0..NODES).all(|node| fleet.opens(standing, node, &name)))
            }),
            Property::always(RESUMES, |fleet: &Self, standing: &Standing| {
                let lifetime = LIFETIME - fleet.skew.unsigned_abs() as u32;
                let mut sealed = standing.sealed.iter();
                sealed.all(|(name, at)| {
                    standing.passed >= at + lifetime
                        || (0..NODES).all(|node| fleet.opens(standing, node, name))
                })
            }),
            Property::always(SEALS, |fleet: &Self, standing: &Standing| {
                (0..NODES).all(|node| fleet.sealing(standing, node).is_some())
            }),
        ]
    }
}

#[test]
fn a_secret_is_changed_in_three_steps_without_a_gap_whatever_the_order_of_nodes() {
    for skew in [-1, 0, 1] {
        models::holds(Fleet::new(skew, None), 40);
    }
}

#[test]
fn a_step_left_out_or_taken_too_early_is_found_to_cost_sessions() {
    let fleet = Fleet::new(0, Some(Fault::NotOpenedBefore));
    models::refutation(fleet, OPENS, 40);
    let fleet = Fleet::new(0, Some(Fault::ClosedTooEarly));
    models::refutation(fleet, RESUMES, 40);
    let fleet = Fleet::new(0, Some(Fault::OriginAhead));
    models::refutation(fleet, SEALS, 40);
}

#[test]
fn clocks_that_differ_by_more_than_publish_ahead_are_found_to_cost_sessions() {
    models::refutation(Fleet::new(2, None), OPENS, 40);
}
