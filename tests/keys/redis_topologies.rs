//! Nodes that share STEKs through Redis as it is really run: far away, behind Sentinels, as a
//! Cluster, locked down.
#![cfg(unix)]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::server::ProducesTickets;
use rustls_resumption::source::{RedisSource, SourceQuery};
use rustls_resumption::store::RedisClient;
use rustls_resumption::{FakeClock, KeyName, Resumption};
use test_support::redis::{RedisCluster, RedisServer, Replicated, Way, as_user};

/// What is long for a server and short for a test, on a machine with busy cores. The figures that
/// are printed tell how long it took.
const PATIENT: Duration = Duration::from_secs(30);

/// A server, as far as its tickets go. It asks its source when it is told to.
struct Node {
    time: FakeClock,
    resumption: Resumption,
    ring: Arc<dyn ProducesTickets>,
}

impl Node {
    fn new(client: RedisClient) -> Self {
        Self::by(FakeClock::starting_at(SystemTime::now()), client)
    }

    /// Two that go by one clock: looked at more often, one of them would be hours ahead.
    fn two(client: impl Fn() -> RedisClient) -> [Self; 2] {
        let time = FakeClock::starting_at(SystemTime::now());
        [(); 2].map(|()| Self::by(time.clone(), client()))
    }

    fn by(time: FakeClock, client: RedisClient) -> Self {
        let kek: Vec<u8> = (100..132).collect();
        let resumption = Resumption::builder()
            .stek_source(RedisSource::with_client(client, &kek).unwrap())
            .clock(time.clock())
            .build()
            .unwrap();
        let ring = resumption.ticketer("a");
        Self {
            time,
            resumption,
            ring,
        }
    }

    /// Asks its source, and says whether that answered.
    fn look(&self) -> bool {
        // Twice as long as a source that fails is left alone at most. Not more often, or
        // while it fails at once the node's clock would run hours ahead of Redis's.
        std::thread::sleep(Duration::from_millis(100));
        self.time.advance(4 * SourceQuery::DEFAULT_INTERVAL);
        self.resumption.step();
        let stats = self.resumption.stats().steks;
        !stats.fallen_back && stats.source_answered == Some(Duration::ZERO)
    }

    fn until_well(&self) -> Duration {
        let start = Instant::now();
        while !self.look() {
            assert!(start.elapsed() < PATIENT);
        }
        start.elapsed()
    }

    fn rotates(&self) -> bool {
        self.resumption.rotate_now().is_ok()
    }

    /// As often as it takes on a busy machine, each time within the limits that are the default.
    fn until_rotated(&self) {
        let start = Instant::now();
        while !self.rotates() {
            assert!(start.elapsed() < PATIENT);
        }
    }

    fn active(&self) -> Option<KeyName> {
        self.resumption.stats().steks.active
    }
}

fn sentinels(redis: &Replicated) -> RedisClient {
    RedisClient::sentinels(redis.sentinel_urls(), Replicated::NAME).unwrap()
}

#[test]
fn a_redis_on_another_continent_serves() {
    let redis = RedisServer::start();
    let way = Way::to(redis.port(), Duration::from_millis(420));
    let node = Node::new(RedisClient::open(way.url()).unwrap());
    node.until_well();
    node.until_rotated();
    node.until_well();
}

/// A rotation takes two round trips, one after the other.
#[test]
fn a_redis_that_takes_more_than_half_a_second_to_answer_lets_the_fleet_rotate() {
    let redis = RedisServer::start();
    let way = Way::to(redis.port(), Duration::from_millis(700));
    let nodes = Node::two(|| RedisClient::open(way.url()).unwrap());
    for node in &nodes {
        node.until_well();
    }
    let before = nodes[1].active();
    nodes[0].until_rotated();
    let start = Instant::now();
    while nodes[1].active() == before {
        nodes[1].look();
        assert!(start.elapsed() < PATIENT);
    }
    assert_eq!(nodes[0].active(), nodes[1].active());
}

#[test]
fn a_sentinel_that_hangs_delays_nobody() {
    let redis = Replicated::start();
    for sentinel in &redis.sentinels {
        sentinel.pause();
        let start = Instant::now();
        let node = Node::new(sentinels(&redis));
        assert!(node.look());
        // Some milliseconds as a rule; but this machine may be busy, and whoever asks it first waits
        // for twenty seconds.
        assert!(start.elapsed() < Duration::from_secs(10));
        sentinel.resume();
    }
}

#[test]
fn a_host_with_master_and_sentinel_may_hang_for_good() {
    let redis = Replicated::start();
    let nodes = Node::two(|| sentinels(&redis));
    assert!(nodes.iter().all(Node::look));
    redis.sentinels[0].pause();
    redis.servers[0].pause();
    while !redis.servers[1].ask("ROLE").contains("master") {
        nodes[0].look();
    }
    let recovered = nodes[0].until_well();
    println!("figure: source back {recovered:?} after the failover behind Sentinels");
    assert!(recovered < PATIENT, "{recovered:?}");
    nodes[1].until_well();
    assert!(nodes[0].rotates() && nodes[1].look());
    let ticket = nodes[0].ring.encrypt(b"session").unwrap();
    assert!(nodes[1].ring.decrypt(&ticket).is_some());
}

#[test]
fn any_master_of_a_cluster_may_hang_for_good() {
    let cluster = RedisCluster::start();
    let node = Node::new(RedisClient::cluster(cluster.urls()).unwrap());
    assert!(node.look() && node.rotates());
    let holder = cluster
        .masters
        .iter()
        .position(|master| master.ask("DBSIZE") != ":0\r\n");
    let holder = holder.unwrap();
    cluster.masters[holder].pause();
    while !cluster.replicas[holder].ask("ROLE").contains("master") {
        node.look();
    }
    let recovered = node.until_well();
    println!("figure: source back {recovered:?} after the failover in a Cluster");
    assert!(recovered < PATIENT, "{recovered:?}");
    assert!(node.rotates());
}

#[test]
fn the_documented_rights_are_enough_in_each_topology() {
    let redis = Replicated::start();
    let master = &redis.servers[0];
    let url = as_user(&master.url());
    master.allow_documented(&["STEKs"]);
    let node = Node::new(RedisClient::open(url.as_str()).unwrap());
    assert!(node.look() && node.rotates());

    let database = Node::new(RedisClient::open(format!("{url}/5")).unwrap());
    assert!(!database.look());
    master.allow_documented(&["either, in a database other than 0"]);
    assert!(database.look() && database.rotates());

    for sentinel in &redis.sentinels {
        sentinel.allow_documented(&["asking a Sentinel"]);
    }
    let urls = redis.sentinel_urls();
    let client = RedisClient::sentinels(urls.iter().map(|url| as_user(url)), Replicated::NAME);
    let node = Node::new(client.unwrap().master_like(url.as_str()).unwrap());
    assert!(!node.look());
    master.allow_documented(&["either, behind Sentinels"]);
    assert!(node.look() && node.rotates());

    let cluster = RedisCluster::start();
    for server in cluster.servers() {
        server.allow_documented(&["STEKs"]);
    }
    let urls = cluster.urls();
    let client = RedisClient::cluster(urls.iter().map(|url| as_user(url))).unwrap();
    let node = Node::new(client);
    assert!(!node.look());
    for server in cluster.servers() {
        server.allow_documented(&["either, in a Cluster"]);
    }
    assert!(node.look() && node.rotates());
}
