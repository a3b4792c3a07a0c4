//! Look-ups that are served by a runtime that is named to the store, and whatever happens to it.

use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustls::version::TLS13;
use rustls_resumption::store::{RedisStore, SharedStore, StoreKey};
use test_support::acceptor::{acceptor, kind};
use test_support::fleet::{sharing, until};
use test_support::handshake::{FULL, client, server_config};
use test_support::redis::RedisServer;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::observed::Observed;

const PATIENT: Duration = Duration::from_secs(30);

/// A store whose look-ups this runtime serves, by now.
async fn store_on(redis: &RedisServer, runtime: &Handle, deadline: Duration) -> RedisStore {
    let store = RedisStore::new(&redis.url()).unwrap();
    let store = store.lookup_runtime(runtime.clone());
    store.prepare(deadline);
    until(&store, |health| health.connections == 2 && !health.is_down).await;
    store
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

/// The keys of this many sessions, which are in the store. Only a handshake makes one.
async fn written(store: &RedisStore, count: usize) -> Vec<StoreKey> {
    let observed = Arc::new(Observed::new(store.clone()));
    let resumption = sharing(&observed).build().unwrap();
    let acceptor = acceptor(&resumption, server_config());
    while observed.written().len() < count {
        assert_eq!(kind(&client(&TLS13), &acceptor).await, FULL);
    }
    let keys = observed.written();
    until(store, |health| health.written == keys.len() as u64).await;
    keys
}

#[tokio::test]
async fn while_the_runtime_ends_no_session_is_claimed_twice_and_the_store_stays_up() {
    let redis = RedisServer::start();
    let runtime = runtime();
    let store = store_on(&redis, runtime.handle(), PATIENT).await;
    let keys = written(&store, 60).await;
    let (begun, begins) = mpsc::channel();
    let claimers: Vec<_> = (0..4)
        .map(|number| {
            let (store, keys, begun) = (store.clone(), keys.clone(), begun.clone());
            thread::spawn(move || {
                let own = Builder::new_current_thread().build().unwrap();
                let mut claimed = Vec::new();
                let mut lost = 0;
                // Each begins elsewhere.
                let (later, first) = keys.split_at(number * keys.len() / 4);
                for key in first.iter().chain(later) {
                    match own.block_on(store.claim(key, PATIENT)) {
                        Ok(Some(_)) => claimed.push(*key),
                        Ok(None) => {}
                        Err(_) => lost += 1,
                    }
                    let _ = begun.send(());
                }
                (claimed, lost)
            })
        })
        .collect();
    for _ in 0..20 {
        begins.recv().unwrap();
    }
    runtime.shutdown_background();
    let claimers = claimers.into_iter().map(|claimer| claimer.join().unwrap());
    let (claimed, lost): (Vec<_>, Vec<_>) = claimers.unzip();
    let claimed = claimed.concat();
    let distinct: BTreeSet<_> = claimed.iter().collect();
    assert_eq!(distinct.len(), claimed.len(), "claimed twice");
    // One at a time asks, in each thread, and asks elsewhere from then on.
    let lost: usize = lost.iter().sum();
    assert!(lost <= 4, "{lost}");
    assert!(claimed.len() >= keys.len() - lost, "{}", claimed.len());
    // An idle one is found out, too.
    until(&store, |health| health.lookup_runtime_outages == 1).await;
    until(&store, |health| {
        let trouble = health.last_trouble.as_ref();
        trouble.is_some_and(|trouble| trouble.what.ends_with("the runtime has ended"))
    })
    .await;
    let health = store.health();
    assert_eq!((health.outages, health.is_down), (0, false), "{health:?}");
    assert!(store.claim(&keys[0], PATIENT).await.is_ok());
}

#[tokio::test]
async fn a_runtime_without_io_or_timers_is_done_without() {
    let redis = RedisServer::start();
    for (with_io, missing) in [(false, "IO is disabled"), (true, "timers are disabled")] {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1);
        match with_io {
            true => builder.enable_io(),
            false => builder.enable_time(),
        };
        let runtime = builder.build().unwrap();
        let store = RedisStore::new(&redis.url()).unwrap();
        let store = store.lookup_runtime(runtime.handle().clone());
        store.prepare(PATIENT);
        until(&store, |health| {
            let trouble = health.last_trouble.as_ref();
            let is_told = trouble.is_some_and(|trouble| trouble.what.contains(missing));
            is_told && !health.is_down
        })
        .await;
        for key in written(&store, 2).await {
            assert!(store.claim(&key, PATIENT).await.unwrap().is_some());
        }
        assert_eq!(store.health().connections, 1);
        runtime.shutdown_background();
    }
}

#[tokio::test]
async fn a_runtime_that_is_blocked_is_done_without_until_it_is_free() {
    let redis = RedisServer::start();
    let runtime = runtime();
    // Its look-ups time out, and whoever looks up is told in time.
    let deadline = Duration::from_secs(1);
    let store = store_on(&redis, runtime.handle(), deadline).await;
    let keys = written(&store, 3).await;
    let (free, is_free) = mpsc::channel::<()>();
    runtime.spawn(async move { is_free.recv() });
    let start = Instant::now();
    while store.health().lookup_runtime_outages == 0 {
        assert!(start.elapsed() < PATIENT, "{:?}", store.health());
        let _ = store.claim(&keys[0], deadline).await;
    }
    let written = store.health().written;
    assert!(store.write(keys[0], b"again".to_vec(), PATIENT));
    until(&store, |health| health.written > written).await;
    for key in &keys[..2] {
        assert!(store.claim(key, PATIENT).await.unwrap().is_some());
    }
    let health = store.health();
    assert_eq!((health.outages, health.is_down), (0, false), "{health:?}");
    free.send(()).unwrap();
    until(&store, |health| health.connections >= 3).await;
    assert!(store.claim(&keys[2], PATIENT).await.unwrap().is_some());
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_redis_that_hangs_is_found_out_and_the_runtime_serves_again() {
    let redis = RedisServer::start();
    let runtime = runtime();
    let deadline = Duration::from_secs(1);
    let store = store_on(&redis, runtime.handle(), deadline).await;
    let keys = written(&store, 1).await;
    redis.pause();
    let start = Instant::now();
    while !store.health().is_down {
        assert!(start.elapsed() < PATIENT, "{:?}", store.health());
        let claimed = store.claim(&keys[0], deadline).await;
        assert!(claimed.is_err(), "{claimed:?}");
    }
    redis.resume();
    // The store's own connection and that of the runtime, of which neither may have been lost.
    until(&store, |health| {
        !health.is_down && health.connections == 2 + health.outages + health.lookup_runtime_outages
    })
    .await;
    runtime.shutdown_background();
}
