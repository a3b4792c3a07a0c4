use std::collections::HashSet;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult};

use super::RedisClient;
use super::address::Address;
use super::cluster::slot_of;
use super::dial::Dialer;

/// How the source of one key finds the server that has it.
pub(crate) struct Finder {
    client: RedisClient,
    /// The nodes of the cluster, as far as they are known; the seeds may all be gone one day.
    nodes: HashSet<Address>,
    /// Nodes that failed since one served.
    suspects: HashSet<Address>,
    last: Option<Address>,
}

impl Finder {
    pub(crate) fn new(client: RedisClient) -> Self {
        Self {
            client,
            nodes: HashSet::new(),
            suspects: HashSet::new(),
            last: None,
        }
    }

    /// A connection to the server that has a key.
    pub(crate) async fn connect(&mut self, key: &str) -> RedisResult<MultiplexedConnection> {
        let Some(cluster) = self.client.as_cluster() else {
            return self.client.connect().await;
        };
        let known = self.nodes.iter().filter_map(|node| cluster.node(node));
        let asked = cluster.seeds().iter().cloned().chain(known);
        let slots = cluster.slots(asked, &self.suspects).await?;
        self.nodes = slots.nodes().into_iter().cloned().collect();
        let slot = slot_of(key);
        let owner = slots.master_of(slot).ok_or_else(|| {
            let why = "no node has the slot";
            RedisError::from((ErrorKind::ClusterConnectionNotFound, why, slot.to_string()))
        })?;
        self.last = Some(owner.clone());
        self.connect_to(owner).await
    }

    /// A connection to the node of this address.
    pub(crate) async fn connect_to(&self, node: &Address) -> RedisResult<MultiplexedConnection> {
        let wrong = || (ErrorKind::InvalidClientConfig, "not a cluster").into();
        let cluster = self
            .client
            .as_cluster()
            .ok_or_else::<RedisError, _>(wrong)?;
        let node = cluster.node(node).ok_or_else::<RedisError, _>(wrong)?;
        cluster.connect(&node).await
    }

    pub(crate) fn served(&mut self) {
        self.suspects.clear();
    }

    pub(crate) fn failed(&mut self) {
        self.suspects.extend(self.last.take());
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        self.client.dialer()
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.client.as_cluster().is_some()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::thread;
    use std::time::Duration;

    use test_support::fake_redis;

    use super::*;

    /// Looks until it finds this one: on a busy machine either may be the first to answer.
    async fn finds(finder: &mut Finder, port: u16, mut not_yet: impl FnMut(&mut Finder)) -> bool {
        for _ in 0..20 {
            finder.connect("key").await.unwrap();
            if finder.last.as_ref().is_some_and(|last| last.port == port) {
                return true;
            }
            not_yet(finder);
        }
        false
    }

    #[tokio::test]
    async fn a_node_that_failed_is_passed_over_for_another_until_that_serves() {
        // Each of the two says that it has all slots.
        let prompt = fake_redis::start_node(|_| None);
        let late = fake_redis::start_node(|command| {
            if command == "CLUSTER" {
                thread::sleep(Duration::from_millis(50));
            }
            None
        });
        let urls = [prompt, late].map(|port| format!("redis://127.0.0.1:{port}"));
        let mut finder = Finder::new(RedisClient::cluster(urls).unwrap());
        assert!(finds(&mut finder, prompt, |_| {}).await);
        finder.failed();
        assert!(finds(&mut finder, late, Finder::failed).await);
        finder.served();
        assert!(finds(&mut finder, prompt, |_| {}).await);
    }
}
