//! Clients that keep returning.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{Client, ClientError, ClientOptions, EarlyData, Outcome, Worker, read_roots};

/// The pause between a client's connections.
const PAUSE: Duration = Duration::from_millis(40);

const EARLY_DATA: usize = 200;

/// What clients observed. Clients whose first flight is replayed do not count as returned, because
/// the replay may win.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: u64,
    /// Connections of clients that had connected before.
    pub(crate) returned: u64,
    pub(crate) resumed: u64,
    /// Connections after the incident that resumed an earlier session: its full handshake had
    /// begun by then, however it was renewed.
    pub(crate) of_before: u64,
    pub(crate) early: u64,
    pub(crate) failed: u64,
}

impl Seen {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            connections: self.connections - earlier.connections,
            returned: self.returned - earlier.returned,
            resumed: self.resumed - earlier.resumed,
            of_before: self.of_before - earlier.of_before,
            early: self.early - earlier.early,
            failed: self.failed - earlier.failed,
        }
    }

    /// In percent, never rounded up.
    pub(crate) fn share(self) -> Option<f64> {
        (self.returned > 0).then(|| (self.resumed * 10_000 / self.returned) as f64 / 100.0)
    }
}

pub(crate) struct Clients {
    seen: Arc<Mutex<(Seen, Option<String>)>>,
    /// Whether the incident has happened.
    incident: Arc<AtomicBool>,
    /// Whether clients that are away come back.
    back: watch::Sender<bool>,
    /// They stop when this value is dropped.
    tasks: JoinSet<()>,
}

impl Clients {
    /// TLS 1.3 with early data, TLS 1.2, and some through `replayed`.
    pub(crate) fn start(
        address: SocketAddr,
        replayed: SocketAddr,
        ca: &Path,
    ) -> Result<Self, ClientError> {
        let mut clients = Self {
            seen: Arc::default(),
            incident: Arc::default(),
            back: watch::Sender::default(),
            tasks: JoinSet::new(),
        };
        clients.come(address, ca, &TLS13, 8, true)?;
        clients.come(address, ca, &TLS12, 4, true)?;
        clients.come(replayed, ca, &TLS13, 3, false)?;
        Ok(clients)
    }

    /// More clients, which stay away after two visits until [`Clients::come_back`].
    pub(crate) fn leave(&mut self, address: SocketAddr, ca: &Path) -> Result<(), ClientError> {
        for (version, workers) in [(&TLS13, 30), (&TLS12, 15)] {
            for mut returning in self.returning(address, ca, version, workers, true)? {
                let mut back = self.back.subscribe();
                self.tasks.spawn(async move {
                    returning.visit().await;
                    returning.visit().await;
                    // An error means that the clients are dropped.
                    if back.wait_for(|back| *back).await.is_ok() {
                        returning.visit().await;
                    }
                });
            }
        }
        Ok(())
    }

    pub(crate) fn come_back(&self) {
        self.back.send_replace(true);
    }

    /// From now on earlier sessions are counted.
    pub(crate) fn note_incident(&self) {
        self.incident.store(true, Ordering::SeqCst);
    }

    fn come(
        &mut self,
        address: SocketAddr,
        ca: &Path,
        version: &'static SupportedProtocolVersion,
        workers: usize,
        counts: bool,
    ) -> Result<(), ClientError> {
        for mut returning in self.returning(address, ca, version, workers, counts)? {
            self.tasks.spawn(async move {
                loop {
                    returning.visit().await;
                    sleep(PAUSE).await;
                }
            });
        }
        Ok(())
    }

    fn returning(
        &self,
        address: SocketAddr,
        ca: &Path,
        version: &'static SupportedProtocolVersion,
        workers: usize,
        counts: bool,
    ) -> Result<Vec<Returning>, ClientError> {
        let client = Client::new(ClientOptions {
            version,
            early_data: if version == &TLS13 { EARLY_DATA } else { 0 },
            ..ClientOptions::new(vec![address], read_roots(ca)?)
        })?;
        let returning = |_| Returning {
            worker: client.worker(),
            counts,
            has_come: false,
            is_of_before: false,
            incident: Arc::clone(&self.incident),
            seen: Arc::clone(&self.seen),
        };
        Ok((0..workers).map(returning).collect())
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().expect("nobody panicked").0
    }

    /// The first failure.
    pub(crate) fn first_failure(&self) -> Option<String> {
        self.seen.lock().expect("nobody panicked").1.clone()
    }

    /// Stops all clients.
    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// One client.
struct Returning {
    worker: Worker,
    /// Whether its visits count as returns.
    counts: bool,
    has_come: bool,
    /// Whether its last full handshake began before the incident.
    is_of_before: bool,
    incident: Arc<AtomicBool>,
    seen: Arc<Mutex<(Seen, Option<String>)>>,
}

impl Returning {
    async fn visit(&mut self) {
        let returns = std::mem::replace(&mut self.has_come, true) && self.counts;
        let after_incident = self.incident.load(Ordering::SeqCst);
        let outcome = self.worker.echo().await;
        let (seen, first_failure) = &mut *self.seen.lock().expect("nobody panicked");
        seen.connections += 1;
        match outcome {
            Ok(Outcome { handshake, .. }) => {
                if !handshake.resumed {
                    self.is_of_before = !after_incident;
                }
                let of_before = handshake.resumed && after_incident && self.is_of_before;
                seen.returned += u64::from(returns);
                seen.resumed += u64::from(returns && handshake.resumed);
                seen.of_before += u64::from(of_before);
                let is_early = matches!(handshake.early_data, EarlyData::Accepted { .. });
                seen.early += u64::from(is_early);
            }
            Err(error) => {
                seen.failed += 1;
                first_failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
}
