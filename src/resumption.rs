use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, StoresServerSessions};
use tracing::warn;

use crate::client_auth::{self, ClientAuth, Verifier};
use crate::installation::Installation;
use crate::scope::Scope;

mod builder;
mod handles;
mod inner;
mod operating;
mod process;
mod session_cache;
mod stek_ring;
mod storage;
mod twins;
mod withdrawn;

pub use builder::ResumptionBuilder;
use handles::Handles;
#[cfg(test)]
pub(crate) use inner::Inner;
pub(crate) use inner::{Followed, Root};
pub use session_cache::SessionCache;
pub use stek_ring::StekRing;
pub(crate) use storage::Storage;
pub use withdrawn::{Reach, Withdrawn};

/// Session resumption for any number of [`ServerConfig`]s: the paved path.
///
/// A cheap [handle](crate::docs::glossary) over a [`SessionCache`] and, in ticket mode, a
/// [`StekRing`]. It outlives every `ServerConfig`: make it once, [`install`](Resumption::install)
/// it in each configuration, the reloaded ones included, and no session is lost.
///
/// | | tickets | stateful |
/// | --- | --- | --- |
/// | TLS 1.3 | the client carries the session | the cache holds it; each is used once |
/// | TLS 1.2 | ticket, or session ID from the cache | session ID from the cache |
/// | memory | for TLS 1.2 clients without tickets | per session |
/// | 0-RTT | refused by rustls | possible |
/// | a thief of the keys reads | sessions of the last interval + lifetime | nothing |
///
/// ```
/// use rustls_resumption::Resumption;
/// # fn f(mut config: rustls::ServerConfig) -> Result<(), rustls_resumption::Error> {
/// let resumption = Resumption::tickets()?;
/// resumption.install(&mut config, "api.example.com");
/// println!("{}", resumption.stats());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Resumption {
    inner: Root,
    handles: Arc<HandedOut>,
}

/// What this handle and its clones gave to configurations that they did not see.
#[derive(Default)]
struct HandedOut {
    storages: Handles<dyn StoresServerSessions>,
    ticketers: Handles<dyn ProducesTickets>,
    has_warned_of_twin: AtomicBool,
}

impl Resumption {
    fn on(inner: Root) -> Self {
        Self {
            inner,
            handles: Arc::default(),
        }
    }

    /// Sets `session_storage` and `ticketer` of a configuration, nothing else.
    ///
    /// Sessions resume only between configurations installed with the same scope.
    ///
    /// Whether the configuration asks clients for certificates, and whether it insists, is learnt
    /// by a handshake in memory (some 0.2 ms). A session without certificates resumes only where
    /// the full handshake would admit its client without one. Sessions *with* certificates are not
    /// kept at all, since nothing could tell later whether the certificate is still valid: give the
    /// verifier with [`install_with_client_verifier`](Resumption::install_with_client_verifier).
    ///
    /// Warns (in the log) if the configuration asks for certificates, if that cannot be learnt
    /// (then nothing resumes), if tickets meet `max_early_data_size > 0`, which rustls refuses, and
    /// if it is above 8,175 in stateful mode, where rustls may end the connections of clients whose
    /// [early data it refuses](crate::docs::choosing#early-data) (2³²−1, which QUIC needs, is fine).
    pub fn install(&self, config: &mut ServerConfig, scope: impl Into<Scope>) {
        let scope = scope.into();
        let policy = client_auth::learn(config);
        let unverified = self.inner.unverified_client_certificates;
        match policy {
            None => warn!(
                %scope,
                "cannot tell whether this configuration asks for client certificates, so nothing \
                 resumes: use install_with_client_verifier"
            ),
            Some(policy) if policy.asks() && !unverified => warn!(
                %scope,
                "clients with certificates will not resume, because their certificates could not be \
                 verified again: use install_with_client_verifier"
            ),
            Some(_) => {}
        }
        self.install_at(config, scope, ClientAuth::learnt(policy, unverified));
    }

    /// The same for a configuration that authenticates clients. The verifier must be the one that
    /// the configuration was built with. Warns if what it asks of clients is not what is learnt of
    /// the configuration; then the stricter of both decides who resumes without a certificate.
    ///
    /// A session with client certificates resumes only while the verifier accepts them, by the time
    /// of the configuration's `time_provider`. Otherwise there is a full handshake, which asks for
    /// a certificate, so that a client with a renewed one is accepted at once. To revoke a
    /// certificate, install a configuration whose verifier has the new CRL: no other client loses
    /// its session.
    ///
    /// Where handshakes are not [followed](Resumption::follow), nothing tells one ClientHello from the
    /// next: there two refusals stop a thread for 20 milliseconds from verifying chains that it has not
    /// seen, whose clients get a full handshake.
    ///
    /// Verdicts hold for [`recheck_interval`](ResumptionBuilder::recheck_interval). At most two
    /// chains are verified for one ClientHello. A verifier that panics refuses.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use rustls::{RootCertStore, ServerConfig, server::ResolvesServerCert};
    /// use rustls::server::WebPkiClientVerifier;
    /// use rustls_resumption::Resumption;
    /// # fn f(resumption: &Resumption, roots: RootCertStore, resolver: Arc<dyn ResolvesServerCert>)
    /// #     -> Result<(), Box<dyn std::error::Error>> {
    /// let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    /// let mut config = ServerConfig::builder()
    ///     .with_client_cert_verifier(Arc::clone(&verifier))
    ///     .with_cert_resolver(resolver);
    /// resumption.install_with_client_verifier(&mut config, "api.example.com", verifier);
    /// # Ok(()) }
    /// ```
    pub fn install_with_client_verifier(
        &self,
        config: &mut ServerConfig,
        scope: impl Into<Scope>,
        verifier: Arc<dyn ClientCertVerifier>,
    ) {
        let scope = scope.into();
        let verifier = Verifier::new(verifier, Arc::clone(&config.time_provider));
        let learnt = client_auth::learn(config);
        if let Some(policy) = learnt.filter(|policy| *policy != verifier.policy()) {
            warn!(
                %scope,
                configuration = ?policy,
                verifier = ?verifier.policy(),
                "this verifier is not that of the configuration: the stricter of what they ask of \
                 clients decides who resumes without a certificate"
            );
        }
        self.install_at(config, scope, ClientAuth::verified(verifier, learnt));
    }

    fn install_at(&self, config: &mut ServerConfig, scope: Scope, client_auth: ClientAuth) {
        if self.inner.makes_tickets && config.max_early_data_size > 0 {
            warn!(
                %scope,
                "max_early_data_size is set, but rustls refuses 0-RTT with tickets: \
                 use stateful resumption, or set it to 0"
            );
        }
        let max = config.max_early_data_size;
        if !self.inner.makes_tickets && max > MAX_SKIPPED_EARLY_DATA && max != u32::MAX {
            warn!(
                %scope,
                "max_early_data_size is {max}: refused early data of more than half of that can end \
                 its connection in rustls 0.23, except behind an acceptor of this crate if it comes \
                 with the ClientHello"
            );
        }
        let scope = self.inner.here().scope(scope);
        let at = Installation { scope, client_auth };
        let storage = Arc::new(Storage::new(self.inner.clone(), at.clone()));
        self.warn_of_twin(&at.scope.scope, &storage);
        config.session_storage = storage;
        config.ticketer = self.ticketer_at(at);
    }

    fn warn_of_twin(&self, scope: &Scope, storage: &Arc<Storage>) {
        if twins::has_twin(scope, storage)
            && !self
                .handles
                .has_warned_of_twin
                .swap(true, Ordering::Relaxed)
        {
            warn!(
                %scope,
                "another Resumption is installed in this scope, whose sessions resume here only if both \
                 share STEKs or a store: if this is a reload, keep one and install it again, or \
                 use Resumption::process"
            );
        }
    }

    /// The same as [`install`](Resumption::install) for a server that holds its configuration in an
    /// `Arc` already: a copy of it, with this installed.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use rustls_resumption::Resumption;
    /// # use tokio_rustls::TlsAcceptor;
    /// # fn f(resumption: Resumption, config: Arc<rustls::ServerConfig>, acceptor: TlsAcceptor) {
    /// let config: Arc<rustls::ServerConfig> = resumption.installed(&config, "api.example.com");
    /// // And where there is an acceptor:
    /// let acceptor = TlsAcceptor::from(resumption.installed(acceptor.config(), "api.example.com"));
    /// # }
    /// ```
    #[must_use]
    pub fn installed(
        &self,
        config: &Arc<ServerConfig>,
        scope: impl Into<Scope>,
    ) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(config);
        self.install(&mut config, scope);
        Arc::new(config)
    }

    /// For a server in which nothing may ever resume: sets a configuration to store no sessions and
    /// to send no tickets, in TLS 1.2 and 1.3. Each handshake is a full one.
    pub fn refuse(config: &mut ServerConfig) {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::new(NoTickets);
        config.send_tls13_tickets = 0;
    }

    /// A `session_storage` for a configuration that this crate does not see: for servers that ask
    /// no client for a certificate. Prefer [`install`](Resumption::install), which learns whether
    /// the configuration does.
    ///
    /// What it stores resumes through handles like this one and in configurations that ask for no
    /// certificates; sessions with client certificates are neither stored nor found. While one for
    /// this scope is in use, it is the one returned.
    pub fn session_storage(&self, scope: impl Into<Scope>) -> Arc<dyn StoresServerSessions> {
        let scope = scope.into();
        let make = || -> Arc<dyn StoresServerSessions> {
            let at = self.inner.unseen(scope.clone());
            Arc::new(Storage::new(self.inner.clone(), at))
        };
        self.handles.storages.get_or_make(&scope, make)
    }

    /// A `ticketer` for the same purpose, under the same conditions. In stateful mode it makes no
    /// tickets.
    pub fn ticketer(&self, scope: impl Into<Scope>) -> Arc<dyn ProducesTickets> {
        let scope = scope.into();
        let make = || self.ticketer_at(self.inner.unseen(scope.clone()));
        self.handles.ticketers.get_or_make(&scope, make)
    }

    fn ticketer_at(&self, at: Installation) -> Arc<dyn ProducesTickets> {
        let inner = self.inner.clone();
        match self.inner.makes_tickets {
            true => Arc::new(StekRing { inner, at }),
            false => Arc::new(NoTickets),
        }
    }

    /// What is to be known of it for a handshake to be followed.
    pub(crate) fn followed(&self) -> Followed {
        self.inner.followed()
    }

    fn cache(&self) -> SessionCache {
        SessionCache::on(self.inner.clone())
    }

    fn ring(&self) -> StekRing {
        StekRing::on(self.inner.clone())
    }
}

/// Above it `max_early_data_size` is warned about. Of a limit rustls skips a half, less a record's
/// overhead, before it ends the connection; of the 16,384 that go without saying it is this.
const MAX_SKIPPED_EARLY_DATA: u32 = 8_175;

/// Makes no tickets. (The type that rustls has for this is private.)
#[derive(Debug)]
pub(crate) struct NoTickets;

impl fmt::Debug for Resumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumption")
            .field("cache", &self.cache())
            .field("ring", &self.inner.ring.as_ref().map(|_| self.ring()))
            .finish_non_exhaustive()
    }
}
