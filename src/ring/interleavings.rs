//! The snapshot and those who swap it, on every schedule that there is time for.

use shuttle::thread;

use super::*;
use crate::clock::{FakeClock, Time};
use crate::resumption::StekRing;
use crate::scope::{Forgotten, Scope};
use crate::session::Version;
use crate::session::tests::encoded;
use crate::source::{RandomSource, SourceError, SourceKey, SourceQuery, StekSource, source_fn};
use crate::sync::try_schedules;
use crate::ticket;

const TRIES: usize = 1_000;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn session() -> Vec<u8> {
    encoded(Version::Tls13, &[7; 48], b"")
}

/// A ring that nobody steps, and its clock.
fn ring(source: impl StekSource + 'static) -> (FakeClock, StekRing) {
    let time = FakeClock::new();
    let terms = Terms {
        clock: time.clock(),
        ..Terms::default()
    };
    let ring = StekRing::with(RingSettings::default(), Some(Box::new(source)), terms);
    (time, ring.unwrap())
}

/// Seals what a handshake makes that begins now.
fn seal_in_handshake(ring: &StekRing) -> Option<Vec<u8>> {
    context::in_handshake(ring.inner.terms.now(), || ring.seal(&session()))
}

fn name(ticket: &[u8]) -> KeyName {
    KeyName::from_bytes(*ticket::key_name(ticket).unwrap())
}

#[test]
fn shuttle_what_is_sealed_opens_while_keys_rotate_and_time_passes() {
    try_schedules(TRIES, || {
        let (time, ring) = ring(RandomSource::default());
        let sealers = [(); 2].map(|()| {
            let ring = ring.clone();
            thread::spawn(move || {
                let tickets = [(); 2].map(|()| {
                    // Between its looks at the snapshot and at the clock five minutes may pass, and
                    // who seals next be made known; not once more.
                    let ticket = ring.seal(&session()).or_else(|| ring.seal(&session()));
                    let ticket = ticket.expect("one always seals");
                    assert_eq!(ring.open(&ticket), Some(session()));
                    ticket
                });
                assert!(tickets.iter().all(|ticket| ring.open(ticket).is_some()));
                tickets
            })
        });
        let rotator = {
            let ring = ring.clone();
            thread::spawn(move || ring.rotate_now().unwrap())
        };
        // Its successor is published, and seals on time whoever steps the ring.
        time.advance(HOUR - Rotation::DEFAULT_PUBLISH_AHEAD);
        ring.step();
        // A source that is still asked when the key retires is late, and leaves a gap until a local
        // key stands in.
        rotator.join().unwrap();
        ring.step();
        time.advance(Rotation::DEFAULT_PUBLISH_AHEAD);
        ring.step();
        for tickets in sealers.map(|sealer| sealer.join().unwrap()) {
            assert!(tickets.iter().all(|ticket| ring.open(ticket).is_some()));
        }
        let counts = ring.ticket_stats();
        assert_eq!((counts.sealed, counts.opened), (4, 12));
        assert!(counts.not_sealed.no_key <= 2, "{:?}", counts.not_sealed);
        assert!(ring.stek_stats().rotations >= 1);
    });
}

#[test]
fn shuttle_a_revoked_key_is_out_of_use_whoever_asks_its_source_meanwhile() {
    try_schedules(TRIES, || {
        // It gives the first key for ever, and another beside it once that is revoked.
        let source = source_fn("stubborn", |query| {
            let first = query.stek(b"0123456789abcdef0123456789abcdef")?;
            let mut keys = Vec::new();
            if query.revoked.contains(first.name()) {
                let next = query.stek(b"the next one, of 32 bytes or so.")?;
                keys.push(SourceKey::sealing(next));
            }
            keys.push(SourceKey::sealing(first));
            Ok::<_, SourceError>(keys)
        });
        let (time, ring) = ring(source);
        let before = ring.seal(&session()).unwrap();
        let first = name(&before);
        let stepper = {
            let ring = ring.clone();
            thread::spawn(move || {
                time.advance(SourceQuery::DEFAULT_INTERVAL);
                ring.step();
            })
        };
        let sealer = {
            let ring = ring.clone();
            thread::spawn(move || ring.seal(&session()))
        };
        assert_eq!(ring.revoke(&first).steks, 1);
        assert_eq!(ring.open(&before), None, "from the next handshake on");
        let after = ring.seal(&session()).expect("another has taken over");
        assert_ne!(name(&after), first);
        let meanwhile = sealer.join().unwrap();
        stepper.join().unwrap();
        assert_eq!(ring.open(&before), None);
        assert!(ring.open(&after).is_some());
        if let Some(ticket) = meanwhile {
            assert_eq!(ring.open(&ticket).is_some(), name(&ticket) != first);
        }
        let stats = ring.stek_stats();
        assert_ne!(stats.active, Some(first));
        assert_eq!((stats.revocations, stats.fallen_back), (1, false));
    });
}

#[test]
fn shuttle_what_a_scope_sealed_before_it_was_forgotten_stays_closed() {
    try_schedules(TRIES, || {
        let (time, ring) = ring(RandomSource::default());
        let before = ring.seal(&session()).unwrap();
        let sealer = {
            let ring = ring.clone();
            thread::spawn(move || seal_in_handshake(&ring))
        };
        let forgetter = {
            let ring = ring.clone();
            thread::spawn(move || drop(ring.forget(Scope::default())))
        };
        time.advance(Duration::from_millis(1));
        let _ = ring.forget(Scope::default());
        assert_eq!(ring.open(&before), None);
        forgetter.join().unwrap();
        let after = seal_in_handshake(&ring).unwrap();
        assert_eq!(ring.open(&after), Some(session()));
        assert_eq!(ring.open(&before), None);
        // It was made before one of the two, or after both; or its handshake was under way.
        let refused = u64::from(sealer.join().unwrap().is_none());
        let not_sealed = ring.ticket_stats().not_sealed;
        // Between the two steps of a call a birth may be that of the call before, or the oldest.
        assert_eq!(not_sealed.revoked + not_sealed.too_old, refused);
    });
}

/// A session of before that is renewed while its scope is forgotten does not resume afterwards,
/// where generations decide.
fn renew_while(forget: fn(&StekRing)) {
    let (_, ring) = ring(RandomSource::default());
    // As if its source had told all processes that share it.
    let generations = &ring.inner.terms.generations;
    generations.hear(&[], Forgotten::default());
    let before = seal_in_handshake(&ring).unwrap();
    let renewer = {
        let ring = ring.clone();
        let renew = move || ring.open(&before).and_then(|session| ring.seal(&session));
        thread::spawn(move || context::in_handshake(Time(0), renew))
    };
    forget(&ring);
    let renewed = renewer.join().unwrap();
    assert_eq!(renewed.and_then(|ticket| ring.open(&ticket)), None);
}

/// The same of a TLS 1.2 session in a handshake that nobody follows.
fn renew_unseen_while(forget: fn(&StekRing)) {
    let (_, ring) = ring(RandomSource::default());
    let generations = &ring.inner.terms.generations;
    generations.hear(&[], Forgotten::default());
    let session = encoded(Version::Tls12, &[7; 48], b"");
    let before = context::in_handshake(Time(FakeClock::START * 1_000), || ring.seal(&session));
    let renewer = {
        let (ring, before) = (ring.clone(), before.unwrap());
        thread::spawn(move || ring.open(&before).and_then(|session| ring.seal(&session)))
    };
    forget(&ring);
    let renewed = renewer.join().unwrap();
    assert_eq!(renewed.and_then(|ticket| ring.open(&ticket)), None);
}

/// What another process forgot.
fn hear(ring: &StekRing) {
    let forgotten = Forgotten {
        generation: FakeClock::START * 1_000,
        time: Time(FakeClock::START * 1_000),
    };
    let digest = *Scope::default().digest();
    let generations = &ring.inner.terms.generations;
    generations.hear(&[(digest, forgotten)], Forgotten::default());
}

#[test]
fn shuttle_what_is_renewed_while_its_scope_is_forgotten_stays_closed() {
    try_schedules(TRIES, || {
        renew_while(|ring| drop(ring.forget(Scope::default())));
    });
}

#[test]
fn shuttle_what_is_renewed_unseen_while_its_scope_is_forgotten_stays_closed() {
    try_schedules(TRIES, || {
        renew_unseen_while(|ring| drop(ring.forget(Scope::default())));
    });
}

#[test]
fn shuttle_what_is_renewed_while_another_process_tells_stays_closed() {
    try_schedules(TRIES, || {
        renew_while(|ring| {
            hear(ring);
            ring.step();
        });
    });
}

#[test]
fn shuttle_what_is_renewed_while_another_handle_hears_of_it_stays_closed() {
    try_schedules(TRIES, || {
        renew_while(|ring| {
            hear(ring);
            ring.scoped(Scope::default()).step();
        });
    });
}

#[test]
fn shuttle_a_closed_ring_keeps_no_key_and_no_source() {
    try_schedules(TRIES, || {
        let kept = Arc::new(());
        let theirs = Arc::clone(&kept);
        let source = source_fn("kept", move |query| {
            let _ = &theirs;
            let stek = query.stek(b"0123456789abcdef0123456789abcdef")?;
            Ok::<_, SourceError>(vec![SourceKey::sealing(stek)])
        });
        let (time, ring) = ring(source);
        let ticket = ring.seal(&session()).unwrap();
        let stepper = {
            let ring = ring.clone();
            thread::spawn(move || {
                time.advance(SourceQuery::DEFAULT_INTERVAL);
                ring.step();
                let _ = ring.rotate_now();
            })
        };
        let sealer = {
            let ring = ring.clone();
            thread::spawn(move || drop(ring.seal(&session())))
        };
        ring.inner.ring.as_ref().unwrap().close();
        assert_eq!(ring.open(&ticket), None);
        assert_eq!(ring.seal(&session()), None);
        stepper.join().unwrap();
        sealer.join().unwrap();
        assert_eq!(ring.open(&ticket), None);
        assert_eq!(ring.stek_stats().keys, 0);
        assert_eq!(Arc::strong_count(&kept), 1, "dropped with its keys");
    });
}
