//! A writer in Redis who changes sessions, cuts them, and puts them where they do not belong.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::Commands;
use rustls::ClientConfig;
use rustls::version::TLS13;
use rustls_resumption::stats::{StoreHealth, StoreStats};
use rustls_resumption::store::{RedisStore, SharedStore, StoreKey, StoreLookup};
use rustls_resumption::{Resumption, ResumptionAcceptor};
use test_support::fleet::{self, shared_source};
use test_support::handshake::{
    FULL, RESUMED, client, client_without_tickets, first_flight, server_config,
};
use test_support::redis::RedisServer;
use test_support::{acceptor, hello};
use tokio::io::{AsyncWriteExt, duplex};

/// A store that remembers what it was asked for: an attacker may work that out.
struct Watched {
    store: RedisStore,
    asked: Mutex<Vec<StoreKey>>,
}

impl SharedStore for Watched {
    fn fetch(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.asked.lock().unwrap().push(*key);
        self.store.fetch(key, deadline)
    }

    fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.asked.lock().unwrap().push(*key);
        self.store.claim(key, deadline)
    }

    fn write(&self, key: StoreKey, value: Vec<u8>, ttl: Duration) -> bool {
        self.store.write(key, value, ttl)
    }

    fn health(&self) -> StoreHealth {
        self.store.health()
    }
}

/// A server of a fleet, in some scope.
struct Node {
    resumption: Resumption,
    acceptor: ResumptionAcceptor,
    store: Arc<Watched>,
}

impl Node {
    async fn new(redis: &RedisServer, scope: &str) -> Self {
        let store = Arc::new(Watched {
            store: RedisStore::new(&redis.url()).unwrap(),
            asked: Mutex::default(),
        });
        let resumption = Resumption::builder()
            .stateful(20_000)
            .stek_source(shared_source())
            .shared_store(Arc::clone(&store))
            .store_deadline(Duration::from_secs(5)) // it is not about that
            .build()
            .unwrap();
        let mut config = server_config();
        resumption.install(&mut config, scope);
        let node = Self {
            acceptor: ResumptionAcceptor::from(Arc::new(config)),
            resumption,
            store,
        };
        node.until(|health| !health.is_down).await;
        node
    }

    async fn until(&self, reached: impl Fn(StoreHealth) -> bool) {
        fleet::until(&self.store, reached).await;
    }

    fn stats(&self) -> StoreStats {
        self.resumption.stats().store
    }

    /// A full handshake whose sessions are in Redis when it returns.
    async fn welcome(&self, client: &Arc<ClientConfig>) {
        assert_eq!(acceptor::kind(client, &self.acceptor).await, FULL);
        let shared = self.stats().shared;
        self.until(|health| health.written == shared).await;
    }

    /// Whether it resumes for this first flight.
    async fn resumes(&self, flight: &[u8]) -> bool {
        let (mut near, far) = duplex(1 << 18);
        near.write_all(flight).await.unwrap();
        near.shutdown().await.unwrap();
        let mut resumes = false;
        let accepting = self.acceptor.accept_with(far, |connection| {
            resumes = connection.handshake_kind() == Some(RESUMED);
        });
        accepting.await.unwrap_err(); // the client says no more
        resumes
    }

    /// The key in Redis that was asked for last.
    fn asked(&self) -> String {
        let asked = self.store.asked.lock().unwrap();
        format!("rustls-resumption:session:{}", asked.last().unwrap())
    }
}

/// Of a TLS 1.2 hello: record header, message header, version, random; then the session ID.
const SESSION_ID: std::ops::Range<usize> = 44..76;

/// The identity that a TLS 1.3 hello offers: before its age and the only binder.
fn identity(flight: &[u8]) -> [u8; 32] {
    let end = flight.len() - (2 + 1 + 48) - 4;
    flight[end - 32..end].try_into().unwrap()
}

/// All that is in Redis.
fn values(redis: &RedisServer) -> Vec<(String, Vec<u8>)> {
    let mut connection = redis.connection();
    let keys: Vec<String> = connection.keys("*").unwrap();
    keys.into_iter()
        .map(|key| {
            let value = connection.get(&key).unwrap();
            (key, value)
        })
        .collect()
}

fn put(redis: &mut redis::Connection, key: &str, value: &[u8]) {
    let _: () = redis.set(key, value).unwrap();
}

#[tokio::test]
async fn every_flipped_bit_and_every_cut_of_a_stored_session_is_a_miss() {
    let redis = RedisServer::start();
    let (home, node) = (Node::new(&redis, "a").await, Node::new(&redis, "a").await);
    for client in [client(&TLS13), client_without_tickets()] {
        let mut connection = redis.connection();
        redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
        home.welcome(&client).await;
        let flight = first_flight(&client, b"");
        let stored = values(&redis);
        let before = node.stats().misses;
        let mut offered = 0;
        // TLS 1.3 has two; which is meant is not to be seen from outside.
        let longest = stored.iter().map(|(_, value)| value.len()).max().unwrap();
        let changes = (0..longest * 8).map(Some).chain([None]);
        for bit in changes {
            for (key, value) in &stored {
                let mut value = value.clone();
                match bit {
                    Some(bit) if bit < value.len() * 8 => value[bit / 8] ^= 1 << (bit % 8),
                    _ => value.push(0),
                }
                put(&mut connection, key, &value);
            }
            assert!(!node.resumes(&flight).await, "bit {bit:?}");
            offered += 1;
        }
        for len in 0..longest {
            for (key, value) in &stored {
                put(&mut connection, key, &value[..len.min(value.len() - 1)]);
            }
            assert!(!node.resumes(&flight).await, "length {len}");
            offered += 1;
        }
        let after = node.stats().misses;
        let forged = after.forged - before.forged;
        let unknown = after.unknown_key_name - before.unknown_key_name;
        let malformed = after.malformed - before.malformed;
        assert_eq!(forged + unknown + malformed, offered);
        assert_eq!((unknown, malformed), (16 * 8, 28 + 13 + 16), "{after:?}");
        for (key, value) in &stored {
            put(&mut connection, key, value);
        }
        assert!(node.resumes(&flight).await, "as it was");
    }
}

#[tokio::test]
async fn swapped_and_spliced_stored_sessions_are_misses() {
    let redis = RedisServer::start();
    let node = Node::new(&redis, "a").await;
    let clients = [client(&TLS13), client(&TLS13)];
    for client in &clients {
        node.welcome(client).await;
    }
    let stored = values(&redis);
    assert_eq!(stored.len(), 4);
    let flights = clients.each_ref().map(|client| first_flight(client, b""));
    let mut connection = redis.connection();
    let mut missed = 0;
    for by in 1..4 {
        for flight in &flights {
            for (i, (key, _)) in stored.iter().enumerate() {
                put(&mut connection, key, &stored[(i + by) % 4].1);
            }
            assert!(!node.resumes(flight).await, "the next but {by}");
            missed += 1;
        }
    }
    // The head of one and the tail of another, at every place after the key name, which all share.
    for at in (17..stored[0].1.len()).step_by(5) {
        for (i, (key, value)) in stored.iter().enumerate() {
            let other = &stored[(i + 1) % 4].1;
            let spliced = [&value[..at], &other[at..]].concat();
            put(&mut connection, key, &spliced);
        }
        assert!(!node.resumes(&flights[0]).await, "at {at}");
        missed += 1;
    }
    assert_eq!(node.stats().misses.forged, missed);
    for (key, value) in &stored {
        put(&mut connection, key, value);
    }
    for flight in &flights {
        assert!(node.resumes(flight).await);
    }
}

#[tokio::test]
async fn a_session_put_where_another_scope_looks_for_it_is_a_miss_there() {
    let redis = RedisServer::start();
    let (a, b) = (Node::new(&redis, "a").await, Node::new(&redis, "b").await);
    for client in [client(&TLS13), client_without_tickets()] {
        a.welcome(&client).await;
        let (flight, stored) = (first_flight(&client, b""), values(&redis));
        assert!(!b.resumes(&flight).await, "it has no such key");
        let place = b.asked();
        assert!(stored.iter().all(|(key, _)| *key != place));
        let before = b.stats().misses.forged;
        let mut connection = redis.connection();
        for (_, value) in &stored {
            put(&mut connection, &place, value);
            assert!(!b.resumes(&flight).await);
        }
        assert_eq!(b.stats().misses.forged - before, stored.len() as u64);
        assert_eq!(acceptor::kind(&client, &a.acceptor).await, RESUMED);
        redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
    }
}

#[tokio::test]
async fn a_session_put_where_the_other_tls_version_looks_for_it_is_a_miss_there() {
    let redis = RedisServer::start();
    let (home, node) = (Node::new(&redis, "a").await, Node::new(&redis, "a").await);
    let mut connection = redis.connection();

    // A session ID of TLS 1.2 offered as a PSK identity.
    let tls12 = client_without_tickets();
    home.welcome(&tls12).await;
    let by_id = first_flight(&tls12, b"");
    let id: [u8; 32] = by_id[SESSION_ID].try_into().unwrap();
    let stored = values(&redis);
    assert_eq!(stored.len(), 1);
    let as_identity = hello::offering(&[id]);
    assert!(!node.resumes(&as_identity).await);
    put(&mut connection, &node.asked(), &stored[0].1);
    assert!(!node.resumes(&as_identity).await);
    assert_eq!(node.stats().misses.forged, 1);
    assert!(node.resumes(&by_id).await, "it was not burnt");

    // And the reverse.
    redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
    let tls13 = client(&TLS13);
    home.welcome(&tls13).await;
    let flight = first_flight(&tls13, b"");
    let mut as_id = by_id;
    as_id[SESSION_ID].copy_from_slice(&identity(&flight));
    let stored = values(&redis);
    assert_eq!(stored.len(), 2);
    assert!(!node.resumes(&as_id).await);
    for (_, value) in &stored {
        put(&mut connection, &node.asked(), value);
        assert!(!node.resumes(&as_id).await);
    }
    assert_eq!(node.stats().misses.forged, 3);
    assert!(node.resumes(&flight).await, "it was not burnt");
}

#[tokio::test]
async fn restored_sessions_open_only_if_nothing_was_forgotten_or_revoked_since() {
    let redis = RedisServer::start();
    let node = Node::new(&redis, "a").await;
    let (tls13, tls12) = (client(&TLS13), client_without_tickets());
    node.welcome(&tls13).await;
    node.welcome(&tls12).await;
    let stored = values(&redis);
    let flights = [first_flight(&tls13, b""), first_flight(&tls12, b"")];
    let mut connection = redis.connection();
    let mut bring_back = || {
        for (key, value) in &stored {
            put(&mut connection, key, value);
        }
    };
    assert!(node.resumes(&flights[0]).await);
    assert!(!node.resumes(&flights[0]).await, "it was claimed");
    bring_back();
    assert!(node.resumes(&flights[0]).await, "as the page says");

    let _ = node.resumption.forget("a");
    for flight in &flights {
        bring_back();
        assert!(!node.resumes(flight).await);
    }
    assert_eq!(node.stats().misses.forgotten, 2);

    let other = Node::new(&redis, "a").await;
    let _ = other.resumption.revoke_all();
    for flight in &flights {
        bring_back();
        assert!(!other.resumes(flight).await);
    }
    assert_eq!(other.stats().misses.unknown_key_name, 2);
}
