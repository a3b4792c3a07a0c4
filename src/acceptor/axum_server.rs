use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::lock::Mutex;
use ::axum_server::accept::Accept;
use ::axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::warn;

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
    last: Arc<Mutex<Loaded>>,
}

#[derive(Clone)]
struct Loaded {
    /// As axum-server has it.
    config: Arc<ServerConfig>,
    acceptor: ResumptionAcceptor,
}

impl AxumAcceptor {
    /// How long a client may take for its handshake, by default: 10 seconds.
    pub const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

    /// An acceptor for this configuration, and whatever it is reloaded with. It refuses early data,
    /// which axum-server has no way to hand on.
    pub fn new(tls: RustlsConfig) -> Self {
        let config = tls.get_inner();
        let last = Loaded {
            acceptor: ResumptionAcceptor::new(without_early_data(&config)),
            config,
        };
        Self {
            tls,
            timeout: Self::DEFAULT_HANDSHAKE_TIMEOUT,
            last: Arc::new(Mutex::new(last)),
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
        let mut last = self.last.lock().clone();
        last.acceptor = last.acceptor.on_handshake(report);
        Self {
            last: Arc::new(Mutex::new(last)),
            ..self
        }
    }

    /// Nothing foreign is called under the lock, where it would hold up every connection: neither the
    /// configuration's store, nor a log, nor what is dropped with the last reference to what was
    /// there. Connections that come together may each make the same.
    fn current(&self) -> ResumptionAcceptor {
        let config = self.tls.get_inner();
        let last = self.last.lock().clone();
        if Arc::ptr_eq(&last.config, &config) {
            return last.acceptor;
        }
        let acceptor = last.acceptor.with_config(without_early_data(&config));
        let loaded = Loaded {
            config,
            acceptor: acceptor.clone(),
        };
        let _before = mem::replace(&mut *self.last.lock(), loaded);
        acceptor
    }
}

/// The application behind axum-server cannot get at early data, which rustls keeps apart: what was
/// accepted would be lost, and its client wait. What is refused it sends again.
fn without_early_data(config: &Arc<ServerConfig>) -> Arc<ServerConfig> {
    if config.max_early_data_size == 0 {
        return Arc::clone(config);
    }
    warn!("max_early_data_size is set, but axum-server reads no early data: it is refused");
    let mut config = ServerConfig::clone(config);
    config.max_early_data_size = 0;
    Arc::new(config)
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
    use std::sync::mpsc;
    use std::thread;

    use rustls::crypto::aws_lc_rs;
    use rustls::server::{ResolvesServerCertUsingSni, StoresServerSessions};

    use super::*;

    /// So long a test waits for what happens at once.
    const LONG: Duration = Duration::from_secs(10);

    /// Somebody else's store.
    struct Foreign {
        asked: Box<dyn Fn() + Send + Sync>,
        dropped: Box<dyn Fn() + Send + Sync>,
    }

    impl StoresServerSessions for Foreign {
        fn put(&self, _: Vec<u8>, _: Vec<u8>) -> bool {
            false
        }

        fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
            None
        }

        fn take(&self, _: &[u8]) -> Option<Vec<u8>> {
            None
        }

        fn can_cache(&self) -> bool {
            (self.asked)();
            false
        }
    }

    impl Drop for Foreign {
        fn drop(&mut self) {
            (self.dropped)();
        }
    }

    impl fmt::Debug for Foreign {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Foreign")
        }
    }

    fn with_store(
        asked: impl Fn() + Send + Sync + 'static,
        dropped: impl Fn() + Send + Sync + 'static,
    ) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&config());
        config.session_storage = Arc::new(Foreign {
            asked: Box::new(asked),
            dropped: Box::new(dropped),
        });
        Arc::new(config)
    }

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

    #[test]
    fn a_store_that_hangs_when_it_is_asked_holds_up_no_connection_of_another_configuration() {
        let tls = RustlsConfig::from_config(config());
        let acceptor = AxumAcceptor::new(tls.clone());
        let (asks, asked) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let (tell, was_released) = mpsc::channel();
        let released = Mutex::new(released);
        let hang = move || {
            asks.send(()).unwrap();
            let waited = released.lock().recv_timeout(LONG);
            tell.send(waited.is_ok()).unwrap();
        };
        let hanging = with_store(hang, || ());
        tls.reload_from_config(Arc::clone(&hanging));
        thread::scope(|scope| {
            let first = scope.spawn(|| acceptor.current());
            asked.recv_timeout(LONG).unwrap();
            let good = config();
            tls.reload_from_config(Arc::clone(&good));
            assert!(Arc::ptr_eq(acceptor.current().config(), &good));
            let _ = release.send(()); // it may have given up
            assert!(Arc::ptr_eq(first.join().unwrap().config(), &hanging));
            assert!(was_released.recv_timeout(LONG).unwrap(), "meanwhile");
            assert!(Arc::ptr_eq(acceptor.current().config(), &good));
        });
    }

    #[test]
    fn a_configuration_is_dropped_when_the_lock_is_free() {
        let slot = Arc::<Mutex<Option<AxumAcceptor>>>::default();
        let (tell, told) = mpsc::channel();
        let reached = Arc::clone(&slot);
        let try_lock = move || {
            let acceptor = reached.lock().take().unwrap();
            tell.send(acceptor.last.try_lock().is_some()).unwrap();
        };
        let tls = RustlsConfig::from_config(with_store(|| (), try_lock));
        let acceptor = AxumAcceptor::new(tls.clone());
        *slot.lock() = Some(acceptor.clone());
        tls.reload_from_config(config());
        acceptor.current();
        assert!(told.try_recv().unwrap());
    }
}
