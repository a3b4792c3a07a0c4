//! Redis on loopback: one server, a master with its replica and Sentinels, or a Cluster. And what
//! may befall it.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use rustls_resumption::Error;
use rustls_resumption::store::RedisClient;
use tokio::time::{Instant, sleep};

use server::{Launch, Server};
use way::Network;

mod server;
mod way;

/// How long Redis may take to become whole again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What Sentinels call the master.
const NAME: &str = "fleet";

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Topology {
    /// One server
    Alone,
    /// A master and its replica, and three Sentinels
    Sentinel,
    /// Three masters and their replicas
    Cluster,
}

/// What befalls a master.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Harm {
    /// It crashes.
    Killed,
    /// It hangs, and a Sentinel on the same host with it.
    Stopped,
    /// It becomes a replica.
    Demoted,
    /// It runs, but nobody reaches it.
    CutOff,
    /// It has no room for another value, and evicts none.
    Filled,
}

pub(crate) struct Redis {
    topology: Topology,
    /// The first is a master that is harmed, until its replica takes its place.
    servers: Vec<Server>,
    sentinels: Vec<Server>,
    network: Network,
    victim: usize,
}

impl Redis {
    /// # Errors
    ///
    /// A sentence about why it does not run, and what to do about it.
    pub(crate) async fn start(topology: Topology, program: &Path) -> Result<Self, String> {
        let mut redis = Self {
            topology,
            servers: Vec::new(),
            sentinels: Vec::new(),
            network: Network::default(),
            victim: 0,
        };
        let network = redis.network.clone();
        let launch = Launch {
            program,
            network: &network,
        };
        match topology {
            Topology::Alone => redis.servers.push(launch.server(1, &[]).await?),
            Topology::Sentinel => redis.start_sentinels(&launch).await?,
            Topology::Cluster => redis.start_cluster(&launch).await?,
        }
        redis.whole().await?;
        Ok(redis)
    }

    async fn start_sentinels(&mut self, launch: &Launch<'_>) -> Result<(), String> {
        let quick = ["--repl-diskless-sync-delay", "0"];
        let master = launch.server(1, &quick).await?;
        let place = master.place();
        let of = ["--replicaof", place.as_str()];
        let replica = launch.server(2, &[quick, of].concat()).await?;
        let configuration = format!(
            "sentinel monitor {NAME} {place} 2\n\
             sentinel down-after-milliseconds {NAME} 500\n\
             sentinel failover-timeout {NAME} 2000\n"
        );
        for _ in 0..3 {
            self.sentinels.push(launch.sentinel(&configuration).await?);
        }
        self.servers = vec![master, replica];
        for sentinel in &self.sentinels {
            let question = format!("SENTINEL MASTER {NAME}");
            until_says(sentinel, &question, &["num-slaves\r\n$1\r\n1"]).await?;
            until_says(sentinel, &question, &["num-other-sentinels\r\n$1\r\n2"]).await?;
        }
        Ok(())
    }

    async fn start_cluster(&mut self, launch: &Launch<'_>) -> Result<(), String> {
        let flags = [
            ["--cluster-node-timeout", "1000"],
            ["--cluster-replica-validity-factor", "0"],
            ["--cluster-require-full-coverage", "no"],
            ["--repl-diskless-sync-delay", "0"],
        ];
        for number in 1..=6 {
            self.servers
                .push(launch.member(number, flags.as_flattened()).await?);
        }
        let (masters, replicas) = self.servers.split_at(3);
        let slots = ["0 5460", "5461 10922", "10923 16383"];
        for (epoch, (master, slots)) in (1..).zip(masters.iter().zip(slots)) {
            master
                .ask(&format!("CLUSTER SET-CONFIG-EPOCH {epoch}"))
                .await?;
            master
                .ask(&format!("CLUSTER ADDSLOTSRANGE {slots}"))
                .await?;
        }
        let first = masters[0].place_in_cluster();
        for server in &self.servers[1..] {
            server.ask(&format!("CLUSTER MEET {first}")).await?;
        }
        for server in &self.servers {
            until_says(server, "CLUSTER INFO", &["cluster_known_nodes:6"]).await?;
        }
        for (master, replica) in masters.iter().zip(replicas) {
            let id = master.ask("CLUSTER MYID").await?;
            let id = id.split("\r\n").nth(1).unwrap_or_default();
            replica.ask(&format!("CLUSTER REPLICATE {id}")).await?;
        }
        for server in &self.servers {
            until_says(server, "CLUSTER INFO", &["cluster_state:ok"]).await?;
        }
        for replica in replicas {
            until_says(replica, "INFO replication", &["master_link_status:up"]).await?;
        }
        Ok(())
    }

    /// For [`client`].
    pub(crate) fn address(&self) -> String {
        let (kind, servers) = match self.topology {
            Topology::Alone => ("alone", &self.servers),
            Topology::Sentinel => ("sentinel", &self.sentinels),
            Topology::Cluster => ("cluster", &self.servers),
        };
        let urls: Vec<_> = servers.iter().map(Server::url).collect();
        format!("{kind} {}", urls.join(" "))
    }

    /// Does this to a master.
    pub(crate) async fn harm(&mut self, harm: Harm) -> Result<(), String> {
        let replica = self.whole().await?;
        let victim = &mut self.servers[self.victim];
        match harm {
            Harm::Killed => victim.kill().await,
            Harm::Stopped => {
                if let Some(sentinel) = self.sentinels.first() {
                    sentinel.stop().await?;
                }
                victim.stop().await
            }
            Harm::Demoted => match self.topology {
                Topology::Alone => victim.ask("REPLICAOF 127.0.0.1 1").await.map(drop),
                Topology::Sentinel => {
                    let sentinel = &self.sentinels[0];
                    let command = format!("SENTINEL FAILOVER {NAME}");
                    until_says(sentinel, &command, &["OK"]).await
                }
                Topology::Cluster => self.servers[replica]
                    .ask("CLUSTER FAILOVER")
                    .await
                    .map(drop),
            },
            Harm::CutOff => {
                self.network.cut(Some(victim.host));
                Ok(())
            }
            Harm::Filled => victim.ask("CONFIG SET maxmemory 1").await.map(drop),
        }
    }

    /// Whether Redis replaces a master to which this happens.
    pub(crate) fn replaces(&self, harm: Harm) -> bool {
        self.topology != Topology::Alone && harm != Harm::Filled
    }

    /// Whether the harmed master was replaced: from now on clients can learn of its successor.
    pub(crate) async fn has_replaced(&self) -> bool {
        let successor = &self.servers[match self.topology {
            Topology::Alone => 0,
            Topology::Sentinel => 1 - self.victim,
            Topology::Cluster => 3 - self.victim,
        }];
        let is_named = match self.sentinels.last() {
            Some(sentinel) => says(sentinel, &who_is_master(), &successor.port_of_way()).await,
            None => true,
        };
        is_named && says(successor, "INFO replication", "role:master").await
    }

    /// Sets right what was done. Redis may take a while until all is as it was.
    pub(crate) async fn heal(&mut self, harm: Harm) -> Result<(), String> {
        let victim = &mut self.servers[self.victim];
        match harm {
            Harm::Killed => victim.restart().await,
            Harm::Stopped => {
                if let Some(sentinel) = self.sentinels.first() {
                    sentinel.resume().await?;
                }
                victim.resume().await
            }
            Harm::Demoted if self.topology == Topology::Alone => {
                victim.ask("REPLICAOF NO ONE").await.map(drop)
            }
            Harm::Demoted => Ok(()),
            Harm::CutOff => {
                self.network.cut(None);
                Ok(())
            }
            Harm::Filled => victim.ask("CONFIG SET maxmemory 0").await.map(drop),
        }
    }

    /// Waits until the master to be harmed has a replica that could take its place, and returns the
    /// latter.
    async fn whole(&mut self) -> Result<usize, String> {
        let other = match self.topology {
            Topology::Alone => return Ok(0),
            Topology::Sentinel => 1,
            Topology::Cluster => 3,
        };
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            for (master, replica) in [(0, other), (other, 0)] {
                if self.is_whole(master, replica).await {
                    self.victim = master;
                    return Ok(replica);
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(format!("Redis is not whole again after {PATIENCE:?}"))
    }

    async fn is_whole(&self, master: usize, replica: usize) -> bool {
        let port = self.servers[master].port_of_way();
        for sentinel in &self.sentinels {
            if !says(sentinel, &who_is_master(), &port).await {
                return false;
            }
        }
        says(&self.servers[master], "INFO replication", "role:master").await
            && says(&self.servers[master], "INFO replication", "state=online").await
            && says(
                &self.servers[replica],
                "INFO replication",
                "master_link_status:up",
            )
            .await
    }
}

/// Reaches what [`Redis::address`] says.
pub(crate) fn client(address: &str) -> Result<RedisClient, Error> {
    let (topology, urls) = address.split_once(' ').unwrap_or(("alone", address));
    match topology {
        "sentinel" => RedisClient::sentinels(urls.split(' '), NAME),
        "cluster" => RedisClient::cluster(urls.split(' ')),
        _ => RedisClient::open(urls),
    }
}

fn who_is_master() -> String {
    format!("SENTINEL GET-MASTER-ADDR-BY-NAME {NAME}")
}

/// Whether the answer contains this.
async fn says(server: &Server, question: &str, what: &str) -> bool {
    let answer = server.ask(question).await;
    answer.is_ok_and(|answer| answer.contains(what))
}

/// Asks until the answer contains all this.
async fn until_says(server: &Server, question: &str, what: &[&str]) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let answer = server.ask(question).await;
        let has_all = |answer: &String| what.iter().all(|what| answer.contains(what));
        if answer.as_ref().is_ok_and(has_all) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("{question}: {answer:?} after {PATIENCE:?}"));
        }
        sleep(Duration::from_millis(20)).await;
    }
}
