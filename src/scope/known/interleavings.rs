//! A handshake that ends as its scope is forgotten, on every schedule that there is time for.

use std::time::Duration;

use shuttle::thread;

use super::*;
use crate::clock::Time;
use crate::lineage::Lineage;
use crate::scope::{Bound, UnderWay, times_forgotten};
use crate::sync::try_schedules;

const TRIES: usize = 1_000;

const NOW: Moment = Moment {
    time: Time(1_800_000_000_000),
    monotonic: Duration::ZERO,
};

/// Whichever comes first, its session is born by the time that is forgotten.
fn ends_while(forget: fn(&Scopes)) {
    let scopes = Arc::new(Scopes::default());
    let state = scopes.state(Scope::default(), NOW, &NoSessions);
    let after = times_forgotten();
    let handshake = {
        let state = Arc::clone(&state);
        thread::spawn(move || {
            let birth = state.birth(NOW.time, after);
            (birth, state.renewed_birth(birth, after))
        })
    };
    forget(&scopes);
    let births = handshake.join().unwrap();
    assert_eq!(state.forgotten(), NOW.time);
    for birth in [births.0, births.1] {
        let session = Lineage::of_full_handshake(birth);
        assert!(state.has_forgotten(session, NOW.time, || Duration::ZERO));
    }
    let next = state.birth(NOW.time, times_forgotten());
    assert!(next > NOW.time, "what begins after it is born after it");
}

#[test]
fn shuttle_a_handshake_that_ends_as_its_scope_is_forgotten_makes_nothing_that_resumes() {
    try_schedules(TRIES, || {
        ends_while(|scopes| {
            scopes.forget(&Scope::default(), forgotten(0), NOW, &NoSessions);
        });
    });
}

#[test]
fn shuttle_a_handshake_that_ends_as_all_is_forgotten_makes_nothing_that_resumes() {
    try_schedules(TRIES, || {
        ends_while(|scopes| scopes.forget_all(|_| forgotten(0), 0, NOW, &NoSessions));
    });
}

fn forgotten(generation: u64) -> Forgotten {
    Forgotten {
        generation,
        time: Time(0),
    }
}

/// A scope where generations decide.
fn scope_of_generations() -> (Arc<Scopes>, Arc<ScopeState>) {
    let scopes = Arc::new(Scopes::default());
    let state = scopes.state(Scope::default(), NOW, &NoSessions);
    state.heed(forgotten(3), NOW);
    (scopes, state)
}

/// Whether a session is made that renews one, in a handshake that began when so much was forgotten.
fn is_renewed(state: &ScopeState, after: u64) -> bool {
    let birth = state.renewed_birth(NOW.time, after);
    let session = Lineage::of_full_handshake(birth).renewed(birth);
    !state.withholds(session, NOW.time, under_way)
}

/// Whenever its handshake begins, in the middle of the call too: if it opens what was made before it,
/// what it makes of that is withheld, or bound to the generation before.
#[test]
fn shuttle_what_renews_as_its_scope_is_forgotten_is_withheld_or_of_the_generation_before() {
    try_schedules(TRIES, || {
        let (scopes, state) = scope_of_generations();
        let handshake = {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                let after = times_forgotten();
                let opens = state.bound(3) == Bound::Current;
                let generation = state.generation();
                (opens && is_renewed(&state, after)).then_some(generation)
            })
        };
        scopes.forget(&Scope::default(), forgotten(5), NOW, &NoSessions);
        let renewed = handshake.join().unwrap();
        assert!(renewed.is_none_or(|generation| state.bound(generation) == Bound::Earlier));
        let next = Lineage::of_full_handshake(state.birth(NOW.time, times_forgotten()));
        assert!(!state.withholds(next, NOW.time, under_way));
    });
}

/// What a store gave up to the call is neither kept nor given under the number that comes after.
fn looked_up_while(forget: fn(&Scopes)) {
    let (scopes, state) = scope_of_generations();
    let look_up = {
        let state = Arc::clone(&state);
        thread::spawn(move || {
            let number = state.number();
            (state.bound(3) == Bound::Current).then_some(number)
        })
    };
    forget(&scopes);
    let found = look_up.join().unwrap();
    assert_ne!(found, Some(state.number()));
}

#[test]
fn shuttle_what_is_looked_up_as_its_scope_is_forgotten_is_of_no_use() {
    try_schedules(TRIES, || {
        looked_up_while(|scopes| {
            scopes.forget(&Scope::default(), forgotten(5), NOW, &NoSessions);
        });
    });
    try_schedules(TRIES, || {
        looked_up_while(|scopes| scopes.forget_all(|_| forgotten(5), 0, NOW, &NoSessions));
    });
}

/// What is found in the cache before the call is not stored again under the number that comes after.
#[test]
fn shuttle_what_is_found_as_its_scope_is_forgotten_is_not_stored_again() {
    try_schedules(TRIES, || {
        let (scopes, state) = scope_of_generations();
        let before = state.number();
        let handshake = {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                let after = times_forgotten();
                let is_found = state.number() == before;
                let number = state.number();
                (is_found && is_renewed(&state, after)).then_some(number)
            })
        };
        scopes.forget(&Scope::default(), forgotten(5), NOW, &NoSessions);
        let stored = handshake.join().unwrap();
        assert_ne!(stored, Some(state.number()));
    });
}

fn under_way() -> UnderWay {
    UnderWay {
        here: Duration::ZERO,
        anywhere: Duration::ZERO,
        now: Duration::ZERO,
    }
}
