//! A client that returns.

use std::net::SocketAddr;
use std::path::Path;

use example_support::client::{Client, ClientError, ClientOptions, Worker, read_roots};
use tokio::runtime::Runtime;

/// Comes again and again, with sessions of its own.
pub(crate) struct Visitor {
    runtime: Runtime,
    worker: Worker,
}

impl Visitor {
    pub(crate) fn new(ca: &Path) -> Self {
        Self::with(ca, |_| {})
    }

    pub(crate) fn with(ca: &Path, change: impl FnOnce(&mut ClientOptions)) -> Self {
        // Each visit names its address.
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut options = ClientOptions::new(vec![anywhere], read_roots(ca).unwrap());
        change(&mut options);
        Self {
            runtime: Runtime::new().unwrap(),
            worker: Client::new(options).unwrap().worker(),
        }
    }

    /// Connects and has its bytes echoed. Returns whether a session was resumed.
    pub(crate) fn visit(&self, address: SocketAddr) -> Result<bool, ClientError> {
        let outcome = self.runtime.block_on(self.worker.echo_at(address))?;
        Ok(outcome.handshake.resumed)
    }
}
