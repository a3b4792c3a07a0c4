//! Clients that keep returning.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{Client, ClientError, ClientOptions, EarlyData, Outcome, read_roots};

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
    pub(crate) early: u64,
    pub(crate) failed: u64,
}

impl Seen {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            connections: self.connections - earlier.connections,
            returned: self.returned - earlier.returned,
            resumed: self.resumed - earlier.resumed,
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
            tasks: JoinSet::new(),
        };
        clients.come(address, ca, &TLS13, 8, true)?;
        clients.come(address, ca, &TLS12, 4, true)?;
        clients.come(replayed, ca, &TLS13, 3, false)?;
        Ok(clients)
    }

    fn come(
        &mut self,
        address: SocketAddr,
        ca: &Path,
        version: &'static SupportedProtocolVersion,
        workers: usize,
        counts: bool,
    ) -> Result<(), ClientError> {
        let client = Client::new(ClientOptions {
            version,
            early_data: if version == &TLS13 { EARLY_DATA } else { 0 },
            ..ClientOptions::new(vec![address], read_roots(ca)?)
        })?;
        for _ in 0..workers {
            let mut worker = client.worker();
            let seen = Arc::clone(&self.seen);
            self.tasks.spawn(async move {
                let mut returns = false;
                loop {
                    let outcome = worker.echo().await;
                    note(&seen, &outcome, returns && counts);
                    returns = true;
                    sleep(PAUSE).await;
                }
            });
        }
        Ok(())
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

fn note(
    seen: &Mutex<(Seen, Option<String>)>,
    outcome: &Result<Outcome, ClientError>,
    returns: bool,
) {
    let (seen, first_failure) = &mut *seen.lock().expect("nobody panicked");
    seen.connections += 1;
    match outcome {
        Ok(Outcome { handshake, .. }) => {
            seen.returned += u64::from(returns);
            seen.resumed += u64::from(returns && handshake.resumed);
            let is_early = matches!(handshake.early_data, EarlyData::Accepted { .. });
            seen.early += u64::from(is_early);
        }
        Err(error) => {
            seen.failed += 1;
            first_failure.get_or_insert_with(|| error.to_string());
        }
    }
}
