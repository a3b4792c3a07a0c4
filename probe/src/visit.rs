//! Single connections, to collect sessions or to offer one.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, Tls12Resumption};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::connect::{ConnectError, Handshake, Place, QUIET, connect, connect_and_record};
use crate::session::{Issued, Mechanism, Session, Shelf};
use crate::tickets;
use crate::wire::ClearFlight;

/// The outcome of offering a session.
pub(crate) enum Offered {
    Answered(Handshake),
    /// The session was offered, and the handshake failed.
    Broken(ConnectError),
    /// There was no session to offer; if a connection failed, its error.
    NoSession(Option<ConnectError>),
}

impl Offered {
    pub(crate) fn resumed(&self) -> bool {
        matches!(self, Self::Answered(handshake) if handshake.resumed)
    }

    /// Whether the connection brought another ticket.
    pub(crate) fn brought_ticket(&self) -> bool {
        matches!(self, Self::Answered(handshake) if handshake.brought_ticket)
    }

    pub(crate) fn early_data_accepted(&self) -> bool {
        matches!(self, Self::Answered(handshake) if handshake.early_data_accepted)
    }
}

/// Makes the probe's connections.
pub(crate) struct Visitor {
    tls12: ClientConfig,
    tls13: ClientConfig,
    limit: Duration,
}

impl Visitor {
    /// `limit` bounds each connection.
    pub(crate) fn new(
        provider: Arc<CryptoProvider>,
        verifier: Arc<dyn ServerCertVerifier>,
        limit: Duration,
    ) -> Result<Self, rustls::Error> {
        // Each version keeps one verifier: rustls resumes only with the same one.
        let config = |version: &'static SupportedProtocolVersion| {
            let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[version])?
                .dangerous()
                .with_custom_certificate_verifier(Arc::clone(&verifier));
            Ok::<_, rustls::Error>(builder.with_no_client_auth())
        };
        Ok(Self {
            tls12: config(&rustls::version::TLS12)?,
            tls13: config(&rustls::version::TLS13)?,
            limit,
        })
    }

    /// Makes a full handshake and returns what the server issues, with `copies` of one session.
    pub(crate) async fn collect(
        &self,
        mechanism: Mechanism,
        place: &Place,
        copies: usize,
    ) -> Result<Issued, ConnectError> {
        let shelf = Arc::new(Shelf::offering(None));
        let config = self.config(mechanism, &shelf, false);
        let issued = async {
            match mechanism {
                Mechanism::Tls13Ticket => tickets::collect(config, place, &shelf, copies).await,
                Mechanism::SessionId | Mechanism::Tls12Ticket => {
                    collect_tls12(config, mechanism, place, &shelf, copies).await
                }
            }
        };
        self.bounded(place, issued).await
    }

    /// Offers `session`, and early data if there is some: these bytes of it.
    pub(crate) async fn offer(
        &self,
        mechanism: Mechanism,
        place: &Place,
        session: Session,
        early_data: Option<&[u8]>,
    ) -> Offered {
        let shelf = Arc::new(Shelf::offering(Some(session)));
        let config = self.config(mechanism, &shelf, early_data.is_some());
        let handshake = async {
            if mechanism != Mechanism::Tls12Ticket {
                let early_data = early_data.unwrap_or_default();
                let (mut stream, handshake) = connect(config, place, early_data).await?;
                close(&mut stream).await;
                return Ok(handshake);
            }
            let recording = connect_and_record(config, place, MAX_CLEAR_FLIGHT);
            let (mut stream, handshake, received) = recording.await?;
            close(&mut stream).await;
            Ok(Handshake {
                brought_ticket: ClearFlight::read(&received).ticket.is_some(),
                ..handshake
            })
        };
        match self.bounded(place, handshake).await {
            Ok(handshake) => Offered::Answered(handshake),
            Err(error) => Offered::Broken(error),
        }
    }

    /// Offers `session`, and then sends what is no record of the connection, so that the server ends
    /// it with a fatal alert. Whatever comes of it.
    pub(crate) async fn provoke_alert(
        &self,
        mechanism: Mechanism,
        place: &Place,
        session: Session,
    ) {
        let shelf = Arc::new(Shelf::offering(Some(session)));
        let config = self.config(mechanism, &shelf, false);
        let provoked = async {
            let (mut stream, _) = connect(config, place, &[]).await?;
            let (tcp, _) = stream.get_mut();
            let _ = tcp.write_all(&FORGED_RECORD).await;
            let _ = timeout(QUIET, tcp.read_to_end(&mut Vec::new())).await;
            Ok(())
        };
        let _ = self.bounded(place, provoked).await;
    }

    fn config(
        &self,
        mechanism: Mechanism,
        shelf: &Arc<Shelf>,
        early_data: bool,
    ) -> Arc<ClientConfig> {
        let (config, tls12) = match mechanism {
            Mechanism::SessionId => (&self.tls12, Tls12Resumption::SessionIdOnly),
            Mechanism::Tls12Ticket => (&self.tls12, Tls12Resumption::SessionIdOrTickets),
            Mechanism::Tls13Ticket => (&self.tls13, Tls12Resumption::Disabled),
        };
        let mut config = config.clone();
        config.resumption = Resumption::store(Arc::clone(shelf) as _).tls12_resumption(tls12);
        config.enable_early_data = early_data;
        config.enable_secret_extraction = mechanism == Mechanism::Tls13Ticket;
        Arc::new(config)
    }

    async fn bounded<T>(
        &self,
        place: &Place,
        work: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        timeout(self.limit, work)
            .await
            .unwrap_or(Err(ConnectError::Timeout {
                address: place.address,
                limit: self.limit,
            }))
    }
}

async fn collect_tls12(
    config: Arc<ClientConfig>,
    mechanism: Mechanism,
    place: &Place,
    shelf: &Shelf,
    copies: usize,
) -> Result<Issued, ConnectError> {
    let (mut stream, _, received) = connect_and_record(config, place, MAX_CLEAR_FLIGHT).await?;
    let flight = ClearFlight::read(&received);
    close(&mut stream).await;

    let tickets: Vec<_> = flight.ticket.into_iter().collect();
    // Without a ticket it would resume by its session ID, which is tested separately.
    let session = match mechanism == Mechanism::Tls12Ticket && tickets.is_empty() {
        true => None,
        false => shelf.take_kept().pop(),
    };
    Ok(Issued {
        session_id_length: flight.session_id_length,
        tickets,
        copies: match session {
            Some(Session::Tls12(session)) => (0..copies)
                .map(|_| Session::Tls12(session.clone()))
                .collect(),
            _ => Vec::new(),
        },
    })
}

/// Closes a connection in the proper way. OpenSSL forgets the session of one that ends otherwise.
async fn close<IO: AsyncRead + AsyncWrite + Unpin>(stream: &mut IO) {
    let _ = stream.shutdown().await;
    let mut rest = [0; 4096];
    let to_the_end = async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} };
    let _ = timeout(QUIET, to_the_end).await;
}

/// Application data of 32 bytes that no key of a connection decrypts.
const FORGED_RECORD: [u8; 37] = {
    let mut record = [0; 37];
    [record[0], record[1], record[2], record[4]] = [23, 3, 3, 32];
    record
};

/// More than any certificate chain that a client would accept.
const MAX_CLEAR_FLIGHT: usize = 1 << 18;
