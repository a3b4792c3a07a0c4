use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::Zipf;
use rustls::SupportedProtocolVersion;
use tokio::task::JoinSet;

use super::site::Site;
use example_support::client::{Client, ClientError, ClientOptions, Worker};

/// The clients of one server, each of which remembers its sessions.
pub(crate) struct Crowd {
    address: SocketAddr,
    clients: Vec<Worker>,
    seen: Vec<AtomicBool>,
}

/// The outcome of several visits.
pub(crate) struct Visits {
    pub(crate) lasted: Duration,
    pub(crate) visits: Vec<Visit>,
}

/// The outcome of one visit.
pub(crate) struct Visit {
    /// Whether the client had visited before.
    pub(crate) returns: bool,
    pub(crate) resumed: bool,
    /// The latency of the handshake as the client saw it.
    pub(crate) latency: Duration,
}

/// How many clients connect at the same time.
const AT_ONCE: usize = 8;

impl Crowd {
    pub(crate) fn new(
        site: &Site,
        version: &'static SupportedProtocolVersion,
        address: SocketAddr,
        clients: u32,
    ) -> Result<Self, ClientError> {
        let mut options = ClientOptions::new(vec![address], site.roots.clone());
        options.version = version;
        let client = Client::new(options)?;
        Ok(Self {
            address,
            clients: (0..clients).map(|_| client.worker()).collect(),
            seen: (0..clients).map(|_| AtomicBool::new(false)).collect(),
        })
    }

    /// Lets the clients connect in this order.
    pub(crate) async fn receive(
        self: &Arc<Self>,
        clients: &[usize],
        progress: &ProgressBar,
    ) -> Result<Visits, Box<dyn Error>> {
        let clients: Arc<[usize]> = clients.into();
        let next = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        let mut queues = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (crowd, clients) = (Arc::clone(self), Arc::clone(&clients));
            let (next, progress) = (Arc::clone(&next), progress.clone());
            queues.spawn(async move {
                let mut visits = Vec::new();
                while let Some(&client) = clients.get(next.fetch_add(1, Ordering::Relaxed)) {
                    visits.push(crowd.visit(client).await?);
                    progress.inc(1);
                }
                Ok::<_, ClientError>(visits)
            });
        }
        let visits = queues
            .join_all()
            .await
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Visits {
            lasted: start.elapsed(),
            visits: visits.into_iter().flatten().collect(),
        })
    }

    async fn visit(&self, client: usize) -> Result<Visit, ClientError> {
        let seen = self.seen[client].load(Ordering::Relaxed);
        let handshake = self.clients[client].echo_at(self.address).await?.handshake;
        self.seen[client].store(true, Ordering::Relaxed);
        Ok(Visit {
            // A concurrent visit of the same client may have ended first.
            returns: seen || handshake.resumed,
            resumed: handshake.resumed,
            latency: handshake.latency,
        })
    }
}

/// The order in which clients connect: the n-th most frequent has a weight of 1/n.
pub(crate) fn visits(
    clients: u32,
    connections: usize,
    seed: u64,
) -> Result<Vec<usize>, Box<dyn Error>> {
    let zipf = Zipf::new(f64::from(clients), 1.0)?;
    let mut rng = StdRng::seed_from_u64(seed);
    Ok((0..connections)
        .map(|_| rng.sample(zipf) as usize - 1)
        .collect())
}
