use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::lock::Mutex;
use ::axum_server::accept::Accept;
use ::axum_server::tls_rustls::RustlsConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::Handshake;
use super::resumption_acceptor::ResumptionAcceptor;

/// A [`ResumptionAcceptor`] for axum-server, where its `RustlsAcceptor` stood.
///
/// ```
/// use std::sync::Arc;
/// use axum_server::tls_rustls::RustlsConfig;
/// use rustls_resumption::Resumption;
/// use rustls_resumption::acceptor::AxumAcceptor;
///
/// # fn g(address: std::net::SocketAddr, resumption: Resumption, mut config: rustls::ServerConfig) {
/// resumption.install(&mut config, "api.example.com");
/// let tls = RustlsConfig::from_config(Arc::new(config));
/// let server = axum_server::bind(address).acceptor(AxumAcceptor::new(tls.clone()));
/// // `server.serve(app.into_make_service())`; and `tls.reload_from_config(..)` whenever it may be,
/// // with the same `Resumption` installed: sessions stay.
/// # }
/// ```
///
/// A client that takes longer than [`AxumAcceptor::DEFAULT_HANDSHAKE_TIMEOUT`], or
/// [another](AxumAcceptor::handshake_timeout), is hung up on.
#[derive(Clone)]
pub struct AxumAcceptor {
    tls: RustlsConfig,
    timeout: Duration,
    /// For the configuration of the last connection; another may come at any time.
    acceptor: Arc<Mutex<ResumptionAcceptor>>,
}

impl AxumAcceptor {
    /// How long a client may take for its handshake, by default: 10 seconds.
    pub const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

    /// An acceptor for this configuration, and whatever it is reloaded with.
    pub fn new(tls: RustlsConfig) -> Self {
        let acceptor = ResumptionAcceptor::new(tls.get_inner());
        Self {
            tls,
            timeout: Self::DEFAULT_HANDSHAKE_TIMEOUT,
            acceptor: Arc::new(Mutex::new(acceptor)),
        }
    }

    /// How long a client may take for its handshake.
    ///
    /// Defaults to [`AxumAcceptor::DEFAULT_HANDSHAKE_TIMEOUT`].
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Calls this at the end of each handshake, with what happened in it: for an access log, say.
    #[must_use]
    pub fn on_handshake(self, report: impl Fn(&Handshake) + Send + Sync + 'static) -> Self {
        let acceptor = self.acceptor.lock().clone().on_handshake(report);
        Self {
            acceptor: Arc::new(Mutex::new(acceptor)),
            ..self
        }
    }

    fn current(&self) -> ResumptionAcceptor {
        let config = self.tls.get_inner();
        let mut acceptor = self.acceptor.lock();
        if !Arc::ptr_eq(acceptor.config(), &config) {
            *acceptor = acceptor.with_config(config);
        }
        acceptor.clone()
    }
}

impl<I, S> Accept<I, S> for AxumAcceptor
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Send + 'static,
{
    type Stream = TlsStream<I>;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(TlsStream<I>, S)>> + Send>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let handshake = self.current().accept(stream);
        let patience = self.timeout;
        Box::pin(async move {
            let stream = timeout(patience, handshake).await??;
            Ok((stream, service))
        })
    }
}

impl fmt::Debug for AxumAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AxumAcceptor")
            .field("handshake_timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::crypto::aws_lc_rs;
    use rustls::server::ResolvesServerCertUsingSni;

    use super::*;

    fn config() -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        Arc::new(config)
    }

    #[test]
    fn whoever_is_told_of_handshakes_is_still_told_when_the_configuration_was_reloaded() {
        let tls = RustlsConfig::from_config(config());
        let told = Arc::new(());
        let teller = Arc::clone(&told);
        let acceptor = AxumAcceptor::new(tls.clone()).on_handshake(move |_| drop(teller.clone()));
        tls.reload_from_config(config());
        let current = acceptor.current();
        assert!(Arc::ptr_eq(current.config(), &tls.get_inner()));
        drop(acceptor);
        assert_eq!(Arc::strong_count(&told), 2, "the current one's");
    }
}
