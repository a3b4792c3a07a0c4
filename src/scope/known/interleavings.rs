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
            scopes.forget(&Scope::default(), NOW, &NoSessions);
        });
    });
}

#[test]
fn shuttle_a_handshake_that_ends_as_all_is_forgotten_makes_nothing_that_resumes() {
    try_schedules(TRIES, || {
        ends_while(|scopes| scopes.forget_all(NOW, &NoSessions));
    });
}

/// Where generations decide: whenever it begins, if it opens what was made before, what it makes of it
/// is withheld, or bound to the generation before.
#[test]
fn shuttle_what_renews_as_its_scope_is_forgotten_is_withheld_or_of_the_generation_before() {
    try_schedules(TRIES, || {
        let scopes = Arc::new(Scopes::default());
        let state = scopes.state(Scope::default(), NOW, &NoSessions);
        let forgotten = |generation| Forgotten {
            generation,
            time: Time(0),
        };
        state.heed(forgotten(3), NOW);
        let handshake = {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                let after = times_forgotten();
                let opens = state.bound(3) == Bound::Current;
                let generation = state.generation();
                let birth = state.renewed_birth(NOW.time, after);
                let session = Lineage::of_full_handshake(birth).renewed(birth);
                let is_made = !state.withholds(session, NOW.time, under_way);
                (opens && is_made).then_some(generation)
            })
        };
        scopes.forget(&Scope::default(), NOW, &NoSessions);
        state.heed(forgotten(5), NOW);
        let renewed = handshake.join().unwrap();
        assert!(renewed.is_none_or(|generation| state.bound(generation) == Bound::Earlier));
        let next = Lineage::of_full_handshake(state.birth(NOW.time, times_forgotten()));
        assert!(!state.withholds(next, NOW.time, under_way));
    });
}

fn under_way() -> UnderWay {
    UnderWay {
        here: Duration::ZERO,
        anywhere: Duration::ZERO,
        now: Duration::ZERO,
    }
}
