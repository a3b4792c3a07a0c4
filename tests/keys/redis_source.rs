//! Nodes that share STEKs through a real Redis: what one seals another opens, whatever happens to
//! Redis.
#![cfg(unix)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use redis::{Commands, TlsCertificates};
use rustls::server::ProducesTickets;
use rustls_resumption::source::{RedisSource, SourceQuery, StekSource};
use rustls_resumption::stats::StekStats;
use rustls_resumption::store::RedisClient;
use rustls_resumption::{FakeClock, Resumption, Rotation};
use test_support::Certificates;
use test_support::handshake::followed;
use test_support::redis::RedisServer;

const KEY: &str = "rustls-resumption:steks:2";
const HOUR: Duration = Duration::from_secs(60 * 60);

fn kek(first: u8) -> Vec<u8> {
    (first..first + 32).collect()
}

/// A server, as far as its tickets go. Its clock shows the real time, which is Redis's too, until
/// it is moved.
struct Node {
    time: FakeClock,
    resumption: Resumption,
    ring: Arc<dyn ProducesTickets>,
}

impl Node {
    fn new(redis: &RedisServer) -> Self {
        Self::with(RedisSource::new(&redis.url(), &kek(0)).unwrap())
    }

    fn with(source: impl StekSource + 'static) -> Self {
        Self::with_rotation(source, Rotation::new())
    }

    fn with_rotation(source: impl StekSource + 'static, rotation: Rotation) -> Self {
        let time = FakeClock::starting_at(SystemTime::now());
        let resumption = Resumption::builder()
            .stek_source(source)
            .rotation(rotation)
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

    /// Lets so much time pass that Redis is asked again.
    fn look(&self) {
        // Twice as long as a source that fails is left alone at most.
        self.time.advance(4 * SourceQuery::DEFAULT_INTERVAL);
        self.resumption.step();
    }

    /// In a handshake that begins now.
    fn seal(&self) -> Vec<u8> {
        followed(&self.resumption, || self.ring.encrypt(b"session")).unwrap()
    }

    fn opens(&self, ticket: &[u8]) -> bool {
        self.ring.decrypt(ticket).is_some()
    }

    fn stats(&self) -> StekStats {
        self.resumption.stats().steks
    }

    fn active(&self) -> String {
        self.stats().active.unwrap().to_string()
    }

    /// Whether it uses the keys of the source, which has answered when it was last asked.
    fn is_well(&self) -> bool {
        let stats = self.stats();
        !stats.fallen_back && stats.source_answered == Some(Duration::ZERO)
    }

    /// What the source complains of.
    fn complaint(&self) -> String {
        self.resumption.rotate_now().unwrap_err().to_string()
    }
}

fn value(redis: &RedisServer) -> Vec<u8> {
    redis.connection().get(KEY).unwrap()
}

#[test]
fn three_nodes_resume_each_others_sessions_across_five_rotations() {
    let redis = RedisServer::start();
    let nodes = [(); 3].map(|()| Node::new(&redis));
    let mut tickets: Vec<_> = nodes.iter().map(Node::seal).collect();
    for rotation in 0..5 {
        nodes[rotation % 3].resumption.rotate_now().unwrap();
        for node in &nodes {
            node.look();
        }
        assert!(nodes.iter().all(|node| node.active() == nodes[0].active()));
        tickets.extend(nodes.iter().map(Node::seal));
        for node in &nodes {
            assert!(tickets.iter().all(|ticket| node.opens(ticket)));
        }
    }
    for node in &nodes {
        let stats = node.stats();
        assert_eq!((stats.source, stats.source_failures), ("redis", 0));
        assert_eq!((stats.rotations, stats.keys), (5, 6));
        assert_eq!(stats.fleet_agrees, Some(true));
        assert!(node.is_well() && node.resumption.ready());
    }
}

#[test]
fn nodes_whose_clocks_differ_by_the_publish_ahead_resume_each_others_sessions() {
    let redis = RedisServer::start();
    let nodes = [(); 3].map(|()| Node::new(&redis));
    nodes[1]
        .time
        .step_back(Rotation::DEFAULT_PUBLISH_AHEAD - Duration::from_secs(30));
    nodes[2]
        .time
        .step_forward(Rotation::DEFAULT_PUBLISH_AHEAD - Duration::from_secs(30));
    for rotating in &nodes {
        rotating.resumption.rotate_now().unwrap();
        for node in &nodes {
            node.look();
        }
        for sealing in &nodes {
            let ticket = sealing.seal();
            assert!(nodes.iter().all(|node| node.opens(&ticket)));
        }
    }
}

#[test]
fn nodes_that_rotate_at_the_same_time_lose_no_key() {
    let redis = RedisServer::start();
    let nodes = [(); 4].map(|()| Node::new(&redis));
    let tickets: Vec<_> = std::thread::scope(|scope| {
        let rotate = |node: &Node| {
            let ticket = |_| {
                // Who loses a race five times says so, and may try again.
                while node.resumption.rotate_now().is_err() {}
                node.seal()
            };
            (0..10).map(ticket).collect::<Vec<_>>()
        };
        let threads: Vec<_> = nodes
            .iter()
            .map(|node| scope.spawn(move || rotate(node)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    for node in &nodes {
        node.look();
        assert_eq!(
            tickets.iter().filter(|ticket| node.opens(ticket)).count(),
            40
        );
    }
}

#[test]
fn what_one_node_revokes_is_gone_for_all() {
    let redis = RedisServer::start();
    let (a, b) = (Node::new(&redis), Node::new(&redis));
    let ticket = a.seal();
    assert!(b.opens(&ticket));
    let _ = a.resumption.revoke_all();
    b.look();
    assert!(!a.opens(&ticket) && !b.opens(&ticket));
    assert_eq!(a.active(), b.active());
    let late = Node::new(&redis);
    assert!(!late.opens(&ticket) && late.opens(&b.seal()));
}

#[test]
fn without_redis_keys_last_until_they_expire_then_local_ones_seal_until_it_recovers() {
    let mut redis = RedisServer::start();
    let (a, b) = (Node::new(&redis), Node::new(&redis));
    let ticket = a.seal();
    let start = a.time.wall();
    redis.stop();
    a.look();
    assert!(a.complaint().contains("Redis 127.0.0.1:"));
    assert!(a.opens(&ticket) && b.opens(&a.seal()));
    a.time.advance(2 * HOUR);
    a.resumption.step();
    assert!(a.stats().fallen_back);
    let local = a.seal();
    assert!(a.opens(&local) && a.opens(&ticket) && !b.opens(&local));
    a.time.advance(12 * HOUR);
    a.resumption.step();
    assert!(!a.opens(&ticket), "its key has expired");

    a.time
        .step_back(a.time.wall().duration_since(start).unwrap());
    redis.restart();
    b.look();
    a.look();
    assert!(a.is_well() && b.is_well());
    assert!(b.opens(&a.seal()) && a.opens(&b.seal()));
    assert!(
        b.opens(&ticket),
        "who still held the key had it written again"
    );
}

#[test]
fn a_node_started_without_redis_uses_local_keys_and_joins_when_redis_is_up() {
    let mut redis = RedisServer::start();
    redis.stop();
    let node = Node::new(&redis);
    assert!(!node.resumption.ready());
    assert!(node.stats().fallen_back);
    let local = node.seal();
    redis.restart();
    node.look();
    assert!(node.resumption.ready() && node.is_well());
    assert!(node.opens(&local));
    assert!(Node::new(&redis).opens(&node.seal()));
}

#[test]
fn a_redis_that_does_not_answer_times_out_and_is_asked_again() {
    let redis = RedisServer::start();
    let (a, b) = (Node::new(&redis), Node::new(&redis));
    let ticket = a.seal();
    redis.pause();
    for _ in 0..3 {
        a.look(); // comes to an end
        assert!(a.complaint().contains("Redis 127.0.0.1:"));
    }
    assert!(a.opens(&ticket) && !a.stats().fallen_back);
    redis.resume();
    // The thread may still be busy with what it was asked before. Not looked at more often, or its
    // clock would run hours ahead of the other's.
    while !a.is_well() {
        std::thread::sleep(Duration::from_millis(100));
        a.look();
    }
    b.look();
    assert!(b.opens(&a.seal()));
}

#[test]
fn connections_lost_between_polls_are_reopened_without_a_failure() {
    let mut redis = RedisServer::start();
    let node = Node::new(&redis);
    redis.save();
    redis.stop();
    redis.restart();
    node.look();
    assert!(node.is_well());
    assert_eq!(node.stats().source_failures, 0);
}

#[test]
fn an_emptied_redis_gets_the_newest_keys_whichever_node_writes_first() {
    let mut redis = RedisServer::start();
    let (old, new) = (Node::new(&redis), Node::new(&redis));
    let before = old.seal();
    new.resumption.rotate_now().unwrap();
    new.look();
    let (ticket, active) = (new.seal(), new.active());
    redis.stop();
    redis.restart();
    let newcomer = Node::new(&redis);
    let lost = newcomer.seal();
    for node in [&old, &new, &newcomer, &old] {
        node.look();
    }
    for node in [&old, &new, &newcomer] {
        assert_eq!(node.active(), active);
        assert!(node.opens(&ticket) && node.opens(&before));
        assert!(node.opens(&lost), "the newcomer's key joins them");
        assert_eq!(node.stats().source_failures, 0);
    }
}

#[test]
fn an_old_dump_is_overwritten_and_revoked_keys_stay_revoked() {
    let mut redis = RedisServer::start();
    let node = Node::new(&redis);
    let revoked = node.seal();
    let dump = redis.save();
    let old = value(&redis);
    let _ = node.resumption.revoke_all();
    let (ticket, active) = (node.seal(), node.active());
    redis.stop();
    redis.put_dump(&dump);
    redis.restart();
    assert_eq!(value(&redis), old);
    node.look();
    assert!(node.is_well());
    assert_eq!(node.active(), active);
    assert!(node.opens(&ticket) && !node.opens(&revoked));
    assert_ne!(value(&redis), old);
    let newcomer = Node::new(&redis);
    assert!(newcomer.opens(&ticket) && !newcomer.opens(&revoked));
}

#[test]
fn garbage_is_an_error_that_nobody_overwrites_and_deleting_it_repairs_all() {
    let redis = RedisServer::start();
    let node = Node::new(&redis);
    let (ticket, good) = (node.seal(), value(&redis));
    let mut damaged = good.clone();
    damaged[40] ^= 1;
    let mut other_format = good;
    other_format[0] = 9;
    let mut connection = redis.connection();
    for (garbage, why) in [
        (b"hello".to_vec(), "5 bytes are too few for STEKs"),
        (vec![7; 1_000_000], "its format is 7, here 2 is known"),
        (vec![2; 1_000_000], "sealed under the KEK 0202020202020202"),
        (damaged, "damaged"),
        (other_format, "its format is 9, here 2 is known"),
    ] {
        connection.set::<_, _, ()>(KEY, &garbage).unwrap();
        let complaint = node.complaint();
        assert!(complaint.contains(why), "{complaint}");
        assert!(
            complaint.contains(&format!("run `DEL {KEY}`")),
            "{complaint}"
        );
        assert!(node.opens(&ticket) && !node.stats().fallen_back);
        assert_eq!(value(&redis), garbage);
    }
    connection.del::<_, ()>(KEY).unwrap();
    connection.lpush::<_, _, ()>(KEY, "a list").unwrap();
    assert!(
        node.complaint().contains("WRONGTYPE"),
        "{}",
        node.complaint()
    );
    connection.del::<_, ()>(KEY).unwrap();
    node.look();
    assert!(node.is_well());
    assert!(Node::new(&redis).opens(&ticket));
}

#[test]
fn a_wrong_password_is_reported_without_showing_it_and_the_right_one_works() {
    let redis = RedisServer::with_flags(&["--requirepass", "hunter2"]);
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}", redis.port());
    let node = Node::with(RedisSource::new(&url("hunter3"), &kek(0)).unwrap());
    assert!(node.stats().fallen_back);
    let complaint = node.complaint();
    assert!(complaint.contains("authentication failed"), "{complaint}");
    assert!(!complaint.contains("hunter"), "{complaint}");
    let node = Node::with(RedisSource::new(&url("hunter2"), &kek(0)).unwrap());
    assert!(node.is_well());
    let without = Node::new(&redis);
    assert!(
        without.complaint().contains("NOAUTH"),
        "{}",
        without.complaint()
    );
}

#[test]
fn a_full_redis_is_reported_and_costs_nothing_but_rotation() {
    let redis = RedisServer::with_flags(&["--maxmemory-policy", "noeviction"]);
    let (a, b) = (Node::new(&redis), Node::new(&redis));
    let ticket = a.seal();
    let mut limit = redis::cmd("CONFIG");
    limit.arg("SET").arg("maxmemory").arg("1");
    limit.exec(&mut redis.connection()).unwrap();
    assert!(a.complaint().contains("OOM"), "{}", a.complaint());
    assert!(b.opens(&ticket) && b.opens(&a.seal()));
    let mut limit = redis::cmd("CONFIG");
    limit.arg("SET").arg("maxmemory").arg("0");
    limit.exec(&mut redis.connection()).unwrap();
    a.resumption.rotate_now().unwrap();
    assert!(a.is_well());
}

#[test]
fn a_wrong_kek_opens_nothing_and_overwrites_nothing() {
    let redis = RedisServer::start();
    let node = Node::new(&redis);
    let before = value(&redis);
    let stranger = Node::with(RedisSource::new(&redis.url(), &kek(1)).unwrap());
    assert!(stranger.stats().fallen_back && !stranger.resumption.ready());
    let complaint = stranger.complaint();
    assert!(complaint.contains("sealed under the KEK"), "{complaint}");
    assert_eq!(value(&redis), before);
    node.look();
    assert!(node.is_well() && !stranger.opens(&node.seal()));
}

#[test]
fn a_kek_is_replaced_node_by_node_without_a_gap() {
    let redis = RedisServer::start();
    let source = |first: u8, others: &[u8]| {
        let source = RedisSource::new(&redis.url(), &kek(first)).unwrap();
        let also = |source: RedisSource, other: &u8| source.also_kek(&kek(*other)).unwrap();
        others.iter().fold(source, also)
    };
    let fleet =
        |steps: [(u8, &[u8]); 2]| steps.map(|(first, others)| Node::with(source(first, others)));
    let mut nodes = fleet([(0, &[]), (0, &[])]);
    let ticket = nodes[0].seal();
    // Each step restarts one node after the other; at each there is a node of either kind.
    let steps: [(u8, &[u8]); 3] = [(0, &[1]), (1, &[0]), (1, &[])];
    for (first, others) in steps {
        for node in 0..nodes.len() {
            nodes[node] = Node::with(source(first, others));
            for node in &nodes {
                node.look();
                assert!(node.is_well() && node.opens(&ticket), "{first} {others:?}");
            }
            nodes[node].resumption.rotate_now().unwrap();
            let fresh = nodes[node].seal();
            for node in &nodes {
                node.look();
                assert!(node.is_well() && node.opens(&fresh));
            }
        }
    }
    let old = Node::with(source(0, &[]));
    assert!(old.complaint().contains("sealed under the KEK"));
}

#[test]
fn nodes_of_two_schedules_resume_each_others_sessions_and_report_it() {
    let redis = RedisServer::start();
    let usual = Node::new(&redis);
    let rotation = Rotation::new().interval(HOUR / 2).ticket_lifetime(6 * HOUR);
    let other = RedisSource::new(&redis.url(), &kek(0)).unwrap();
    let other = Node::with_rotation(other, rotation);
    usual.look();
    assert_eq!(usual.stats().fleet_agrees, Some(true));
    assert_eq!(other.stats().fleet_agrees, Some(false));
    assert!(usual.opens(&other.seal()) && other.opens(&usual.seal()));
    // The schedule changes node by node: when the last has changed, so has the record's.
    other.resumption.rotate_now().unwrap();
    usual.look();
    assert_eq!(usual.stats().fleet_agrees, Some(false));
    assert_eq!(other.stats().fleet_agrees, Some(true));
    assert!(usual.opens(&other.seal()) && other.opens(&usual.seal()));
}

#[test]
fn two_fleets_on_one_redis_have_nothing_in_common() {
    let redis = RedisServer::start();
    let source = || RedisSource::new(&redis.url(), &kek(0)).unwrap();
    let ours = Node::new(&redis);
    let theirs = Node::with(source().prefix("theirs"));
    assert!(!ours.opens(&theirs.seal()) && !theirs.opens(&ours.seal()));
    // Not even if somebody copies the value from one to the other.
    let value = value(&redis);
    redis
        .connection()
        .set::<_, _, ()>("theirs:steks:2", value)
        .unwrap();
    assert!(
        theirs
            .complaint()
            .contains("damaged, or of another key's name")
    );
}

#[test]
fn the_value_expires_after_all_that_its_keys_sealed() {
    let redis = RedisServer::start();
    Node::new(&redis);
    let lifetime: u64 = redis.connection().pttl(KEY).unwrap();
    let lifetime = Duration::from_millis(lifetime);
    assert!(
        lifetime <= 14 * HOUR && lifetime > 13 * HOUR,
        "{lifetime:?}"
    );
}

#[test]
fn a_cluster_serves_as_one_server_does() {
    let redis = RedisServer::cluster();
    let node = || {
        let client = RedisClient::cluster([redis.url()]).unwrap();
        Node::with(RedisSource::with_client(client, &kek(0)).unwrap())
    };
    let (a, b) = (node(), node());
    a.resumption.rotate_now().unwrap();
    b.look();
    assert!(a.is_well() && b.is_well());
    assert!(b.opens(&a.seal()) && a.opens(&b.seal()));
}

#[test]
fn sentinels_name_the_server() {
    let redis = RedisServer::start();
    let sentinel = RedisServer::sentinel(&redis, "fleet");
    let node = || {
        let client = RedisClient::sentinels([sentinel.url()], "fleet").unwrap();
        Node::with(RedisSource::with_client(client, &kek(0)).unwrap())
    };
    let (a, b) = (node(), Node::new(&redis));
    a.resumption.rotate_now().unwrap();
    b.look();
    assert!(a.is_well() && b.is_well());
    assert!(b.opens(&a.seal()) && a.opens(&b.seal()));
}

#[test]
fn tls_to_redis_works_and_an_impostor_is_refused() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let certificates = Certificates::for_names(&["localhost"]);
    let path = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (certificate, key) = (path(certificates.certificate()), path(certificates.key()));
    let redis = RedisServer::with_tls(&certificate, &key);
    let url = redis.tls_url();
    let node = |root_cert: Option<Vec<u8>>| {
        let trust = TlsCertificates {
            client_tls: None,
            root_cert,
        };
        let client = redis::Client::build_with_tls(url.as_str(), trust).unwrap();
        Node::with(RedisSource::with_client(client, &kek(0)).unwrap())
    };
    let trusting = node(Some(std::fs::read(certificates.ca()).unwrap()));
    assert!(trusting.is_well());
    assert!(Node::new(&redis).opens(&trusting.seal()));
    let other = Certificates::for_names(&["localhost"]);
    let wary = node(Some(std::fs::read(other.ca()).unwrap()));
    assert!(
        wary.complaint().contains("certificate"),
        "{}",
        wary.complaint()
    );
    let by_url = Node::with(RedisSource::new(&url, &kek(0)).unwrap());
    assert!(
        by_url.stats().fallen_back,
        "the system does not know the authority"
    );
}
