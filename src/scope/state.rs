use std::sync::Arc;
use std::sync::atomic::AtomicU64 as ProcessAtomicU64;
use std::time::Duration;

use super::{Forgotten, Scope, ScopeDigest};
use crate::clock::Time;
use crate::lineage::Lineage;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What a cache or ring knows about a scope; shared by all handles of that scope.
#[derive(Debug)]
pub(crate) struct ScopeState {
    pub(crate) scope: Scope,
    /// Stands for the scope in the cache's keys; changes when the scope is forgotten, so that
    /// everything stored before is out of reach at once. 0 while scopes are numbered anew.
    pub(super) number: AtomicU32,
    /// Sessions born up to this time (in milliseconds) do not resume.
    pub(super) forgotten: AtomicU64,
    /// What is sealed for it is bound to this, and what is bound to an earlier one does not resume.
    /// 0 unless all processes that share its STEKs know it.
    pub(super) generation: AtomicU64,
    /// Which call forgot it last, as [`times_forgotten`] counts them.
    pub(super) incident: AtomicU64,
    /// The same three for every scope.
    pub(super) all: Arc<All>,
    /// Whether anything was stored under any of its numbers.
    pub(super) has_stored: AtomicBool,
}

/// What holds for every scope, known or not.
#[derive(Debug, Default)]
pub(super) struct All {
    /// Changes under the lock of [`Scopes`], and so does the next one.
    pub(super) forgotten: AtomicU64,
    pub(super) incident: AtomicU64,
    /// 0 but in a forked child that does not know all scopes that have handles.
    pub(super) generation: AtomicU64,
}

/// To which generation of its scope a session is bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bound {
    /// Whoever made it had forgotten what is forgotten here, so made it of nothing before that.
    Current,
    Earlier,
    /// There are no generations; when it was made decides.
    Never,
}

impl ScopeState {
    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Acquire)
    }

    #[cfg(all(test, rustls_resumption_shuttle))]
    pub(crate) fn pretend_number(&self, number: u32) {
        self.number.store(number, Ordering::Release);
    }

    pub(super) fn forgotten(&self) -> Time {
        let all = self.all.forgotten.load(Ordering::Acquire);
        Time(self.forgotten.load(Ordering::Acquire).max(all))
    }

    /// What a session in a shared store is bound to: the scope and a generation of it. The last 8 of
    /// the 32 bytes of a hash are enough to spare.
    pub(crate) fn binding(&self, generation: u64) -> ScopeDigest {
        let mut binding = *self.scope.digest();
        if let Some(last) = binding.last_chunk_mut() {
            *last = (u64::from_be_bytes(*last) ^ generation).to_be_bytes();
        }
        binding
    }

    /// How far what is sealed for it now must be known to be forgotten; 0 if there are no generations.
    ///
    /// Whoever makes a session reads it before anything else of the scope: whoever forgets stores the
    /// time and then the generation, so nothing is bound to a generation without being compared with
    /// its time.
    ///
    /// Whoever seals reads it before anything else. Whoever forgets stores it last, so nothing is bound
    /// to a generation that was not compared with the call and the time of it.
    pub(crate) fn generation(&self) -> u64 {
        let all = self.all.generation.load(Ordering::Acquire);
        self.generation.load(Ordering::Acquire).max(all)
    }

    /// How a session of this generation stands to what is forgotten here.
    pub(crate) fn bound(&self, generation: u64) -> Bound {
        match self.generation() {
            0 => Bound::Never,
            current if generation < current => Bound::Earlier,
            _ => Bound::Current,
        }
    }

    /// Whether generations decide over what is sealed, and times do not.
    pub(crate) fn has_generation(&self) -> bool {
        self.generation() != 0
    }

    /// Whether that is a later generation than it is at.
    pub(crate) fn is_behind(&self, forgotten: Forgotten) -> bool {
        self.generation() < forgotten.generation
    }

    /// Takes over what was forgotten. What was made before must be out of reach by then.
    pub(crate) fn heed(&self, forgotten: Forgotten) {
        self.forgotten.fetch_max(forgotten.time.0, Ordering::AcqRel);
        self.generation
            .fetch_max(forgotten.generation, Ordering::AcqRel);
    }

    /// The birth of a session made by a full handshake that began at this time, when so much had been
    /// forgotten. However the clock stands, it is not after what was forgotten since, and after what
    /// was forgotten before.
    pub(crate) fn birth(&self, began: Time, times_forgotten: u64) -> Time {
        // Before the calls are compared: whoever forgets notes the call and then the time, so the time of
        // a call that is not known yet does not make a session seem to be born after it.
        let forgotten = self.forgotten();
        match self.is_forgotten_since(times_forgotten) {
            false => began.max(Time(forgotten.0.saturating_add(1))),
            true => began.min(forgotten),
        }
    }

    /// The same of a session that renews one of this birth, which may be by a clock that is ahead. It
    /// was opened by a handshake that began when so much had been forgotten.
    pub(crate) fn renewed_birth(&self, birth: Time, times_forgotten: u64) -> Time {
        match self.is_forgotten_since(times_forgotten) {
            false => birth,
            true => birth.min(self.forgotten()),
        }
    }

    fn is_forgotten_since(&self, times_forgotten: u64) -> bool {
        let incident = self.incident.load(Ordering::Acquire);
        incident.max(self.all.incident.load(Ordering::Acquire)) > times_forgotten
    }

    /// Whether a session must not be made or resumed because the scope was forgotten since its birth.
    /// Where that is not known exactly, the time at which the session was made decides: the handshake
    /// may have been `under_way` for so long.
    #[inline(always)]
    pub(crate) fn has_forgotten(
        &self,
        lineage: Lineage,
        made: Time,
        under_way: impl FnOnce() -> Duration,
    ) -> bool {
        let forgotten = self.forgotten();
        if forgotten == Time(0) {
            return false;
        }
        lineage.birth <= forgotten || !lineage.is_exact() && made <= forgotten.plus(under_way())
    }

    /// Keeps the state for as long as the cache may have a session of it.
    pub(crate) fn note_stored(&self) {
        if !self.has_stored.load(Ordering::Relaxed) {
            self.has_stored.store(true, Ordering::Relaxed);
        }
    }

    /// Always moves forward, even if the clock stood still, because births are after the time last
    /// forgotten.
    pub(super) fn forget(&self, now: Time) {
        let before = self.forgotten();
        let later = now.0.max(before.0.saturating_add(1));
        self.incident.fetch_max(next_incident(), Ordering::AcqRel);
        self.forgotten.fetch_max(later, Ordering::AcqRel);
    }
}

// Of the standard library always: one for all tests, of which shuttle runs each in a world of its own.
static INCIDENTS: ProcessAtomicU64 = ProcessAtomicU64::new(0);

/// How often anything was forgotten in this process. What began at a lower number began before.
pub(crate) fn times_forgotten() -> u64 {
    INCIDENTS.load(Ordering::Acquire)
}

pub(super) fn next_incident() -> u64 {
    INCIDENTS.fetch_add(1, Ordering::AcqRel).saturating_add(1)
}
