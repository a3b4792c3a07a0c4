//! Log subscribers of the whole process that panic or hang, where a store or a source has something
//! to log.
#![cfg(unix)]

use rustls_resumption::source::{DerivedSource, KeyDirectory};
use rustls_resumption::store::{
    RedisClient, RedisStore, SharedStore, StoreError, StoreKey, StoreLookup, contract,
};
use tempfile::TempDir;
use test_support::redis::RedisServer;
use tokio::runtime::Builder;
use tracing::{dispatcher, subscriber};

use super::*;

fn log_to(reader: impl Fn() + Send + Sync + 'static) {
    subscriber::set_global_default(Reader(reader)).unwrap();
}

/// A server alone, and one that is a Cluster.
fn servers() -> [(RedisServer, RedisClient); 2] {
    let (one, node) = (RedisServer::start(), RedisServer::cluster());
    let alone = RedisClient::open(one.url()).unwrap();
    let cluster = RedisClient::cluster([node.url()]).unwrap();
    [(one, alone), (node, cluster)]
}

/// Tells the keys that are written.
struct Catch(Sender<StoreKey>);

impl SharedStore for Catch {
    fn fetch(&self, _: &StoreKey, _: Duration) -> StoreLookup {
        Box::pin(async { Ok(None) })
    }

    fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.fetch(key, deadline)
    }

    fn write(&self, key: StoreKey, _: Vec<u8>, _: Duration) -> bool {
        self.0.send(key).is_ok()
    }
}

/// Nobody but this crate makes one.
fn some_key() -> StoreKey {
    let (tell, told) = channel();
    thread::spawn(move || contract::check(&Catch(tell)));
    told.recv().unwrap()
}

fn claim(
    store: &RedisStore,
    key: &StoreKey,
    deadline: Duration,
) -> Result<Option<Vec<u8>>, StoreError> {
    let lookup = store.claim(key, deadline);
    returns(move || {
        Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(lookup)
    })
}

/// A store comes up, serves, times out, goes down, and does so again after its server was away.
fn serves(server: &mut RedisServer, client: RedisClient) {
    let (store, key) = (RedisStore::with_client(client).unwrap(), some_key());
    for _ in 0..2 {
        store.prepare(LONG);
        wait_until("up", || !store.health().is_down);
        assert!(matches!(claim(&store, &key, LONG), Ok(None)));
        assert!(store.write(key, vec![7; 100], LONG));
        wait_until("claimed", || {
            matches!(claim(&store, &key, LONG), Ok(Some(_)))
        });
        server.pause();
        let timed_out = claim(&store, &key, SECOND / 10);
        assert!(
            matches!(timed_out, Err(StoreError::TimedOut)),
            "{timed_out:?}"
        );
        server.stop();
        wait_until("down", || store.health().is_down);
        server.restart();
    }
    wait_until("up", || !store.health().is_down);
}

#[test]
fn a_store_whose_log_panics_comes_up_again_and_again() {
    alone(|| {
        let told = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&told);
        log_to(move || {
            count.fetch_add(1, Ordering::AcqRel);
            panic!("on purpose");
        });
        for (mut server, client) in servers() {
            let before = told.load(Ordering::Acquire);
            serves(&mut server, client);
            wait_until("told", || told.load(Ordering::Acquire) >= before + 5);
        }
    });
}

#[test]
fn a_store_whose_log_hangs_serves_times_out_and_comes_up_again() {
    alone(|| {
        let (brake, wheel) = brake();
        brake.stop();
        let theirs = wheel.clone();
        log_to(move || theirs.turn());
        for (mut server, client) in servers() {
            serves(&mut server, client);
        }
        assert!(wheel.is_stuck());
        drop(brake);
    });
}

fn is_on_thread_of_ours() -> bool {
    let thread = thread::current();
    let name = thread.name();
    name.is_some_and(|name| name.starts_with("resumption-"))
}

/// Sources that have something to log whenever they are asked, until it is logged.
fn sources_answer() -> Resumption {
    let parent = TempDir::new().unwrap();
    let directory = || KeyDirectory::new(parent.path().join("keys")).unwrap();
    let other = Rotation::new().interval(60 * SECOND);
    let builder = Resumption::builder().stek_source(directory());
    let other = returns(move || builder.rotation(other).build().unwrap());
    wait_until("ready", || other.ready());
    let builder = Resumption::builder().stek_source(directory());
    let shares = returns(move || builder.build().unwrap());
    wait_until("ready", || shares.ready());
    // Whoever was not the last to write.
    let differs = |one: &Resumption| one.stats().steks.fleet_agrees == Some(false);
    wait_until("told", || differs(&other) || differs(&shares));
    let secret: Vec<u8> = (100..150).collect();
    let builder = Resumption::builder().stek_source(DerivedSource::new(&secret).unwrap());
    let derives = returns(move || builder.build().unwrap());
    wait_until("ready", || {
        derives.ready() && !derives.stats().steks.fallen_back
    });
    derives
}

#[test]
fn a_source_whose_log_panics_answers() {
    alone(|| {
        // Such a directory is told of where it is made known, on the caller's thread.
        log_to(|| assert!(!is_on_thread_of_ours(), "on purpose"));
        let resumption = sources_answer();
        wait_until("counted", || resumption.stats().housekeeper.lost > 0);
    });
}

#[test]
fn a_source_whose_log_hangs_answers() {
    alone(|| {
        let (brake, wheel) = brake();
        brake.stop();
        let theirs = wheel.clone();
        log_to(move || {
            if is_on_thread_of_ours() {
                theirs.turn();
            }
        });
        sources_answer();
        wait_until("stuck", || wheel.is_stuck());
        drop(brake);
    });
}

#[test]
fn where_nobody_sets_a_subscriber_none_is_set_so_that_the_facade_log_is_told() {
    alone(|| {
        let resumption = Resumption::tickets().unwrap();
        resumption.rotate_now().unwrap();
        assert!(resumption.shutdown(LONG));
        assert!(!dispatcher::has_been_set());
    });
}
