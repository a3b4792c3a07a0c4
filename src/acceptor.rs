//! Acceptors for servers of one thread per connection and for axum-server;
//! [`ResumptionAcceptor`](crate::ResumptionAcceptor), for tokio, is at the root.

// The steps are the same for all of them, so they stand here, without input and output:
//
//  Greeting   bytes come in until the ClientHello is complete; the configuration is chosen
//  Handshake  sessions are looked up; rustls processes the ClientHello, and the second one after a
//             HelloRetryRequest; the birth is carried forward; what came of it is counted
//
// Where there is nothing to choose and nothing to look up, a handshake begins without a greeting,
// which costs less.

use std::fmt;
use std::io::{self, Read};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::server::{Accepted, AcceptedAlert, Acceptor, ClientHello};
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use tracing::{trace, warn};

use crate::context::Claimed;
use crate::lineage::BirthRecord;
use crate::ring::StekRing;
use crate::stats::HandshakeCount;
use crate::storage::Installed;
use crate::store::{Miss, Sharing};

#[cfg(feature = "axum-server")]
mod axum_server;
mod blocking;
mod client_hello;
#[cfg(feature = "tokio")]
pub(crate) mod resumption_acceptor;
mod versions;

#[cfg(feature = "axum-server")]
pub use axum_server::AxumAcceptor;
pub use blocking::BlockingAcceptor;
use client_hello::Offer;
#[cfg(any(test, rustls_resumption_fuzzing))]
pub use client_hello::fuzzed::run as fuzzed_client_hello;
use versions::speaks_tls13;

/// A connection whose ClientHello rustls has processed, as an acceptor shows it to the application:
/// a [`ServerConnection`] with resumption data of its own.
///
/// The acceptor keeps the time of the full handshake beside the application's resumption data.
/// So within the handshake use the methods of this type, which hide it; rustls's methods of the same
/// names would show it, or overwrite it, upon which the age of the session is unknown. For a
/// connection that is established there is [`AcceptedConnection::resumption_data_of`].
pub struct AcceptedConnection<'a> {
    connection: &'a mut ServerConnection,
    record: Option<BirthRecord>,
}

impl<'a> AcceptedConnection<'a> {
    /// The longest resumption data, in bytes.
    pub const MAX_RESUMPTION_DATA: usize = (1 << 15) - 1 - BirthRecord::LEN;

    fn new(connection: &'a mut ServerConnection, record: Option<BirthRecord>) -> Self {
        let mut accepted = Self { connection, record };
        if accepted.record.is_some() {
            accepted.set_resumption_data(&[]);
        }
        accepted
    }

    /// Puts the application's data into the sessions that the client gets: as
    /// [`ServerConnection::set_resumption_data`], which see for what it is good for.
    ///
    /// TLS 1.3 only. With TLS 1.2 rustls stores it and never gives it back.
    ///
    /// # Panics
    ///
    /// As rustls does, if the data are longer than
    /// [`MAX_RESUMPTION_DATA`](AcceptedConnection::MAX_RESUMPTION_DATA).
    pub fn set_resumption_data(&mut self, data: &[u8]) {
        match self.record {
            Some(record) => self.connection.set_resumption_data(&record.join(data)),
            None => self.connection.set_resumption_data(data),
        }
    }

    /// The application's data in the session that was resumed: as
    /// [`ServerConnection::received_resumption_data`]. `None` if none was, or it was TLS 1.2.
    pub fn received_resumption_data(&self) -> Option<&[u8]> {
        Self::resumption_data_of(self.connection)
    }

    /// The application's data in the session that a connection, handshaking or established, resumed.
    pub fn resumption_data_of(connection: &ServerConnection) -> Option<&[u8]> {
        let received = connection.received_resumption_data();
        received.map(|data| BirthRecord::split(data).1)
    }
}

impl Deref for AcceptedConnection<'_> {
    type Target = ServerConnection;

    fn deref(&self) -> &ServerConnection {
        self.connection
    }
}

impl DerefMut for AcceptedConnection<'_> {
    fn deref_mut(&mut self) -> &mut ServerConnection {
        self.connection
    }
}

impl fmt::Debug for AcceptedConnection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptedConnection").finish_non_exhaustive()
    }
}

/// A configuration, and what an acceptor must know of it.
#[derive(Clone)]
struct Target {
    config: Arc<ServerConfig>,
    installed: Option<Arc<Installed>>,
    /// Told only where it matters: where there is a shared store.
    speaks_tls13: bool,
}

impl Target {
    fn new(config: Arc<ServerConfig>) -> Self {
        let mut target = Self {
            installed: Installed::find(&*config.session_storage),
            speaks_tls13: false,
            config,
        };
        target.speaks_tls13 = target.shares() && speaks_tls13(&target.config);
        target
    }

    /// Whether there is a shared store.
    fn shares(&self) -> bool {
        let installed = self.installed.as_ref();
        installed.is_some_and(|installed| installed.sharing.is_some())
    }

    /// For a configuration that will serve many connections.
    fn lasting(config: Arc<ServerConfig>) -> Self {
        let target = Self::new(config);
        if target.installed.is_none() {
            warn!(
                "no `Resumption` is installed in this configuration: \
                 connections are accepted, but nothing is carried forward or counted"
            );
        }
        target
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
    /// What was read so far. rustls bounds it, to the 64 KiB of the largest handshake message.
    seen: Vec<u8>,
}

impl Greeting {
    fn new() -> Self {
        Self {
            acceptor: Acceptor::default(),
            seen: Vec::new(),
        }
    }

    /// Reads once. `Ok(0)` is the end.
    fn read(&mut self, io: &mut dyn Read) -> io::Result<usize> {
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

/// A handshake with one client. Dropped before its end it counts as failed, and wipes what was
/// claimed.
struct Handshake {
    target: Target,
    /// What the client sent first.
    seen: Vec<u8>,
    offer: OnceLock<Offer>,
    /// `None` without a shared store.
    claimed: Option<Claimed>,
    found: Result<(), Miss>,
    has_hello: bool,
    with_retry: bool,
    with_early_data: bool,
    is_counted: bool,
}

/// The sessions that a shared store may have.
enum Wanted<'a> {
    Tls12(&'a [u8; 32]),
    Tls13(&'a [[u8; 32]]),
}

impl Handshake {
    fn new(target: Target, seen: Vec<u8>) -> Self {
        Self {
            claimed: target.shares().then(Claimed::default),
            target,
            seen,
            offer: OnceLock::new(),
            found: Err(Miss::NotFound),
            has_hello: false,
            with_retry: false,
            with_early_data: false,
            is_counted: false,
        }
    }

    fn offer(&self) -> &Offer {
        self.offer.get_or_init(|| Offer::read(&self.seen))
    }

    /// What is to be looked up: only where rustls will ask for it, in the version that it will
    /// choose.
    fn wanted(&self) -> Option<(&Installed, &Sharing, &StekRing, Wanted<'_>)> {
        let installed = self.target.installed.as_deref()?;
        let (sharing, ring) = installed.sharing.as_ref()?;
        let offer = self.offer();
        let wanted = if offer.tls13 && self.target.speaks_tls13 {
            let by_session = !self.target.config.ticketer.enabled();
            let ids = Some(&offer.identities).filter(|ids| by_session && !ids.is_empty())?;
            Wanted::Tls13(ids)
        } else {
            let id = offer.session_id.as_ref().filter(|_| !offer.has_ticket)?;
            if installed.cache.holds(id) {
                return None;
            }
            Wanted::Tls12(id)
        };
        Some((installed, sharing, ring, wanted))
    }

    /// How long [`look_up`](Handshake::look_up) may take, if there is anything to look up.
    fn deadline(&self) -> Option<Duration> {
        self.wanted().map(|(_, sharing, ..)| sharing.deadline())
    }

    /// Asks the shared store for the client's sessions.
    async fn look_up(&mut self) {
        let Some((installed, sharing, ring, wanted)) = self.wanted() else {
            return;
        };
        let cache = &installed.cache;
        self.found = match wanted {
            Wanted::Tls13(ids) => match sharing.claim(ring, cache.scope(), ids).await {
                Ok(claimed) => {
                    self.claimed = Some(claimed);
                    Ok(())
                }
                Err(miss) => Err(miss),
            },
            Wanted::Tls12(id) => match sharing.fetch(ring, cache.scope(), id).await {
                Ok(mut fetched) => {
                    let bytes = std::mem::take(&mut *fetched.bytes);
                    cache.keep(id, bytes, fetched.birth, fetched.expires);
                    Ok(())
                }
                Err(miss) => Err(miss),
            },
        };
    }

    /// The look-up was given up at its deadline.
    fn timed_out(&mut self) {
        if let Some((_, sharing, ..)) = self.wanted() {
            sharing.count_timed_out();
        }
        self.found = Err(Miss::Unavailable);
    }

    /// Lets rustls process the ClientHello. The connection is boxed because it is large and handed
    /// about.
    fn begin(&mut self, accepted: Accepted) -> Result<Box<ServerConnection>, Refused> {
        let config = Arc::clone(&self.target.config);
        let connection = Box::new(self.during(|| accepted.into_connection(config))?);
        self.heard(&connection);
        Ok(connection)
    }

    /// Reads once, where rustls has not yet seen the ClientHello that counts. `Ok(0)` is the end.
    fn read(&mut self, connection: &mut ServerConnection, io: &mut dyn Read) -> io::Result<usize> {
        if self.has_hello {
            return connection.read_tls(io);
        }
        let seen = &mut self.seen;
        connection.read_tls(&mut Tee { io, seen })
    }

    /// Lets rustls process what was read. True once it has something to say to a ClientHello.
    fn go_on(&mut self, connection: &mut ServerConnection) -> io::Result<bool> {
        if let Err(error) = self.during(|| connection.process_new_packets()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        let answers = connection.wants_write();
        if answers && !self.has_hello {
            self.heard(connection);
        }
        Ok(answers)
    }

    /// Rustls has processed the first ClientHello.
    fn heard(&mut self, connection: &ServerConnection) {
        let kind = connection.handshake_kind();
        self.has_hello = true;
        self.with_retry = kind == Some(HandshakeKind::FullWithHelloRetryRequest);
    }

    fn during<R>(&mut self, call: impl FnOnce() -> R) -> R {
        match &mut self.claimed {
            Some(claimed) => claimed.during(call),
            None => call(),
        }
    }

    /// Carries the birth forward, once the ClientHello that counts is processed, and lets the
    /// application see to its own.
    fn settle<F>(&mut self, connection: &mut ServerConnection, application: F)
    where
        F: FnOnce(&mut AcceptedConnection<'_>),
    {
        self.with_early_data = connection.early_data().is_some();
        let record = self.record(connection);
        application(&mut AcceptedConnection::new(connection, record));
    }

    /// What the sessions that this connection makes are to say of their birth. TLS 1.2 knows it
    /// otherwise.
    fn record(&self, connection: &ServerConnection) -> Option<BirthRecord> {
        let installed = self.target.installed.as_ref()?;
        if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return None;
        }
        let received = connection.received_resumption_data();
        let resumed = received.and_then(|data| BirthRecord::split(data).0);
        Some(BirthRecord {
            birth: resumed.map_or_else(|| installed.cache.now(), |record| record.birth),
            is_renewal: received.is_some(),
        })
    }

    /// Counts what rustls did.
    fn end(mut self, connection: &ServerConnection) {
        self.is_counted = true;
        let Some(installed) = &self.target.installed else {
            return;
        };
        let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let outcome = if is_resumed {
            HandshakeCount::Resumed
        } else if !self.is_offered(connection) {
            HandshakeCount::NotOffered
        } else {
            match self.found {
                Ok(()) => HandshakeCount::Declined,
                Err(Miss::NotFound) => HandshakeCount::NotFound,
                Err(Miss::Unavailable) => HandshakeCount::StoreUnavailable,
            }
        };
        trace!(?outcome, retry = self.with_retry, "accepted");
        let counts = &installed.counts;
        counts.add(outcome);
        if is_resumed && self.with_early_data {
            counts.add(HandshakeCount::EarlyData);
        }
        if self.with_retry {
            counts.add(HandshakeCount::HelloRetry);
        }
    }

    /// Whether the client offered to resume, in the version that was chosen.
    fn is_offered(&self, connection: &ServerConnection) -> bool {
        let offer = self.offer();
        match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => offer.has_identities,
            // A client of TLS 1.3 always sends a session ID; it may be made up.
            _ => offer.has_ticket || offer.has_session_id,
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if self.has_hello
            && !self.is_counted
            && let Some(installed) = &self.target.installed
        {
            installed.counts.add(HandshakeCount::Failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_birth_takes_its_room_from_the_resumption_data() {
        let most_of_rustls = 32_767; // less than 2^15
        assert_eq!(AcceptedConnection::MAX_RESUMPTION_DATA, most_of_rustls - 12);
    }
}
