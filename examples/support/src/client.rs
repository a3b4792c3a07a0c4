//! The TLS client of the examples, tests and benchmarks.
//!
//! A [`Client`] holds what to connect to and how; each [`Worker`] made from it keeps its own
//! sessions, so that all but the first connection of a worker can resume. A connection sends a
//! message, early data first, checks that the same bytes come back, and returns an [`Outcome`] that
//! describes the handshake.
//!
//! Nothing here prints or ends the process.

use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::tap::Tap;

pub mod tap;

/// What to connect to, and how.
///
/// Start from [`ClientOptions::new()`] and set what differs.
pub struct ClientOptions {
    /// Visited in turn, each worker beginning at another one. Sessions are kept by server name, so
    /// a session of one address is offered to the next.
    pub addresses: Vec<SocketAddr>,
    /// Sent as SNI and looked for in the certificate. `localhost` unless set.
    pub server_name: ServerName<'static>,
    /// The certificate authorities to trust, see [`read_roots()`].
    pub roots: RootCertStore,
    /// The client's certificate chain and key, for servers that ask for one. None unless set.
    pub identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// The one version that is offered. TLS 1.3 unless set.
    pub version: &'static SupportedProtocolVersion,
    /// Whether sessions are kept and offered. True unless set.
    pub resume: bool,
    /// How many bytes to send as early data where a TLS 1.3 session allows it; what it does not
    /// allow is sent after the handshake. 0 unless set.
    pub early_data: usize,
    /// Sent after the handshake, behind the early data. A line of text unless set.
    ///
    /// The TLS 1.3 tickets of a connection arrive before the echo of its payload, so an empty
    /// payload makes the client look for them until the server closes.
    pub payload: Vec<u8>,
    /// How long one connection may take from TCP's first packet to the end. 10 s unless set.
    pub timeout: Duration,
}

impl ClientOptions {
    /// TLS 1.3 with resumption, to servers with a certificate for `localhost`.
    pub fn new(addresses: Vec<SocketAddr>, roots: RootCertStore) -> Self {
        Self {
            addresses,
            server_name: ServerName::try_from("localhost").expect("a valid DNS name"),
            roots,
            identity: None,
            version: &rustls::version::TLS13,
            resume: true,
            early_data: 0,
            payload: b"what comes back must be what was sent\n".to_vec(),
            timeout: Duration::from_secs(10),
        }
    }
}

/// Makes connections according to its options.
pub struct Client {
    shared: Arc<Shared>,
    workers: AtomicUsize,
}

impl Client {
    /// # Errors
    ///
    /// [`ClientError::NoAddress`], and [`ClientError::Setup`] for a client certificate that does
    /// not fit its key.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        if options.addresses.is_empty() {
            return Err(ClientError::NoAddress);
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[options.version])
            .map_err(ClientError::Setup)?
            .with_root_certificates(options.roots);
        let mut config = match options.identity {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(ClientError::Setup)?,
            None => builder.with_no_client_auth(),
        };
        config.enable_early_data = options.early_data > 0;
        config.resumption = Resumption::disabled();

        let early: Vec<u8> = (b' '..=b'~').cycle().take(options.early_data).collect();
        Ok(Self {
            shared: Arc::new(Shared {
                addresses: options.addresses,
                server_name: options.server_name,
                config,
                resume: options.resume,
                message: [early, options.payload].concat(),
                early_data: options.early_data,
                timeout: options.timeout,
            }),
            workers: AtomicUsize::new(0),
        })
    }

    /// Returns a worker without any session yet.
    pub fn worker(&self) -> Worker {
        let mut config = self.shared.config.clone();
        if self.shared.resume {
            // Rounded up to one server name, which is all a worker meets.
            config.resumption = Resumption::in_memory_sessions(1);
        }
        Worker {
            shared: Arc::clone(&self.shared),
            config: Arc::new(config),
            next_address: self.workers.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Makes `count` connections in total, shared out evenly among `concurrency` new workers that
    /// run at the same time, and returns their outcomes in the order in which they ended.
    ///
    /// `ended` is called as each one ends, for example for a progress bar.
    pub async fn run(
        &self,
        count: usize,
        concurrency: usize,
        mut ended: impl FnMut(&Result<Outcome, ClientError>),
    ) -> Vec<Result<Outcome, ClientError>> {
        let workers = concurrency.clamp(1, count.max(1));
        let (sender, mut receiver) = mpsc::channel(workers);
        for i in 0..workers {
            let mut worker = self.worker();
            let sender = sender.clone();
            let connections = count / workers + usize::from(i < count % workers);
            tokio::spawn(async move {
                for _ in 0..connections {
                    if sender.send(worker.echo().await).await.is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);

        let mut results = Vec::with_capacity(count);
        while let Some(result) = receiver.recv().await {
            ended(&result);
            results.push(result);
        }
        results
    }
}

/// A client with sessions of its own, one connection at a time.
pub struct Worker {
    shared: Arc<Shared>,
    config: Arc<ClientConfig>,
    next_address: usize,
}

impl Worker {
    /// Connects to the next address, sends the message, checks its echo and closes.
    pub async fn echo(&mut self) -> Result<Outcome, ClientError> {
        let addresses = &self.shared.addresses;
        let address = addresses[self.next_address % addresses.len()];
        self.next_address = self.next_address.wrapping_add(1);
        self.echo_at(address).await
    }

    /// As [`Worker::echo()`], at an address of the caller's choice.
    pub async fn echo_at(&self, address: SocketAddr) -> Result<Outcome, ClientError> {
        let limit = self.shared.timeout;
        tokio::time::timeout(limit, self.exchange(address))
            .await
            .unwrap_or(Err(ClientError::Timeout { address, limit }))
    }

    async fn exchange(&self, address: SocketAddr) -> Result<Outcome, ClientError> {
        let Shared {
            server_name,
            message,
            early_data,
            ..
        } = &*self.shared;
        let early = &message[..*early_data];
        let (stream, handshake) =
            connect(&self.config, address, server_name, early, HELLO_RETRY_LEN).await?;
        let already_sent = match handshake.early_data {
            EarlyData::Accepted { bytes } => bytes,
            EarlyData::NotOffered | EarlyData::Refused => 0,
        };

        // At the same time, as neither side needs to hold more than the sockets do.
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut echo = vec![0; message.len()];
        tokio::try_join!(
            async {
                writer.write_all(&message[already_sent..]).await?;
                writer.flush().await
            },
            reader.read_exact(&mut echo),
        )
        .map_err(|source| ClientError::Echo { address, source })?;
        if let Some(at) = (0..message.len()).find(|&at| echo[at] != message[at]) {
            return Err(ClientError::WrongEcho { address, at });
        }

        // Wait for the server to close, so that it never sees a reset. Whether it sends a
        // `close_notify` does not matter here.
        let _ = writer.shutdown().await;
        match reader.read(&mut [0; 1]).await {
            Ok(1) => Err(ClientError::Surplus { address }),
            _ => Ok(Outcome {
                address,
                handshake,
                bytes: message.len(),
            }),
        }
    }
}

/// A successful connection.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub address: SocketAddr,
    pub handshake: Handshake,
    /// How many bytes were sent and echoed, early data included.
    pub bytes: usize,
}

/// How a handshake went.
#[derive(Clone, Copy, Debug)]
pub struct Handshake {
    pub version: ProtocolVersion,
    pub resumed: bool,
    /// Whether the server asked for another ClientHello first.
    pub hello_retry: bool,
    pub early_data: EarlyData,
    /// From the first byte of the ClientHello until both sides may send, without TCP's handshake.
    pub latency: Duration,
}

/// The outcome of a connection's early data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EarlyData {
    Accepted {
        bytes: usize,
    },
    /// No session, or one that does not allow early data.
    NotOffered,
    Refused,
}

/// Connects, and completes the TLS handshake that `config` describes.
///
/// Offers `early_data` if `config` enables it and its session allows it. The stream keeps a copy of
/// the first `keep` bytes that the server sent. Sets no time limit: wrap it in
/// [`tokio::time::timeout()`].
pub async fn connect(
    config: &Arc<ClientConfig>,
    address: SocketAddr,
    server_name: &ServerName<'static>,
    early_data: &[u8],
    keep: usize,
) -> Result<(TlsStream<Tap<TcpStream>>, Handshake), ClientError> {
    let tcp = TcpStream::connect(address)
        .await
        .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
        .map_err(|source| ClientError::Connect { address, source })?;

    let mut offered = None;
    let begin = Instant::now();
    let stream = TlsConnector::from(Arc::clone(config))
        .connect_with(server_name.clone(), Tap::new(tcp, keep), |connection| {
            offered = connection
                .early_data()
                .map(|mut writer| writer.write(early_data).unwrap_or(0));
        })
        .await
        .map_err(|source| ClientError::Handshake { address, source })?;
    let latency = begin.elapsed();

    let (tap, connection) = stream.get_ref();
    let kind = connection.handshake_kind();
    let handshake = Handshake {
        version: connection
            .protocol_version()
            .expect("known after the handshake"),
        resumed: kind == Some(HandshakeKind::Resumed),
        hello_retry: asks_for_another_hello(tap.kept()),
        early_data: match offered {
            None => EarlyData::NotOffered,
            Some(bytes) if connection.is_early_data_accepted() => EarlyData::Accepted { bytes },
            Some(_) => EarlyData::Refused,
        },
        latency,
    };
    Ok((stream, handshake))
}

/// Reads the certificate authorities of a PEM file.
///
/// # Errors
///
/// [`ClientError::Roots`] and [`ClientError::NoRoots`], which name the file.
pub fn read_roots(path: &Path) -> Result<RootCertStore, ClientError> {
    let wrong = |source| ClientError::Roots {
        path: path.to_owned(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(wrong)? {
        roots
            .add(certificate.map_err(wrong)?)
            .map_err(|source| ClientError::BadRoot {
                path: path.to_owned(),
                source,
            })?;
    }
    if roots.is_empty() {
        return Err(ClientError::NoRoots {
            path: path.to_owned(),
        });
    }
    Ok(roots)
}

/// Why a client or one of its connections failed.
#[derive(Debug)]
pub enum ClientError {
    BadRoot {
        path: PathBuf,
        source: rustls::Error,
    },
    Connect {
        address: SocketAddr,
        source: io::Error,
    },
    Echo {
        address: SocketAddr,
        source: io::Error,
    },
    Handshake {
        address: SocketAddr,
        source: io::Error,
    },
    NoAddress,
    NoRoots {
        path: PathBuf,
    },
    Roots {
        path: PathBuf,
        source: pem::Error,
    },
    Setup(rustls::Error),
    /// The server sent more than it received.
    Surplus {
        address: SocketAddr,
    },
    Timeout {
        address: SocketAddr,
        limit: Duration,
    },
    WrongEcho {
        address: SocketAddr,
        at: usize,
    },
}

impl ClientError {
    /// Whether the handshake failed because the client rejected the server's certificate.
    pub fn is_about_certificate(&self) -> bool {
        let Self::Handshake { source, .. } = self else {
            return false;
        };
        let inner = source.get_ref().and_then(|inner| inner.downcast_ref());
        matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRoot { path, source } => write!(
                f,
                "{} holds a certificate that cannot be trusted as an authority ({source})",
                path.display()
            ),
            Self::Connect { address, source } => write!(f, "{address}: cannot connect: {source}"),
            Self::Echo { address, source } => {
                write!(f, "{address}: the echo is incomplete: {source}")
            }
            Self::Handshake { address, source } => {
                write!(f, "{address}: handshake failed: {source}")
            }
            Self::NoAddress => write!(f, "no address to connect to"),
            Self::NoRoots { path } => write!(
                f,
                "{} holds no certificate; it must be a PEM file with a BEGIN CERTIFICATE line",
                path.display()
            ),
            Self::Roots { path, source } => write!(
                f,
                "cannot read certificates from {}: {source}",
                path.display()
            ),
            Self::Setup(source) => write!(f, "cannot set up the client: {source}"),
            Self::Surplus { address } => write!(f, "{address}: more came back than was sent"),
            Self::Timeout { address, limit } => write!(f, "{address}: not done within {limit:?}"),
            Self::WrongEcho { address, at } => {
                write!(f, "{address}: byte {at} of the echo is wrong")
            }
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. }
            | Self::Echo { source, .. }
            | Self::Handshake { source, .. } => Some(source),
            Self::BadRoot { source, .. } | Self::Setup(source) => Some(source),
            Self::Roots { source, .. } => Some(source),
            Self::NoAddress
            | Self::NoRoots { .. }
            | Self::Surplus { .. }
            | Self::Timeout { .. }
            | Self::WrongEcho { .. } => None,
        }
    }
}

/// What all workers of a client share.
struct Shared {
    addresses: Vec<SocketAddr>,
    server_name: ServerName<'static>,
    /// Without resumption; a worker adds its own.
    config: ClientConfig,
    resume: bool,
    message: Vec<u8>,
    early_data: usize,
    timeout: Duration,
}

/// Tells a HelloRetryRequest from a ServerHello by the first bytes of a server, as RFC 8446 4.1.3
/// does. `HandshakeKind` cannot: it says `Resumed` with or without one.
fn asks_for_another_hello(received: &[u8]) -> bool {
    // record header (5), handshake header (4), legacy_version (2), random (32)
    received.get(11..HELLO_RETRY_LEN) == Some(&HELLO_RETRY_RANDOM)
}

const HELLO_RETRY_LEN: usize = 43;

/// The SHA-256 of "HelloRetryRequest".
const HELLO_RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];
