//! Acceptors for servers of one thread per connection and for axum-server;
//! [`ResumptionAcceptor`](crate::ResumptionAcceptor), for tokio, is at the root. And
//! [`follow`](crate::Resumption::follow), for whatever else accepts connections, with what it
//! tells.

// The steps are the same for all acceptors, so they stand here, without input and output:
//
//  Greeting   bytes come in until the ClientHello is complete; the configuration is chosen
//  Accepting  sessions are looked up; rustls processes the ClientHello and what follows it, in the
//             context of the handshake; what came of it is counted
//
// Whoever wants a say once rustls has processed the ClientHello (`accept_with`) has it after a
// second one too; then the acceptor itself drives rustls that far.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use rustls::server::{Accepted, AcceptedAlert, Acceptor, ClientHello};
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use tracing::warn;

use crate::resumption::Storage;

#[cfg(feature = "axum-server")]
mod axum_server;
mod blocking;
mod client_hello;
mod follow;
mod look_up;
#[cfg(feature = "quinn")]
mod quic;
#[cfg(feature = "tokio")]
pub(crate) mod resumption_acceptor;
mod versions;

#[cfg(feature = "axum-server")]
pub use axum_server::AxumAcceptor;
pub use blocking::BlockingAcceptor;
use client_hello::Offer;
#[cfg(any(test, rustls_resumption_fuzzing))]
pub use client_hello::fuzzed::run as fuzzed_client_hello;
pub use follow::Follow;
use follow::{Following, Seen};
use look_up::LookUp;
use versions::speaks_tls13;

pub use crate::handshake::{Handshake, Outcome, ResumedBy};

/// Whom an acceptor tells what happened in each handshake.
type Report = Arc<dyn Fn(&Handshake) + Send + Sync>;

/// A configuration, and what an acceptor must know of it.
#[derive(Clone)]
struct Target {
    config: Arc<ServerConfig>,
    report: Option<Report>,
    storage: Option<Arc<Storage>>,
    /// Told only where it matters: where there is a shared store.
    speaks_tls13: bool,
}

impl Target {
    fn new(config: Arc<ServerConfig>) -> Self {
        let mut target = Self {
            storage: Storage::find(&*config.session_storage),
            speaks_tls13: false,
            report: None,
            config,
        };
        target.speaks_tls13 = target.shares() && speaks_tls13(&target.config);
        target
    }

    /// The same with another configuration.
    fn with_config(&self, config: Arc<ServerConfig>) -> Self {
        Self {
            report: self.report.clone(),
            ..Self::new(config)
        }
    }

    /// Whether there is a shared store.
    fn shares(&self) -> bool {
        let storage = self.storage.as_ref();
        storage.is_some_and(|storage| storage.is_shared())
    }

    /// What is to be asked of the shared store for this hello, if there is one.
    fn look_up(&self, hello: &Hello) -> Option<LookUp> {
        let storage = self.storage.as_ref().filter(|_| self.shares())?;
        let offer = Offer::read(&hello.seen);
        let makes_tickets = self.config.ticketer.enabled();
        LookUp::new(storage, offer, self.speaks_tls13, makes_tickets)
    }

    /// For a configuration that will serve many connections.
    fn lasting(self) -> Self {
        if self.storage.is_none() {
            warn!(
                "no `Resumption` is installed in this configuration: \
                 connections are accepted, but nothing is carried forward or counted"
            );
        }
        self
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let storage = &self.config.session_storage;
        f.debug_struct("Target")
            .field("session_storage", storage)
            .finish_non_exhaustive()
    }
}

/// A connection until its ClientHello is complete.
struct Greeting {
    acceptor: Acceptor,
    /// What was read so far, for [`Offer`]. rustls bounds it, to the 64 KiB of the largest
    /// handshake message.
    seen: Vec<u8>,
    /// Whether there may be sessions to look up.
    may_share: bool,
}

impl Greeting {
    fn new(may_share: bool) -> Self {
        Self {
            acceptor: Acceptor::default(),
            seen: Vec::new(),
            may_share,
        }
    }

    /// Reads once. `Ok(0)` is the end.
    fn read(&mut self, io: &mut dyn Read) -> io::Result<usize> {
        if !self.may_share {
            return self.acceptor.read_tls(&mut { io });
        }
        let seen = &mut self.seen;
        self.acceptor.read_tls(&mut Tee { io, seen })
    }

    /// The ClientHello, if it is complete.
    fn hello(&mut self) -> Result<Option<Hello>, Refused> {
        let accepted = self.acceptor.accept().map_err(Refused::from)?;
        Ok(accepted.map(|accepted| Hello {
            accepted,
            seen: std::mem::take(&mut self.seen),
        }))
    }
}

struct Tee<'a> {
    io: &'a mut dyn Read,
    seen: &'a mut Vec<u8>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.io.read(buffer)?;
        self.seen
            .extend_from_slice(buffer.get(..len).unwrap_or_default());
        Ok(len)
    }
}

/// A complete ClientHello, and the bytes it came in.
struct Hello {
    accepted: Accepted,
    seen: Vec<u8>,
}

impl Hello {
    fn client_hello(&self) -> ClientHello<'_> {
        self.accepted.client_hello()
    }
}

/// What rustls refused, and what the client is told.
struct Refused {
    error: io::Error,
    alert: Vec<u8>,
}

impl From<(rustls::Error, AcceptedAlert)> for Refused {
    fn from((error, mut alert): (rustls::Error, AcceptedAlert)) -> Self {
        let mut bytes = Vec::new();
        // A vector takes whatever is written to it.
        let _ = alert.write_all(&mut bytes);
        Self {
            error: io::Error::new(io::ErrorKind::InvalidData, error),
            alert: bytes,
        }
    }
}

/// A handshake with one client, from its complete ClientHello on. Dropped before its end it counts
/// as failed, and wipes what was claimed.
struct Accepting {
    config: Arc<ServerConfig>,
    report: Option<Report>,
    following: Following,
    hello_retry: bool,
}

impl Accepting {
    fn new(target: &Target) -> Self {
        let mut following = match &target.storage {
            Some(storage) => {
                let counts = Arc::clone(storage.handshakes());
                Following::new(storage.now(), counts, storage.makes_tickets())
            }
            None => Following::nothing(),
        };
        if target.shares() {
            following.looks_up();
        }
        Self {
            config: Arc::clone(&target.config),
            report: target.report.clone(),
            following,
            hello_retry: false,
        }
    }

    /// Lets rustls process the ClientHello. The connection is boxed because it is large and handed
    /// about.
    fn begin(&mut self, accepted: Accepted) -> Result<Box<ServerConnection>, Refused> {
        let config = Arc::clone(&self.config);
        let connection = self.following.during(|| accepted.into_connection(config))?;
        self.hello_retry = asks_again(&connection);
        Ok(Box::new(connection))
    }

    /// Lets rustls process what was read. True once it has something to say to a second
    /// ClientHello.
    fn go_on(&mut self, connection: &mut ServerConnection) -> io::Result<bool> {
        match self.following.during(|| connection.process_new_packets()) {
            Ok(_) => Ok(connection.wants_write()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// Counts what rustls did, and tells.
    fn end(mut self, connection: &mut ServerConnection) {
        let handshake = self.following.end(Seen {
            is_resumed: Some(connection.handshake_kind() == Some(HandshakeKind::Resumed)),
            early_data: Some(connection.early_data().is_some()),
            hello_retry: Some(self.hello_retry),
            makes_tls13: connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
                && self.config.send_tls13_tickets > 0
                // With this a client may ask for none.
                && self.config.max_tls13_tickets == 0,
        });
        if let Some(report) = &self.report {
            report(&handshake);
        }
    }
}

/// Whether rustls, which has processed the first ClientHello, asks for a second one.
fn asks_again(connection: &ServerConnection) -> bool {
    connection.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest)
}
