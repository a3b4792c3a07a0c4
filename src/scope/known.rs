use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64 as ProcessAtomicU64;
use std::time::Duration;

use crate::clock::Time;
use crate::lineage::Lineage;
use crate::rotation::Rotation;
use crate::scope::{Forgotten, Scope, ScopeDigest};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What a cache or ring knows about a scope; shared by all handles of that scope.
#[derive(Debug)]
pub(crate) struct ScopeState {
    pub(crate) scope: Scope,
    /// Stands for the scope in the cache's keys; changes when the scope is forgotten, so that
    /// everything stored before is out of reach at once. 0 while scopes are numbered anew.
    number: AtomicU32,
    /// Sessions born up to this time (in milliseconds) do not resume.
    forgotten: AtomicU64,
    /// What is sealed for it is bound to this, and what is bound to an earlier one does not resume.
    /// 0 unless all processes that share its STEKs know it.
    generation: AtomicU64,
    /// Which call forgot it last, as [`times_forgotten`] counts them.
    incident: AtomicU64,
    /// The same three for every scope.
    all: Arc<All>,
    /// Whether anything was stored under any of its numbers.
    has_stored: AtomicBool,
}

/// What holds for every scope, known or not.
#[derive(Debug, Default)]
struct All {
    /// Changes under the lock of [`Scopes`], and so does the next one.
    forgotten: AtomicU64,
    incident: AtomicU64,
    /// 0 but in a forked child that does not know all scopes that have handles.
    generation: AtomicU64,
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

    fn forgotten(&self) -> Time {
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
    fn forget(&self, now: Time) {
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

fn next_incident() -> u64 {
    INCIDENTS.fetch_add(1, Ordering::AcqRel).saturating_add(1)
}

/// The scopes known to a cache, to a ring, or to a pair of them: those that have a handle, sessions
/// in the cache, or something forgotten that could still be offered. All others are dropped as new
/// ones come.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    known: Mutex<Known>,
    /// The last number that was given out; changes under the lock.
    last_number: AtomicU32,
    all: Arc<All>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    states: HashMap<Scope, Arc<ScopeState>>,
    /// Whether other scopes may have handles.
    is_partial: bool,
    /// How many there may be before unneeded ones are dropped.
    limit: usize,
}

/// Up to this many are kept, needed or not.
const FEW: usize = 1_024;

/// The longest that anything may be offered again after it was issued: what was forgotten before
/// need not be remembered.
const MEMORY: Duration = Rotation::MAX_TICKET_LIFETIME;

impl Scopes {
    /// The state of a scope. `cache` tells which numbers are in use.
    pub(crate) fn state(
        &self,
        scope: Scope,
        now: Time,
        cache: &impl HoldsScopes,
    ) -> Arc<ScopeState> {
        self.state_since(scope, Forgotten::default(), now, cache)
    }

    /// The same. If it is a new one, it has forgotten so much.
    pub(crate) fn state_since(
        &self,
        scope: Scope,
        forgotten: Forgotten,
        now: Time,
        cache: &impl HoldsScopes,
    ) -> Arc<ScopeState> {
        let mut dropped = Vec::new(); // after unlocking
        let known = &mut *self.known.lock();
        if let Some(state) = known.states.get(&scope) {
            return Arc::clone(state);
        }
        if known.states.len() >= known.limit.max(FEW) {
            let all_forgotten = Time(self.all.forgotten.load(Ordering::Acquire));
            known.drop_unneeded(now, all_forgotten, cache, &mut dropped);
        }
        let state = Arc::new(ScopeState {
            scope: scope.clone(),
            number: AtomicU32::new(self.fresh_number(known, cache)),
            forgotten: AtomicU64::new(forgotten.time.0),
            generation: AtomicU64::new(forgotten.generation),
            incident: AtomicU64::new(0),
            all: Arc::clone(&self.all),
            has_stored: AtomicBool::new(false),
        });
        known.states.insert(scope, Arc::clone(&state));
        state
    }

    /// Puts everything the scope made up to `now` out of reach. Returns its previous number; `None`
    /// if the whole cache must be emptied.
    pub(crate) fn forget(&self, scope: &Scope, now: Time, cache: &impl HoldsScopes) -> Option<u32> {
        if self.known.lock().is_partial {
            // Some handle may have a state of it that is not known here.
            self.forget_all(now, cache);
            return None;
        }
        let state = self.state(scope.clone(), now, cache);
        let number = self.fresh_number(&mut self.known.lock(), cache);
        state.forget(now);
        Some(state.number.swap(number, Ordering::AcqRel))
    }

    /// Whether there may be a scope that is not known here, and is not at this generation.
    pub(crate) fn may_be_behind(&self, generation: u64) -> bool {
        let all = self.all.generation.load(Ordering::Acquire);
        self.known.lock().is_partial && all < generation
    }

    /// Binds every scope to this generation at least, also those that are not known here. What was made
    /// before must be out of reach by then.
    pub(crate) fn heed_for_all(&self, generation: u64) {
        self.all.generation.fetch_max(generation, Ordering::AcqRel);
    }

    pub(crate) fn find(&self, scope: &Scope) -> Option<Arc<ScopeState>> {
        self.known.lock().states.get(scope).map(Arc::clone)
    }

    /// The scopes that are known, of this name or all.
    pub(crate) fn named(&self, name: Option<&str>) -> Vec<Arc<ScopeState>> {
        let known = self.known.lock();
        let named = known.states.values();
        named
            .filter(|state| name.is_none_or(|name| state.scope.name() == name))
            .map(Arc::clone)
            .collect()
    }

    /// Puts everything that any scope made up to `now` out of reach.
    pub(crate) fn forget_all(&self, now: Time, cache: &impl HoldsScopes) {
        let known = &mut *self.known.lock();
        let latest = known.states.values().map(|state| state.forgotten().0).max();
        let before = self
            .all
            .forgotten
            .load(Ordering::Acquire)
            .max(latest.unwrap_or(0));
        let forgotten = now.0.max(before.saturating_add(1));
        self.all.incident.store(next_incident(), Ordering::Release);
        self.all.forgotten.store(forgotten, Ordering::Release);
        let states: Vec<_> = known.states.values().map(Arc::clone).collect();
        for state in states {
            let number = self.fresh_number(known, cache);
            state.number.store(number, Ordering::Release);
        }
    }

    /// A number that is not in use. When there is none, the cache is emptied and all scopes are
    /// numbered anew.
    fn fresh_number(&self, known: &mut Known, cache: &impl HoldsScopes) -> u32 {
        let mut last = self.last_number.load(Ordering::Acquire);
        if last == u32::MAX {
            for state in known.states.values() {
                state.number.store(0, Ordering::Release); // nothing is stored or found under it
            }
            cache.drop_all();
            last = 0;
            for state in known.states.values() {
                last = last.saturating_add(1);
                state.number.store(last, Ordering::Release);
            }
        }
        last = last.saturating_add(1);
        self.last_number.store(last, Ordering::Release);
        last
    }

    /// The same scopes in a forked child. If another thread was changing them at the fork, they are
    /// unknown there, and forgetting one scope forgets all.
    pub(crate) fn heir(&self) -> Self {
        let known = self.known.try_lock().map(|known| known.clone());
        let known = known.unwrap_or_else(|| Known {
            is_partial: true,
            ..Known::default()
        });
        Self {
            known: Mutex::new(known),
            last_number: AtomicU32::new(self.last_number.load(Ordering::Acquire)),
            all: Arc::clone(&self.all),
        }
    }

    /// As if all but the last number had been given out.
    #[cfg(test)]
    pub(crate) fn use_up_numbers(&self) {
        self.last_number.store(u32::MAX - 1, Ordering::Release);
    }

    #[cfg(test)]
    pub(crate) fn hold(&self) -> impl Sized {
        self.known.lock()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.known.lock().states.len()
    }
}

/// A cache whose keys have the numbers of scopes in them.
pub(crate) trait HoldsScopes {
    /// The numbers under which it has sessions.
    fn scopes(&self) -> HashSet<u32>;

    /// Drops every session.
    fn drop_all(&self);
}

/// A cache that holds nothing.
#[cfg(any(test, rustls_resumption_fuzzing))]
pub(crate) struct NoSessions;

#[cfg(any(test, rustls_resumption_fuzzing))]
impl HoldsScopes for NoSessions {
    fn scopes(&self) -> HashSet<u32> {
        HashSet::new()
    }

    fn drop_all(&self) {}
}

impl Known {
    /// Looks at each state, and sometimes at the whole cache; but only after as many were added as
    /// it leaves.
    fn drop_unneeded(
        &mut self,
        now: Time,
        all_forgotten: Time,
        cache: &impl HoldsScopes,
        dropped: &mut Vec<Arc<ScopeState>>,
    ) {
        // Whoever gets a handle does so under the lock that is held here, or from another handle.
        let is_idle = |state: &Arc<ScopeState>| {
            Arc::strong_count(state) == 1
                && (state.forgotten() <= all_forgotten || state.forgotten().plus(MEMORY) < now)
        };
        let is_unused = |state: &Arc<ScopeState>| !state.has_stored.load(Ordering::Relaxed);
        let mut keep_unless = |is_unneeded: bool, state: &Arc<ScopeState>| {
            if is_unneeded {
                dropped.push(Arc::clone(state));
            }
            !is_unneeded
        };
        self.states
            .retain(|_, state| keep_unless(is_idle(state) && is_unused(state), state));
        if self.states.len() > self.limit.max(FEW) / 2 {
            let used = cache.scopes();
            let is_unused = |state: &Arc<ScopeState>| !used.contains(&state.number());
            self.states
                .retain(|_, state| keep_unless(is_idle(state) && is_unused(state), state));
        }
        self.limit = self.states.len().saturating_mul(2);
    }
}

#[cfg(all(test, rustls_resumption_shuttle))]
mod interleavings;
#[cfg(test)]
mod tests;
