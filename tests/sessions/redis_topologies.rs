//! Nodes that share sessions through Redis as it is really run: demoted, locked down, far away,
//! behind Sentinels, as a Cluster. Whatever happens only costs resumption for a while, and recovers
//! by itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use redis::{ClientTlsConfig, TlsCertificates};
use rustls::version::TLS13;
use rustls::{ClientConfig, HandshakeKind};
use rustls_resumption::stats::{StoreHealth, StoreTrouble};
use rustls_resumption::store::{RedisClient, RedisStore, SharedStore, contract};
use rustls_resumption::{Resumption, ResumptionAcceptor};
use test_support::Certificates;
use test_support::acceptor::{acceptor, kind};
use test_support::fleet::shared_source;
use test_support::handshake::{FULL, RESUMED, client, server_config};
use test_support::redis::{RedisCluster, RedisServer, Replicated, Way, as_user};
use tokio::task::JoinSet;

/// A server of a fleet.
struct Node {
    resumption: Resumption,
    acceptor: ResumptionAcceptor,
    store: RedisStore,
}

/// What is long for a server and short for a test, on a machine with busy cores. The figures that
/// are printed tell how long it took.
const LONG: Duration = Duration::from_secs(20);

/// A deadline that even a busy machine keeps, where the test is not about it.
const PATIENT: Duration = Duration::from_secs(5);

impl Node {
    fn new(client: impl Into<RedisClient>, deadline: Duration) -> Self {
        let store = RedisStore::with_client(client).unwrap();
        let resumption = Resumption::builder()
            .stateful(20_000)
            .stek_source(shared_source())
            .shared_store(store.clone())
            .store_deadline(deadline)
            .build()
            .unwrap();
        Self {
            acceptor: acceptor(&resumption, server_config()),
            resumption,
            store,
        }
    }

    fn on(redis: &RedisServer) -> Self {
        Self::new(RedisClient::open(redis.url()).unwrap(), PATIENT)
    }

    async fn up(client: impl Into<RedisClient>, deadline: Duration) -> Self {
        let node = Self::new(client, deadline);
        node.until_well().await;
        node
    }

    /// Returns how long that took.
    async fn until(&self, reached: impl Fn(StoreHealth) -> bool) -> Duration {
        let start = Instant::now();
        while !reached(self.store.health()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let health = self.store.health();
            assert!(start.elapsed() < Duration::from_secs(30), "{health:?}");
        }
        start.elapsed()
    }

    async fn until_well(&self) -> Duration {
        self.until(|health| !health.is_down && health.trouble.is_none())
            .await
    }

    async fn until_down(&self, trouble: StoreTrouble) -> StoreHealth {
        self.until(|health| health.is_down && health.trouble == Some(trouble))
            .await;
        self.store.health()
    }

    /// A handshake of whose sessions the outcome is known when it returns.
    async fn kind(&self, client: &Arc<ClientConfig>) -> HandshakeKind {
        let kind = kind(client, &self.acceptor).await;
        let shared = self.resumption.stats().store.shared;
        self.until(|health| {
            health.written + health.refused + health.dropped + health.unknown == shared
        })
        .await;
        kind
    }

    async fn serves(&self) {
        let client = client(&TLS13);
        assert_eq!(self.kind(&client).await, FULL);
        assert_eq!(self.kind(&client).await, RESUMED);
    }

    /// Where the deadline is one that a busy machine may miss.
    async fn serves_in_the_end(&self) {
        let (client, start) = (client(&TLS13), Instant::now());
        while self.kind(&client).await != RESUMED {
            assert!(start.elapsed() < 3 * LONG, "{:?}", self.store.health());
        }
    }

    /// Clients come while the store is down; none fails or waits. Returns how long the last took.
    async fn turns_nobody_away(&self) {
        let client = client(&TLS13);
        for _ in 0..10 {
            assert_eq!(kind(&client, &self.acceptor).await, FULL);
        }
        let stats = self.resumption.stats();
        assert_eq!(stats.acceptor.failed, 0);
    }
}

#[tokio::test]
async fn a_demoted_master_is_down_until_it_is_promoted_and_says_so() {
    let (redis, other) = (RedisServer::start(), RedisServer::start());
    let node = Node::on(&redis);
    node.until_well().await;
    node.serves().await;
    redis.ask(&format!("REPLICAOF 127.0.0.1 {}", other.port()));
    node.until_down(StoreTrouble::ReadOnly).await;
    // It answers well to whoever only reads, but does not flap.
    for _ in 0..10 {
        node.turns_nobody_away().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let health = node.store.health();
    assert_eq!((health.outages, health.connections), (1, 1), "{health:?}");
    redis.ask("REPLICAOF NO ONE");
    let recovered = node.until_well().await;
    assert!(recovered < LONG, "{recovered:?}");
    node.serves().await;
}

#[tokio::test]
async fn a_missing_right_is_reported_and_used_once_it_is_granted() {
    let redis = RedisServer::start();
    for (lacking, rights) in [
        ("getdel", "+get +set"),
        ("get", "+getdel +set"),
        ("set", "+getdel +get"),
    ] {
        let user = format!("ACL SETUSER without-{lacking} on >p ~rustls-resumption:session:*");
        redis.ask(&format!("{user} {rights}"));
        let url = format!("redis://without-{lacking}:p@127.0.0.1:{}", redis.port());
        let node = Node::new(RedisClient::open(url).unwrap(), PATIENT);
        let health = node.until_down(StoreTrouble::NotPermitted).await;
        assert_eq!((health.connections, health.outages), (0, 0));
        node.turns_nobody_away().await;
        redis.ask(&format!("{user} +{lacking}"));
        node.until_well().await;
        node.serves().await;
        if lacking == "get" {
            continue; // which is asked for when a client of TLS 1.2 comes from another node
        }
        // And taken away while the connection is up.
        redis.ask(&format!("{user} -{lacking}"));
        let client = client(&TLS13);
        while !node.store.health().is_down {
            kind(&client, &node.acceptor).await;
        }
        node.until_down(StoreTrouble::NotPermitted).await;
    }
    let wrong = format!("redis://:wrong@127.0.0.1:{}", redis.port());
    redis.ask("CONFIG SET requirepass right");
    let node = Node::new(RedisClient::open(wrong).unwrap(), PATIENT);
    node.until_down(StoreTrouble::NotPermitted).await;
    let node = Node::on(&redis);
    node.until_down(StoreTrouble::NotPermitted).await;
}

#[tokio::test]
async fn a_redis_without_a_command_is_down_and_says_so() {
    let redis = RedisServer::with_flags(&["--rename-command", "GETDEL", ""]);
    let node = Node::on(&redis);
    node.until_down(StoreTrouble::Unsupported).await;
    node.turns_nobody_away().await;
}

#[tokio::test]
async fn an_address_of_the_wrong_kind_is_reported_on_connecting() {
    let cluster = RedisServer::cluster();
    Node::on(&cluster).until_down(StoreTrouble::Misplaced).await;
    let redis = RedisServer::start();
    let sentinel = RedisServer::sentinel(&redis, "fleet");
    Node::on(&sentinel)
        .until_down(StoreTrouble::Misplaced)
        .await;
    let alone = RedisClient::cluster([redis.url()]).unwrap();
    Node::new(alone, PATIENT)
        .until_down(StoreTrouble::Unreachable)
        .await;
}

#[tokio::test]
async fn a_distant_redis_works_with_a_longer_deadline() {
    let redis = RedisServer::start();
    let way = Way::to(redis.port(), Duration::from_millis(80));
    let far = RedisClient::open(way.url()).unwrap();
    let node = Node::up(far, Duration::from_secs(1)).await;
    node.serves().await;
    assert_eq!(node.store.health().connections, 1);
}

#[tokio::test]
async fn what_times_out_late_on_an_old_connection_is_not_held_against_the_new_one() {
    let redis = RedisServer::start();
    let way = Way::to(redis.port(), Duration::ZERO);
    let redis = RedisClient::open(way.url()).unwrap();
    let node = Node::up(redis, Duration::from_secs(2)).await;
    let clients: Vec<_> = (0..12).map(|_| client(&TLS13)).collect();
    for client in &clients {
        assert_eq!(node.kind(client).await, FULL);
    }
    way.lose_connections();
    let mut waiting = JoinSet::new();
    for client in clients {
        let acceptor = node.acceptor.clone();
        waiting.spawn(async move { kind(&client, &acceptor).await });
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    node.until(|health| health.outages == 1).await;
    node.until_well().await;
    assert!(!waiting.is_empty());
    while waiting.join_next().await.is_some() {}
    let health = node.store.health();
    assert_eq!((health.outages, health.connections), (1, 2), "{health:?}");
}

#[tokio::test]
async fn a_sentinel_that_hangs_delays_nobody() {
    let redis = Replicated::start();
    for i in 0..3 {
        redis.sentinels[i].pause();
        let client = RedisClient::sentinels(redis.sentinel_urls(), Replicated::NAME).unwrap();
        let start = Instant::now();
        let node = Node::up(client, PATIENT).await;
        assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
        node.serves().await;
        redis.sentinels[i].resume();
    }
}

#[tokio::test]
async fn a_host_with_master_and_sentinel_may_hang_for_good() {
    let redis = Replicated::start();
    let client = RedisClient::sentinels(redis.sentinel_urls(), Replicated::NAME).unwrap();
    let node = Node::up(client, Duration::from_millis(100)).await;
    redis.sentinels[0].pause();
    redis.servers[0].pause();
    node.until(|health| health.is_down).await;
    while !redis.servers[1].ask("ROLE").contains("master") {
        node.turns_nobody_away().await;
    }
    let recovered = node.until_well().await;
    println!("figure: store back {recovered:?} after the failover behind Sentinels");
    assert!(recovered < LONG, "{recovered:?}");
    node.serves_in_the_end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_serves_sessions_and_loses_nothing_but_what_a_dead_master_has() {
    let cluster = RedisCluster::start();
    let up = |deadline| Node::up(RedisClient::cluster(cluster.urls()).unwrap(), deadline);
    let (node, other) = (up(PATIENT).await, up(PATIENT).await);
    // Clients whose sessions lie in all slots.
    let clients: Vec<_> = (0..60).map(|_| client(&TLS13)).collect();
    for client in &clients {
        assert_eq!(node.kind(client).await, FULL);
    }
    for client in &clients {
        assert_eq!(other.kind(client).await, RESUMED);
    }
    let health = node.store.health();
    assert_eq!((health.unknown, health.dropped, health.outages), (0, 0, 0));

    let node = up(Duration::from_millis(100)).await;
    cluster.masters[0].pause();
    let start = Instant::now();
    // While it hangs the others serve.
    let promoted = || cluster.replicas[0].ask("ROLE").contains("master");
    node.until(|health| health.trouble.is_some()).await;
    let mut served = (0, 0);
    while !promoted() {
        for client in &clients {
            served.0 += u32::from(node.kind(client).await == RESUMED);
            served.1 += 1;
        }
    }
    let failover = start.elapsed();
    let recovered = node.until_well().await;
    println!(
        "figure: replica promoted after {failover:?}, shard back {recovered:?} later; meanwhile \
         {} of {} resumed",
        served.0, served.1
    );
    assert!(recovered < LONG, "{recovered:?}");
    assert_eq!(node.resumption.stats().acceptor.failed, 0);
    node.serves_in_the_end().await;
}

/// A master hangs for good while another's slots move: the rest of the cluster keeps its pace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_while_another_master_hangs_and_the_others_keep_their_pace() {
    const DEADLINE: Duration = Duration::from_millis(200);
    let cluster = RedisCluster::start();
    let client = RedisClient::cluster(cluster.urls()).unwrap();
    let node = Node::up(client, DEADLINE).await;
    let clients: Vec<_> = (0..90).map(|_| self::client(&TLS13)).collect();
    for client in &clients {
        assert_eq!(node.kind(client).await, FULL);
    }
    cluster.masters[0].pause();
    node.until(|health| health.trouble.is_some()).await;
    let unknown = node.store.health().unknown;
    // From the second to the third, key by key and slot by slot.
    let [_, from, to] = &cluster.masters[..] else {
        unreachable!("three masters")
    };
    let id = |server: &RedisServer| {
        let id = server.ask("CLUSTER MYID");
        id.split("\r\n").nth(1).unwrap().to_owned()
    };
    let (giver, taker) = (id(from), id(to));
    let mut took = Vec::new();
    let mut resumed = 0;
    let mut slots = (RedisCluster::LAST[0] + 1..).step_by(20);
    for client in clients.iter().cycle().take(270) {
        let slot = slots.next().unwrap();
        to.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {giver}"));
        from.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {taker}"));
        let start = Instant::now();
        resumed += u32::from(kind(client, &node.acceptor).await == RESUMED);
        took.push(start.elapsed());
        let keys = from.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 100"));
        for key in keys.split("\r\n").filter(|part| part.starts_with("rustls")) {
            from.ask(&format!("MIGRATE 127.0.0.1 {} {key} 0 1000", to.port()));
        }
        for server in [to, from] {
            server.ask(&format!("CLUSTER SETSLOT {slot} NODE {taker}"));
        }
    }
    took.sort_unstable();
    let p99 = took[took.len() * 99 / 100];
    println!("figure: p99 {p99:?} of a handshake, {resumed} of 270 resumed, a master hanging");
    assert!(p99 < LONG, "{p99:?}");
    assert!(resumed >= 130, "{resumed}"); // two thirds, but for those that lost theirs
    node.until(|health| !health.is_down).await;
    let health = node.store.health();
    assert_eq!(health.unknown, unknown, "{health:?}");
    assert_eq!(node.resumption.stats().acceptor.failed, 0);
}

#[tokio::test]
async fn the_documented_rights_are_enough_in_each_topology_and_none_too_many() {
    let redis = Replicated::start();
    let master = &redis.servers[0];
    let url = as_user(&master.url());
    master.allow_documented(&["sessions"]);
    let node = Node::up(RedisClient::open(url.as_str()).unwrap(), PATIENT).await;
    node.serves().await;

    let database = || RedisClient::open(format!("{url}/5")).unwrap();
    Node::new(database(), PATIENT)
        .until_down(StoreTrouble::Refused)
        .await;
    master.allow_documented(&["either, in a database other than 0"]);
    Node::up(database(), PATIENT).await.serves().await;

    let sentinels = redis.sentinel_urls();
    let sentinels = sentinels.iter().map(|url| as_user(url));
    let sentinels = RedisClient::sentinels(sentinels, Replicated::NAME).unwrap();
    let sentinels = sentinels.master_like(url.as_str()).unwrap();
    for sentinel in &redis.sentinels {
        sentinel.ask("ACL SETUSER user on >p");
    }
    let node = Node::new(sentinels, PATIENT);
    node.until_down(StoreTrouble::Unreachable).await;
    for sentinel in &redis.sentinels {
        sentinel.allow_documented(&["asking a Sentinel"]);
    }
    master.allow_documented(&["either, behind Sentinels"]);
    node.until_well().await;
    node.serves().await;

    let cluster = RedisCluster::start();
    for server in cluster.servers() {
        server.allow_documented(&["sessions"]);
    }
    let urls = cluster.urls();
    let client = RedisClient::cluster(urls.iter().map(|url| as_user(url))).unwrap();
    let node = Node::new(client, PATIENT);
    node.until_down(StoreTrouble::Unreachable).await;
    for server in cluster.servers() {
        server.allow_documented(&["either, in a Cluster"]);
    }
    node.until_well().await;
    node.serves().await;
}

#[tokio::test]
async fn both_sides_of_tls_may_show_certificates_of_a_private_authority() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let files = Certificates::for_names(&["localhost", "127.0.0.1"]);
    let path = |path: PathBuf| path.to_str().unwrap().to_owned();
    let [certificate, key, ca] = [files.certificate(), files.key(), files.ca()].map(path);
    let redis = RedisServer::with_mutual_tls(&certificate, &key, &ca);
    let pem = |path: &str| std::fs::read(path).unwrap();
    let mut certificates = TlsCertificates {
        client_tls: None,
        root_cert: Some(pem(&ca)),
    };
    let client = |certificates: &TlsCertificates| {
        let client = RedisClient::open(redis.tls_url()).unwrap();
        client.certificates(certificates).unwrap()
    };
    let node = Node::new(client(&certificates), PATIENT);
    node.until_down(StoreTrouble::Unreachable).await;
    certificates.client_tls = Some(ClientTlsConfig {
        client_cert: pem(&certificate),
        client_key: pem(&key),
    });
    let node = Node::up(client(&certificates), PATIENT).await;
    node.serves().await;
    certificates.root_cert = Some(pem(&path(Certificates::for_names(&["localhost"]).ca())));
    let wary = Node::new(client(&certificates), PATIENT);
    wary.until_down(StoreTrouble::Unreachable).await;
    let garbage = TlsCertificates {
        client_tls: None,
        root_cert: Some(b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----".to_vec()),
    };
    let error = RedisClient::open(redis.tls_url())
        .unwrap()
        .certificates(&garbage);
    assert!(error.unwrap_err().to_string().starts_with("certificates: "));
}

#[tokio::test]
async fn any_protocol_and_any_socket_will_do() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("redis");
    let socket = socket.to_str().unwrap();
    let redis = RedisServer::with_flags(&["--unixsocket", socket]);
    redis.ask("ACL SETUSER user on >p +@all ~*");
    for url in [
        format!("{}/3?protocol=resp3", as_user(&redis.url())),
        format!("redis+unix://{socket}?db=2"),
    ] {
        let node = Node::up(RedisClient::open(url).unwrap(), PATIENT).await;
        node.serves().await;
    }
}

#[test]
fn the_store_keeps_the_contract_in_each_topology() {
    let (alone, replicated, cluster) = (
        RedisServer::start(),
        Replicated::start(),
        RedisCluster::start(),
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for client in [
        RedisClient::open(alone.url()).unwrap(),
        RedisClient::sentinels(replicated.sentinel_urls(), Replicated::NAME).unwrap(),
        RedisClient::cluster(cluster.urls()).unwrap(),
    ] {
        let shown = &client.to_string();
        let own = RedisStore::with_client(client.clone()).unwrap();
        let near = RedisStore::with_client(client).unwrap().prefix("near");
        let near = near.lookup_runtime(runtime.handle().clone());
        thread::scope(|scope| {
            for store in [own, near] {
                scope.spawn(move || {
                    let kept = contract::check(&store);
                    assert!(kept.is_ok(), "{shown}, {store:?}: {kept:?}");
                });
            }
        });
    }
}
