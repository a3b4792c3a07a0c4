//! A suite for whoever writes a [`SharedStore`]: run it against a real server, in a test.
//!
//! ```no_run
//! # use rustls_resumption::store::SharedStore;
//! # fn store() -> impl SharedStore + Sync { rustls_resumption::store::RedisStore::new("").unwrap() }
//! #[test]
//! fn it_keeps_the_contract() {
//!     rustls_resumption::store::contract::check(&store()).unwrap();
//! }
//! ```

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::{SharedStore, StoreError, StoreKey, StoreLookup};

/// How a store broke the contract.
#[derive(Debug)]
pub struct Violation(String);

/// How long look-ups may take here, and a store to become ready.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long the value lives whose expiry is watched: a protocol may count in whole seconds.
const TTL: Duration = Duration::from_secs(5);

/// By how much a value may expire too early, and by how much, on a busy machine, be late. A server
/// that reads its clock once a second, as memcached does, may be a second behind when it dates a
/// value, and lose another to rounding.
const EARLY: Duration = Duration::from_secs(2);
const LATE: Duration = Duration::from_millis(500);

/// How many claim a value at once, and how many values.
const CLAIMERS: usize = 8;
const RACES: usize = 100;

/// Checks, in some seconds, that values come back as they were written, that of racing claims one
/// wins, that what is claimed or has expired is gone, and that look-ups depend on no runtime.
///
/// It blocks, so it must not be called on a thread that the store itself needs. The store should be
/// alone on its server. Nothing can be checked here of what the server forgets by itself.
///
/// # Errors
///
/// The first violation that is found.
pub fn check(store: &(impl SharedStore + ?Sized)) -> Result<(), Violation> {
    store.prepare(DEADLINE);
    ensure(!store.name().is_empty(), || "it has no name".into())?;
    values_come_back(store)?;
    keys_differ_by_any_bit(store)?;
    what_is_not_polled_is_not_claimed(store)?;
    one_of_many_claims_wins(store)?;
    values_expire(store)?;
    one_deadline_is_enough(store)
}

fn values_come_back(store: &(impl SharedStore + ?Sized)) -> Result<(), Violation> {
    let unknown = new_key()?;
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    for value in [b"x".to_vec(), every_byte.clone(), every_byte.repeat(64)] {
        let key = new_key()?;
        write(store, key, &value, DEADLINE.saturating_mul(12))?;
        for _ in 0..2 {
            let found = answer(store.fetch(&key, DEADLINE))?;
            ensure(found.as_ref() == Some(&value), || {
                "a value that is fetched must stay, as it was written".into()
            })?;
        }
        let found = answer(store.claim(&key, DEADLINE))?;
        ensure(found.as_ref() == Some(&value), || {
            "a claim must return the value".into()
        })?;
        for lookup in [store.claim(&key, DEADLINE), store.fetch(&key, DEADLINE)] {
            let found = answer(lookup)?;
            ensure(found.is_none(), || "what was claimed must be gone".into())?;
        }
    }
    let lookups = [
        store.claim(&unknown, DEADLINE),
        store.fetch(&unknown, DEADLINE),
    ];
    for lookup in lookups {
        let found = answer(lookup)?;
        ensure(found.is_none(), || {
            "what was never written was found".into()
        })?;
    }
    Ok(())
}

fn keys_differ_by_any_bit(store: &(impl SharedStore + ?Sized)) -> Result<(), Violation> {
    let StoreKey(bytes) = new_key()?;
    write(store, StoreKey(bytes), b"value", DEADLINE)?;
    for (i, bit) in [(0, 0x80), (15, 0x20), (31, 1)] {
        let mut other = bytes;
        if let Some(byte) = other.get_mut(i) {
            *byte ^= bit;
        }
        let found = answer(store.fetch(&StoreKey(other), DEADLINE))?;
        ensure(found.is_none(), || {
            format!("byte {i} of a key makes no difference")
        })?;
    }
    Ok(())
}

fn what_is_not_polled_is_not_claimed(store: &(impl SharedStore + ?Sized)) -> Result<(), Violation> {
    let key = new_key()?;
    write(store, key, b"value", DEADLINE)?;
    drop(store.claim(&key, DEADLINE));
    let found = answer(store.claim(&key, DEADLINE))?;
    ensure(found.is_some(), || {
        "a claim whose future is never polled must claim nothing".into()
    })
}

fn one_of_many_claims_wins(store: &(impl SharedStore + ?Sized)) -> Result<(), Violation> {
    let mut won = 0_usize;
    for _ in 0..RACES {
        let key = new_key()?;
        write(store, key, b"value", DEADLINE)?;
        let ready = AtomicUsize::new(0);
        let ready = &ready;
        // Made here, polled on many threads.
        let claims: Vec<_> = (0..CLAIMERS).map(|_| store.claim(&key, DEADLINE)).collect();
        let winners = thread::scope(|scope| {
            let claimers = claims.into_iter().map(|claim| {
                scope.spawn(move || {
                    ready.fetch_add(1, Ordering::AcqRel);
                    while ready.load(Ordering::Acquire) < CLAIMERS {
                        thread::yield_now();
                    }
                    // A claim without an answer has not won, as far as anyone knows.
                    matches!(block_on(claim, DEADLINE), Some(Ok(Some(_))))
                })
            });
            let claimers: Vec<_> = claimers.collect();
            let outcomes = claimers.into_iter().map(|claimer| claimer.join());
            outcomes
                .filter(|outcome| matches!(outcome, Ok(true)))
                .count()
        });
        ensure(winners <= 1, || {
            format!("{winners} of {CLAIMERS} racing claims got the value")
        })?;
        won = won.saturating_add(winners);
    }
    ensure(won >= RACES / 2, || {
        format!("nobody won {} of {RACES} races", RACES.saturating_sub(won))
    })
}

fn values_expire(store: &(impl SharedStore + ?Sized)) -> Result<(), Violation> {
    let (lasting, key) = (new_key()?, new_key()?);
    let before = Instant::now();
    write(store, lasting, b"value", TTL.saturating_mul(10))?;
    write(store, key, b"value", TTL)?;
    let after = Instant::now();
    loop {
        let asked = Instant::now();
        let found = answer(store.fetch(&key, DEADLINE))?;
        let (since_before, since_after) = (before.elapsed(), asked.duration_since(after));
        if found.is_none() {
            ensure(since_before.saturating_add(EARLY) >= TTL, || {
                format!("a value was gone after {since_before:?} of {TTL:?}")
            })?;
            break;
        }
        ensure(since_after <= TTL.saturating_add(LATE), || {
            format!("a value was there after {since_after:?} of {TTL:?}")
        })?;
        thread::sleep(Duration::from_millis(20));
    }
    let claimed = answer(store.claim(&key, DEADLINE))?;
    ensure(claimed.is_none(), || "an expired value was claimed".into())?;
    let found = answer(store.claim(&lasting, DEADLINE))?;
    ensure(found.is_some(), || {
        "a value went with another's expiry".into()
    })
}

/// Even with no time at all, a look-up ends, by itself or because its caller drops it.
fn one_deadline_is_enough(store: &(impl SharedStore + ?Sized)) -> Result<(), Violation> {
    let key = new_key()?;
    for deadline in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let _ = block_on(store.fetch(&key, deadline), Duration::from_millis(50));
    }
    let start = Instant::now();
    while !matches!(
        block_on(store.fetch(&key, DEADLINE), DEADLINE),
        Some(Ok(None))
    ) {
        ensure(start.elapsed() < DEADLINE, || {
            "it does not recover from look-ups that timed out".into()
        })?;
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Writes, and waits until the value is there: it was only queued.
fn write(
    store: &(impl SharedStore + ?Sized),
    key: StoreKey,
    value: &[u8],
    ttl: Duration,
) -> Result<(), Violation> {
    let start = Instant::now();
    while !store.write(key, value.to_vec(), ttl) {
        ensure(start.elapsed() < DEADLINE, || {
            format!("it took no write within {DEADLINE:?}")
        })?;
        thread::sleep(Duration::from_millis(1));
    }
    while answer(store.fetch(&key, DEADLINE))?.is_none() {
        ensure(start.elapsed() < DEADLINE, || {
            format!("a value was not there {DEADLINE:?} after it was written")
        })?;
        thread::yield_now();
    }
    Ok(())
}

fn new_key() -> Result<StoreKey, Violation> {
    let mut key = [0; StoreKey::LEN];
    let filled = aws_lc_rs::rand::fill(&mut key);
    filled.map_err(|_| Violation("the system gives no random bytes".into()))?;
    Ok(StoreKey(key))
}

fn answer(lookup: StoreLookup) -> Result<Option<Vec<u8>>, Violation> {
    match block_on(lookup, DEADLINE.saturating_mul(2)) {
        Some(Ok(found)) => Ok(found),
        Some(Err(StoreError::Unavailable | StoreError::Busy)) | None => {
            Err(Violation(format!("no answer within {DEADLINE:?}")))
        }
        Some(Err(error)) => Err(Violation(error.to_string())),
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    match holds {
        true => Ok(()),
        false => Err(Violation(what())),
    }
}

/// Polls a future on this thread, which is of no runtime, for at most so long.
fn block_on<T>(future: impl Future<Output = T>, limit: Duration) -> Option<T> {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let start = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let left = limit.checked_sub(start.elapsed())?;
        thread::park_timeout(left);
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Violation {}

#[cfg(test)]
mod tests;
