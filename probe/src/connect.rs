//! A TCP connection and a TLS handshake on it.

use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, HandshakeKind, PeerIncompatible,
    RootCertStore,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::io::InspectReader;

/// A server under one of its names.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) server_name: ServerName<'static>,
}

/// How long to wait for a server that may have nothing more to send.
pub(crate) const QUIET: Duration = Duration::from_secs(2);

/// How a handshake went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handshake {
    pub(crate) resumed: bool,
    /// Early data was offered, and the server accepted it.
    pub(crate) early_data_accepted: bool,
    /// A ticket came with it, in the clear, as TLS 1.2 sends it.
    pub(crate) brought_ticket: bool,
}

/// Connects, and completes the TLS handshake that `config` describes.
///
/// Offers early data if `config` enables it and its session allows it, and sends this of it. Sets no
/// time limit.
pub(crate) async fn connect(
    config: Arc<ClientConfig>,
    place: &Place,
    early_data: &[u8],
) -> Result<(TlsStream<TcpStream>, Handshake), ConnectError> {
    let tcp = tcp(place.address).await?;
    tls(config, place, tcp, early_data).await
}

/// As [`connect()`]. Returns the first bytes that the server sent as well, at most `limit`.
pub(crate) async fn connect_and_record(
    config: Arc<ClientConfig>,
    place: &Place,
    limit: usize,
) -> Result<
    (
        TlsStream<impl AsyncRead + AsyncWrite + Unpin>,
        Handshake,
        Vec<u8>,
    ),
    ConnectError,
> {
    let recorded = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&recorded);
    let tcp = InspectReader::new(tcp(place.address).await?, move |bytes: &[u8]| {
        let mut recorded = writer.lock().unwrap_or_else(PoisonError::into_inner);
        let room = limit - recorded.len();
        recorded.extend_from_slice(&bytes[..bytes.len().min(room)]);
    });
    let (stream, handshake) = tls(config, place, tcp, &[]).await?;
    let recorded = std::mem::take(&mut *recorded.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((stream, handshake, recorded))
}

pub(crate) async fn tcp(address: SocketAddr) -> Result<TcpStream, ConnectError> {
    TcpStream::connect(address)
        .await
        .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
        .map_err(|source| ConnectError::Tcp { address, source })
}

async fn tls<IO: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    place: &Place,
    io: IO,
    early_data: &[u8],
) -> Result<(TlsStream<IO>, Handshake), ConnectError> {
    let address = place.address;
    let stream = TlsConnector::from(config)
        .connect_with(place.server_name.clone(), io, |connection| {
            if let Some(mut early) = connection.early_data() {
                // It takes as much as the ticket allows.
                let _ = early.write(early_data);
            }
        })
        .await
        .map_err(|source| ConnectError::Handshake { address, source })?;
    let connection = stream.get_ref().1;
    let handshake = Handshake {
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        early_data_accepted: connection.is_early_data_accepted(),
        brought_ticket: false,
    };
    Ok((stream, handshake))
}

/// Reads the certificate authorities of a PEM file.
///
/// # Errors
///
/// A sentence that names the file.
pub(crate) fn read_roots(path: &Path) -> Result<RootCertStore, String> {
    let unreadable =
        |error: pem::Error| format!("cannot read certificates from {}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        roots
            .add(certificate.map_err(unreadable)?)
            .map_err(|error| {
                format!(
                    "{} holds a certificate that cannot be trusted as an authority: {error}",
                    path.display()
                )
            })?;
    }
    match roots.is_empty() {
        true => Err(format!(
            "{} holds no certificate; it must be a PEM file with a BEGIN CERTIFICATE line",
            path.display()
        )),
        false => Ok(roots),
    }
}

/// Why a connection failed.
#[derive(Debug)]
pub(crate) enum ConnectError {
    Handshake {
        address: SocketAddr,
        source: io::Error,
    },
    Tcp {
        address: SocketAddr,
        source: io::Error,
    },
    Timeout {
        address: SocketAddr,
        limit: Duration,
    },
}

impl ConnectError {
    /// Whether the handshake failed because the server's certificate was rejected.
    pub(crate) fn is_about_certificate(&self) -> bool {
        matches!(self.tls(), Some(rustls::Error::InvalidCertificate(_)))
    }

    /// What to do about the server's certificate, where that was rejected.
    pub(crate) fn advice(&self, has_ca: bool) -> &'static str {
        let Some(rustls::Error::InvalidCertificate(error)) = self.tls() else {
            return "";
        };
        match error {
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                "; it is an authority's own certificate (CA:TRUE), which clients refuse from a \
                 server, whatever --ca names: give the server one with CA:FALSE, or accept any \
                 certificate with --insecure"
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature if has_ca => {
                "; no authority in the file issued it: name its authority with --ca PEM, or accept any \
                 certificate with --insecure"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "; send the name that it is for with --servername, or accept any certificate with \
                 --insecure"
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "; name its authority with --ca PEM, or accept any certificate with --insecure"
            }
            _ => "; accept any certificate with --insecure",
        }
    }

    /// Whether the handshake failed because the server does not speak the version of TLS.
    pub(crate) fn is_about_version(&self) -> bool {
        matches!(
            self.tls(),
            Some(
                rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
                    | rustls::Error::PeerIncompatible(
                        PeerIncompatible::ServerDoesNotSupportTls12Or13
                            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                    )
            )
        )
    }

    fn tls(&self) -> Option<&rustls::Error> {
        match self {
            Self::Handshake { source, .. } => source.get_ref()?.downcast_ref(),
            Self::Tcp { .. } | Self::Timeout { .. } => None,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake { address, source } => {
                write!(f, "{address}: handshake failed: {source}")
            }
            Self::Tcp { address, source } => write!(f, "{address}: cannot connect: {source}"),
            Self::Timeout { address, limit } => write!(f, "{address}: not done within {limit:?}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Handshake { source, .. } | Self::Tcp { source, .. } => Some(source),
            Self::Timeout { .. } => None,
        }
    }
}
