//! A handshake that ends as its scope is forgotten, on every schedule that there is time for.

use shuttle::thread;

use super::*;
use crate::lineage::Lineage;
use crate::scope::times_forgotten;
use crate::sync::try_schedules;

const TRIES: usize = 1_000;

const NOW: Time = Time(1_800_000_000_000);

/// Whichever comes first, its session is born by the time that is forgotten.
fn ends_while(forget: fn(&Scopes)) {
    let scopes = Arc::new(Scopes::default());
    let state = scopes.state(Scope::default(), NOW, &NoSessions);
    let after = times_forgotten();
    let handshake = {
        let state = Arc::clone(&state);
        thread::spawn(move || {
            let birth = state.birth(NOW, after);
            (birth, state.renewed_birth(birth, after))
        })
    };
    forget(&scopes);
    let births = handshake.join().unwrap();
    assert_eq!(state.forgotten(), NOW);
    for birth in [births.0, births.1] {
        let session = Lineage::of_full_handshake(birth);
        assert!(state.has_forgotten(session, NOW, || Duration::ZERO));
    }
    let next = state.birth(NOW, times_forgotten());
    assert!(next > NOW, "what begins after it is born after it");
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
