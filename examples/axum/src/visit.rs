//! The handshake of each connection: passed to the handlers of its requests, and counted.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsConfig;
use rustls::{ProtocolVersion, SupportedCipherSuite};
use rustls_resumption::Resumption;
use rustls_resumption::acceptor::{AxumAcceptor, Handshake};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tower_layer::Layer as _;

/// The connection of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub(crate) number: u64,
    /// Whether it was resumed, and by what; or why not.
    pub(crate) handshake: Handshake,
    pub(crate) version: Option<ProtocolVersion>,
    pub(crate) suite: Option<SupportedCipherSuite>,
    /// From the accepted TCP connection to the end of the handshake, network time included.
    pub(crate) took: Duration,
}

impl Visit {
    pub(crate) fn is_resumed(&self) -> bool {
        self.handshake.outcome.is_resumed()
    }
}

/// Handshakes so far.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    full: AtomicU64,
    resumed: AtomicU64,
    failed: AtomicU64,
    met: AtomicU64,
}

/// Full, resumed, failed.
pub(crate) type Counts = [u64; 3];

impl Handshakes {
    pub(crate) fn counts(&self) -> Counts {
        [&self.full, &self.resumed, &self.failed].map(|count| count.load(Ordering::Relaxed))
    }
}

/// Accepts TLS connections and observes their handshakes. Without the need to observe them, use
/// `AxumAcceptor` itself.
#[derive(Clone)]
pub(crate) struct Witness {
    acceptor: AxumAcceptor,
    resumption: Resumption,
    handshakes: Arc<Handshakes>,
}

impl Witness {
    pub(crate) fn new(
        config: RustlsConfig,
        resumption: Resumption,
        handshakes: Arc<Handshakes>,
    ) -> Self {
        Self {
            resumption,
            acceptor: AxumAcceptor::new(config),
            handshakes,
        }
    }
}

impl<I, S> Accept<I, S> for Witness
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Send + 'static,
{
    type Stream = TlsStream<I>;
    type Service = AddExtension<S, Visit>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let began = Instant::now();
        let accepting = self
            .resumption
            .follow(|| self.acceptor.accept(stream, service));
        let handshakes = Arc::clone(&self.handshakes);
        Box::pin(async move {
            let ((stream, service), handshake) = accepting.await.inspect_err(|_| {
                handshakes.failed.fetch_add(1, Ordering::Relaxed);
            })?;
            let tls = stream.get_ref().1;
            let visit = Visit {
                number: handshakes.met.fetch_add(1, Ordering::Relaxed) + 1,
                handshake,
                version: tls.protocol_version(),
                suite: tls.negotiated_cipher_suite(),
                took: began.elapsed(),
            };
            let count = match visit.is_resumed() {
                true => &handshakes.resumed,
                false => &handshakes.full,
            };
            count.fetch_add(1, Ordering::Relaxed);
            Ok((stream, Extension(visit).layer(service)))
        })
    }
}
