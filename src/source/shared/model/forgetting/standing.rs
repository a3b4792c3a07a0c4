use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::{Mishaps, UNDER_WAY};
use crate::clock::{Moment, Time};
use crate::lineage::Lineage;
use crate::models;
use crate::scope::{Bound, Forgotten, Generations, NoSessions, Scope, ScopeState, Scopes};
use crate::source::shared::model::START;
use crate::source::shared::record::Record;
use crate::source::shared::record::tests;

#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) passed: u32,
    pub(super) record: Option<Record>,
    pub(super) made: u8,
    /// What the record must have heard of.
    pub(super) heard: BTreeSet<u8>,
    pub(super) processes: Vec<Process>,
    pub(super) sessions: Vec<Session>,
    pub(super) calls: u8,
    pub(super) is_set_right: bool,
    /// Sessions of a full handshake during which nothing was heard.
    pub(super) are_refused: bool,
    pub(super) left: Mishaps,
}

pub(super) struct Process {
    pub(super) held: Option<Record>,
    pub(super) generations: Generations,
    pub(super) scopes: Scopes,
    pub(super) handshake: Option<Handshake>,
    pub(super) heard: BTreeSet<u8>,
    /// Of that, what it has asked the source since.
    pub(super) told: BTreeSet<u8>,
}

/// One that is under way.
#[derive(Clone, Debug)]
pub(super) struct Handshake {
    pub(super) began: Time,
    pub(super) times_forgotten: u64,
    /// Of the session that it resumes.
    pub(super) resumes: Option<Session>,
    /// How often the scope had been forgotten, by anyone.
    pub(super) calls: u8,
    pub(super) heard: BTreeSet<u8>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Session {
    pub(super) lineage: Lineage,
    pub(super) issued: Time,
    pub(super) generation: u64,
    pub(super) calls: u8,
    /// Where its full handshake was; and what was known when its own handshake began, where that was.
    pub(super) process: usize,
    pub(super) heard: BTreeSet<u8>,
}

/// Monotonic time stands still.
pub(super) fn at(time: Time) -> Moment {
    let monotonic = Duration::ZERO;
    Moment { time, monotonic }
}

pub(super) fn scope() -> Scope {
    Scope::new("a scope")
}

impl Process {
    pub(super) fn new() -> Self {
        Self {
            held: None,
            generations: Generations::default(),
            scopes: Scopes::default(),
            handshake: None,
            heard: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }

    /// As whoever installs the scope has it.
    pub(super) fn state(&self) -> Arc<ScopeState> {
        let forgotten = self.generations.of(&scope());
        self.scopes
            .state_since(scope(), forgotten, at(START), &NoSessions)
    }

    pub(super) fn forgotten(&self) -> Forgotten {
        self.generations.of(&scope())
    }

    /// As `Inner` brings a scope up to date.
    pub(super) fn follow(&self, now: Time) {
        if !self.generations.take_news() {
            return;
        }
        let (state, forgotten) = (self.state(), self.forgotten());
        match state.is_behind(forgotten) {
            true => self.forget(now),
            false => state.heed(forgotten, at(now)),
        }
    }

    /// As `Inner` puts what a scope made out of reach.
    pub(super) fn forget(&self, now: Time) {
        self.scopes
            .forget(&scope(), self.forgotten(), at(now), &NoSessions);
    }

    /// As the ring admits a ticket.
    pub(super) fn opens(&self, session: &Session) -> bool {
        let state = self.state();
        match state.bound(session.generation) {
            Bound::Current => true,
            Bound::Earlier => false,
            Bound::Never => !state.has_forgotten(session.lineage, session.issued, || UNDER_WAY),
        }
    }
}

impl Clone for Process {
    fn clone(&self) -> Self {
        Self {
            held: self.held.clone(),
            generations: self.generations.twin(),
            scopes: self.scopes.twin(),
            handshake: self.handshake.clone(),
            heard: self.heard.clone(),
            told: self.told.clone(),
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("handshake", &self.handshake)
            .field("state", &self.state())
            .field("heard", &self.heard)
            .finish_non_exhaustive()
    }
}

impl Hash for Session {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.lineage.to_bytes().hash(state);
        (self.issued.0, self.generation).hash(state);
        (self.calls, self.process, &self.heard).hash(state);
    }
}

/// All that decides what may follow. What counts of how often anything was forgotten is whether that
/// was before a handshake began.
impl Hash for Standing {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.passed, self.made, self.calls, self.left).hash(state);
        (self.is_set_right, self.are_refused).hash(state);
        (&self.heard, &self.sessions).hash(state);
        let held = self.processes.iter().map(|process| &process.held);
        for record in held.chain([&self.record]) {
            record.is_some().hash(state);
            if let Some(record) = record {
                tests::hash(record, state);
            }
        }
        for process in &self.processes {
            (&process.heard, &process.told).hash(state);
            let forgotten = process.forgotten();
            (forgotten.generation, forgotten.time.0).hash(state);
            let (scope, began) = (process.state(), process.handshake.as_ref());
            scope.generation().hash(state);
            scope.birth(Time(0), u64::MAX).0.hash(state);
            if let Some(handshake) = began {
                (handshake.began.0, handshake.calls, &handshake.heard).hash(state);
                handshake.resumes.hash(state);
                let birth = scope.birth(Time(u64::MAX), handshake.times_forgotten);
                birth.0.hash(state);
            }
        }
    }
}

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        models::hashed(self) == models::hashed(other)
    }
}
