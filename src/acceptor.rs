//! Acceptors for servers of one thread per connection and for axum-server;
//! [`ResumptionAcceptor`](crate::ResumptionAcceptor), for tokio, is at the root, and `Incoming` makes
//! a stream of what it accepts, for tonic and others. And [`follow`](crate::Resumption::follow), for
//! whatever else accepts connections, with what it tells.

// The steps are the same for all acceptors, so they stand here, without input and output:
//
//  Greeting   bytes come in until the ClientHello is complete; the configuration is chosen
//             and nothing is given to rustls that came behind it
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
mod driver;
mod early_data;
mod follow;
#[cfg(feature = "tokio")]
mod incoming;
mod look_up;
#[cfg(feature = "quinn")]
mod quic;
#[cfg(feature = "tokio")]
pub(crate) mod resumption_acceptor;
#[cfg(feature = "tokio")]
mod synchronous;
mod versions;

#[cfg(feature = "axum-server")]
pub use axum_server::AxumAcceptor;
pub use blocking::BlockingAcceptor;
use client_hello::Offer;
#[cfg(any(test, rustls_resumption_fuzzing))]
pub use client_hello::fuzzed::run as fuzzed_client_hello;
#[cfg(any(test, rustls_resumption_fuzzing))]
pub use early_data::fuzzed::run as fuzzed_early_data;
use early_data::{Header, RefusedEarlyData};
pub use follow::Follow;
use follow::{Following, Seen};
#[cfg(feature = "tokio")]
pub use incoming::Incoming;
use look_up::LookUp;
use versions::speaks_tls13;

pub use crate::handshake::{Handshake, Outcome, ResumedBy};
pub use crate::session_lineage::SessionLineage;

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
        let makes_tickets = self.config.ticketer.enabled();
        LookUp::new(storage, &hello.offer, self.speaks_tls13, makes_tickets)
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
#[derive(Default)]
struct Greeting {
    acceptor: Acceptor,
    /// What was read so far. rustls bounds it, to the 64 KiB of the largest handshake message.
    seen: Vec<u8>,
    /// How much of it rustls was given: whole records, and what there is of the last.
    given: usize,
    /// Where that record ends.
    end: usize,
}

impl Greeting {
    /// Reads once. `Ok(0)` is the end.
    fn read(&mut self, io: &mut dyn Read) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        let len = io.read(&mut buffer)?;
        let read = buffer.get(..len).unwrap_or_default();
        self.seen.extend_from_slice(read);
        Ok(len)
    }

    /// The ClientHello, if it is complete. rustls is given a record at a time, so nothing that
    /// stands behind it.
    fn hello(&mut self) -> Result<Option<Hello>, Refused> {
        loop {
            if self.given == self.end {
                let next = self.seen.get(self.end..).and_then(Header::read);
                let Some(header) = next else { return Ok(None) };
                self.end = self.end.saturating_add(header.record_len());
            }
            let end = self.end.min(self.seen.len());
            let mut piece = self.seen.get(self.given..end).unwrap_or_default();
            if piece.is_empty() {
                return Ok(None);
            }
            self.given = end;
            while !piece.is_empty() {
                self.acceptor.read_tls(&mut piece)?;
                if let Some(accepted) = self.acceptor.accept()? {
                    return Ok(Some(Hello {
                        accepted,
                        offer: Offer::read(&self.seen),
                        rest: self.seen.split_off(end),
                    }));
                }
            }
        }
    }
}

/// A complete ClientHello.
struct Hello {
    accepted: Accepted,
    offer: Offer,
    /// What was read behind it, which rustls was not given.
    rest: Vec<u8>,
}

impl Hello {
    fn client_hello(&self) -> ClientHello<'_> {
        self.accepted.client_hello()
    }

    /// Whether all that the client sends until it is answered is this.
    #[cfg(feature = "tokio")]
    fn is_all(&self) -> bool {
        self.rest.is_empty() && !self.offer.early_data
    }
}

/// What rustls refused, and what the client is told.
struct Refused {
    error: io::Error,
    alert: Vec<u8>,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        let alert = Vec::new();
        Self { error, alert }
    }
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
    offers_early_data: bool,
}

impl Accepting {
    fn new(target: &Target, offer: &Offer) -> Self {
        let mut following = match &target.storage {
            Some(storage) => Following::new(storage.followed()),
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
            offers_early_data: offer.early_data,
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

    /// What comes in next, if it is early data that is refused. (After a HelloRetryRequest rustls
    /// skips that without decrypting it.)
    fn refused_early_data(
        &self,
        connection: &mut ServerConnection,
        rest: &mut Vec<u8>,
    ) -> Option<RefusedEarlyData> {
        let is_refused = self.offers_early_data
            && !self.hello_retry
            && connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
            && connection.early_data().is_none();
        let limit = self.config.max_early_data_size;
        is_refused.then(|| RefusedEarlyData::new(std::mem::take(rest), limit))
    }

    /// Gives rustls what was read already, and lets it process that.
    fn hear(&mut self, connection: &mut ServerConnection, mut read: &[u8]) -> io::Result<()> {
        if read.is_empty() {
            return Ok(());
        }
        while !read.is_empty() {
            connection.read_tls(&mut read)?;
        }
        self.go_on(connection).map(drop)
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
        let took_early_data = connection.early_data().is_some();
        let handshake = self.following.end(Seen {
            is_resumed: Some(connection.handshake_kind() == Some(HandshakeKind::Resumed)),
            early_data: Some(took_early_data),
            early_data_refused: self.offers_early_data && !took_early_data,
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
