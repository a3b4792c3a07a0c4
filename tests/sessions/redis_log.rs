//! What the log says of a Redis that is of no use: the word by which Redis itself calls it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustls_resumption::stats::{StoreHealth, StoreTrouble};
use rustls_resumption::store::{RedisClient, RedisStore, SharedStore};
use test_support::log::Log;
use test_support::redis::{RedisServer, as_user};

/// The store's threads log, so this is of the whole program.
fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        tracing::subscriber::set_global_default(log.clone()).unwrap();
        log
    })
}

/// The last warning about a server.
fn warning_about(redis: &RedisServer) -> Option<String> {
    let server = format!("server=\"127.0.0.1:{}\"", redis.port());
    let warnings = log().warnings();
    warnings.into_iter().rfind(|line| line.contains(&server))
}

fn until_logged(redis: &RedisServer, words: &[&str]) {
    let start = Instant::now();
    let says_all = |line: String| words.iter().all(|word| line.contains(word));
    while !warning_about(redis).is_some_and(says_all) {
        let said = warning_about(redis);
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{words:?}: {said:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn until(store: &RedisStore, reached: impl Fn(StoreHealth) -> bool) {
    let start = Instant::now();
    while !reached(store.health()) {
        let health = store.health();
        assert!(start.elapsed() < Duration::from_secs(30), "{health:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn store(url: &str) -> RedisStore {
    log();
    let store = RedisStore::with_client(RedisClient::open(url).unwrap()).unwrap();
    store.prepare(Duration::from_secs(5));
    store
}

#[test]
fn a_demoted_master_is_logged_as_readonly() {
    let (redis, other) = (RedisServer::start(), RedisServer::start());
    let store = store(&redis.url());
    until(&store, |health| !health.is_down);
    redis.ask(&format!("REPLICAOF 127.0.0.1 {}", other.port()));
    until_logged(&redis, &["shared store is down", "READONLY"]);
    assert_eq!(store.health().trouble, Some(StoreTrouble::ReadOnly));
}

#[test]
fn a_missing_right_is_logged_as_noperm() {
    let redis = RedisServer::start();
    redis.ask("ACL SETUSER user on >p ~* +get +set");
    let store = store(&as_user(&redis.url()));
    until_logged(&redis, &["cannot be used", "NOPERM", "getdel"]);
    assert_eq!(store.health().trouble, Some(StoreTrouble::NotPermitted));
}

#[test]
fn a_node_of_a_cluster_is_logged_as_such_and_as_moved_if_it_does_not_tell() {
    // The command that tells is missing.
    let node =
        || RedisServer::with_flags(&["--cluster-enabled", "yes", "--rename-command", "HELLO", ""]);
    let (with_slots, without) = (node(), node());
    with_slots.ask("CLUSTER ADDSLOTSRANGE 0 16383");
    without.ask(&format!("CLUSTER MEET 127.0.0.1 {}", with_slots.port()));
    while !without.ask("CLUSTER INFO").contains("cluster_state:ok") {
        std::thread::sleep(Duration::from_millis(5));
    }
    let store = store(&without.url());
    until_logged(
        &without,
        &["cannot be used", "MOVED", "RedisClient::cluster"],
    );
    assert_eq!(store.health().trouble, Some(StoreTrouble::Misplaced));
    let telling = RedisServer::cluster();
    let _store = self::store(&telling.url());
    until_logged(&telling, &["cannot be used", "RedisClient::cluster"]);
}

#[test]
fn a_full_redis_is_logged_as_oom_until_it_has_room_again() {
    let redis = RedisServer::with_flags(&["--maxmemory-policy", "noeviction"]);
    redis.ask("CONFIG SET maxmemory 1");
    let store = store(&redis.url());
    until_logged(&redis, &["shared store is full", "OOM"]);
    until(&store, |health| {
        !health.is_down && health.trouble == Some(StoreTrouble::Full)
    });
    redis.ask("CONFIG SET maxmemory 0");
    redis.ask("CLIENT KILL TYPE normal"); // it is tried out again
    until(&store, |health| !health.is_down && health.trouble.is_none());
}
