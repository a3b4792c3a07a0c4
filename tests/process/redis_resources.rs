//! Dropped handles that used Redis leave nothing behind (Linux).
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls_resumption::Resumption;
use rustls_resumption::source::RedisSource;
use rustls_resumption::stats::StoreHealth;
use rustls_resumption::store::{RedisStore, SharedStore};
use test_support::alone::alone;
use test_support::process::{held, resident, until_held};
use test_support::redis::RedisServer;
use test_support::session::{id, tls12, tls13};
use tokio::runtime::{Builder, Handle};

fn make_use_and_drop(redis: &RedisServer, runtime: &Handle, number: u64) {
    let kek: Vec<u8> = (100..132).collect();
    let source = RedisSource::new(&redis.url(), &kek).unwrap();
    let mut store = RedisStore::new(&redis.url()).unwrap();
    let has_runtime = number.is_multiple_of(5);
    if has_runtime {
        store = store.lookup_runtime(runtime.clone());
    }
    let store = Arc::new(store);
    let resumption = Resumption::builder()
        .stateful(20_000)
        .stek_source(source)
        .shared_store(Arc::clone(&store))
        .build()
        .unwrap();
    assert!(resumption.ready());
    // Some are dropped before Redis answered the store.
    if number.is_multiple_of(2) {
        let is_served =
            |health: StoreHealth| !health.is_down && health.connections > u64::from(has_runtime);
        while !is_served(store.health()) {
            thread::yield_now();
        }
        let storage = resumption.session_storage("a");
        assert!(storage.put(id(number).to_vec(), tls13(b"secret", b"")));
        assert!(storage.put(id(number).to_vec(), tls12(b"secret")));
        assert_eq!(resumption.stats().store.shared, 2);
    }
    if number.is_multiple_of(3) {
        assert!(resumption.shutdown(Duration::from_secs(30)));
    }
}

#[test]
fn a_thousand_handles_on_redis_dropped_leave_no_thread_no_file_no_connection_and_no_memory() {
    alone(|| {
        let redis = RedisServer::start();
        let mut admin = redis.connection();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let runtime = runtime.handle();
        (0..100).for_each(|number| make_use_and_drop(&redis, runtime, number));
        until_held(|(threads, _)| threads == 3); // the test's, its harness's and the runtime's
        let (before, memory) = (held(), resident());
        (100..1_100).for_each(|number| make_use_and_drop(&redis, runtime, number));
        until_held(|held| held == before);
        let grown = resident().saturating_sub(memory);
        println!("figure: {grown} bytes grown by 1,000 handles on Redis");
        assert!(grown < 2 << 20, "{grown} bytes more than after the first");
        let mut clients = String::from("many\n\n");
        while clients.lines().count() > 1 {
            clients = redis::cmd("CLIENT").arg("LIST").query(&mut admin).unwrap();
        }
        let written: u64 = redis::cmd("DBSIZE").query(&mut admin).unwrap();
        assert_eq!(
            written,
            1_100 + 1,
            "two sessions of each second handle; STEKs"
        );
    });
}
