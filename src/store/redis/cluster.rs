use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::sync::lock::Mutex;
use arc_swap::ArcSwap;
use redis::ConnectionInfo;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::connection::Connection;
use crate::redis::{Address, Cluster, Slots, harmless, slot_of};
use crate::stats::{StoreHealth, StoreTrouble};
use crate::store::remote::{Backend, Common, Driver, Failure, Node, Pauses, Redirection, Route};

/// How often the slots are asked for when nothing is wrong.
const CALM: Duration = Duration::from_secs(15);

/// The least time between two such questions.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// A node for each master of a cluster, with a connection, a queue and a circuit breaker of its
/// own: a master that hangs costs its own slots, until another has them.
pub(super) struct Masters {
    common: Arc<Common>,
    cluster: Arc<Cluster>,
    runtime: Handle,
    map: ArcSwap<Map>,
    changing: Mutex<Changing>,
    drivers: Arc<Mutex<JoinSet<()>>>,
    this: Weak<Self>,
}

/// Who has what.
#[derive(Clone, Default)]
struct Map {
    /// Shared by maps that differ in nodes alone: those are added on the way of a look-up.
    slots: Arc<Slots>,
    nodes: HashMap<Address, Node>,
}

/// What whoever changes the map holds.
#[derive(Default)]
struct Changing {
    /// Nodes without slots to which others sent us since the map was last renewed: slots are
    /// migrated to them.
    guests: HashSet<Address>,
    /// Why the slots are not known.
    trouble: Option<StoreTrouble>,
}

impl Masters {
    /// The store, and what drives it.
    pub(super) fn new(
        cluster: Cluster,
        common: Arc<Common>,
        runtime: Handle,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let cluster = Arc::new(cluster.resolved_by(&runtime));
        let drivers = Arc::<Mutex<JoinSet<()>>>::default();
        let masters = Arc::new_cyclic(|this| Self {
            common: Arc::clone(&common),
            cluster: Arc::clone(&cluster),
            runtime,
            map: ArcSwap::default(),
            changing: Mutex::default(),
            drivers: Arc::clone(&drivers),
            this: Weak::clone(this),
        });
        let finding = keep_finding(Arc::downgrade(&masters), common, cluster);
        let driven = async move {
            finding.await;
            let mut drivers = std::mem::take(&mut *drivers.lock());
            while drivers.join_next().await.is_some() {}
        };
        (masters, driven)
    }

    /// Adds a node, if it is not there.
    fn add(&self, map: &mut Map, address: &Address) -> Option<Node> {
        if let Some(node) = map.nodes.get(address) {
            return Some(node.clone());
        }
        let info = self.cluster.node(address)?;
        let member = Member {
            cluster: Arc::clone(&self.cluster),
            info,
            address: address.clone(),
            masters: Weak::clone(&self.this),
        };
        let (common, runtime) = (Arc::clone(&self.common), self.runtime.clone());
        let (node, driver) = Driver::new(member, common, runtime);
        let route: Weak<dyn Route> = Weak::clone(&self.this) as _;
        let mut drivers = self.drivers.lock();
        while drivers.try_join_next().is_some() {}
        drivers.spawn_on(driver.run(route), &self.runtime);
        map.nodes.insert(address.clone(), node.clone());
        Some(node)
    }

    /// Takes over a new map of slots.
    fn renew(&self, slots: Slots) {
        let mut changing = self.changing.lock();
        let old = self.map.load_full();
        let mut map = Map::clone(&old);
        if *old.slots != slots {
            let masters = slots.masters().len();
            let line = move || info!(masters, "slots of the shared store's cluster");
            self.common.log.tell(line);
        }
        for master in slots.masters() {
            self.add(&mut map, master);
        }
        let guests = std::mem::take(&mut changing.guests);
        map.nodes.retain(|address, node| {
            let stays = slots.masters().contains(address) || guests.contains(address);
            if !stays {
                let outages = &self.common.earlier_outages;
                outages.fetch_add(node.outages(), Ordering::Relaxed);
            }
            stays
        });
        map.slots = Arc::new(slots);
        changing.trouble = None;
        self.map.store(Arc::new(map));
    }

    /// Masters that do not serve.
    fn suspects(&self) -> HashSet<Address> {
        let map = self.map.load();
        let failed = map.nodes.iter().filter(|(_, node)| node.has_failed());
        failed.map(|(address, _)| address.clone()).collect()
    }

    /// Two nodes that are not under suspicion; all that are known, if these do not help.
    fn whom_to_ask(&self, suspects: &HashSet<Address>, ask_all: bool) -> Vec<ConnectionInfo> {
        let map = self.map.load();
        let known = map.slots.nodes().into_iter();
        let mut others: Vec<_> = known.filter(|node| !suspects.contains(*node)).collect();
        if ask_all || others.is_empty() {
            let known = others.into_iter().chain(suspects);
            let nodes = known.filter_map(|node| self.cluster.node(node));
            return self.cluster.seeds().iter().cloned().chain(nodes).collect();
        }
        let random = RandomState::new();
        others.sort_by_cached_key(|node| random.hash_one(node));
        let two = others.into_iter().take(2);
        two.filter_map(|node| self.cluster.node(node)).collect()
    }

    /// Whether each slot has a master that serves.
    fn is_whole(&self) -> bool {
        let map = self.map.load();
        map.slots.are_all_covered() && map.nodes.values().all(|node| !node.is_down())
    }
}

impl Route for Masters {
    fn node(&self, key: &str) -> Option<Node> {
        let map = self.map.load();
        let master = map.slots.master_of(slot_of(key))?;
        map.nodes.get(master).cloned()
    }

    fn redirected(&self, to: &Redirection) -> Option<Node> {
        if !to.asking {
            self.common.wake.notify_one(); // our map is out of date
        }
        // Nodes may be set up not to tell their hosts.
        let address = Address::parse(&to.address).filter(|address| !address.host.is_empty())?;
        let mut changing = self.changing.lock();
        let old = self.map.load();
        let node = match old.nodes.get(&address) {
            Some(node) => node.clone(),
            None if changing.guests.len() >= Cluster::MAX_NODES => return None,
            None => {
                let mut map = Map::clone(&old);
                let node = self.add(&mut map, &address)?;
                self.map.store(Arc::new(map));
                node
            }
        };
        changing.guests.insert(address);
        Some(node)
    }

    fn health(&self) -> StoreHealth {
        let map = self.map.load();
        let nodes = || map.nodes.values();
        let common = self.common.health();
        let trouble = || nodes().find_map(Node::trouble);
        let uncovered = || {
            let is_covered = map.nodes.is_empty() || map.slots.are_all_covered();
            (!is_covered).then_some(StoreTrouble::Unreachable)
        };
        StoreHealth {
            is_down: nodes().all(Node::is_down),
            trouble: self
                .changing
                .lock()
                .trouble
                .or_else(trouble)
                .or_else(uncovered),
            outages: nodes().fold(common.outages, |sum, node| {
                sum.saturating_add(node.outages())
            }),
            ..common
        }
    }
}

/// So that whoever keeps finding the masters learns of it.
impl Drop for Masters {
    fn drop(&mut self) {
        self.common.wake.notify_one();
    }
}

/// Asks for the slots: often while something is wrong, else rarely. Never on the way of a look-up.
async fn keep_finding(masters: Weak<Masters>, common: Arc<Common>, cluster: Arc<Cluster>) {
    while !common.has_begun() {
        if masters.strong_count() == 0 {
            return;
        }
        common.wake.notified().await;
    }
    let mut pauses = Pauses::new();
    let mut last_error = None;
    let mut ask_all = true;
    loop {
        let Some(asking) = masters.upgrade() else {
            return;
        };
        let suspects = asking.suspects();
        let asked = asking.whom_to_ask(&suspects, ask_all);
        drop(asking);
        let found = cluster.slots(asked, &suspects).await;
        let Some(masters) = masters.upgrade() else {
            return;
        };
        ask_all = found.is_err();
        let is_well = match found {
            Ok(slots) => {
                last_error = None;
                masters.renew(slots);
                masters.is_whole()
            }
            Err(error) => {
                let error = harmless(&error.to_string());
                masters.changing.lock().trouble = Some(StoreTrouble::Unreachable);
                common.note_trouble(&error);
                if last_error.as_ref() != Some(&error) {
                    last_error = Some(error.clone());
                    let line = move || warn!(error, "the shared store's cluster cannot be used");
                    common.log.tell(line);
                }
                false
            }
        };
        let pause = if is_well {
            pauses = Pauses::new();
            CALM
        } else {
            pauses.next()
        };
        drop(masters);
        let _ = timeout(pause, common.wake.notified()).await;
        sleep(LEAST_PAUSE).await;
    }
}

/// A master, for the machinery that all remote stores share.
#[derive(Clone)]
struct Member {
    cluster: Arc<Cluster>,
    info: ConnectionInfo,
    address: Address,
    masters: Weak<Masters>,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Backend for Member {
    type Connection = Connection;

    async fn connect(&mut self) -> Result<Connection, Failure> {
        Connection::new(self.cluster.connect(&self.info).await, true)
    }

    /// In one of its slots, if it has any.
    fn probe_key(&self, prefix: &str) -> String {
        let masters = self.masters.upgrade();
        let map = masters
            .map(|masters| masters.map.load_full())
            .unwrap_or_default();
        let is_ours = |key: &String| map.slots.master_of(slot_of(key)) == Some(&self.address);
        let tries = match map.slots.masters().contains(&self.address) {
            true => 1_000_000,
            false => 0,
        };
        let mut keys = (0..tries).map(|i| format!("{prefix}probe{{{i}}}"));
        keys.find(is_ours)
            .unwrap_or_else(|| format!("{prefix}probe"))
    }

    fn write_timeout(&self) -> Duration {
        self.cluster.dialer().command_timeout
    }
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use std::sync::atomic::AtomicU32;

    #[cfg(unix)]
    use test_support::fake_redis;
    use test_support::log::Log;
    #[cfg(unix)]
    use tokio::runtime::Builder;

    use super::*;
    use crate::redis::RedisClient;
    #[cfg(unix)]
    use crate::store::{RedisStore, SharedStore, StoreKey};

    const PATIENT: Duration = Duration::from_secs(30);

    fn masters() -> (Arc<Masters>, Arc<Common>) {
        let (masters, common, _) = found_by(1);
        (masters, common)
    }

    /// And what finds them, by the node at this port.
    fn found_by(
        port: u16,
    ) -> (
        Arc<Masters>,
        Arc<Common>,
        impl Future<Output = ()> + Send + 'static,
    ) {
        let client = RedisClient::cluster([format!("redis://127.0.0.1:{port}")]).unwrap();
        let client = client.command_timeout(Duration::from_secs(7));
        let common = Arc::new(Common::new("test:session:".into()));
        let cluster = client.as_cluster().unwrap();
        let (masters, driven) = Masters::new(cluster, Arc::clone(&common), Handle::current());
        (masters, common, driven)
    }

    fn at(port: u16) -> Address {
        let host = "127.0.0.1".into();
        Address { host, port }
    }

    fn node(masters: &Masters, port: u16) -> Node {
        masters.map.load().nodes[&at(port)].clone()
    }

    fn member(masters: &Arc<Masters>, port: u16) -> Member {
        let cluster = Arc::clone(&masters.cluster);
        Member {
            info: cluster.node(&at(port)).unwrap(),
            cluster,
            address: at(port),
            masters: Arc::downgrade(masters),
        }
    }

    fn to(address: impl Into<String>, asking: bool) -> Redirection {
        let address = address.into();
        Redirection { address, asking }
    }

    #[tokio::test]
    async fn outages_of_nodes_that_are_gone_still_count_and_others_count_once() {
        let (masters, _common) = masters();
        let both = Slots::on_loopback(&[(0, 99, &[1]), (100, 16_383, &[2])]);
        let logged = |slots: &Slots| {
            let renew = || {
                masters.renew(slots.clone());
                masters.common.log.settle(PATIENT)
            };
            Log::of(renew).0.lines()
        };
        let said = "INFO message=slots of the shared store's cluster masters=2";
        assert_eq!(logged(&both), [said]);
        assert!(logged(&both).is_empty(), "they are the same");
        node(&masters, 1).fails();
        let other = node(&masters, 2);
        other.fails();
        other.fails();
        assert_eq!(masters.health().outages, 3);
        for _ in 0..2 {
            masters.renew(Slots::on_loopback(&[(0, 16_383, &[1])]));
            assert_eq!(masters.map.load().nodes.len(), 1);
            assert_eq!(masters.health().outages, 3);
        }
    }

    #[tokio::test]
    async fn a_cluster_is_whole_if_each_slot_has_a_master_that_serves() {
        let (masters, _common) = masters();
        masters.renew(Slots::on_loopback(&[(0, 99, &[1]), (100, 16_383, &[2])]));
        assert!(!masters.is_whole(), "none was connected to");
        assert_eq!(masters.suspects(), [].into());
        for port in [1, 2] {
            node(&masters, port).serves();
        }
        assert!(masters.is_whole());
        node(&masters, 2).fails();
        assert!(!masters.is_whole());
        assert_eq!(masters.suspects(), [at(2)].into());
        masters.renew(Slots::on_loopback(&[(0, 99, &[1])]));
        assert!(!masters.is_whole(), "there are slots that none has");
    }

    #[tokio::test]
    async fn two_nodes_that_are_not_suspected_are_asked_or_all_if_that_does_not_help() {
        let (masters, _common) = masters();
        masters.renew(Slots::on_loopback(&[
            (0, 99, &[2, 4]),
            (100, 16_383, &[3, 5]),
        ]));
        let asked = |suspects: &[u16], ask_all| {
            let suspects = suspects.iter().copied().map(at).collect();
            let asked = masters.whom_to_ask(&suspects, ask_all);
            let mut ports: Vec<_> = asked
                .iter()
                .map(|info| Address::of(info).unwrap().port)
                .collect();
            ports.sort_unstable();
            ports
        };
        assert_eq!(asked(&[2, 5], false), [3, 4]);
        assert_eq!(asked(&[], false).len(), 2);
        let with_the_one_configured = [1, 2, 3, 4, 5];
        assert_eq!(asked(&[2], true), with_the_one_configured);
        assert_eq!(asked(&[2, 3, 4, 5], false), with_the_one_configured);
    }

    #[tokio::test]
    async fn a_master_is_tried_out_with_a_key_of_its_own_slots() {
        let (masters, _common) = masters();
        masters.renew(Slots::on_loopback(&[(0, 99, &[1]), (100, 16_383, &[2])]));
        let key = member(&masters, 1).probe_key("eu:session:");
        assert!(
            key.starts_with("eu:session:probe{") && slot_of(&key) <= 99,
            "{key}"
        );
        assert_eq!(
            member(&masters, 3).probe_key("eu:session:"),
            "eu:session:probe"
        );
    }

    #[tokio::test]
    async fn a_master_is_logged_by_its_address_and_written_to_in_the_time_of_a_command() {
        let (masters, _common) = masters();
        let member = member(&masters, 1);
        assert_eq!(member.to_string(), "127.0.0.1:1");
        assert_eq!(member.write_timeout(), Duration::from_secs(7));
    }

    #[tokio::test]
    async fn who_finds_the_masters_ends_with_the_store_even_if_that_was_never_used() {
        let (masters, _common, driven) = found_by(1);
        let driven = tokio::spawn(driven);
        tokio::task::yield_now().await;
        assert!(!driven.is_finished());
        drop(masters);
        timeout(PATIENT, driven).await.unwrap().unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_masters_are_found_of_a_store_that_is_used_at_once() {
        let (masters, common, driven) = found_by(fake_redis::start_node(|_| None));
        common.begin();
        tokio::spawn(driven);
        let up = async {
            while masters.health().is_down {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENT, up).await.unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn why_a_cluster_cannot_be_used_is_logged_once() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let port = fake_redis::start(move |command| {
            (command == "CLUSTER").then(|| {
                count.fetch_add(1, Ordering::Relaxed);
                b"-ERR told to\r\n".to_vec()
            })
        });
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (log, ()) = Log::of(|| {
            runtime.block_on(async {
                let (_masters, common, driven) = found_by(port);
                common.begin();
                tokio::spawn(driven);
                let asked = async {
                    while asked.load(Ordering::Relaxed) < 4 {
                        sleep(Duration::from_millis(1)).await;
                    }
                };
                timeout(PATIENT, asked).await.unwrap();
                assert!(common.log.settle(PATIENT));
            });
        });
        let warnings = log.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("cluster cannot be used") && warnings[0].contains("told to"));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_claim_that_is_redirected_is_made_where_the_session_is() {
        let other = fake_redis::start_node(|command| {
            (command == "GETDEL").then(|| b"$5\r\nvalue\r\n".to_vec())
        });
        let one = fake_redis::start_node(move |command| {
            (command == "GETDEL").then(|| format!("-MOVED 1 127.0.0.1:{other}\r\n").into_bytes())
        });
        let client = RedisClient::cluster([format!("redis://127.0.0.1:{one}")]).unwrap();
        let store = RedisStore::with_client(client.connect_timeout(PATIENT)).unwrap();
        store.prepare(PATIENT);
        let up = async {
            while store.health().is_down {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENT, up).await.unwrap();
        let claimed = store.claim(&StoreKey([7; StoreKey::LEN]), PATIENT).await;
        assert_eq!(claimed.unwrap(), Some(b"value".to_vec()));
    }

    #[tokio::test]
    async fn a_redirection_without_a_host_still_tells_that_slots_have_moved() {
        let (masters, common) = masters();
        assert!(masters.redirected(&to(":7000", true)).is_none());
        let is_awake = || timeout(Duration::ZERO, common.wake.notified());
        assert!(is_awake().await.is_err());
        assert!(masters.redirected(&to(":7000", false)).is_none());
        assert!(is_awake().await.is_ok());
    }

    #[tokio::test]
    async fn a_redirection_adds_a_node_and_copies_no_slots() {
        let (masters, _common) = masters();
        masters.renew(Slots::on_loopback(&[(0, 16_383, &[1])]));
        let slots = || Arc::clone(&masters.map.load().slots);
        let before = slots();
        assert!(masters.redirected(&to("127.0.0.1:2", false)).is_some());
        assert_eq!(masters.map.load().nodes.len(), 2);
        assert!(Arc::ptr_eq(&before, &slots()));
    }

    #[tokio::test]
    async fn a_server_that_redirects_everywhere_does_not_fill_the_memory() {
        let (masters, _common) = masters();
        for port in 1..=2 * Cluster::MAX_NODES {
            masters.redirected(&to(format!("127.0.0.1:{port}"), true));
        }
        assert_eq!(masters.map.load().nodes.len(), Cluster::MAX_NODES);
        assert!(masters.redirected(&to("127.0.0.1:1", true)).is_some());
    }
}
