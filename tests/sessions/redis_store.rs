//! Nodes that share sessions through a real Redis, in all kinds of trouble.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::Commands;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig};
use rustls_resumption::source::RedisSource;
use rustls_resumption::stats::{StoreHealth, StoreStats};
use rustls_resumption::store::{RedisClient, RedisStore, SharedStore};
use rustls_resumption::{Error, Resumption, ResumptionAcceptor};
use test_support::acceptor::{acceptor, kind, meet, meet_with};
use test_support::fleet::{self, never_learning, retrying_server, shared_source};
use test_support::handshake::{
    self, FULL, RESUMED, VERSIONS, client, client_config, client_without_tickets,
};
use test_support::redis::RedisServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// A server of a fleet.
struct Node {
    resumption: Resumption,
    acceptor: ResumptionAcceptor,
    store: RedisStore,
}

/// A deadline that even a busy machine keeps, where the test is not about it.
const PATIENT: Duration = Duration::from_secs(5);

impl Node {
    async fn new(url: &str) -> Self {
        let node = Self::on(RedisStore::new(url).unwrap(), server_config(), PATIENT);
        node.until(|health| !health.is_down).await;
        node
    }

    fn on(store: RedisStore, config: ServerConfig, deadline: Duration) -> Self {
        let resumption = Resumption::builder()
            .stateful(20_000)
            .stek_source(shared_source())
            .shared_store(store.clone())
            .store_deadline(deadline)
            .build()
            .unwrap();
        Self {
            acceptor: acceptor(&resumption, config),
            resumption,
            store,
        }
    }

    fn stats(&self) -> StoreStats {
        self.resumption.stats().store
    }

    async fn until(&self, reached: impl Fn(StoreHealth) -> bool) {
        fleet::until(&self.store, reached).await;
    }

    /// Waits until the outcome is known of all that was handed to Redis.
    async fn settle(&self) {
        let shared = self.stats().shared;
        self.until(|health| {
            health.written + health.refused + health.dropped + health.unknown == shared
        })
        .await;
    }

    /// A handshake whose sessions are in Redis when it returns.
    async fn kind(&self, client: &Arc<ClientConfig>) -> HandshakeKind {
        let kind = kind(client, &self.acceptor).await;
        self.settle().await;
        kind
    }
}

fn server_config() -> ServerConfig {
    with_early_data(handshake::server_config())
}

fn with_early_data(mut config: ServerConfig) -> ServerConfig {
    config.max_early_data_size = 16_384;
    config
}

fn early_client() -> ClientConfig {
    let mut client = client_config(&TLS13);
    client.enable_early_data = true;
    client
}

#[tokio::test]
async fn clients_resume_on_any_node() {
    let redis = RedisServer::start();
    let url = redis.url();
    let nodes = [
        Node::new(&url).await,
        Node::new(&url).await,
        Node::new(&url).await,
    ];
    for client in [
        client(VERSIONS[0]),
        client(VERSIONS[1]),
        client_without_tickets(),
    ] {
        assert_eq!(nodes[0].kind(&client).await, FULL);
        for i in 1..30 {
            assert_eq!(nodes[i % 3].kind(&client).await, RESUMED);
        }
    }
    for node in &nodes {
        let counts = node.resumption.stats().acceptor;
        assert_eq!((counts.failed, counts.full.store_unavailable), (0, 0));
    }
}

const TIMES: u64 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_data_offered_to_all_nodes_at_once_is_accepted_by_one() {
    let redis = RedisServer::start();
    let url = redis.url();
    let nodes = [
        Node::new(&url).await,
        Node::new(&url).await,
        Node::new(&url).await,
    ];
    let client = Arc::new(early_client());
    for i in 0..TIMES {
        let met = meet(&client, &nodes[(i % 3) as usize].acceptor).await;
        assert_eq!(met.kind == RESUMED, i > 0, "{i}");
        nodes[(i % 3) as usize].settle().await;
        let mut said = connection(&client);
        let flight = first_flight(&mut said);
        let accepted = offered_to_all(&nodes, &flight, None, |connection| {
            connection.early_data().is_some()
        });
        assert_eq!(accepted.await, 1, "{i}");
    }
    let early: u64 = nodes.iter().map(|node| node.stats().claimed).sum();
    assert_eq!(early, 2 * TIMES - 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_offered_to_all_nodes_at_once_resumes_on_one_after_a_second_hello() {
    let redis = RedisServer::start();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let store = RedisStore::new(&redis.url()).unwrap();
        let node = Node::on(store, with_early_data(retrying_server()), PATIENT);
        node.until(|health| !health.is_down).await;
        nodes.push(node);
    }
    let nodes: [Node; 3] = nodes.try_into().ok().unwrap();
    let client = never_learning(early_client());
    for i in 0..TIMES {
        let met = meet(&client, &nodes[(i % 3) as usize].acceptor).await;
        assert_eq!(met.kind == RESUMED, i > 0, "{i}");
        nodes[(i % 3) as usize].settle().await;
        let mut said = connection(&client);
        let flight = first_flight(&mut said);
        let resumed = offered_to_all(&nodes, &flight, Some(said), |connection| {
            assert!(connection.early_data().is_none());
            connection.handshake_kind() == Some(RESUMED)
        });
        assert_eq!(resumed.await, 1, "{i}");
    }
}

fn connection(client: &Arc<ClientConfig>) -> ClientConnection {
    let name = "localhost".try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut early = connection.early_data().expect("a ticket that allows it");
    early.write_all(b"do it once").unwrap();
    connection
}

fn first_flight(connection: &mut ClientConnection) -> Vec<u8> {
    let mut flight = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut flight).unwrap();
    }
    flight
}

/// Says the same to all nodes at once, also after each asked for another hello, to which `retrying`
/// knows the answer. Returns how many did what is looked for.
async fn offered_to_all(
    nodes: &[Node; 3],
    flight: &[u8],
    mut retrying: Option<ClientConnection>,
    looked_for: fn(&mut rustls::ServerConnection) -> bool,
) -> u64 {
    let barrier = Arc::new(Barrier::new(3));
    let count = Arc::new(AtomicU64::new(0));
    let mut accepting = JoinSet::new();
    let mut near: Vec<DuplexStream> = Vec::new();
    for node in nodes {
        let (mut ours, far) = duplex(1 << 18);
        ours.write_all(flight).await.unwrap();
        if retrying.is_none() {
            ours.shutdown().await.unwrap();
        }
        near.push(ours);
        let (acceptor, barrier, count) = (
            node.acceptor.clone(),
            Arc::clone(&barrier),
            Arc::clone(&count),
        );
        accepting.spawn(async move {
            barrier.wait().await;
            let accepted = acceptor.accept_with(far, |connection| {
                count.fetch_add(looked_for(connection).into(), Ordering::Relaxed);
            });
            accepted.await.unwrap_err(); // the client says no more
        });
    }
    if let Some(client) = &mut retrying {
        let mut request = Vec::new();
        for ours in &mut near {
            request = [record(ours).await, record(ours).await].concat();
        }
        let mut request = request.as_slice();
        while !request.is_empty() {
            client.read_tls(&mut request).unwrap();
            client.process_new_packets().unwrap();
        }
        let hello = first_flight(client);
        for ours in &mut near {
            ours.write_all(&hello).await.unwrap();
            ours.shutdown().await.unwrap();
        }
    }
    while let Some(ended) = accepting.join_next().await {
        ended.unwrap();
    }
    count.load(Ordering::Relaxed)
}

async fn record(io: &mut DuplexStream) -> Vec<u8> {
    let mut record = vec![0; 5];
    io.read_exact(&mut record).await.unwrap();
    let len = u16::from_be_bytes([record[3], record[4]]);
    record.resize(5 + usize::from(len), 0);
    io.read_exact(&mut record[5..]).await.unwrap();
    record
}

/// Clients go on coming while Redis is in trouble and after; none fails.
async fn clients_come(node: &Node, client: &Arc<ClientConfig>, times: u64) {
    for _ in 0..times {
        kind(client, &node.acceptor).await;
    }
    assert_eq!(node.resumption.stats().acceptor.failed, 0);
}

#[tokio::test]
async fn a_redis_that_is_stopped_costs_resumption_until_it_is_back() {
    let mut redis = RedisServer::start();
    let node = Node::new(&redis.url()).await;
    let client = client(&TLS13);
    assert_eq!(node.kind(&client).await, FULL);
    redis.stop();
    node.until(|health| health.is_down).await;
    clients_come(&node, &client, 20).await;
    let stats = node.stats();
    assert_eq!(stats.misses.timed_out, 0);
    assert!(stats.not_shared.not_taken >= 40, "{stats:?}");
    redis.restart(); // empty
    node.until(|health| !health.is_down).await;
    assert_eq!(node.kind(&client).await, FULL);
    assert_eq!(node.kind(&client).await, RESUMED);
    let health = node.store.health();
    assert_eq!((health.connections, health.outages), (2, 1));
}

#[tokio::test]
async fn few_clients_wait_for_a_paused_redis() {
    let redis = RedisServer::start();
    let store = RedisStore::new(&redis.url()).unwrap();
    let deadline = Duration::from_millis(50);
    let node = Node::on(store, server_config(), deadline);
    node.until(|health| !health.is_down).await;
    let client = client(&TLS13);
    let mut resumed = false;
    while !resumed {
        resumed = node.kind(&client).await == RESUMED; // or the machine was busy for too long
    }
    redis.pause();
    let before = node.stats().misses;
    clients_come(&node, &client, 50).await;
    node.until(|health| health.is_down).await;
    let waited = node.stats().misses.timed_out - before.timed_out;
    assert!(waited <= 3, "{waited}");
    let written = node.store.health();
    clients_come(&node, &client, 20).await;
    assert_eq!(node.stats().misses.timed_out - before.timed_out, waited);
    assert_eq!(node.store.health().written, written.written);
    redis.resume();
    node.until(|health| !health.is_down).await;
    let mut resumed = false;
    while !resumed {
        resumed = node.kind(&client).await == RESUMED;
    }
}

#[tokio::test]
async fn a_slow_redis_is_given_up_and_used_again_once_it_is_fast() {
    let redis = RedisServer::start();
    let proxy = Proxy::before(&redis).await;
    let store = RedisStore::new(&proxy.url).unwrap();
    let node = Node::on(store, server_config(), Duration::from_millis(50));
    node.until(|health| !health.is_down).await;
    let client = client(&TLS13);
    node.kind(&client).await;
    proxy.delay.store(500, Ordering::Relaxed);
    node.until(|health| health.is_down).await;
    clients_come(&node, &client, 20).await;
    proxy.delay.store(0, Ordering::Relaxed);
    node.until(|health| !health.is_down).await;
    clients_come(&node, &client, 5).await;
}

#[tokio::test]
async fn an_old_dump_brings_claimed_sessions_back_as_the_documentation_says() {
    let mut redis = RedisServer::start();
    let node = Node::new(&redis.url()).await;
    let client = never_learning(client_config(&TLS13));
    assert_eq!(node.kind(&client).await, FULL);
    let dump = redis.save();
    let flight = {
        let name = "localhost".try_into().unwrap();
        first_flight(&mut ClientConnection::new(Arc::clone(&client), name).unwrap())
    };
    assert!(resumes(&node, &flight).await);
    assert!(!resumes(&node, &flight).await);
    redis.stop();
    redis.put_dump(&dump);
    redis.restart();
    node.until(|health| health.outages > 0 && !health.is_down)
        .await;
    assert!(resumes(&node, &flight).await);
    assert!(!resumes(&node, &flight).await);
    assert_eq!(node.kind(&client).await, RESUMED);
}

async fn resumes(node: &Node, flight: &[u8]) -> bool {
    let (mut near, far) = duplex(1 << 18);
    near.write_all(flight).await.unwrap();
    near.shutdown().await.unwrap();
    let mut resumes = false;
    let accepting = node.acceptor.accept_with(far, |connection| {
        resumes = connection.handshake_kind() == Some(RESUMED);
    });
    accepting.await.unwrap_err();
    resumes
}

#[tokio::test]
async fn a_redis_that_is_full_serves_what_it_has() {
    let redis = RedisServer::with_flags(&["--maxmemory-policy", "noeviction"]);
    let node = Node::new(&redis.url()).await;
    let (early, late) = (client(&TLS13), client(&TLS13));
    assert_eq!(node.kind(&early).await, FULL);
    configure(&redis, "maxmemory", "1");
    assert_eq!(node.kind(&late).await, FULL);
    assert_eq!(node.kind(&late).await, FULL);
    // One refusal after the other, and no look-up between.
    for _ in 0..5 {
        assert_eq!(node.kind(&client(&TLS13)).await, FULL);
    }
    assert_eq!(node.kind(&early).await, RESUMED);
    let health = node.store.health();
    assert!(health.refused >= 14 && !health.is_down, "{health:?}");
    configure(&redis, "maxmemory", "0");
    assert_eq!(node.kind(&late).await, FULL);
    assert_eq!(node.kind(&late).await, RESUMED);
    assert_eq!(node.store.health().outages, 0);
}

fn configure(redis: &RedisServer, setting: &str, value: &str) {
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg(setting).arg(value);
    set.exec(&mut redis.connection()).unwrap();
}

#[tokio::test]
async fn a_redis_that_takes_no_writes_is_given_up_unless_it_answers_in_between() {
    let redis = RedisServer::start();
    let node = Node::new(&redis.url()).await;
    for replicas in ["1", "0"].repeat(5) {
        configure(&redis, "min-replicas-to-write", replicas);
        assert_eq!(node.kind(&client(&TLS13)).await, FULL);
    }
    let health = node.store.health();
    assert_eq!((health.refused, health.outages), (10, 0), "{health:?}");
    configure(&redis, "min-replicas-to-write", "1");
    let mut visits = 0;
    while node.store.health().outages == 0 {
        assert_eq!(node.kind(&client(&TLS13)).await, FULL);
        visits += 1;
        assert!(visits < 100, "{:?}", node.store.health());
    }
}

#[tokio::test]
async fn garbage_in_redis_is_a_counted_miss() {
    let redis = RedisServer::start();
    let node = Node::new(&redis.url()).await;
    let client = client(&TLS13);
    let mut connection = redis.connection();
    for garbage in [&b""[..], b"garbage", &[0; 300], &[0xff; 100_000]] {
        node.kind(&client).await;
        let keys: Vec<Vec<u8>> = connection.keys("*").unwrap();
        for key in keys {
            let _: () = connection.set(key, garbage).unwrap();
        }
        assert_eq!(node.kind(&client).await, FULL);
    }
    let misses = node.stats().misses;
    assert_eq!((misses.malformed, misses.unknown_key_name), (3, 1));

    // Not even a value.
    node.kind(&client).await;
    let keys: Vec<Vec<u8>> = connection.keys("*").unwrap();
    for key in keys {
        let _: () = connection.del(&key).unwrap();
        let _: () = connection.lpush(&key, "a list").unwrap();
    }
    assert_eq!(node.kind(&client).await, FULL);
    assert_eq!(node.stats().misses.failed, 1);
    assert!(!node.store.health().is_down);
}

#[tokio::test]
async fn a_server_that_is_not_redis_is_never_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let visits = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&visits);
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        }
    });
    let store = RedisStore::new(&format!("redis://127.0.0.1:{port}")).unwrap();
    let node = Node::on(store, server_config(), PATIENT);
    node.until(|_| visits.load(Ordering::Relaxed) >= 2).await;
    clients_come(&node, &client(&TLS13), 5).await;
    let health = node.store.health();
    assert!(health.is_down);
    assert_eq!((health.connections, health.outages), (0, 0));
    assert_eq!(
        node.stats().misses.unavailable,
        0,
        "nobody had anything to look up"
    );
    assert_eq!(node.stats().not_shared.not_taken, 10);
}

#[tokio::test]
async fn a_wrong_password_costs_resumption_until_it_is_right() {
    let redis = RedisServer::with_flags(&["--requirepass", "right"]);
    let at = |password: &str| redis.url().replace("//", &format!("//:{password}@"));
    let store = RedisStore::new(&at("wrong")).unwrap();
    let wrong = Node::on(store, server_config(), PATIENT);
    let right = Node::new(&at("right")).await;
    let client = client(&TLS13);
    clients_come(&wrong, &client, 5).await;
    assert!(wrong.store.health().is_down);
    assert_eq!(right.kind(&client).await, FULL);
    assert_eq!(right.kind(&client).await, RESUMED);

    let mut connection = redis::Client::open(at("right"))
        .unwrap()
        .get_connection()
        .unwrap();
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("requirepass").arg("wrong");
    set.exec(&mut connection).unwrap();
    wrong.until(|health| !health.is_down).await;
    assert_eq!(wrong.kind(&client).await, RESUMED);
}

#[tokio::test]
async fn redis_and_the_wire_see_no_secret() {
    let redis = RedisServer::with_flags(&["--rdbcompression", "no"]);
    let proxy = Proxy::before(&redis).await;
    let node = Node::new(&proxy.url).await;
    let data = b"what the application keeps in a session";
    let tls13 = client(&TLS13);
    for _ in 0..3 {
        meet_with(&tls13, &node.acceptor, b"", |connection| {
            connection.set_resumption_data(data);
        })
        .await;
    }
    let tls12 = client_without_tickets();
    assert_eq!(node.kind(&tls12).await, FULL);
    node.settle().await;
    let name = || "localhost".try_into().unwrap();
    let hello = |client: &Arc<ClientConfig>| {
        first_flight(&mut ClientConnection::new(Arc::clone(client), name()).unwrap())
    };
    // TLS 1.2: the session ID; TLS 1.3: the end of the hello is the identity and its binder.
    let session_id = hello(&tls12)[44..76].to_vec();
    let flight = hello(&tls13);
    let binders = 2 + 1 + 48;
    let identity = flight[flight.len() - binders - 4 - 32..][..32].to_vec();
    let dump = redis.save();
    let wire = proxy.seen.lock().unwrap().clone();
    let secrets = [
        &session_id,
        &identity,
        &data.to_vec(),
        &b"localhost".to_vec(),
    ];
    for (i, secret) in secrets.into_iter().enumerate() {
        for place in [&dump, &wire] {
            let shown = place.windows(secret.len()).any(|bytes| bytes == secret);
            assert!(!shown, "{i}");
        }
    }
    let prefix = b"rustls-resumption:session:";
    for place in [&dump, &wire] {
        assert!(place.windows(prefix.len()).any(|bytes| bytes == prefix));
    }
}

#[tokio::test]
async fn values_expire_and_fleets_may_share_a_redis() {
    let redis = RedisServer::start();
    let ours = Node::new(&redis.url()).await;
    let store = RedisStore::new(&redis.url()).unwrap().prefix("theirs");
    let theirs = Node::on(store, server_config(), PATIENT);
    theirs.until(|health| !health.is_down).await;
    let client = client(&TLS13);
    assert_eq!(ours.kind(&client).await, FULL);
    assert_eq!(theirs.kind(&client).await, FULL);
    let mut connection = redis.connection();
    for (pattern, count) in [("rustls-resumption:session:*", 2), ("theirs:session:*", 2)] {
        let keys: Vec<Vec<u8>> = connection.keys(pattern).unwrap();
        assert_eq!(keys.len(), count);
        for key in keys {
            let ttl: u64 = connection.pttl(key).unwrap();
            assert!((HOUR - 60_000..=HOUR).contains(&ttl), "{ttl}");
        }
    }
    // Whoever comes back stays.
    let client = handshake::client(&TLS13);
    assert_eq!(ours.kind(&client).await, FULL);
    assert_eq!(ours.kind(&client).await, RESUMED);
    let keys: Vec<Vec<u8>> = connection.keys("rustls-resumption:session:*").unwrap();
    let ttls = keys
        .into_iter()
        .map(|key| connection.pttl::<_, u64>(key).unwrap());
    let (first, full): (Vec<u64>, Vec<_>) = ttls.partition(|ttl| *ttl <= HOUR);
    assert_eq!((first.len(), full.len()), (3, 2));
    for ttl in full {
        assert!((24 * HOUR - 60_000..=24 * HOUR).contains(&ttl), "{ttl}");
    }
}

/// In milliseconds.
const HOUR: u64 = 60 * 60 * 1_000;

#[tokio::test]
async fn strangers_evict_neither_returning_clients_nor_the_steks() {
    const RETURNING: usize = 50;
    let redis = RedisServer::with_flags(&["--maxmemory-policy", "volatile-ttl"]);
    let node = Node::new(&redis.url()).await;
    let returning: Vec<_> = (0..RETURNING).map(|_| client(&TLS13)).collect();
    for client in &returning {
        assert_eq!(node.kind(client).await, FULL);
        assert_eq!(node.kind(client).await, RESUMED);
    }
    let kek: Vec<u8> = (0..32).collect();
    let tickets = Resumption::builder()
        .stek_source(RedisSource::new(&redis.url(), &kek).unwrap())
        .build()
        .unwrap();
    let info = redis.ask("INFO memory");
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    let room: u64 = used.unwrap().parse().unwrap();
    configure(&redis, "maxmemory", &(room + 100_000).to_string());
    for _ in 0..400 {
        assert_eq!(node.kind(&client(&TLS13)).await, FULL);
    }
    let evicted = redis.ask("INFO stats");
    let evicted = evicted
        .lines()
        .find_map(|line| line.strip_prefix("evicted_keys:"));
    let evicted: u64 = evicted.unwrap().parse().unwrap();
    assert!(evicted >= 200, "{evicted}");
    let mut resumed = 0;
    for client in &returning {
        resumed += usize::from(node.kind(client).await == RESUMED);
    }
    println!("figure: {evicted} evicted; {resumed} of {RETURNING} resume");
    assert!(resumed >= RETURNING * 9 / 10, "{resumed} of {RETURNING}");
    tickets.rotate_now().unwrap();
    assert!(!tickets.stats().steks.fallen_back);
}

#[tokio::test]
async fn sentinels_say_where_the_master_is() {
    let redis = RedisServer::start();
    let sentinel = RedisServer::sentinel(&redis, "sessions");
    let client = RedisClient::sentinels([sentinel.url()], "sessions").unwrap();
    let store = RedisStore::with_client(client).unwrap();
    let node = Node::on(store, server_config(), PATIENT);
    node.until(|health| !health.is_down).await;
    let client = handshake::client(&TLS13);
    assert_eq!(node.kind(&client).await, FULL);
    assert_eq!(node.kind(&client).await, RESUMED);
}

#[test]
fn an_address_that_cannot_be_used_is_refused_by_name() {
    let error = RedisStore::new("http://:hunter2@localhost").unwrap_err();
    assert!(
        matches!(error, Error::Config { field: "url", .. }),
        "{error}"
    );
    let store = RedisStore::new("redis://:hunter2@127.0.0.1:1").unwrap();
    assert_eq!(
        format!("{store:?}"),
        r#"RedisStore { prefix: "rustls-resumption:session:", .. }"#
    );
}

#[tokio::test]
async fn the_last_handle_writes_what_is_queued() {
    let redis = RedisServer::start();
    let node = Node::new(&redis.url()).await;
    for _ in 0..20 {
        kind(&client(&TLS13), &node.acceptor).await;
    }
    drop(node);
    let mut connection = redis.connection();
    let mut size = 0;
    while size < 40 {
        size = redis::cmd("DBSIZE").query(&mut connection).unwrap();
    }
    assert_eq!(size, 40);
}

/// What stands between Redis and those who ask it.
struct Proxy {
    url: String,
    /// Milliseconds by which answers are late.
    delay: Arc<AtomicU64>,
    /// All that was said, by either side.
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    async fn before(redis: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (delay, seen) = (Arc::<AtomicU64>::default(), Arc::<Mutex<_>>::default());
        let (late, heard, behind) = (Arc::clone(&delay), Arc::clone(&seen), redis.port());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", behind)).await.unwrap();
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                let none = Arc::<AtomicU64>::default();
                tokio::spawn(carry(near_read, far_write, none, Arc::clone(&heard)));
                tokio::spawn(carry(
                    far_read,
                    near_write,
                    Arc::clone(&late),
                    Arc::clone(&heard),
                ));
            }
        });
        Self {
            url: format!("redis://127.0.0.1:{port}"),
            delay,
            seen,
        }
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay: Arc<AtomicU64>,
    seen: Arc<Mutex<Vec<u8>>>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(len) = from.read(&mut buffer).await {
        if len == 0 {
            break;
        }
        seen.lock().unwrap().extend_from_slice(&buffer[..len]);
        tokio::time::sleep(Duration::from_millis(delay.load(Ordering::Relaxed))).await;
        if to.write_all(&buffer[..len]).await.is_err() {
            break;
        }
    }
}
