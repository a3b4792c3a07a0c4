//! Accepts connections and echoes what they send.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig};
use rustls_resumption::Resumption;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::log::{Handshake, Log};
use crate::witness;

/// How long to wait when accepting fails, for example for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Echoes what comes in over TLS.
pub(crate) struct Server {
    config: ArcSwap<ServerConfig>,
    handshake_timeout: Duration,
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "there is no store"))]
    has_store: bool,
    /// `None` with rustls's own storage.
    resumption: Option<Resumption>,
    pub(crate) log: Log,
}

impl Server {
    pub(crate) fn new(config: ServerConfig, handshake_timeout: Duration, log: Log) -> Self {
        Self {
            config: ArcSwap::from_pointee(config),
            handshake_timeout,
            has_store: false,
            resumption: None,
            log,
        }
    }

    /// Follows handshakes, so that their sessions have an age.
    pub(crate) fn following(self, resumption: Option<Resumption>) -> Self {
        Self { resumption, ..self }
    }

    /// Uses the shared store that is installed in the configurations.
    pub(crate) fn with_store(self) -> Self {
        Self {
            has_store: true,
            ..self
        }
    }

    /// Uses another configuration for connections accepted from now on.
    pub(crate) fn reload(&self, config: ServerConfig) {
        self.config.store(Arc::new(config));
    }

    /// Accepts connections until the future is dropped; they go on after that, each with a clone of
    /// `open`.
    pub(crate) async fn accept(self: Arc<Self>, listener: TcpListener, open: mpsc::Sender<()>) {
        loop {
            let Ok((tcp, peer)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let server = Arc::clone(&self);
            let open = open.clone();
            tokio::spawn(async move {
                server.serve(tcp, peer).await;
                drop(open);
            });
        }
    }

    /// With a shared store, sessions must be looked up before rustls asks for them.
    async fn shake_hands(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.config.load_full();
        #[cfg(feature = "tokio")]
        if self.has_store {
            return rustls_resumption::ResumptionAcceptor::new(config)
                .accept(tcp)
                .await;
        }
        let acceptor = TlsAcceptor::from(config);
        match &self.resumption {
            Some(resumption) => {
                let (stream, _) = resumption.follow(|| acceptor.accept(tcp)).await?;
                Ok(stream)
            }
            None => acceptor.accept(tcp).await,
        }
    }

    async fn serve(&self, tcp: TcpStream, peer: SocketAddr) {
        self.log.accepted();
        let begin = Instant::now();
        // Without it, the echo is only slower.
        let _ = tcp.set_nodelay(true);
        let limit = self.handshake_timeout;
        let (outcome, by) = witness::watch(timeout(limit, self.shake_hands(tcp))).await;
        let mut stream = match outcome {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.log.failed(peer, error),
            Err(_) => {
                let limit = humantime::format_duration(limit);
                let reason = format_args!("no handshake within {limit}");
                return self.log.failed(peer, reason);
            }
        };
        let took = begin.elapsed();
        let early = early_data(&mut stream);
        let connection = stream.get_ref().1;
        let resumed = match connection.handshake_kind() {
            Some(HandshakeKind::Resumed) => by,
            _ => None,
        };
        let handshake = Handshake {
            version: connection
                .protocol_version()
                .unwrap_or(ProtocolVersion::Unknown(0)),
            resumed,
            early: early.len(),
            took,
        };
        self.log.connected(peer, &handshake);
        // Only the handshake matters here, not how the connection ends.
        let _ = echo(stream, &early).await;
    }
}

/// All of it has arrived once the handshake is complete.
fn early_data(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let mut early = Vec::new();
    if let Some(mut reader) = stream.get_mut().1.early_data() {
        reader
            .read_to_end(&mut early)
            .expect("early data is read from memory");
    }
    early
}

/// Sends back what the client sends, early data first.
async fn echo(mut stream: TlsStream<TcpStream>, early: &[u8]) -> io::Result<()> {
    stream.write_all(early).await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        stream.flush().await?;
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            len => stream.write_all(&buffer[..len]).await?,
        }
    }
}

/// Listens at an address. Returns the one that was picked, too.
///
/// # Errors
///
/// A sentence that names the address.
pub(crate) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let listen = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok::<_, io::Error>((listener, address))
    };
    listen
        .await
        .map_err(|error| format!("--listen {address}: {error}"))
}
