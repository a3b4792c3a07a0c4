//! Foreign code that hangs, panics or is slow: STEK sources and log subscribers. Whatever it does,
//! keys expire, sessions are wiped, and calls return.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName as MetricName, Metadata as MetricMetadata, Recorder,
    SharedString, Unit,
};
use rustls::version::{TLS12, TLS13};
use rustls_resumption::source::{SourceError, SourceKey, SourceQuery, StekSource, source_fn};
use rustls_resumption::{Resumption, Rotation};
use tracing::{Event, Metadata, Subscriber, span};

use test_support::alone::alone;
use test_support::handshake::{FULL, RESUMED, client, followed, handshake, kind, server_config};

mod logs;
mod matrix;

const LONG: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

/// Does what must return by itself, however long it takes here.
fn returns<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, told) = channel();
    thread::spawn(move || done.send(call()));
    match told.recv_timeout(LONG) {
        Ok(returned) => returned,
        Err(RecvTimeoutError::Timeout) => panic!("it does not return"),
        Err(RecvTimeoutError::Disconnected) => panic!("it panicked"),
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "not {what} in {LONG:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whatever it stops waits until this is dropped.
struct Brake {
    is_on: Arc<AtomicBool>,
    _release: Sender<()>,
}

/// What a [`Brake`] stops.
#[derive(Clone)]
struct Wheel {
    is_stopped: Arc<AtomicBool>,
    released: Arc<Mutex<Receiver<()>>>,
    waits: Arc<AtomicU32>,
}

fn brake() -> (Brake, Wheel) {
    let is_on = Arc::new(AtomicBool::new(false));
    let (release, released) = channel();
    let wheel = Wheel {
        is_stopped: Arc::clone(&is_on),
        released: Arc::new(Mutex::new(released)),
        waits: Arc::default(),
    };
    let brake = Brake {
        is_on,
        _release: release,
    };
    (brake, wheel)
}

impl Brake {
    fn stop(&self) {
        self.is_on.store(true, Ordering::Release);
    }
}

impl Wheel {
    fn turn(&self) {
        if self.is_stopped.load(Ordering::Acquire) {
            self.waits.fetch_add(1, Ordering::AcqRel);
            let released = self.released.lock();
            let _ = released.unwrap_or_else(|poison| poison.into_inner()).recv();
        }
    }

    fn is_stuck(&self) -> bool {
        self.waits.load(Ordering::Acquire) > 0
    }
}

/// A source of one key on the ring's schedule, which hangs while it is stopped.
fn vault(wheel: Wheel) -> impl StekSource + 'static {
    let mut number = 0_u8;
    source_fn("vault", move |query| {
        wheel.turn();
        let mut secret = *SECRET;
        loop {
            secret[0] = number;
            let stek = query.stek(&secret)?;
            if !query.revoked().contains(stek.name()) {
                return Ok(vec![SourceKey::sealing(stek)]);
            }
            number += 1;
        }
    })
}

/// A source of one key that seals for a second and opens for one more.
fn brief(wheel: Wheel) -> impl StekSource + 'static {
    let mut key: Option<SourceKey> = None;
    source_fn("brief", move |query| {
        wheel.turn();
        let made = match &key {
            Some(key) => key.clone(),
            None => {
                let now = query.now();
                let stek = query.stek(SECRET)?;
                SourceKey::scheduled(stek, now, now, now + SECOND, now + 2 * SECOND)?
            }
        };
        key = Some(made.clone());
        Ok(vec![made])
    })
}

#[test]
fn building_ends_at_its_deadline_while_the_source_hangs() {
    let (brake, wheel) = brake();
    brake.stop();
    let source = vault(wheel);
    let resumption = returns(move || {
        let deadline = Duration::from_millis(300);
        let builder = Resumption::builder().stek_source(source);
        builder.source_deadline(deadline).build().unwrap()
    });
    assert!(!resumption.ready());
    let stats = resumption.stats().steks;
    assert!(stats.fallen_back && stats.active.is_some());
    wait_until("late", || resumption.stats().steks.source_late);
    wait_until("counted", || resumption.stats().steks.source_failures >= 1);
    drop(brake);
    wait_until("ready", || resumption.ready());
    let stats = resumption.stats().steks;
    assert!(!stats.source_late && !stats.fallen_back, "its late answer");
}

/// Hangs when it is asked for its name, or whether it is shared.
struct Taciturn {
    in_name: bool,
    wheel: Wheel,
}

impl StekSource for Taciturn {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        Ok(vec![SourceKey::sealing(query.stek(SECRET)?)])
    }

    fn name(&self) -> &'static str {
        if self.in_name {
            self.wheel.turn();
        }
        "taciturn"
    }

    fn is_shared(&self) -> bool {
        self.wheel.turn();
        true
    }
}

#[test]
fn building_ends_with_an_error_if_the_source_does_not_tell_its_name() {
    for in_name in [true, false] {
        let (brake, wheel) = brake();
        brake.stop();
        let source = Taciturn { in_name, wheel };
        let built = returns(move || Resumption::builder().stek_source(source).build());
        let error = built.unwrap_err().to_string();
        assert!(error.contains("did not tell its name"), "{error}");
        drop(brake);
    }
}

#[test]
fn a_rotation_waits_for_longer_than_the_set_up() {
    let (asked, waited) = (Arc::new(AtomicU32::new(0)), Duration::from_millis(300));
    let number = Arc::clone(&asked);
    let slow = source_fn("slow", move |query| {
        if query.rotate() {
            thread::sleep(waited);
            number.fetch_add(1, Ordering::AcqRel);
        }
        let mut secret = *SECRET;
        secret[0] = number.load(Ordering::Acquire) as u8;
        Ok(vec![SourceKey::sealing(query.stek(&secret)?)])
    });
    let builder = Resumption::builder().stek_source(slow);
    let resumption = builder.source_deadline(waited / 100).build().unwrap();
    wait_until("ready", || resumption.ready());
    let before = resumption.stats().steks.active;
    resumption.rotate_now().unwrap();
    assert_ne!(resumption.stats().steks.active, before, "in use by now");
    assert_eq!(Resumption::ROTATION_DEADLINE, 15 * SECOND);
}

#[test]
fn revoking_all_takes_effect_and_returns_while_the_source_hangs() {
    let (brake, wheel) = brake();
    let source = vault(wheel.clone());
    let builder = Resumption::builder().stek_source(source);
    let resumption = builder.build().unwrap();
    let mut config = server_config();
    resumption.install(&mut config, "api");
    let (config, clients) = (Arc::new(config), [client(&TLS12), client(&TLS13)]);
    for client in &clients {
        handshake(client, &config);
        assert_eq!(kind(client, &config), RESUMED);
    }
    let before = resumption.stats().steks.active;
    brake.stop();
    wait_until("stuck", || wheel.is_stuck());
    let theirs = resumption.clone();
    let _ = returns(move || theirs.revoke_all());
    let meet = |client| followed(&resumption, || kind(client, &config));
    for client in &clients {
        assert_eq!(meet(client), FULL);
        assert_eq!(meet(client), RESUMED, "by a local key");
    }
    let stats = resumption.stats();
    assert!(stats.steks.fallen_back && stats.steks.active != before);
    assert_eq!(stats.cache.entries, 0);
    let theirs = resumption.clone();
    let error = returns(move || theirs.rotate_now()).unwrap_err();
    assert!(error.to_string().starts_with("STEK source `vault`: "));
    let theirs = resumption.clone();
    let _ = returns(move || theirs.forget("api"));
    assert!(!returns(
        move || resumption.shutdown(Duration::from_millis(10))
    ));
    for client in &clients {
        assert_eq!(kind(client, &config), FULL);
        assert_eq!(kind(client, &config), FULL);
    }
    drop(brake);
}

#[test]
fn a_cache_is_cleared_before_a_source_is_asked() {
    let (brake, wheel) = brake();
    let source = vault(wheel.clone());
    let builder = Resumption::builder().stek_source(source);
    let resumption = builder.build().unwrap();
    let storage = resumption.session_storage("api");
    assert!(storage.put(vec![7; 32], vec![0; 100]));
    brake.stop();
    let theirs = resumption.clone();
    let call = thread::spawn(move || theirs.revoke_all());
    wait_until("stuck", || wheel.is_stuck());
    assert_eq!(resumption.stats().cache.entries, 0);
    let _ = call.join().unwrap();
    drop(brake);
}

#[test]
fn keys_expire_and_local_ones_take_over_while_the_source_hangs() {
    let (brake, wheel) = brake();
    let source = brief(wheel.clone());
    let builder = Resumption::builder().stek_source(source);
    let resumption = builder.session_ttl(SECOND).build().unwrap();
    let first = resumption.stats().steks.active.unwrap();
    brake.stop();
    let storage = resumption.session_storage("api");
    assert!(storage.put(vec![7; 32], vec![0; 100]));
    wait_until("stuck", || wheel.is_stuck());
    wait_until("fallen back", || resumption.stats().steks.fallen_back);
    let stats = resumption.stats().steks;
    assert!(stats.active.is_some_and(|active| active != first));
    wait_until("late", || resumption.stats().steks.source_late);
    wait_until("counted", || resumption.stats().steks.source_failures >= 1);
    wait_until("wiped", || resumption.stats().steks.keys == 1);
    assert_eq!(resumption.revoke(&first).steks, 0, "it is no longer there");
    wait_until("swept", || resumption.stats().cache.entries == 0);
    assert_eq!(wheel.waits.load(Ordering::Acquire), 1, "one thread hangs");
    drop(brake);
    wait_until("answered", || !resumption.stats().steks.source_late);
    let stats = resumption.stats().steks;
    assert!(stats.fallen_back, "the key that came late had expired");
    assert_ne!(stats.active, Some(first));
}

#[test]
fn a_source_that_fails_after_it_was_late_is_counted_once() {
    let (brake, wheel) = brake();
    let source = source_fn("moody", move |query| {
        wheel.turn();
        match wheel.waits.load(Ordering::Acquire) {
            1 => Err("gone meanwhile".into()),
            _ => Ok(vec![SourceKey::sealing(query.stek(SECRET)?)]),
        }
    });
    let resumption = Resumption::builder().stek_source(source).build().unwrap();
    brake.stop();
    wait_until("late", || resumption.stats().steks.source_late);
    let answered = resumption.stats().steks.source_answered;
    wait_until("counted", || resumption.stats().steks.source_failures == 1);
    drop(brake);
    wait_until("well again", || {
        resumption.stats().steks.source_answered < answered
    });
    assert_eq!(resumption.stats().steks.source_failures, 1);
}

#[test]
fn revoked_keys_in_a_late_answer_are_ignored() {
    let (brake, wheel) = brake();
    let theirs = wheel.clone();
    let stubborn = source_fn("stubborn", move |query| {
        let key = SourceKey::sealing(query.stek(SECRET)?);
        theirs.turn();
        Ok(vec![key])
    });
    let builder = Resumption::builder().stek_source(stubborn);
    let resumption = builder.build().unwrap();
    let first = resumption.stats().steks.active.unwrap();
    brake.stop();
    wait_until("stuck", || wheel.is_stuck());
    let theirs = resumption.clone();
    assert_eq!(returns(move || theirs.revoke(&first)).steks, 1);
    wait_until("late", || resumption.stats().steks.source_late);
    drop(brake);
    wait_until("answered", || !resumption.stats().steks.source_late);
    let stats = resumption.stats().steks;
    assert!(stats.fallen_back && stats.active != Some(first));
    assert_eq!(resumption.revoke(&first).steks, 0);
}

/// Panics in what it is told to.
struct Bomb(Arc<AtomicU32>);

const IN_LOAD: u32 = 1;
const IN_FLEET_AGREES: u32 = 2;
const IN_POLL_INTERVAL: u32 = 3;
const IN_CAN_ROTATE: u32 = 4;
const IN_DISPLAY: u32 = 5;
const IN_DROP_OF_ERROR: u32 = 6;

impl Bomb {
    fn tick(&self, place: u32) {
        assert_ne!(self.0.load(Ordering::Acquire), place, "on purpose");
    }
}

impl StekSource for Bomb {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        self.tick(IN_LOAD);
        match self.0.load(Ordering::Acquire) {
            IN_DISPLAY => Err(Box::new(Unspeakable)),
            IN_DROP_OF_ERROR => Err(Box::new(Undroppable)),
            _ => Ok(vec![SourceKey::sealing(query.stek(SECRET)?)]),
        }
    }

    fn fleet_agrees(&self) -> Option<bool> {
        self.tick(IN_FLEET_AGREES);
        Some(true)
    }

    fn poll_interval(&self) -> Duration {
        self.tick(IN_POLL_INTERVAL);
        Duration::from_millis(10)
    }

    fn can_rotate(&self) -> bool {
        self.tick(IN_CAN_ROTATE);
        true
    }
}

#[derive(Debug)]
struct Unspeakable;

impl Error for Unspeakable {}

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("on purpose")
    }
}

#[derive(Debug)]
struct Undroppable;

impl Error for Undroppable {}

impl fmt::Display for Undroppable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("do not drop me")
    }
}

impl Drop for Undroppable {
    fn drop(&mut self) {
        panic!("on purpose")
    }
}

#[test]
fn a_source_that_panics_anywhere_is_asked_again() {
    let place = Arc::new(AtomicU32::new(0));
    let builder = Resumption::builder().stek_source(Bomb(Arc::clone(&place)));
    let resumption = builder.build().unwrap();
    let active = resumption.stats().steks.active;
    for bad in [
        IN_LOAD,
        IN_FLEET_AGREES,
        IN_POLL_INTERVAL,
        IN_CAN_ROTATE,
        IN_DISPLAY,
        IN_DROP_OF_ERROR,
    ] {
        place.store(bad, Ordering::Release);
        let theirs = resumption.clone();
        let rotated = returns(move || theirs.rotate_now());
        let fails = [IN_LOAD, IN_DISPLAY, IN_DROP_OF_ERROR].contains(&bad);
        assert_eq!(rotated.is_err(), fails, "{bad}: {rotated:?}");
        place.store(0, Ordering::Release);
        returns({
            let resumption = resumption.clone();
            move || wait_until("well", || resumption.rotate_now().is_ok())
        });
        assert_eq!(resumption.stats().steks.active, active);
        assert_eq!(resumption.stats().steks.fleet_agrees, Some(true));
    }
    assert!(resumption.shutdown(LONG));
}

#[test]
fn a_source_that_panics_when_it_is_dropped_or_asked_for_its_name_does_no_harm() {
    struct Nameless;

    impl StekSource for Nameless {
        fn load(&mut self, _: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
            Ok(Vec::new())
        }

        fn name(&self) -> &'static str {
            panic!("on purpose")
        }
    }

    struct Sticky;

    impl StekSource for Sticky {
        fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
            Ok(vec![SourceKey::sealing(query.stek(SECRET)?)])
        }
    }

    impl Drop for Sticky {
        fn drop(&mut self) {
            panic!("on purpose")
        }
    }

    let error = Resumption::builder().stek_source(Nameless).build();
    assert!(error.unwrap_err().to_string().contains("it panicked"));
    drop(Resumption::builder().stek_source(Sticky).build().unwrap());
    let resumption = Resumption::builder().stek_source(Sticky).build().unwrap();
    assert!(resumption.shutdown(LONG));
}

/// A subscriber that does this for each event.
struct Reader<F>(F);

impl<F: Fn() + Send + Sync + 'static> Subscriber for Reader<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("rustls_resumption")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        if *event.metadata().level() <= tracing::Level::INFO {
            (self.0)();
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_log_that_blocks_delays_neither_revocation_nor_rotation() {
    // What a subscriber of one thread hears depends on those of other tests.
    alone(|| {
        let (brake, wheel) = brake();
        let theirs = wheel.clone();
        let resumption = returns(move || {
            let reader = Reader(move || theirs.turn());
            tracing::subscriber::with_default(reader, || {
                let resumption = Resumption::tickets().unwrap();
                brake.stop();
                let revoked = resumption.stats().steks.active.unwrap();
                let ticketer = resumption.ticketer("api");
                let ticket = ticketer.encrypt(b"session").unwrap();
                assert_eq!(resumption.revoke(&revoked).steks, 1);
                assert!(ticketer.decrypt(&ticket).is_none() && resumption.ready());
                assert!(ticketer.encrypt(b"session").is_some());
                resumption.rotate_now().unwrap();
                let _ = resumption.revoke_all();
                assert!(!resumption.shutdown(Duration::from_millis(10)), "the log");
                drop(brake);
                resumption
            })
        });
        assert!(wheel.is_stuck());
        assert!(resumption.shutdown(LONG));
    });
}

#[test]
fn a_log_that_panics_changes_nothing() {
    // What a subscriber of one thread hears depends on those of other tests.
    alone(|| {
        let reader = Reader(|| panic!("on purpose"));
        tracing::subscriber::with_default(reader, || {
            let rotation = Rotation::new().interval(Duration::from_millis(50));
            let builder = Resumption::builder().rotation(rotation.ticket_lifetime(SECOND));
            let resumption = builder.build().unwrap();
            wait_until("rotated", || resumption.stats().steks.rotations > 3);
            resumption.rotate_now().unwrap();
            let _ = resumption.revoke_all();
            assert!(resumption.ready());
            assert!(resumption.shutdown(LONG));
        });
    });
}

/// A recorder that does this for each value.
struct Scribe<F>(F);

impl<F: Fn()> Recorder for Scribe<F> {
    fn describe_counter(&self, _: MetricName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: MetricName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: MetricName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &MetricMetadata<'_>) -> Counter {
        (self.0)();
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &MetricMetadata<'_>) -> Gauge {
        (self.0)();
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &MetricMetadata<'_>) -> Histogram {
        (self.0)();
        Histogram::noop()
    }
}

/// Keys rotate and expire, sessions are swept, and incident calls return.
fn goes_on() -> Resumption {
    let rotation = Rotation::new().interval(Duration::from_millis(100));
    let builder = Resumption::builder().rotation(rotation.ticket_lifetime(SECOND));
    let resumption = builder.session_ttl(SECOND).build().unwrap();
    let storage = resumption.session_storage("api");
    assert!(storage.put(vec![7; 32], vec![0; 100]));
    let first = resumption.stats().steks.active.unwrap();
    wait_until("swept", || resumption.stats().cache.entries == 0);
    wait_until("rotated", || resumption.stats().steks.rotations > 25);
    assert_eq!(resumption.revoke(&first).steks, 0, "it has expired");
    let theirs = resumption.clone();
    let _ = returns(move || theirs.revoke_all());
    let theirs = resumption.clone();
    returns(move || theirs.rotate_now()).unwrap();
    let age = resumption.stats().housekeeper.age.unwrap();
    assert!(age < LONG, "{age:?}");
    resumption
}

#[test]
fn a_recorder_that_hangs_delays_nothing() {
    alone(|| {
        let (brake, wheel) = brake();
        brake.stop();
        let theirs = wheel.clone();
        assert!(metrics::set_global_recorder(Scribe(move || theirs.turn())).is_ok());
        let resumption = goes_on();
        assert!(wheel.is_stuck());
        assert!(
            !resumption.shutdown(Duration::from_millis(10)),
            "the recorder"
        );
        drop(brake);
    });
}

#[test]
fn a_recorder_that_panics_delays_nothing() {
    alone(|| {
        assert!(metrics::set_global_recorder(Scribe(|| panic!("on purpose"))).is_ok());
        let resumption = goes_on();
        wait_until("counted", || resumption.stats().housekeeper.lost > 0);
        assert!(resumption.shutdown(LONG));
    });
}
