//! The protocol of a shared record as a model: three processes, the record, and what befalls them.
//!
//! A step asks the source as a ring does. Time passes in ticks, of which publish-ahead is two: one
//! for the difference between clocks, one within which every process in touch with the record asks.

use std::collections::{BTreeMap, BTreeSet};

use stateright::{Model, Property};

use super::*;
use crate::models;
use crate::ring::Snapshot;
use crate::rotation::Rotation;

mod asking;
mod forgetting;
mod place;
mod properties;
mod standing;

use properties::{ALL_REVOKED, OPENS, RESUMES, REVOKED, SEALS};
use standing::{Process, Standing};

const TICK: Duration = Duration::from_secs(10 * 60);
const START: Time = Time(1_800_000_000_000);
const PROCESSES: usize = 3;

/// What is tried.
#[derive(Clone)]
struct Fleet {
    rotation: Rotation,
    /// By how many ticks the clock of the last process is ahead of the others'.
    skew: i64,
    /// How many ticks pass.
    ticks: u32,
    /// How often each of these may happen.
    may: Mishaps,
    fault: Option<Fault>,
}

#[derive(Clone, Copy)]
enum Fault {
    /// The newer of two records replaces the other, by their versions.
    NewerVersionWins,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct Mishaps {
    rotations: u8,
    revocations: u8,
    restarts: u8,
    losses: u8,
    restorations: u8,
    cuts: u8,
    overflows: u8,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Step {
    Asks(usize),
    Rotates(usize),
    /// The first process revokes what seals there.
    Revokes,
    /// More than a record remembers.
    RevokesMany(usize),
    Restarts(usize),
    IsLost,
    /// The record is what it was at first.
    IsRestored,
    IsCutOff(usize),
    IsInTouch(usize),
    Passes,
}

impl Fleet {
    fn new(may: Mishaps, ticks: u32) -> Self {
        let rotation = Rotation::new()
            .interval(4 * TICK)
            .ticket_lifetime(4 * TICK)
            .publish_ahead(2 * TICK);
        Self {
            rotation,
            skew: 0,
            ticks,
            may,
            fault: None,
        }
    }

    fn time(&self, process: usize, passed: u32) -> Time {
        let time = START.plus(passed * TICK);
        let skew = self.skew * TICK.as_millis() as i64;
        match process == PROCESSES - 1 {
            true => Time(time.0.saturating_add_signed(skew)),
            false => time,
        }
    }

    /// Notes what seals, and what nobody has any more.
    fn settle(&self, standing: &mut Standing) {
        for index in 0..PROCESSES {
            let process = &standing.processes[index];
            let sealing = self.sealing(standing, index);
            if let Some(name) = sealing.filter(|_| process.is_in_touch(standing.passed)) {
                standing.sealed.insert(name, standing.passed);
            }
        }
        let held = standing
            .processes
            .iter()
            .filter_map(|process| process.held.as_ref());
        let records: Vec<_> = held.chain(&standing.record).collect();
        let mut sealed = std::mem::take(&mut standing.sealed);
        sealed.retain(|name, _| records.iter().any(|record| names(record).contains(name)));
        standing.sealed = sealed;
    }

    fn sealing(&self, standing: &Standing, process: usize) -> Option<KeyName> {
        let now = self.time(process, standing.passed);
        let snapshot = Snapshot::of(standing.processes[process].keys.clone());
        snapshot.sealing(now).map(|stek| *stek.name())
    }

    fn opens(&self, standing: &Standing, process: usize, name: &KeyName) -> bool {
        let now = self.time(process, standing.passed);
        let keys = &standing.processes[process].keys;
        let mut keys = keys.iter();
        keys.any(|key| key.stek.name() == name && key.window.opens(now))
    }

    /// The processes that know how the record stands.
    fn in_touch(standing: &Standing) -> impl Iterator<Item = usize> {
        let processes = standing.processes.iter().enumerate();
        let in_touch = processes.filter(|(_, process)| process.is_in_touch(standing.passed));
        in_touch.map(|(index, _)| index)
    }
}

fn names(record: &Record) -> Vec<KeyName> {
    record::tests::names(record)
}

impl Model for Fleet {
    type State = Standing;
    type Action = Step;

    fn init_states(&self) -> Vec<Standing> {
        let mut standing = Standing {
            passed: 0,
            record: None,
            made: 0,
            processes: vec![Process::default(); PROCESSES],
            left: self.may,
            sealed: BTreeMap::new(),
            revoked: BTreeSet::new(),
        };
        for process in 0..PROCESSES {
            self.ask(&mut standing, process, false, &[]);
        }
        for process in &mut standing.processes {
            process.is_behind = false;
        }
        self.settle(&mut standing);
        vec![standing]
    }

    fn actions(&self, standing: &Standing, steps: &mut Vec<Step>) {
        let left = &standing.left;
        for (index, process) in standing.processes.iter().enumerate() {
            match process.is_cut_off {
                true => steps.push(Step::IsInTouch(index)),
                // Asking twice with nothing between changes nothing.
                false
                    if process.is_in_touch(standing.passed) && process.asked == standing.passed => {
                }
                false => steps.push(Step::Asks(index)),
            }
            if !process.is_cut_off && left.rotations > 0 {
                steps.push(Step::Rotates(index));
            }
            if left.restarts > 0 {
                steps.push(Step::Restarts(index));
            }
            if !process.is_cut_off && left.cuts > 0 {
                steps.push(Step::IsCutOff(index));
            }
        }
        if left.overflows > 0 {
            steps.push(Step::RevokesMany(1));
        }
        if left.revocations > 0 {
            steps.push(Step::Revokes);
        }
        if left.losses > 0 && standing.record.is_some() {
            steps.push(Step::IsLost);
        }
        if left.restorations > 0 {
            steps.push(Step::IsRestored);
        }
        // Whoever is not cut off asks in time, and somebody in each tick.
        let up = || {
            standing
                .processes
                .iter()
                .filter(|process| !process.is_cut_off)
        };
        let passed = standing.passed;
        let in_time = up().all(|process| process.asked == passed || process.asked + 1 == passed);
        if passed < self.ticks && in_time && up().any(|process| process.asked == passed) {
            steps.push(Step::Passes);
        }
    }

    fn next_state(&self, last: &Standing, step: Step) -> Option<Standing> {
        let mut next = last.clone();
        match step {
            Step::Asks(index) => {
                let revoked = next.processes[index].revoked.clone();
                self.ask(&mut next, index, false, &revoked);
            }
            Step::Rotates(index) => {
                next.left.rotations -= 1;
                let revoked = next.processes[index].revoked.clone();
                self.ask(&mut next, index, true, &revoked);
            }
            Step::Revokes => {
                next.left.revocations -= 1;
                let name = self.sealing(&next, 0)?;
                next.revoked.insert(name);
                next.processes[0].revoked.push(name);
                let revoked = next.processes[0].revoked.clone();
                self.ask(&mut next, 0, false, &revoked);
            }
            Step::RevokesMany(index) => {
                next.left.overflows -= 1;
                let number = |number: u16| {
                    let mut name = [0xaa; KeyName::LEN];
                    name[..2].copy_from_slice(&number.to_be_bytes());
                    KeyName::from_bytes(name)
                };
                let many: Vec<_> = (0..1025).map(number).collect();
                self.ask(&mut next, index, false, &many);
                let process = &mut next.processes[index];
                process.withdrawn.clear();
                process.knows.retain(|name| !many.contains(name));
            }
            Step::Restarts(index) => {
                next.left.restarts -= 1;
                next.processes[index] = Process {
                    asked: next.passed,
                    is_behind: true,
                    is_cut_off: next.processes[index].is_cut_off,
                    ..Process::default()
                };
            }
            Step::IsLost | Step::IsRestored => {
                match step {
                    Step::IsLost => {
                        next.left.losses -= 1;
                        next.record = None;
                    }
                    _ => {
                        next.left.restorations -= 1;
                        next.record = self.init_states().pop()?.record;
                    }
                }
                for process in &mut next.processes {
                    process.is_behind = true;
                }
            }
            Step::IsCutOff(index) => {
                next.left.cuts -= 1;
                next.processes[index].is_cut_off = true;
            }
            Step::IsInTouch(index) => {
                let process = &mut next.processes[index];
                process.is_cut_off = false;
                process.is_behind = true;
                process.asked = next.passed;
            }
            Step::Passes => next.passed += 1,
        }
        self.settle(&mut next);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

/// What may befall the record and the processes, each once.
const EACH: Mishaps = Mishaps {
    rotations: 1,
    revocations: 1,
    restarts: 1,
    losses: 1,
    restorations: 1,
    cuts: 1,
    overflows: 0,
};

#[test]
fn what_was_revoked_does_not_come_back_whatever_befalls_the_record_and_the_processes() {
    let is_restored = Mishaps {
        rotations: 0,
        cuts: 0,
        ..EACH
    };
    let is_cut_off = Mishaps {
        rotations: 0,
        restorations: 0,
        ..EACH
    };
    for may in [is_restored, is_cut_off] {
        models::holds(Fleet::new(may, 1), 40);
    }
}

#[test]
fn keys_reach_all_before_they_seal_while_time_passes() {
    let rotates = Mishaps {
        rotations: 1,
        ..Mishaps::default()
    };
    let is_lost = Mishaps {
        losses: 1,
        ..Mishaps::default()
    };
    for may in [rotates, is_lost] {
        for skew in [-1, 0, 1] {
            let fleet = Fleet {
                skew,
                ..Fleet::new(may, 7)
            };
            models::holds(fleet, 40);
        }
    }
}

#[test]
fn a_floor_withdraws_in_all_processes() {
    let may = Mishaps {
        overflows: 1,
        losses: 1,
        revocations: 1,
        ..Mishaps::default()
    };
    models::holds(Fleet::new(may, 2), 40);
}

#[test]
fn records_that_replace_each_other_by_version_are_found_to_revive_a_key() {
    let may = Mishaps {
        rotations: 0,
        ..EACH
    };
    let fleet = Fleet {
        fault: Some(Fault::NewerVersionWins),
        ..Fleet::new(may, 1)
    };
    for property in [REVOKED, ALL_REVOKED] {
        let steps = models::refutation(fleet.clone(), property, 40);
        assert!(steps.contains(&Step::Revokes));
    }
}

#[test]
fn keys_that_are_not_published_ahead_are_found_to_seal_too_early() {
    let fleet = Fleet::new(Mishaps::default(), 8);
    let rotation = fleet.rotation.publish_ahead(Duration::ZERO);
    models::refutation(Fleet { rotation, ..fleet }, OPENS, 40);
}

#[test]
fn a_record_that_is_lost_before_others_hear_of_a_rotation_is_found_to_cost_sessions() {
    let mut may = Mishaps::default();
    (may.rotations, may.losses) = (1, 1);
    models::refutation(Fleet::new(may, 7), RESUMES, 40);
}

#[test]
fn a_clock_that_is_off_by_more_than_a_keys_life_is_found_to_have_none_that_seals() {
    let fleet = Fleet {
        skew: -12,
        ..Fleet::new(Mishaps::default(), 8)
    };
    models::refutation(fleet, SEALS, 40);
}

#[test]
fn clocks_that_differ_by_more_than_publish_ahead_are_found_to_cost_sessions() {
    let fleet = Fleet {
        skew: 3,
        ..Fleet::new(Mishaps::default(), 8)
    };
    models::refutation(fleet, OPENS, 40);
}
