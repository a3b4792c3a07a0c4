use std::sync::Weak;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::server::ProducesTickets;

use super::*;
use crate::clock::FakeClock;
use crate::resumption::{Inner, StekRing};
use crate::session::Version;
use crate::source::{DerivedSource, SourceError, SourceKey, SourceQuery, StekSource, source_fn};
use crate::terms::DEFAULT_MAX_SESSION_AGE;
use crate::ticket::DEFAULT_MAX_TICKET_LEN;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

/// A ring on this clock, of random STEKs.
fn ring(time: &FakeClock) -> StekRing {
    with(time, None)
}

fn with_source(time: &FakeClock, source: impl StekSource + 'static) -> StekRing {
    with(time, Some(Box::new(source)))
}

fn with(time: &FakeClock, source: Option<Box<dyn StekSource>>) -> StekRing {
    let terms = Terms {
        clock: time.clock(),
        ..Terms::default()
    };
    StekRing::with(RingSettings::default(), source, terms).unwrap()
}

/// A source of one key that never rotates, and how often it was asked.
fn counted() -> (Arc<AtomicU32>, impl StekSource + 'static) {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let source = source_fn("counted", move |query| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(vec![SourceKey::sealing(query.stek(SECRET)?)])
    });
    (asked, source)
}

#[test]
fn defaults_are_what_they_say() {
    assert_eq!(DEFAULT_MAX_TICKET_LEN, 16_384);
}

#[test]
fn a_ring_goes_by_the_schedule_it_is_given() {
    let rotation = Rotation::new().interval(2 * HOUR).ticket_lifetime(3 * HOUR);
    let ring = StekRing::with_rotation(rotation).unwrap();
    assert_eq!(ring.stek_stats().interval, Some(2 * HOUR));
    assert_eq!(ring.ticket_lifetime(), 3 * HOUR);
    assert_eq!(ring.stek_stats().source, "random");
    assert!(ring.ready());
}

#[test]
fn a_step_tells_how_long_nothing_will_be_due() {
    let time = FakeClock::new();
    let ring = ring(&time);
    assert_eq!(ring.step(), 55 * MINUTE, "until the next key is published");
    time.advance(55 * MINUTE);
    assert_eq!(ring.step(), 5 * MINUTE, "until it activates");
    time.advance(5 * MINUTE);
    assert_eq!(ring.step(), 55 * MINUTE);
    assert_eq!(ring.stek_stats().rotations, 1);

    let (_, source) = counted();
    let polled = with_source(&time, source);
    assert_eq!(polled.step(), SourceQuery::DEFAULT_INTERVAL);
    let failing = with_source(&time, source_fn("dead", |_| Err("gone".into())));
    assert_eq!(failing.step(), SourceQuery::DEFAULT_INTERVAL);
    polled.inner.ring.as_ref().unwrap().close();
    assert_eq!(polled.step(), SourceQuery::DEFAULT_INTERVAL);
}

#[test]
fn a_source_is_asked_when_it_is_due_and_when_there_is_need() {
    let time = FakeClock::new();
    let (asked, source) = counted();
    let ring = with_source(&time, source);
    let asked = || asked.swap(0, Ordering::Relaxed);
    assert_eq!(asked(), 1, "at the beginning");
    time.advance(SourceQuery::DEFAULT_INTERVAL - Duration::from_millis(1));
    ring.step();
    assert_eq!(asked(), 0, "not before its time");
    time.advance(Duration::from_millis(1));
    ring.step();
    ring.step();
    assert_eq!(asked(), 1);
    ring.rotate_now().unwrap();
    assert_eq!(asked(), 1, "for another key");
    assert_eq!(
        ring.revoke(&KeyName::from_bytes([7; KeyName::LEN])).steks,
        0
    );
    assert_eq!(asked(), 0, "nothing was revoked");
    let active = ring.stek_stats().active.unwrap();
    assert_eq!(ring.revoke(&active).steks, 1);
    assert_eq!(asked(), 1, "for a successor");
    ring.step();
    assert_eq!(asked(), 0, "not more often because it has none that seals");
    time.advance(SourceQuery::DEFAULT_INTERVAL);
    ring.step();
    assert_eq!(asked(), 1);
}

#[test]
fn a_source_that_fails_is_asked_less_often_until_it_answers() {
    let time = FakeClock::new();
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let source = source_fn("flapping", move |query| {
        match counter.fetch_add(1, Ordering::Relaxed) {
            5.. => Ok(vec![SourceKey::sealing(query.stek(SECRET)?)]),
            _ => Err("not now".into()),
        }
    });
    let ring = with_source(&time, source);
    let mut pauses = Vec::new();
    let mut pause = 0;
    while pauses.len() < 8 {
        time.advance(Duration::from_secs(1));
        pause += 1;
        let before = asked.load(Ordering::Relaxed);
        ring.step();
        if asked.load(Ordering::Relaxed) > before {
            pauses.push(pause);
            pause = 0;
        }
    }
    assert_eq!(pauses, [2, 4, 4, 4, 4, 2, 2, 2]);
    assert_eq!(ring.stek_stats().source_failures, 5);
}

#[test]
fn set_up_waits_for_a_source_that_is_late() {
    let mut tries = 0;
    let late = source_fn("late", move |query| {
        tries += 1;
        match tries {
            1 => Err(SourceError::from("not yet")),
            _ => Ok(vec![SourceKey::sealing(query.stek(SECRET)?)]),
        }
    });
    let ring = StekRing::with(
        RingSettings::default(),
        Some(Box::new(late)),
        Terms::default(),
    )
    .unwrap();
    assert!(ring.ready());
    let settings = RingSettings {
        source_deadline: Duration::ZERO,
        ..RingSettings::default()
    };
    let dead = source_fn("dead", |_| Err("no route to host".into()));
    let ring = StekRing::with(settings, Some(Box::new(dead)), Terms::default()).unwrap();
    assert!(!ring.ready());
}

#[test]
fn stats_report_the_state_of_the_steks() {
    let time = FakeClock::new();
    let ring = ring(&time);
    time.advance(10 * MINUTE);
    let stats = ring.stek_stats();
    assert!(stats.active.is_some() && !stats.over_age && !stats.fallen_back);
    assert_eq!(stats.active_age, Some(10 * MINUTE));
    assert_eq!((stats.keys, stats.rotations, stats.revocations), (1, 0, 0));
    assert_eq!(stats.source_answered, Some(10 * MINUTE));
    assert_eq!(stats.source_failures, 0);
    let _ = ring.revoke_all();
    assert_eq!(ring.stek_stats().revocations, 1);
    assert_ne!(ring.stek_stats().active, stats.active);

    let (_, source) = counted();
    let stats = with_source(&time, source).stek_stats();
    assert_eq!(stats.active_age, None, "it activated at no known time");
    assert_eq!((stats.source, stats.over_age), ("counted", false));
    assert!(stats.is_ready);
    assert_eq!(stats.poll_interval, Some(SourceQuery::DEFAULT_INTERVAL));
}

/// A source that knows what the fleet does, and in the middle of whose answer something happens.
struct Interrupted<F> {
    happens: F,
    panics_when_dropped: bool,
}

impl<F: FnMut() + Send> StekSource for Interrupted<F> {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        (self.happens)();
        Ok(vec![SourceKey::sealing(query.stek(SECRET)?)])
    }

    fn fleet_agrees(&self) -> Option<bool> {
        Some(true)
    }
}

impl<F> Drop for Interrupted<F> {
    fn drop(&mut self) {
        assert!(!self.panics_when_dropped, "on purpose");
    }
}

#[test]
fn nobody_knows_whether_the_fleet_agrees_while_the_source_is_late() {
    let time = FakeClock::new();
    let seen = Arc::new(Mutex::new(None::<Weak<Inner>>));
    let told = Arc::new(Mutex::new(Vec::new()));
    let (ring_of, telling, clock) = (Arc::clone(&seen), Arc::clone(&told), time.clone());
    let happens = move || {
        let ring = ring_of.lock().as_ref().and_then(Weak::upgrade);
        for wait in [Duration::ZERO, PATIENCE] {
            clock.advance(wait);
            let stats = ring.as_ref().map(|inner| inner.stek_stats());
            let stats = stats.map(|stats| (stats.source_late, stats.fleet_agrees));
            telling.lock().extend(stats);
        }
    };
    let source = Interrupted {
        happens,
        panics_when_dropped: false,
    };
    let ring = with_source(&time, source);
    *seen.lock() = Some(Arc::downgrade(&ring.inner));
    ring.rotate_now().unwrap();
    assert_eq!(*told.lock(), [(false, Some(true)), (true, None)]);
}

/// Fails, and is this process's own.
struct Broken;

impl StekSource for Broken {
    fn load(&mut self, _: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        Err("on purpose".into())
    }

    fn is_shared(&self) -> bool {
        false
    }
}

#[test]
fn a_source_of_this_process_alone_that_fails_is_stood_in_for_like_any_other() {
    let ring = with_source(&FakeClock::new(), Broken);
    assert!(ring.stek_stats().fallen_back);
    assert!(ring.seal(b"session").is_some());
}

#[test]
fn a_source_that_panics_when_it_is_dropped_harms_nobody() {
    let time = FakeClock::new();
    for is_asked in [false, true] {
        let seen = Arc::new(Mutex::new(None::<Weak<Inner>>));
        let ring_of = Arc::clone(&seen);
        let happens = move || {
            let inner = ring_of.lock().as_ref().and_then(Weak::upgrade);
            if let Some(ring) = inner.as_ref().and_then(|inner| inner.ring.as_ref()) {
                ring.close();
            }
        };
        let source = Interrupted {
            happens,
            panics_when_dropped: true,
        };
        let ring = with_source(&time, source);
        *seen.lock() = is_asked.then(|| Arc::downgrade(&ring.inner));
        let rotated = ring.rotate_now();
        assert_eq!(rotated.is_err(), is_asked, "it was shut down meanwhile");
        drop(ring);
    }
}

#[test]
fn a_session_that_is_too_old_for_a_ticket_is_counted() {
    let time = FakeClock::new();
    let ring = ring(&time);
    let session = crate::session::tests::encoded(Version::Tls13, &[9; 48], b"");
    let birth = ring.inner.terms.now();
    let encrypt = || context::in_handshake(birth, || ring.encrypt(&session));
    time.advance(DEFAULT_MAX_SESSION_AGE - Duration::from_millis(1));
    ring.step();
    assert!(encrypt().is_some());
    time.advance(Duration::from_millis(1));
    assert_eq!(encrypt(), None);
    let not_sealed = ring.ticket_stats().not_sealed;
    assert_eq!((not_sealed.too_old, not_sealed.no_key), (1, 0));
}

#[test]
fn a_ring_that_is_told_only_what_is_new_holds_what_one_that_is_told_all_does() {
    let time = FakeClock::new();
    let settings = || RingSettings {
        rotation: Rotation::new()
            .interval(MINUTE)
            .ticket_lifetime(20 * MINUTE),
        ..RingSettings::default()
    };
    let ring = || {
        let terms = Terms {
            clock: time.clock(),
            ..Terms::default()
        };
        let secret = b"0123456789abcdefghijklmnopqrstuv";
        let source = DerivedSource::new(secret).unwrap();
        let source = source.settling_time(1_000 * HOUR); // it forgets nothing
        StekRing::with(settings(), Some(Box::new(source)), terms).unwrap()
    };
    let steks = |ring: &StekRing| ring.inner.ring.as_ref().unwrap().steks(&ring.inner.terms);
    let told_news = ring();
    let mut revoked = Vec::new();
    for round in 0..200_u32 {
        match round % 40 {
            20 => time.step_forward(3 * HOUR),
            21 => time.step_back(3 * HOUR),
            30 => time.step_back(10 * MINUTE),
            35 => {
                let name = steks(&told_news)[3].name;
                let _ = told_news.revoke(&name);
                revoked.push(name);
            }
            _ => time.advance(MINUTE * (round % 3) / 2),
        }
        told_news.step();
        let told_all = ring();
        let mut expected = steks(&told_all);
        expected.retain(|stek| !revoked.contains(&stek.name));
        assert_eq!(steks(&told_news), expected, "in round {round}");
    }
}

#[test]
fn a_stek_is_listed_until_it_expires_even_if_nobody_wipes_it_in_time() {
    let time = FakeClock::new();
    let secret = SECRET;
    let ring = with_source(
        &time,
        source_fn("windowed", move |query| {
            let mut key = SourceKey::sealing(query.stek(secret)?);
            key.window.expires = crate::clock::Time(FakeClock::START * 1_000).plus(HOUR);
            Ok(vec![key])
        }),
    );
    let inner = &ring.inner;
    let listed = || inner.ring.as_ref().unwrap().steks(&inner.terms).len();
    time.advance(HOUR - Duration::from_millis(1));
    assert_eq!(listed(), 1);
    time.advance(Duration::from_millis(1));
    assert_eq!(listed(), 0);
}
