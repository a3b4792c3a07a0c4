#![cfg(not(rustls_resumption_shuttle))] // real threads hold real locks here

use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use rustls::server::StoresServerSessions;

use super::*;
use crate::clock::{FakeClock, Time};
use crate::context;
use crate::resumption::{Reach, Resumption, SessionCache, StekRing};
use crate::ring::ROTATION_DEADLINE;
use crate::rotation::Rotation;
use crate::scope::Forgotten;
use crate::session::Version;
use crate::session::tests::encoded;
use crate::source::bulletin::Heard;
use crate::source::{SourceError, SourceKey, SourceQuery, StekSource, source_fn};

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
fn a_cache_used_alone_starts_empty_in_a_child_that_says_what_it_is() {
    let cache = SessionCache::new(10);
    assert!(cache.put(vec![7; 32], session()));
    cache.inner.life.process.pretend_fork();
    cache.after_fork();
    assert_eq!(cache.get(&[7; 32]), None);
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
fn a_child_that_lost_its_source_is_not_ready_and_its_calls_reach_nobody_else() {
    let source = source_fn("shared", |query| {
        let stek = query.stek(b"0123456789abcdefghijklmnopqrstuv")?;
        Ok(vec![SourceKey::sealing(stek)])
    });
    let resumption = Resumption::builder().stek_source(source).build().unwrap();
    let parent = Arc::clone(&resumption.inner);
    let generations = &parent.terms.generations;
    generations.hear(&[], Forgotten::default()); // as if it carried them
    assert!(resumption.ready());
    assert_eq!(resumption.forget("a").reach, Reach::Shared);
    let _asking = parent.ring.as_ref().unwrap().hold();
    parent.life.process.pretend_fork();
    resumption.after_fork();
    assert!(!resumption.ready() && !resumption.stats().steks.is_ready);
    assert_eq!(resumption.forget("a").reach, Reach::Each);
}

#[test]
fn the_steks_of_an_answer_open_nothing_that_it_says_was_forgotten() {
    const SECRET: &[u8] = b"0123456789abcdefghijklmnopqrstuv";
    let time = FakeClock::new();
    let other = source_fn("shared", |query| {
        Ok(vec![SourceKey::sealing(query.stek(SECRET)?)])
    });
    let other = Resumption::builder().clock(time.clock()).stek_source(other);
    let other = other.build().unwrap();
    let ticket = other.ticketer("a").encrypt(&session()).unwrap();
    for is_forgotten in [false, true] {
        let forgotten = is_forgotten.then(|| {
            let generation = 5;
            let time = Time(1);
            (*Scope::new("a").digest(), Forgotten { generation, time })
        });
        let is_back = Arc::new(AtomicBool::new(false));
        let returns = Arc::clone(&is_back);
        let source = source_fn("shared", move |query| {
            if !returns.load(Ordering::Relaxed) {
                return Err("away".into());
            }
            query.bulletin.unwrap().tell(Heard {
                forgotten: Vec::from_iter(forgotten),
                is_carried: true,
                ..Heard::default()
            });
            Ok(vec![SourceKey::sealing(query.stek(SECRET)?)])
        });
        let here = Resumption::builder()
            .clock(time.clock())
            .stek_source(source);
        let here = here.build().unwrap();
        let ticketer = here.ticketer("a");
        assert_eq!(ticketer.decrypt(&ticket), None, "it is not there yet");
        is_back.store(true, Ordering::Relaxed);
        time.advance(Duration::from_secs(60 * 60));
        let Inner {
            ring,
            terms,
            outside,
            ..
        } = &**here.inner;
        ring.as_ref().unwrap().step(terms, outside); // and no more of a step
        assert_eq!(ticketer.decrypt(&ticket).is_none(), is_forgotten);
    }
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

#[test]
fn a_child_that_does_not_know_which_scopes_there_are_forgets_all_that_anybody_forgets() {
    let others = |resumption: &Resumption| {
        let forgotten = Forgotten {
            generation: u64::from(u32::MAX),
            time: Time(9),
        };
        let digest = *Scope::new("a").digest();
        let inner = resumption.inner.here();
        let generations = &inner.terms.generations;
        generations.hear(&[(digest, forgotten)], Forgotten::default());
        inner.step();
    };
    let itself = |resumption: &Resumption| {
        let _ = resumption.forget("a");
    };
    let forget: [&dyn Fn(&Resumption); 2] = [&others, &itself];
    for (earlier, forget) in [0, 7]
        .into_iter()
        .flat_map(|earlier| forget.map(|by| (earlier, by)))
    {
        let resumption = Resumption::tickets().unwrap();
        let parent = Arc::clone(&resumption.inner);
        let earlier = Forgotten {
            generation: earlier,
            time: Time(1),
        };
        let digest = *Scope::new("a").digest();
        let generations = &parent.terms.generations;
        generations.hear(&[(digest, earlier)], Forgotten::default());
        let ticketer = resumption.ticketer("a");
        let ticket = ticketer.encrypt(&session()).unwrap();
        let _held = parent.scopes.hold();
        parent.life.process.pretend_fork();
        resumption.after_fork();
        assert!(ticketer.decrypt(&ticket).is_some());
        forget(&resumption);
        assert_eq!(ticketer.decrypt(&ticket), None, "{earlier:?}");
    }
}

#[test]
fn a_child_that_says_at_once_what_it_is_has_no_session_of_its_parent() {
    let resumption = Resumption::stateful(10).unwrap();
    let storage = resumption.session_storage("a");
    assert!(storage.put(vec![7; 32], session()));
    resumption.inner.life.process.pretend_fork();
    resumption.after_fork();
    assert_eq!(storage.get(&[7; 32]), None);
}

#[test]
fn when_somebody_last_kept_house_is_told() {
    let time = FakeClock::new();
    let resumption = Resumption::builder().clock(time.clock()).build().unwrap();
    for _ in 0..2 {
        resumption.step();
        let stepped = time.clock().now().wall;
        for age in [Duration::ZERO, LONG] {
            time.advance(age);
            let housekeeper = resumption.stats().housekeeper;
            assert_eq!(housekeeper.age, Some(age));
            assert_eq!(housekeeper.last_run, Some(stepped.into()));
        }
    }
}

#[test]
fn forgetting_a_name_reaches_handshakes_under_way_for_a_scope_of_it_that_is_not_known_yet() {
    for (name, is_reached) in [("b", false), ("a", true)] {
        let resumption = Resumption::tickets().unwrap();
        let _known = resumption.ticketer(Scope::new("a").client_cas([b"ca"]));
        let sealed = context::in_handshake(resumption.inner.terms.now(), || {
            let _ = resumption.forget(name);
            resumption.ticketer("a").encrypt(&session())
        });
        assert_eq!(sealed.is_none(), is_reached, "{name}");
    }
}

/// Hangs until the other end is dropped.
fn hang() -> (mpsc::Sender<()>, impl FnOnce() + Send + 'static) {
    let (release, hangs) = mpsc::channel();
    let hang = move || {
        let _ = hangs.recv();
    };
    (release, hang)
}

#[test]
fn a_log_that_hangs_is_waited_for_but_not_for_ever() {
    let resumption = Resumption::tickets().unwrap();
    let (_release, hang) = hang();
    resumption.inner.outside.log.run(hang);
    let start = Instant::now();
    returns(move || resumption.rotate_now()).unwrap();
    assert!(start.elapsed() >= TELLING);
}

#[test]
fn a_recorder_that_hangs_misses_one_publication_and_no_queue_of_them() {
    let builder = Resumption::builder().cache_entries(10);
    let resumption = builder.manual_stepping().build().unwrap();
    let (_release, hang) = hang();
    resumption.inner.outside.metrics.run(hang);
    for _ in 0..2_000 {
        resumption.step();
    }
    assert_eq!(resumption.stats().housekeeper.lost, 0);
}

#[test]
fn shutting_down_tells_whether_anything_foreign_is_still_busy() {
    for busy in ["nothing", "the log", "the recorder", "the source"] {
        let (release, hang) = hang();
        let (started, has_started) = mpsc::channel();
        let mut hang = Some(hang);
        let mut asked = hang.take_if(|_| busy == "the source");
        let source = source_fn("shared", move |query| {
            if query.rotate {
                started.send(()).unwrap();
                if let Some(hang) = asked.take() {
                    hang();
                }
            }
            let stek = query.stek(b"0123456789abcdefghijklmnopqrstuv")?;
            Ok(vec![SourceKey::sealing(stek)])
        });
        let source: Box<dyn StekSource> = Box::new(source);
        let ring = StekRing::with(RingSettings::default(), Some(source), Terms::default());
        let ring = ring.unwrap();
        let inner = Arc::clone(&ring.inner);
        match (busy, hang) {
            ("the log", Some(hang)) => inner.outside.log.run(hang),
            ("the recorder", Some(hang)) => inner.outside.metrics.run(hang),
            _ => {}
        }
        let rotating = thread::spawn(move || ring.rotate_now());
        has_started.recv_timeout(ROTATION_DEADLINE).unwrap();
        let is_idle = busy == "nothing";
        let deadline = if is_idle {
            LONG
        } else {
            Duration::from_millis(1)
        };
        assert_eq!(inner.shut_down(deadline), is_idle, "{busy}");
        drop(release);
        let _ = rotating.join().unwrap();
        assert!(inner.shut_down(LONG), "{busy}, until then");
    }
}

/// Hangs when it is dropped.
struct Clinging(mpsc::Receiver<()>);

impl StekSource for Clinging {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        let stek = query.stek(b"0123456789abcdefghijklmnopqrstuv")?;
        Ok(vec![SourceKey::sealing(stek)])
    }
}

impl Drop for Clinging {
    fn drop(&mut self) {
        let _ = self.0.recv();
    }
}

#[test]
fn shutting_down_waits_for_a_source_that_is_dropped_until_the_deadline_alone() {
    let (release, hangs) = mpsc::channel();
    let source: Box<dyn StekSource> = Box::new(Clinging(hangs));
    let ring = StekRing::with(RingSettings::default(), Some(source), Terms::default());
    let inner = Arc::clone(&ring.unwrap().inner);
    let theirs = Arc::clone(&inner);
    assert!(!returns(move || theirs.shut_down(Duration::from_millis(1))));
    drop(release);
    assert!(inner.shut_down(LONG));
}
