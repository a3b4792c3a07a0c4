#![cfg(not(rustls_resumption_shuttle))] // real threads hold real locks here

use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use rustls::server::StoresServerSessions;

use super::*;
use crate::clock::{FakeClock, Time};
use crate::context;
use crate::resumption::{Resumption, SessionCache, StekRing};
use crate::rotation::Rotation;
use crate::scope::Forgotten;
use crate::session::Version;
use crate::session::tests::encoded;
use crate::source::{SourceKey, source_fn};

const LONG: Duration = Duration::from_secs(30);

/// Does what must not wait.
fn returns<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, told) = mpsc::channel();
    thread::spawn(move || done.send(call()));
    told.recv_timeout(LONG).expect("it returns")
}

fn session() -> Vec<u8> {
    encoded(Version::Tls12, &[7; 48], b"")
}

#[test]
fn a_child_waits_for_no_lock_that_it_inherited() {
    let build = |is_shared: bool| match is_shared {
        false => Resumption::builder(),
        true => Resumption::builder().stek_source(source_fn("shared", |query| {
            let stek = query.stek(b"0123456789abcdefghijklmnopqrstuv")?;
            Ok(vec![SourceKey::sealing(stek)])
        })),
    };
    for is_shared in [false, true] {
        for does_tell in [false, true] {
            let resumption = build(is_shared).build().unwrap();
            let (ticketer, storage) = (resumption.ticketer("a"), resumption.session_storage("a"));
            let ticket = ticketer.encrypt(&session()).unwrap();
            let parent = Arc::clone(&resumption.inner);
            let ring = parent.ring.as_ref().unwrap();
            let _held = (
                ring.hold(),
                parent.scopes.hold(),
                parent.cache.pretend_fork(),
            );
            parent.life.process.pretend_fork();
            let theirs = resumption.clone();
            let (rotated, stats) = returns(move || {
                if does_tell {
                    theirs.after_fork();
                }
                storage.put(vec![7; 32], session());
                storage.get(&[7; 32]);
                theirs.stats();
                storage.put(vec![8; 32], session());
                assert!(storage.get(&[8; 32]).is_some());
                assert!(ticketer.decrypt(&ticket).is_some(), "its keys go on");
                let _ = theirs.forget("a");
                assert!(ticketer.decrypt(&ticket).is_none());
                let rotated = theirs.rotate_now();
                theirs.session_storage("b");
                let stats = theirs.stats();
                let _ = theirs.revoke_all();
                let encrypt = || ticketer.encrypt(&session());
                assert!(context::in_handshake(theirs.inner.terms.now(), encrypt).is_some());
                assert!(theirs.shutdown(LONG));
                (rotated, stats.steks)
            });
            // A source that was locked may have been in the middle of anything.
            assert_eq!(
                (rotated.is_err(), stats.source_late),
                (is_shared, is_shared)
            );
        }
    }
}

#[test]
fn a_cache_used_alone_tells_its_counters_in_a_child_too() {
    let cache = SessionCache::new(10);
    assert!(cache.put(vec![7; 32], session()));
    let parent = Arc::clone(&cache.inner);
    let _held = (parent.scopes.hold(), parent.cache.pretend_fork());
    parent.life.process.pretend_fork();
    assert_eq!(returns(move || cache.stats()).entries, 0);
}

#[test]
fn handshakes_see_to_housekeeping_that_is_overdue() {
    let rotation = Rotation::new().interval(Duration::from_millis(50));
    let rotation = rotation.ticket_lifetime(Duration::from_secs(1));
    let ring = StekRing::with_rotation(rotation).unwrap();
    assert!(ring.inner.life.housekeeper.get().unwrap().stop(LONG));
    let rotations = ring.stek_stats().rotations;
    let start = Instant::now();
    while ring.stek_stats().rotations < rotations + 3 {
        assert!(start.elapsed() < LONG);
        ring.seal(&session());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_scope_that_gets_another_handle_keeps_nothing_that_another_process_forgot() {
    let cache = SessionCache::new(10);
    let id = vec![7; 32];
    assert!(cache.put(id.clone(), session()));
    let forgotten = Forgotten {
        generation: 9,
        time: Time(9),
    };
    let digest = *Scope::default().digest();
    let generations = &cache.inner.terms.generations;
    generations.hear(&[(digest, forgotten)], Forgotten::default());
    let another = cache.scoped(Scope::default());
    cache.inner.step();
    assert_eq!((another.get(&id), cache.get(&id)), (None, None));
    assert_eq!(cache.stats().evictions.forgotten, 1);
}

#[test]
fn once_it_is_shut_down_nobody_keeps_house() {
    let time = FakeClock::new();
    let terms = Terms {
        clock: time.clock(),
        ..Terms::default()
    };
    let ring = StekRing::with(RingSettings::default(), None, terms).unwrap();
    ring.inner.start_housekeeper().unwrap();
    assert!(ring.inner.shut_down(LONG));
    // Whoever kept house would wait for this.
    let _held = ring.inner.ring.as_ref().unwrap().hold();
    time.advance(LONG);
    assert_eq!(ring.seal(&session()), None);
    assert!(!ring.inner.life.is_rescued.load(Ordering::Relaxed));
}

#[test]
fn a_child_of_what_was_shut_down_is_shut_down() {
    let resumption = Resumption::tickets().unwrap();
    let (ticketer, storage) = (resumption.ticketer("a"), resumption.session_storage("a"));
    assert!(resumption.shutdown(LONG));
    let parent = Arc::clone(&resumption.inner);
    parent.life.process.pretend_fork();
    resumption.after_fork();
    assert_eq!(ticketer.encrypt(&session()), None);
    assert!(!storage.put(vec![7; 32], session()));
    assert_eq!(resumption.stats().housekeeper.age, None);
}
