use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use super::*;
use crate::clock::Moment;
use crate::scope::{NoSessions, Scope, Scopes};
use crate::session::Version;
use crate::session::tests::encoded;

const BORN: Time = Time(7);
const BEGAN: Time = Time(1_000);
const NOW: Time = Time(1_010);

fn tls12(secret: &[u8]) -> Vec<u8> {
    encoded(Version::Tls12, secret, b"")
}

fn tls13(secret: &[u8]) -> Vec<u8> {
    encoded(Version::Tls13, secret, b"")
}

fn give(session: &[u8]) {
    read();
    let given = Given {
        by: ResumedBy::Cache,
        lineage: Lineage::of_full_handshake(BORN),
        at: NOW,
        key_name: None,
        after: 0,
    };
    super::give(Session::parse(session).as_ref(), given);
}

/// Its birth, and whether that is known.
fn sealed(session: &[u8]) -> (Time, bool) {
    let (lineage, _) = lineage_of_sealed(Session::parse(session).as_ref(), &scope(), NOW);
    (lineage.birth, lineage.is_known())
}

fn stored(session: &[u8]) -> (Time, bool) {
    let (lineage, _) = lineage(Session::parse(session).as_ref(), &scope(), NOW);
    (lineage.birth, lineage.is_known())
}

fn scope() -> Arc<ScopeState> {
    Scopes::default().state(Scope::default(), Moment::default(), &NoSessions)
}

fn context() -> Option<Box<Context>> {
    Some(Context::new(BEGAN))
}

#[test]
fn without_a_context_the_same_secret_inherits_once() {
    give(&tls12(b"secret"));
    assert_eq!(sealed(&tls12(b"secret")), (BORN, true));
    assert_eq!(sealed(&tls12(b"secret")), (NOW, true));
}

#[test]
fn certificates_are_verified_of_the_session_that_was_given_last_alone() {
    let mut context = context();
    let session = Duration::from_secs(7);
    within(&mut context, || {
        verified(session);
        give(&tls13(b"of another client, seen on the wire"));
    });
    assert_eq!(context.as_ref().unwrap().verified_ago(), Some(session));
    within(&mut context, || give(&tls13(b"without certificates")));
    assert_eq!(context.unwrap().verified_ago(), None);
}

#[test]
fn without_a_context_another_secret_ends_the_trace() {
    give(&tls12(b"secret"));
    assert_eq!(sealed(&tls12(b"other")), (NOW, true));
    assert_eq!(sealed(&tls12(b"secret")), (NOW, true));
}

#[test]
fn sessions_that_cannot_be_parsed_count_as_renewals() {
    give(b"unheard of");
    assert_eq!(sealed(&tls12(b"any")), (BORN, true));
    give(&tls12(b"secret"));
    assert_eq!(sealed(b"unheard of"), (BORN, true));
    assert_eq!(sealed(b"unheard of"), (NOW, false));
    for (given, made) in [
        (&b"unheard of"[..], &tls13(b"any")[..]),
        (&tls13(b"secret"), b"unheard of"),
    ] {
        let mut context = context();
        within(&mut context, || {
            give(given);
            assert_eq!(stored(made), (BORN, true));
        });
    }
}

#[test]
fn without_a_context_tls13_has_no_known_birth() {
    give(&tls13(b"secret"));
    assert_eq!(sealed(&tls13(b"secret")), (NOW, false));
    assert_eq!(stored(&tls13(b"secret")), (NOW, false));
    give(&tls12(b"secret"));
    assert_eq!(sealed(&tls13(b"secret")), (NOW, false));
}

#[test]
fn a_full_handshake_is_as_old_as_its_context() {
    let mut context = context();
    within(&mut context, || {
        for session in [tls12(b"secret"), tls13(b"secret")] {
            assert_eq!(stored(&session), (BEGAN, true));
            assert_eq!(sealed(&session), (BEGAN, true));
        }
    });
    let context = context.unwrap();
    assert!(context.given().is_none() && !context.was_declined());
}

#[test]
fn in_a_context_every_session_of_the_same_name_and_suite_inherits() {
    let mut context = context();
    within(&mut context, || give(&tls13(b"secret")));
    within(&mut context, || {
        assert_eq!(sealed(&tls13(b"one")), (BORN, true));
        assert_eq!(stored(&tls13(b"two")), (BORN, true));
        let mut other_suite = tls13(b"three");
        other_suite[14] ^= 1;
        assert_eq!(sealed(&other_suite), (BEGAN, true));
        let mut other_name = tls13(b"three");
        other_name[2] ^= 1;
        assert_eq!(sealed(&other_name), (BEGAN, true));
        assert_eq!(sealed(&tls12(b"secret")), (BEGAN, true), "another version");
    });
    assert!(context.unwrap().was_declined());
}

#[test]
fn what_was_of_unknown_birth_stays_so() {
    let mut context = context();
    let lineage = Lineage::of_full_handshake(BORN).of_unknown_age();
    let given = Given {
        by: ResumedBy::Ticket,
        lineage,
        at: NOW,
        key_name: None,
        after: 0,
    };
    within(&mut context, || {
        super::give(Session::parse(&tls13(b"secret")).as_ref(), given);
        assert_eq!(sealed(&tls13(b"other")), (BORN, false));
    });
}

#[test]
fn contexts_nest_and_a_panic_mixes_nothing_up() {
    let (mut outer, mut inner) = (context(), context());
    within(&mut outer, || {
        give(&tls13(b"secret"));
        let result = catch_unwind(AssertUnwindSafe(|| {
            within(&mut inner, || {
                assert_eq!(stored(&tls13(b"other")), (BEGAN, true));
                panic!("on purpose");
            });
        }));
        assert!(result.is_err());
        assert_eq!(stored(&tls13(b"other")), (BORN, true));
    });
    assert_eq!(stored(&tls13(b"other")), (NOW, false), "nothing is left");
    assert!(inner.unwrap().given().is_none());
    assert!(outer.unwrap().given().is_some());
}

#[test]
fn a_context_goes_from_thread_to_thread() {
    let mut context = context();
    within(&mut context, || give(&tls13(b"secret")));
    let context = thread::spawn(move || {
        assert_eq!(stored(&tls13(b"other")), (NOW, false));
        within(&mut context, || {
            assert_eq!(stored(&tls13(b"other")), (BORN, true));
        });
        context
    });
    assert!(!context.join().unwrap().unwrap().was_declined());
}

#[test]
fn without_a_context_a_thread_verifies_little_in_a_moment_however_it_ends() {
    let asked = |now| (0..90).filter(|_| may_verify(Time(now))).count();
    let accepts = thread::spawn(move || [1_000, 1_019, 1_020].map(asked));
    assert_eq!(accepts.join().unwrap(), [32, 0, 32]);
    // Each takes longer than the moment.
    let refuses_slowly = thread::spawn(|| {
        let mut now = Time(1_000);
        let mut verify = || {
            let may = may_verify(now);
            if may {
                let began = now;
                now = now.plus(Duration::from_millis(25));
                refused_afresh(began, now);
            }
            may
        };
        (0..90).filter(|_| verify()).count()
    });
    assert_eq!(refuses_slowly.join().unwrap(), 2);
}
