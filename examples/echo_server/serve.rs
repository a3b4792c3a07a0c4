//! Accepts connections and echoes what they send.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustls::{HandshakeKind, ServerConfig};
use rustls_resumption::Resumption;
use rustls_resumption::acceptor::Handshake;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::log::{Accepted, Log};

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

    /// What came of it is told by this crate alone, not by rustls's own storage.
    async fn shake_hands(
        &self,
        tcp: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<Handshake>)> {
        let config = self.config.load_full();
        let Some(resumption) = &self.resumption else {
            return Ok((TlsAcceptor::from(config).accept(tcp).await?, None));
        };
        // With a shared store, sessions must be looked up before rustls asks for them.
        #[cfg(feature = "tokio")]
        if self.has_store {
            let acceptor = rustls_resumption::ResumptionAcceptor::new(config);
            let (stream, handshake) = resumption.follow(|| acceptor.accept(tcp)).await?;
            return Ok((stream, Some(handshake)));
        }
        let acceptor = TlsAcceptor::from(config);
        let (stream, handshake) = resumption.follow(|| acceptor.accept(tcp)).await?;
        Ok((stream, Some(handshake)))
    }

    async fn serve(&self, tcp: TcpStream, peer: SocketAddr) {
        self.log.accepted();
        let begin = Instant::now();
        // Without it, the echo is only slower.
        let _ = tcp.set_nodelay(true);
        let limit = self.handshake_timeout;
        let (mut stream, handshake) = match timeout(limit, self.shake_hands(tcp)).await {
            Ok(Ok(accepted)) => accepted,
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
        let accepted = Accepted {
            version: connection.protocol_version(),
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            handshake,
            early: early.len(),
            took,
        };
        self.log.connected(peer, &accepted);
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
