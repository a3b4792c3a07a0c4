use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::state::{Extent, ScopeState};
use super::{Forgotten, Scope};
use crate::clock::Moment;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The scopes known to a cache, to a ring, or to a pair of them: those that have a handle, sessions
/// in the cache, or something forgotten that could still be offered. All others are dropped as new
/// ones come.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    known: Mutex<Known>,
    /// The last number that was given out; changes under the lock.
    last_number: AtomicU32,
    /// How far every scope is forgotten. Times of it change under the lock.
    all: Arc<Extent>,
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

impl Scopes {
    /// The state of a scope. `cache` tells which numbers are in use.
    pub(crate) fn state(
        &self,
        scope: Scope,
        now: Moment,
        cache: &impl HoldsScopes,
    ) -> Arc<ScopeState> {
        self.state_since(scope, Forgotten::default(), now, cache)
    }

    /// The same. If it is a new one, it has forgotten so much.
    pub(crate) fn state_since(
        &self,
        scope: Scope,
        forgotten: Forgotten,
        now: Moment,
        cache: &impl HoldsScopes,
    ) -> Arc<ScopeState> {
        let mut dropped = Vec::new(); // after unlocking
        let known = &mut *self.known.lock();
        if let Some(state) = known.states.get(&scope) {
            return Arc::clone(state);
        }
        if known.states.len() >= known.limit.max(FEW) {
            known.drop_unneeded(now, cache, &mut dropped);
        }
        let state = Arc::new(ScopeState {
            scope: scope.clone(),
            number: AtomicU32::new(self.fresh_number(known, cache)),
            own: Extent::since(forgotten),
            all: Arc::clone(&self.all),
            has_stored: AtomicBool::new(false),
        });
        known.states.insert(scope, Arc::clone(&state));
        state
    }

    /// Puts everything the scope made up to `now` out of reach, and has it heed what was forgotten of
    /// it by then. Returns its previous number; `None` if the whole cache must be emptied.
    pub(crate) fn forget(
        &self,
        scope: &Scope,
        forgotten: Forgotten,
        now: Moment,
        cache: &impl HoldsScopes,
    ) -> Option<u32> {
        if self.known.lock().is_partial {
            // Some handle may have a state of it that is not known here.
            self.forget_all(|_| Forgotten::default(), forgotten.generation, now, cache);
            return None;
        }
        let state = self.state(scope.clone(), now, cache);
        let known = &mut *self.known.lock();
        let number = self.fresh_number(known, cache);
        // First nothing is found any more, then all that began by then is known to have begun before,
        // and only then is anything stored again. A look-up in a store reads the number first and
        // compares it last: where it is the new one, nothing opens that is of before.
        let before = state.number.swap(0, Ordering::AcqRel);
        state.forget(now);
        state.heed(forgotten, now);
        state.number.store(number, Ordering::Release);
        Some(before)
    }

    /// Whether there may be a scope that is not known here, and is not at this generation.
    pub(crate) fn may_be_behind(&self, generation: u64) -> bool {
        self.known.lock().is_partial && self.all.generation() < generation
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

    /// Puts everything that any scope made up to `now` out of reach, and has each heed what was
    /// forgotten of it. Where some may have handles that are not known here, every scope is bound to
    /// the `greatest` generation.
    pub(crate) fn forget_all(
        &self,
        forgotten: impl Fn(&Scope) -> Forgotten,
        greatest: u64,
        now: Moment,
        cache: &impl HoldsScopes,
    ) {
        let known = &mut *self.known.lock();
        let greatest = match known.is_partial {
            true => greatest,
            false => 0,
        };
        let latest = known.states.values().map(|state| state.forgotten()).max();
        let states = known.states.values();
        let states: Vec<_> = states
            .map(|state| (Arc::clone(state), forgotten(&state.scope)))
            .collect();
        // In the order in which one is forgotten.
        for (state, _) in &states {
            state.number.store(0, Ordering::Release);
        }
        // Those that are met later must not seem to be before them.
        let time = now.time.max(latest.unwrap_or_default().next());
        self.all.forget(Moment { time, ..now });
        self.all.heed(greatest, now);
        for (state, forgotten) in states {
            state.heed(forgotten, now);
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
        now: Moment,
        cache: &impl HoldsScopes,
        dropped: &mut Vec<Arc<ScopeState>>,
    ) {
        // Whoever gets a handle does so under the lock that is held here, or from another handle.
        let is_idle =
            |state: &Arc<ScopeState>| Arc::strong_count(state) == 1 && state.may_be_dropped(now);
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
