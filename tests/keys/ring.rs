//! The ring of STEKs against its windows, on a clock that jumps, stops and is set back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fuzz_bodies::ring::{Op, check, fake};
use proptest::prelude::*;
use rustls::server::ProducesTickets;
use rustls_resumption::source::{SourceError, SourceKey, SourceQuery, StekSource, source_fn};
use rustls_resumption::stats::StekState;
use rustls_resumption::{FakeClock, KeyName, Resumption, Rotation, Sealing, Stek, StekRing};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn ops() -> impl Strategy<Value = Vec<Op>> {
    // Whole seconds are multiples of the clock's grain.
    let some_time = (0..4 * 3600_u64).prop_map(|s| Duration::from_secs(s - s % 16));
    let op = prop_oneof![
        4 => some_time.clone().prop_map(Op::Pass),
        1 => some_time.clone().prop_map(Op::StepForward),
        1 => some_time.prop_map(Op::StepBack),
        4 => Just(Op::Step),
        6 => Just(Op::Seal),
        8 => any::<usize>().prop_map(Op::Open),
        1 => Just(Op::Rotate),
        1 => any::<usize>().prop_map(Op::Revoke),
    ];
    proptest::collection::vec(op, 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn tickets_open_in_their_window_and_never_outside(ops in ops()) {
        check(ops);
    }
}

#[test]
fn after_a_week_idle_without_a_timer_no_expired_key_opens_or_seals() {
    let (time, resumption, ring) = fake(Rotation::new());
    let ticket = ring.encrypt(b"session").unwrap();
    time.advance(7 * 24 * HOUR);
    assert_eq!(ring.decrypt(&ticket), None);
    assert_eq!(ring.encrypt(b"session"), None, "nobody stepped the ring");
    let stats = resumption.stats().tickets;
    assert_eq!((stats.refused.expired_key, stats.not_sealed.no_key), (1, 1));
    resumption.step();
    let fresh = ring.encrypt(b"session").unwrap();
    assert_eq!(ring.decrypt(&fresh).unwrap(), b"session");
    assert_eq!(ring.decrypt(&ticket), None);
}

#[test]
fn a_published_key_takes_over_on_time_even_if_the_timer_is_late() {
    let (time, resumption, ring) = fake(Rotation::new());
    time.advance(HOUR - MINUTE);
    resumption.step();
    let first = ring.encrypt(b"session").unwrap();
    time.advance(MINUTE);
    let second = ring.encrypt(b"session").unwrap();
    assert_ne!(first[..16], second[..16]);
    assert!(ring.decrypt(&second).is_some());
}

#[test]
fn no_jump_of_the_wall_clock_revives_an_expired_key() {
    let (time, resumption, ring) = fake(Rotation::new());
    let ticket = ring.encrypt(b"session").unwrap();
    time.step_forward(14 * HOUR);
    assert_eq!(
        ring.decrypt(&ticket),
        None,
        "a jump ahead costs full handshakes"
    );
    time.step_back(14 * HOUR);
    assert_eq!(ring.decrypt(&ticket), None);
    resumption.step();
    assert_eq!(ring.decrypt(&ticket), None);
    assert!(ring.encrypt(b"session").is_some());
}

#[test]
fn stepping_the_clock_back_extends_no_key() {
    let (time, resumption, ring) = fake(Rotation::new());
    let ticket = ring.encrypt(b"session").unwrap();
    for _ in 0..13 {
        time.step_back(HOUR);
        time.advance(HOUR);
        resumption.step();
    }
    assert_eq!(ring.decrypt(&ticket), None);
}

#[test]
fn what_is_too_long_is_neither_sealed_nor_opened() {
    let (_, resumption, ring) = fake(Rotation::new());
    let longest = 16 * 1024 - 56;
    let ticket = ring.encrypt(&vec![7; longest]).unwrap();
    assert_eq!(ticket.len(), 16 * 1024);
    assert_eq!(ring.decrypt(&ticket).unwrap().len(), longest);
    assert_eq!(ring.encrypt(&vec![7; longest + 1]), None);
    assert_eq!(ring.decrypt(&vec![7; 16 * 1024 + 1]), None);
    let stats = resumption.stats().tickets;
    assert_eq!((stats.not_sealed.too_long, stats.refused.too_long), (1, 1));
}

#[test]
fn each_refusal_is_counted_under_its_reason() {
    let (_, resumption, ring) = fake(Rotation::new());
    let ticket = ring.encrypt(b"session").unwrap();
    assert_eq!(ring.decrypt(b""), None);
    assert_eq!(ring.decrypt(&[7; 55]), None);
    assert_eq!(ring.decrypt(&[7; 200]), None);
    let mut forged = ticket.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(ring.decrypt(&forged), None);
    assert_eq!(resumption.ticketer("b").decrypt(&ticket), None);
    let _ = resumption.forget("a");
    assert_eq!(ring.decrypt(&ticket), None);
    let refused = resumption.stats().tickets.refused;
    assert_eq!((refused.malformed, refused.unknown_key_name), (2, 1));
    assert_eq!(
        (refused.forged, refused.wrong_scope, refused.revoked),
        (1, 1, 1)
    );
}

#[test]
fn nothing_sealed_fails_to_open_while_many_threads_rotate() {
    let ring = StekRing::new().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    ring.rotate_now().unwrap();
                }
            });
        }
        let sealers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..3_000 {
                        let ticket = ring.encrypt(b"session").expect("one always seals");
                        assert_eq!(ring.decrypt(&ticket).expect("it opens"), b"session");
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = sealers.into_iter().map(|sealer| sealer.join()).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().all(Result::is_ok));
    });
    assert_eq!(ring.ticket_stats().opened, 12_000);
}

#[test]
fn a_schedule_of_milliseconds_is_kept_by_the_timer_thread() {
    let rotation = Rotation::new()
        .interval(Duration::from_millis(5))
        .ticket_lifetime(Duration::from_secs(60));
    let ring = StekRing::with_rotation(rotation).unwrap();
    // Waits for an event, not for a date: how long it takes does not matter.
    while ring.stek_stats().rotations < 20 {
        if let Some(ticket) = ring.encrypt(b"session") {
            assert!(ring.decrypt(&ticket).is_some());
        }
        std::thread::yield_now();
    }
}

/// A key that seals for an hour, and opens for another.
fn with_source(time: &FakeClock, source: impl StekSource + 'static) -> Resumption {
    let builder = Resumption::builder().stek_source(source);
    builder.clock(time.clock()).build().unwrap()
}

fn secret(number: u8) -> [u8; 32] {
    std::array::from_fn(|i| number + i as u8)
}

fn hourly(query: &SourceQuery<'_>, born: SystemTime) -> Result<Vec<SourceKey>, SourceError> {
    let stek = query.stek(b"0123456789abcdef0123456789abcdef")?;
    let key = SourceKey::scheduled(stek, born, born, born + HOUR, born + 2 * HOUR)?;
    Ok(vec![key])
}

#[test]
fn a_custom_source_works_and_its_failure_keeps_the_keys_until_they_expire() {
    let time = FakeClock::new();
    let answer = Arc::new(Mutex::new(true));
    let asked = answer.clone();
    let born = time.wall();
    let source = source_fn("vault", move |query| {
        if !*asked.lock().unwrap() {
            return Err("sealed".into());
        }
        hourly(query, born)
    });
    let resumption = with_source(&time, source);
    let ring = resumption.ticketer("a");
    assert!(resumption.ready());
    let ticket = ring.encrypt(b"session").unwrap();
    let sourced = resumption.stats().steks.active.unwrap();

    *answer.lock().unwrap() = false;
    time.advance(MINUTE);
    resumption.step();
    let stats = resumption.stats().steks;
    assert_eq!(
        (stats.source, stats.source_failures, stats.fallen_back),
        ("vault", 1, false)
    );
    assert_eq!(stats.active, Some(sourced));
    assert_eq!(stats.source_answered, Some(MINUTE));

    time.advance(HOUR);
    resumption.step();
    let stats = resumption.stats().steks;
    assert!(stats.fallen_back, "its key has retired");
    let local = ring.encrypt(b"local").unwrap();
    assert!(ring.decrypt(&local).is_some() && ring.decrypt(&ticket).is_some());

    time.advance(HOUR);
    resumption.step();
    assert!(ring.decrypt(&ticket).is_none(), "its key has expired");
    assert!(ring.decrypt(&local).is_some());
}

#[test]
fn a_source_that_never_answered_is_not_ready_but_the_ring_works() {
    let time = FakeClock::new();
    let resumption = Resumption::builder()
        .stek_source(source_fn("dead", |_| Err("no route to host".into())))
        .clock(time.clock())
        .build()
        .unwrap();
    assert!(!resumption.ready());
    let ring = resumption.ticketer("a");
    let ticket = ring.encrypt(b"session").unwrap();
    assert!(ring.decrypt(&ticket).is_some());
    let error = resumption.rotate_now().unwrap_err().to_string();
    assert_eq!(error, "STEK source `dead`: no route to host");
}

#[test]
fn a_source_that_panics_counts_as_failed() {
    let time = FakeClock::new();
    let mut answers = 0;
    let born = time.wall();
    let source = source_fn("bug", move |query| {
        answers += 1;
        assert!(answers == 1, "a fault in the source");
        hourly(query, born)
    });
    let resumption = with_source(&time, source);
    let ring = resumption.ticketer("a");
    let ticket = ring.encrypt(b"session").unwrap();
    time.advance(HOUR);
    resumption.step();
    let stats = resumption.stats().steks;
    assert!(stats.fallen_back && stats.source_failures == 1);
    assert!(ring.decrypt(&ticket).is_some());
    time.advance(HOUR);
    resumption.step();
    assert_eq!(resumption.stats().steks.keys, 2, "local; the other expired");
    let error = resumption.rotate_now().unwrap_err().to_string();
    assert_eq!(error, "STEK source `bug`: it panicked");
}

#[test]
fn what_was_revoked_stays_so_for_as_long_as_a_source_may_come_back_with_it() {
    let time = FakeClock::new();
    // It leaves out what was revoked, as it may, and so never lists it until that is forgotten.
    let source = source_fn("vault", |query| {
        let steks = [1, 2].map(|byte| query.stek(&secret(byte)).unwrap());
        let left = steks
            .into_iter()
            .filter(|stek| !query.revoked().contains(stek.name()));
        Ok(left.map(SourceKey::sealing).collect())
    });
    let resumption = with_source(&time, source);
    let ring = resumption.ticketer("a");
    let ticket = ring.encrypt(b"session").unwrap();
    let revoked = resumption.stats().steks.active.unwrap();
    assert_eq!(resumption.revoke(&revoked).steks, 1);
    for _ in 0..60 {
        time.advance(12 * HOUR);
        resumption.step();
        let names: Vec<_> = resumption.steks().iter().map(|stek| stek.name).collect();
        assert!(names.len() == 1 && !names.contains(&revoked), "{names:?}");
        assert!(ring.decrypt(&ticket).is_none());
    }
}

/// A source whose owner shuts down while it is asked to rotate.
struct Asked {
    entered: Sender<()>,
    go_on: Receiver<()>,
    _keys: Arc<()>,
}

impl StekSource for Asked {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        if query.rotate() {
            self.entered.send(()).unwrap();
            self.go_on.recv().unwrap();
        }
        let stek = query.stek(b"0123456789abcdef0123456789abcdef")?;
        Ok(vec![SourceKey::sealing(stek)])
    }
}

#[test]
fn a_source_in_use_at_shutdown_is_dropped_by_whoever_uses_it() {
    let (entered, was_entered) = mpsc::channel();
    let (go, go_on) = mpsc::channel();
    let keys = Arc::new(());
    let source = Asked {
        entered,
        go_on,
        _keys: Arc::clone(&keys),
    };
    let resumption = Resumption::builder()
        .stek_source(source)
        .clock(FakeClock::new().clock())
        .build()
        .unwrap();
    std::thread::scope(|scope| {
        let rotating = scope.spawn(|| resumption.rotate_now());
        was_entered.recv().unwrap();
        resumption.shutdown(Duration::ZERO);
        go.send(()).unwrap();
        assert!(rotating.join().unwrap().is_err());
    });
    assert_eq!(Arc::strong_count(&keys), 1, "with its keys");
}

#[test]
fn invalid_answers_of_a_source_are_refused_by_name() {
    let secret = b"0123456789abcdef0123456789abcdef";
    let complaint = |source| {
        let time = FakeClock::new();
        let builder = Resumption::builder()
            .stek_source(source)
            .clock(time.clock());
        builder
            .build()
            .unwrap()
            .rotate_now()
            .unwrap_err()
            .to_string()
    };
    let twice = complaint(Box::new(source_fn("twice", |query| {
        let key = || Ok::<_, rustls_resumption::Error>(SourceKey::sealing(query.stek(secret)?));
        Ok(vec![key()?, key()?])
    })) as Box<dyn StekSource>);
    assert!(twice.contains("is listed twice"), "{twice}");
    let ours = Sealing::default();
    let theirs = match ours {
        Sealing::Aes256GcmSiv => Sealing::Aes256Gcm,
        _ => Sealing::Aes256GcmSiv,
    };
    let other = complaint(Box::new(source_fn("other", move |_| {
        let stek = Stek::with_sealing(secret, theirs)?;
        Ok(vec![SourceKey::sealing(stek)])
    })));
    let expected = format!("seals with {theirs:?}, the ring with {ours:?}");
    assert!(other.contains(&expected), "{other}");
    let weak = complaint(Box::new(source_fn("weak", |query| {
        Ok(vec![SourceKey::sealing(query.stek(&[0; 32])?)])
    })));
    assert!(weak.contains("all bytes are equal"), "{weak}");
}

#[test]
fn a_revoked_key_stays_revoked_even_if_its_source_still_lists_it() {
    let time = FakeClock::new();
    let resumption = Resumption::builder()
        .stek_source(source_fn("stubborn", |query| {
            Ok(vec![SourceKey::sealing(
                query.stek(b"0123456789abcdef0123456789abcdef")?,
            )])
        }))
        .clock(time.clock())
        .build()
        .unwrap();
    let ring = resumption.ticketer("a");
    let ticket = ring.encrypt(b"session").unwrap();
    let _ = resumption.revoke_all();
    time.advance(HOUR);
    resumption.step();
    assert_eq!(ring.decrypt(&ticket), None);
    assert_eq!(resumption.stats().tickets.refused.revoked, 1);
    assert!(resumption.stats().steks.fallen_back);
    assert!(ring.encrypt(b"session").is_some(), "by a local random key");
}

#[test]
fn aes_gcm_is_a_choice() {
    let time = FakeClock::new();
    let resumption = Resumption::builder()
        .sealing(Sealing::Aes256Gcm)
        .clock(time.clock())
        .build()
        .unwrap();
    let ring = resumption.ticketer("a");
    let ticket = ring.encrypt(b"session").unwrap();
    assert_eq!(ring.decrypt(&ticket).unwrap(), b"session");
}

#[test]
fn held_steks_are_listed_by_what_they_do_and_revoked_by_the_names_shown() {
    let time = FakeClock::new();
    let builder = Resumption::builder().clock(time.clock());
    let resumption = builder.build().unwrap();
    let states = || {
        let steks = resumption.steks();
        let shown = steks.iter().map(|stek| stek.to_string());
        let states = shown.map(|shown| shown.rsplit(' ').next().unwrap().to_owned());
        states.collect::<Vec<_>>()
    };
    assert_eq!(states(), ["current"]);
    time.advance(HOUR - Duration::from_secs(60));
    resumption.step();
    assert_eq!(states(), ["next", "current"]);
    time.advance(HOUR);
    resumption.step();
    assert_eq!(states(), ["next", "current", "previous"]);

    let steks = resumption.steks();
    let oldest = steks.last().unwrap();
    assert!(!oldest.is_local && oldest.state == StekState::Previous);
    assert_eq!(
        oldest.expires,
        oldest.retires + Rotation::DEFAULT_TICKET_LIFETIME
    );
    let name: KeyName = oldest.name.to_string().parse().unwrap();
    assert_eq!(resumption.revoke(&name).steks, 1);
    assert_eq!(states(), ["next", "current"]);
    for wrong in ["", "abc", &"0".repeat(31), &"0".repeat(34), &"g".repeat(32)] {
        let error = wrong.parse::<KeyName>().unwrap_err().to_string();
        assert!(error.contains("32 hexadecimal digits"), "{error}");
    }
}
