use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::Instant;

use parking_lot::Mutex;
use test_support::log::Log;
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

use super::*;
use crate::stats::StoreTrouble;
use crate::store::StoreError;

/// A server in memory. Clones are the same server.
#[derive(Clone, Default)]
struct Memory {
    values: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    /// What it fails with, except when it is connected to.
    failing: Arc<Mutex<Option<FailureKind>>>,
    /// Whether it answers nothing.
    hangs: Arc<AtomicBool>,
    /// How often it was connected to, and how often it was tried out.
    connected: Arc<AtomicU32>,
    tried: Arc<AtomicU32>,
    /// How many of the first attempts to try it out it does not answer.
    late: u32,
    /// How many of the first attempts to connect panic.
    panics: u32,
    /// The function that panics the next time.
    panics_in: Arc<Mutex<&'static str>>,
}

impl Memory {
    fn fail(&self, kind: impl Into<Option<FailureKind>>) {
        *self.failing.lock() = kind.into();
    }

    fn answer(&self, function: &str) -> Result<(), Failure> {
        if *self.panics_in.lock() == function {
            *self.panics_in.lock() = "";
            panic!("on purpose");
        }
        self.failing.lock().clone().map_or(Ok(()), |kind| {
            Err(Failure {
                kind,
                cause: "told to".into(),
            })
        })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

impl Backend for Memory {
    type Connection = Self;

    async fn connect(&mut self) -> Result<Self, Failure> {
        let tries = self.connected.fetch_add(1, Ordering::Relaxed);
        assert!(tries >= self.panics, "on purpose");
        Ok(self.clone())
    }

    fn write_timeout(&self) -> Duration {
        PATIENT
    }
}

impl Connection for Memory {
    async fn try_out(&mut self, _probe_key: &str) -> Result<(), Failure> {
        if self.tried.fetch_add(1, Ordering::Relaxed) < self.late {
            return pending().await;
        }
        self.answer("try_out")
    }

    async fn get(&mut self, key: &str, _asking: bool) -> Result<Option<Vec<u8>>, Failure> {
        if self.hangs.load(Ordering::Relaxed) {
            return pending().await;
        }
        self.answer("get")?;
        Ok(self.values.lock().get(key).cloned())
    }

    async fn get_and_delete(
        &mut self,
        key: &str,
        _asking: bool,
    ) -> Result<Option<Vec<u8>>, Failure> {
        self.answer("get_and_delete")?;
        Ok(self.values.lock().remove(key))
    }

    async fn write(&mut self, batch: &[Write]) -> Result<Vec<Result<(), Failure>>, Failure> {
        let write = |write: &Write| {
            self.answer("write")?;
            let (key, value) = (write.key.clone(), write.value.clone());
            self.values.lock().insert(key, value);
            Ok(())
        };
        Ok(batch.iter().map(write).collect())
    }
}

const KEY: StoreKey = StoreKey([0xab; StoreKey::LEN]);
const PATIENT: Duration = Duration::from_secs(30);

fn start(memory: &Memory) -> Remote {
    let memory = memory.clone();
    Remote::start("memory", "test", move |_| memory.clone()).unwrap()
}

fn store() -> (Memory, Remote) {
    let memory = Memory::default();
    let remote = start(&memory);
    until(&remote, |health| !health.is_down);
    (memory, remote)
}

fn until(remote: &Remote, reached: impl Fn(StoreHealth) -> bool) {
    let start = Instant::now();
    while !reached(remote.health()) {
        assert!(start.elapsed() < PATIENT, "{:?}", remote.health());
        thread::yield_now();
    }
}

fn answer(lookup: StoreLookup) -> Result<Option<Vec<u8>>, StoreError> {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(lookup)
}

fn write(remote: &Remote) -> bool {
    remote.write(&KEY, b"value".to_vec(), PATIENT)
}

#[test]
fn keys_begin_with_the_prefix() {
    let remote = Remote::idle("rustls-resumption");
    assert_eq!(
        remote.key(&KEY),
        format!("rustls-resumption:session:{}", "ab".repeat(32))
    );
    let remote = remote.with_prefix("eu");
    assert!(remote.key(&KEY).starts_with("eu:session:abab"));
}

#[test]
fn a_value_is_fetched_often_and_claimed_once() {
    let (memory, remote) = store();
    assert!(write(&remote));
    until(&remote, |health| health.written == 1);
    assert!(memory.values.lock().contains_key(&remote.key(&KEY)));
    for _ in 0..2 {
        let found = answer(remote.fetch(&KEY, PATIENT)).unwrap();
        assert_eq!(found, Some(b"value".to_vec()));
    }
    let claimed = answer(remote.claim(&KEY, PATIENT)).unwrap();
    assert_eq!(claimed, Some(b"value".to_vec()));
    assert_eq!(answer(remote.claim(&KEY, PATIENT)).unwrap(), None);
}

#[test]
fn a_lookup_that_is_dropped_before_it_is_polled_claims_nothing() {
    let (_memory, remote) = store();
    assert!(write(&remote));
    until(&remote, |health| health.written == 1);
    drop(remote.claim(&KEY, PATIENT));
    assert!(answer(remote.claim(&KEY, PATIENT)).unwrap().is_some());
}

#[test]
fn a_look_up_that_is_polled_too_late_claims_nothing_and_blames_nobody() {
    let (memory, remote) = store();
    assert!(write(&remote));
    until(&remote, |health| health.written == 1);
    remote.prepare(PATIENT);
    for _ in 0..3 {
        let claimed = answer(remote.claim(&KEY, Duration::ZERO));
        assert!(matches!(claimed, Err(StoreError::TimedOut)), "{claimed:?}");
    }
    memory.hangs.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        assert!(answer(remote.fetch(&KEY, Duration::ZERO)).is_err());
    }
    assert_eq!(remote.health().outages, 0);
    assert!(answer(remote.claim(&KEY, PATIENT)).unwrap().is_some());
}

#[test]
fn look_ups_whose_clients_leave_still_tell_that_the_server_hangs() {
    let (memory, remote) = store();
    remote.prepare(PATIENT); // which is how long idle servers have
    memory.hangs.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        let mut fetch = remote.fetch(&KEY, Duration::from_millis(10));
        let polled = fetch.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }
    until(&remote, |health| health.outages == 1);
}

#[test]
fn a_look_up_keeps_its_store_until_it_is_over_and_no_longer() {
    let (memory, remote) = store();
    assert!(write(&remote));
    until(&remote, |health| health.written == 1);
    let fetches = [(); 2].map(|()| remote.fetch(&KEY, PATIENT));
    drop(remote);
    let [fetch, mut abandoned] = fetches;
    assert_eq!(answer(fetch).unwrap(), Some(b"value".to_vec()));
    memory.hangs.store(true, Ordering::Relaxed);
    let context = &mut Context::from_waker(Waker::noop());
    assert!(abandoned.as_mut().poll(context).is_pending());
    drop(abandoned);
    let start = Instant::now();
    while Arc::strong_count(&memory.values) > 1 {
        assert!(start.elapsed() < PATIENT, "its thread does not end");
        thread::yield_now();
    }
}

#[test]
fn a_full_server_refuses_writes_without_opening_the_breaker() {
    let (memory, remote) = store();
    memory.fail(FailureKind::Full);
    for refused in 1..=5 {
        assert!(write(&remote));
        until(&remote, |health| health.refused == refused);
    }
    until(&remote, |health| health.last_trouble.is_some());
    let what = remote.health().last_trouble.unwrap().what;
    assert_eq!(&*what, "memory: told to");
    memory.fail(None);
    assert!(write(&remote));
    until(&remote, |health| health.written == 1);
    assert_eq!(remote.health().outages, 0);
}

#[test]
fn refusals_in_a_row_open_the_breaker_and_it_closes_by_itself() {
    let (memory, remote) = store();
    memory.fail(FailureKind::Refused(StoreTrouble::NotPermitted));
    let mut failed = 0;
    while !remote.health().is_down {
        match answer(remote.fetch(&KEY, PATIENT)) {
            Err(StoreError::Failed(cause)) => assert_eq!(cause.to_string(), "told to"),
            Err(StoreError::Unavailable) => break,
            other => panic!("{other:?}"),
        }
        failed += 1;
    }
    assert!(failed <= 3, "{failed}");
    assert!(!write(&remote), "while the breaker is open");
    memory.fail(None);
    until(&remote, |health| !health.is_down);
    assert!(write(&remote));
    let health = remote.health();
    assert_eq!((health.connections, health.outages), (2, 1));
    assert_eq!(health.trouble, None);
    let last = health.last_trouble.unwrap();
    assert_eq!((&*last.what, last.is_over), ("memory: told to", true));
}

#[test]
fn a_server_that_answers_but_does_not_do_what_is_needed_stays_down_and_says_why() {
    let memory = Memory::default();
    memory.fail(FailureKind::Refused(StoreTrouble::NotPermitted));
    let remote = start(&memory);
    until(&remote, |health| {
        // That is noted a moment later.
        health.trouble == Some(StoreTrouble::NotPermitted) && health.last_trouble.is_some()
    });
    assert!(remote.health().is_down);
    // It is noted a moment later, by the thread that met it.
    until(&remote, |health| health.last_trouble.is_some());
    let last = remote.health().last_trouble.unwrap();
    assert!(last.what.ends_with(": told to") && !last.is_over, "{last}");
    memory.fail(FailureKind::Full);
    until(&remote, |health| health.trouble == Some(StoreTrouble::Full));
    let health = remote.health();
    assert!(!health.is_down, "it serves what it has");
    assert!(!health.last_trouble.unwrap().is_over, "it is full");
    memory.fail(None);
    assert!(write(&remote));
    until(&remote, |health| health.trouble.is_none());
    let health = remote.health();
    assert_eq!((health.connections, health.outages), (1, 0));
}

#[test]
fn a_server_that_is_late_at_first_is_up_without_another_connection() {
    for (late, connections) in [(2, 1), (3, 2)] {
        let memory = Memory {
            late,
            ..Memory::default()
        };
        let remote = start(&memory);
        remote.prepare(Duration::from_millis(1));
        until(&remote, |health| !health.is_down);
        assert_eq!(memory.connected.load(Ordering::Relaxed), connections);
    }
}

#[test]
fn a_panic_while_connecting_is_told_as_trouble_and_it_is_tried_again() {
    let memory = Memory {
        panics: 2,
        ..Memory::default()
    };
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    let (log, health) = Log::of(|| {
        runtime.block_on(async {
            let common = Arc::new(Common::new("test:session:".into()));
            let (single, driven) =
                Single::new(Arc::clone(&common), memory.clone(), Handle::current());
            tokio::spawn(driven);
            common.begin();
            let until = async |reached: fn(&StoreHealth) -> bool| {
                while !reached(&single.health()) {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            let trouble = until(|health| health.trouble == Some(StoreTrouble::Unreachable));
            timeout(PATIENT, trouble).await.unwrap();
            timeout(PATIENT, until(|health| !health.is_down))
                .await
                .unwrap();
            assert!(common.log.settle(PATIENT));
            single.health()
        })
    });
    assert_eq!(memory.connected.load(Ordering::Relaxed), 3);
    let what = health.last_trouble.unwrap().what;
    assert_eq!(&*what, r#"memory: panicked: "on purpose""#);
    let warnings = log.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("cannot be used") && warnings[0].contains("on purpose"));
}

#[test]
fn a_panic_of_a_connection_costs_that_connection_alone() {
    let (memory, remote) = store();
    let panics_in = |function| *memory.panics_in.lock() = function;
    let is_up_after = |outages: u64| {
        until(&remote, |health| {
            // Counted one after the other, so only who connected once more is up again.
            health.connections == outages + 1 && !health.is_down
        });
    };
    panics_in("get");
    match answer(remote.fetch(&KEY, PATIENT)) {
        Err(StoreError::Failed(cause)) => assert!(cause.to_string().contains("on purpose")),
        other => panic!("{other:?}"),
    }
    is_up_after(1);
    panics_in("write");
    assert!(write(&remote));
    until(&remote, |health| health.unknown == 1);
    is_up_after(2);
    panics_in("get_and_delete"); // by which an idle server is tried
    is_up_after(3);
    assert!(write(&remote));
    until(&remote, |health| health.written == 1);
}

#[test]
fn nothing_is_connected_before_it_is_used() {
    let memory = Memory::default();
    let remote = start(&memory);
    assert_eq!(remote.served.common.health().connections, 0);
    assert!(!remote.served.common.has_begun());
    remote.prepare(Duration::from_secs(2));
    assert_eq!(remote.served.common.deadline(), Duration::from_secs(2));
    until(&remote, |health| !health.is_down);
}

#[test]
fn a_store_that_cannot_be_served_in_a_forked_process_is_down_there() {
    let remote = Remote::idle("test");
    remote.served.process.pretend_fork();
    assert!(remote.heir.set(None).is_ok(), "the system gives no thread");
    let health = remote.health();
    assert!(health.is_down && health.trouble.is_none());
    assert!(!write(&remote));
    let found = answer(remote.fetch(&KEY, PATIENT));
    assert!(matches!(found, Err(StoreError::Unavailable)), "{found:?}");
}

#[test]
fn a_lost_connection_opens_the_breaker_at_once() {
    let (memory, remote) = store();
    memory.fail(FailureKind::Useless(StoreTrouble::Unreachable));
    assert!(answer(remote.fetch(&KEY, PATIENT)).is_err());
    assert_eq!(remote.health().outages, 1);
    assert!(remote.health().is_down);
    memory.fail(None);
    until(&remote, |health| !health.is_down);
}
