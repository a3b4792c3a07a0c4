//! A scope that is forgotten by one process or another, as a model: handshakes are under way, the
//! record is lost or restored, processes restart.
//!
//! What is forgotten has a number, and each process and the record have those that they must have
//! heard of. A session is of before if its full handshake began before the call.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::time::Duration;

use stateright::{Model, Property};

use super::place::Place;
use super::{START, TICK};
use crate::clock::Time;
use crate::lineage::Lineage;
use crate::models;
use crate::rotation::Rotation;
use crate::scope::{UnderWay, Which, times_forgotten};
use crate::source::SourceQuery;
use crate::source::bulletin::Bulletin;
use crate::source::shared::Shared;
use crate::source::shared::record::tests::query;

mod standing;

use standing::{Handshake, Process, Session, Standing, scope};

const PROCESSES: usize = 2;
/// How long a handshake may last of which nobody saw the beginning.
const UNDER_WAY: Duration = Duration::from_secs(60);

/// How far a clock may be off, to either side.
const MAX_SKEW: Duration = TICK;

const GONE: &str = "nothing of before resumes in a process that has heard";
const MADE: &str = "a full handshake during which nothing was heard makes sessions";
const RESUMES: &str = "what was made since resumes in every process that has heard no more";

#[derive(Clone)]
struct Fleet {
    rotation: Rotation,
    /// By how many ticks the clock of the last process is ahead of the others', until it is set right.
    skew: i64,
    may: Mishaps,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// A handshake counts as begun when it ends.
    BeginsAtItsEnd,
    /// A renewal is as old as what it renews, whatever was forgotten meanwhile.
    RenewsAsItWas,
    /// What is sealed says nothing of generations.
    SealsUnbound,
    /// What the source knew before a process told it is not looked at.
    MeetsNobody,
    /// What a full handshake makes is born after what was forgotten before, by whatever clock.
    OutdatesTheCall,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Mishaps {
    ticks: u8,
    handshakes: u8,
    calls: u8,
    losses: u8,
    restorations: u8,
    restarts: u8,
    corrections: u8,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Begins(usize),
    Resumes(usize, usize),
    Ends(usize),
    Forgets(usize),
    Asks(usize),
    Restarts(usize),
    IsLost,
    IsRestored,
    IsSetRight,
    Passes,
}

impl Fleet {
    fn new(may: Mishaps, skew: i64, fault: Option<Fault>) -> Self {
        let rotation = Rotation::new()
            .interval(4 * TICK)
            .ticket_lifetime(4 * TICK)
            .publish_ahead(2 * TICK);
        Self {
            rotation,
            skew,
            may,
            fault,
        }
    }

    fn time(&self, process: usize, standing: &Standing) -> Time {
        let time = START.plus(standing.passed * TICK);
        let ticks = match standing.is_set_right {
            true => 0,
            false => self.skew,
        };
        // No two calls come in the same millisecond.
        let skew = ticks * TICK.as_millis() as i64 + 1;
        match process == PROCESSES - 1 {
            true => Time(time.0.saturating_add_signed(skew)),
            false => time,
        }
    }

    fn ask(&self, standing: &mut Standing, index: usize) {
        let now = self.time(index, standing);
        let process = &mut standing.processes[index];
        let mut shared = Shared {
            held: process.held.take(),
            ..Shared::new(Place {
                record: standing.record.take(),
                now: START.plus(standing.passed * TICK),
                made: standing.made,
                is_cut_off: false,
                written: false,
            })
        };
        let bulletin = Bulletin::new(process.generations.list());
        let asked = SourceQuery {
            bulletin: Some(&bulletin),
            ..query(now, &self.rotation, false, &[])
        };
        shared.load(&asked).unwrap();
        let heard = bulletin.heard();
        if self.fault != Some(Fault::MeetsNobody) {
            process.generations.meet(&heard.found, heard.found_others);
        }
        process.generations.hear(&heard.forgotten, heard.others);
        process.follow(now);
        process.held = shared.held;
        standing.record = shared.backend.record;
        standing.made = shared.backend.made;
        standing.heard.extend(&process.heard);
        process.heard.extend(&standing.heard);
        process.told.clone_from(&process.heard);
        // If it outdoes what others forgot, that is as if it forgot once more.
        let told = heard.forgotten.iter().map(|(_, told)| told.generation);
        if process.forgotten().generation > told.max().unwrap_or(0) {
            standing.calls += 1;
            process.heard.insert(standing.calls);
        }
    }

    fn end(&self, standing: &mut Standing, index: usize) {
        let now = self.time(index, standing);
        let process = &mut standing.processes[index];
        let Some(handshake) = process.handshake.take() else {
            return;
        };
        let state = process.state();
        let generation = state.generation();
        let times_forgotten = match self.fault {
            Some(Fault::BeginsAtItsEnd) => times_forgotten(),
            _ => handshake.times_forgotten,
        };
        let is_full = handshake.resumes.is_none();
        let (lineage, calls, first) = match handshake.resumes {
            Some(session) => (
                session.lineage.renewed(match self.fault {
                    Some(Fault::RenewsAsItWas) => session.lineage.birth,
                    _ => state.renewed_birth(session.lineage.birth, times_forgotten),
                }),
                session.calls,
                session.process,
            ),
            None => {
                let birth = state.birth(handshake.began.min(now), times_forgotten);
                let birth = match self.fault {
                    Some(Fault::OutdatesTheCall) => birth.max(process.forgotten().time.next()),
                    _ => birth,
                };
                (Lineage::of_full_handshake(birth), handshake.calls, index)
            }
        };
        let under_way = || UnderWay {
            here: UNDER_WAY,
            anywhere: UNDER_WAY,
            now: Duration::ZERO,
        };
        let is_withheld =
            state.withholds(lineage, now, under_way) || lineage.birth > now.plus(2 * MAX_SKEW);
        if is_withheld {
            standing.are_refused |= is_full && handshake.heard == process.heard;
        } else {
            standing.sessions.push(Session {
                lineage,
                issued: now,
                generation: match self.fault {
                    Some(Fault::SealsUnbound) => 0,
                    _ => generation,
                },
                calls,
                heard: handshake.heard,
                process: first,
            });
        }
    }

    fn begin(&self, standing: &mut Standing, index: usize, resumes: Option<Session>) {
        let began = self.time(index, standing);
        let process = &mut standing.processes[index];
        process.handshake = Some(Handshake {
            began,
            times_forgotten: times_forgotten(),
            resumes,
            calls: standing.calls,
            heard: process.heard.clone(),
        });
        standing.left.handshakes -= 1;
    }
}

impl Model for Fleet {
    type State = Standing;
    type Action = Step;

    fn init_states(&self) -> Vec<Standing> {
        let mut standing = Standing {
            passed: 0,
            record: None,
            made: 0,
            heard: BTreeSet::new(),
            processes: (0..PROCESSES).map(|_| Process::new()).collect(),
            sessions: Vec::new(),
            calls: 0,
            is_set_right: false,
            are_refused: false,
            left: self.may,
        };
        for process in 0..PROCESSES {
            self.ask(&mut standing, process);
        }
        vec![standing]
    }

    fn actions(&self, standing: &Standing, steps: &mut Vec<Step>) {
        let left = &standing.left;
        for (index, process) in standing.processes.iter().enumerate() {
            match &process.handshake {
                Some(_) => steps.push(Step::Ends(index)),
                None if left.handshakes > 0 => {
                    steps.push(Step::Begins(index));
                    let opens = |session: &usize| process.opens(&standing.sessions[*session]);
                    let sessions = (0..standing.sessions.len()).filter(opens);
                    steps.extend(sessions.map(|session| Step::Resumes(index, session)));
                }
                None => {}
            }
            if left.calls > 0 {
                steps.push(Step::Forgets(index));
            }
            if left.restarts > 0 {
                steps.push(Step::Restarts(index));
            }
            steps.push(Step::Asks(index));
        }
        if left.losses > 0 {
            steps.push(Step::IsLost);
        }
        if left.restorations > 0 {
            steps.push(Step::IsRestored);
        }
        if left.corrections > 0 {
            steps.push(Step::IsSetRight);
        }
        if left.ticks > 0 {
            steps.push(Step::Passes);
        }
    }

    fn next_state(&self, last: &Standing, step: Step) -> Option<Standing> {
        let mut next = last.clone();
        match step {
            Step::Begins(index) => self.begin(&mut next, index, None),
            Step::Resumes(index, session) => {
                let session = next.sessions[session].clone();
                self.begin(&mut next, index, Some(session));
            }
            Step::Ends(index) => self.end(&mut next, index),
            Step::Forgets(index) => {
                next.left.calls -= 1;
                next.calls += 1;
                let now = self.time(index, &next);
                let process = &mut next.processes[index];
                process.heard.insert(next.calls);
                // As `Inner` forgets a scope.
                process.generations.forget(Which::Exactly(&scope()), now);
                process.forget(now);
            }
            Step::Asks(index) => self.ask(&mut next, index),
            Step::Restarts(index) => {
                next.left.restarts -= 1;
                next.processes[index] = Process::new();
                self.ask(&mut next, index);
            }
            Step::IsLost => {
                next.left.losses -= 1;
                next.record = None;
                next.heard.clear();
            }
            Step::IsRestored => {
                next.left.restorations -= 1;
                next.record = self.init_states().pop()?.record;
                next.heard.clear();
            }
            Step::IsSetRight => {
                next.left.corrections -= 1;
                next.is_set_right = true;
            }
            Step::Passes => {
                next.left.ticks -= 1;
                next.passed += 1;
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(GONE, |_: &Self, standing: &Standing| {
                let mut processes = standing.processes.iter();
                let calls = BTreeSet::from_iter(1..=standing.calls);
                let have_all_heard = processes.all(|process| process.told == calls);
                let mut sessions = standing.sessions.iter();
                sessions.all(|session| {
                    let mut processes = standing.processes.iter().enumerate();
                    processes.all(|(index, process)| {
                        // Of two calls at about the same time, when all have heard of both;
                        // until then what was made where the call was.
                        let own = || process.heard.difference(&process.told).copied();
                        let heard: Vec<u8> = match standing.calls == 1 || have_all_heard {
                            true => process.heard.iter().copied().collect(),
                            false if session.process == index => own().collect(),
                            false => Vec::new(),
                        };
                        let is_of_before = heard.iter().any(|call| session.calls < *call);
                        !is_of_before || !process.opens(session)
                    })
                })
            }),
            Property::always(MADE, |_: &Self, standing: &Standing| !standing.are_refused),
            Property::always(RESUMES, |_: &Self, standing: &Standing| {
                let mut sessions = standing.sessions.iter();
                sessions.all(|session| {
                    let mut processes = standing.processes.iter();
                    processes.all(|process| {
                        !process.heard.is_subset(&session.heard) || process.opens(session)
                    })
                })
            }),
        ]
    }
}

const FEW: Mishaps = Mishaps {
    ticks: 0,
    handshakes: 2,
    calls: 2,
    losses: 0,
    restorations: 0,
    restarts: 0,
    corrections: 0,
};

#[test]
fn nothing_that_was_forgotten_resumes_where_it_was_heard() {
    let is_lost = Mishaps {
        losses: 1,
        restarts: 1,
        calls: 1,
        ..FEW
    };
    let is_restored = Mishaps {
        restorations: 1,
        restarts: 1,
        calls: 1,
        ..FEW
    };
    let is_set_right = Mishaps {
        corrections: 1,
        ..FEW
    };
    for (may, skew) in [
        (is_lost, 0),
        (is_restored, 0),
        (FEW, -1),
        (FEW, 1),
        (is_set_right, 100),
    ] {
        models::holds(Fleet::new(may, skew, None), 40);
    }
}

#[test]
fn a_handshake_that_seems_to_begin_after_the_call_is_found_to_bring_sessions_back() {
    let faults = [Fault::BeginsAtItsEnd, Fault::RenewsAsItWas];
    for fault in faults {
        models::refutation(Fleet::new(FEW, 1, Some(fault)), GONE, 40);
    }
}

#[test]
fn two_calls_at_once_that_nobody_raises_are_found_to_bring_sessions_back() {
    let fleet = Fleet::new(FEW, 1, Some(Fault::MeetsNobody));
    models::refutation(fleet, GONE, 40);
}

#[test]
fn sessions_born_after_a_call_by_a_wrong_clock_are_found_to_be_refused_once_it_is_right() {
    let may = Mishaps {
        corrections: 1,
        ..FEW
    };
    models::refutation(Fleet::new(may, 100, Some(Fault::OutdatesTheCall)), MADE, 40);
}

#[test]
fn tickets_of_no_generation_are_found_to_cost_sessions() {
    models::refutation(Fleet::new(FEW, 0, Some(Fault::SealsUnbound)), RESUMES, 40);
}
