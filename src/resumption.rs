use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ProducesTickets, StoresServerSessions};
use tracing::warn;

use crate::clock::Time;
use crate::counters::Counters;
use crate::error::Error;
use crate::scope::Scope;
use crate::stats::{AcceptorStats, Stats};
use crate::stek::KeyName;

mod builder;
mod inner;
mod session_cache;
mod stek_ring;
mod storage;

pub use builder::ResumptionBuilder;
pub(crate) use inner::Inner;
pub use session_cache::SessionCache;
pub use stek_ring::StekRing;
pub(crate) use storage::Storage;

/// Session resumption for any number of [`ServerConfig`]s: the paved path.
///
/// A cheap handle over a [`SessionCache`] and, in ticket mode, a [`StekRing`]. It outlives every
/// `ServerConfig`: make it once, [`install`](Resumption::install) it in each configuration, the
/// reloaded ones included, and no session is lost.
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
    inner: Arc<Inner>,
}

impl Resumption {
    /// Sets `session_storage` and `ticketer` of a configuration, nothing else.
    ///
    /// Sessions resume only between configurations installed with the same scope. **Give
    /// configurations that authenticate clients differently different scopes**; see [`Scope`].
    ///
    /// Warns (in the log) if tickets meet `max_early_data_size > 0`, which rustls refuses.
    pub fn install(&self, config: &mut ServerConfig, scope: impl Into<Scope>) {
        let scope = scope.into();
        if self.inner.makes_tickets && config.max_early_data_size > 0 {
            warn!(
                %scope,
                "max_early_data_size is set, but rustls refuses 0-RTT with tickets: \
                 use stateful resumption, or set it to 0"
            );
        }
        config.session_storage = self.session_storage(&scope);
        config.ticketer = self.ticketer(&scope);
    }

    /// What [`install`](Resumption::install) puts into `session_storage`.
    pub fn session_storage(&self, scope: impl Into<Scope>) -> Arc<dyn StoresServerSessions> {
        let scope = self.inner.scopes.state(scope.into());
        Arc::new(Storage::new(Arc::clone(&self.inner), scope))
    }

    /// What [`install`](Resumption::install) puts into `ticketer`. In stateful mode it makes no
    /// tickets.
    pub fn ticketer(&self, scope: impl Into<Scope>) -> Arc<dyn ProducesTickets> {
        match self.inner.makes_tickets {
            true => Arc::new(self.ring().scoped(scope)),
            false => Arc::new(NoTickets),
        }
    }

    /// Counters and state, as they are now.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// Publishes [`stats`](Resumption::stats) through the `metrics` facade, under the names that the
    /// page [`operating`](crate::docs::operating#metrics) lists. The housekeeping thread does so every
    /// second by itself; call it before a scrape that must see the very latest, or without a thread.
    #[cfg(feature = "metrics")]
    pub fn publish_metrics(&self) {
        self.inner.publish();
    }

    /// Makes another STEK seal from now on; what was sealed still opens. Not an answer to an
    /// incident: that is [`revoke_all`](Resumption::revoke_all). In stateful mode without a shared
    /// store there is none to rotate, and nothing happens.
    ///
    /// # Errors
    ///
    /// [`Error::Source`] if the source failed, or rotates by its schedule only.
    pub fn rotate_now(&self) -> Result<(), Error> {
        self.inner.rotate_now()
    }

    /// Drops and wipes one STEK, and refuses what it sealed from the next handshake on. False if
    /// there is no such STEK here.
    pub fn revoke(&self, name: &KeyName) -> bool {
        self.inner.revoke(name)
    }

    /// Drops and wipes every STEK and every session: nothing that was made before resumes, from the
    /// next handshake on. The answer to an incident, on this node.
    pub fn revoke_all(&self) {
        self.inner.revoke_all_keys();
        self.inner.clear();
    }

    /// Drops and wipes the sessions of a scope and refuses its tickets made up to now, from the next
    /// handshake on.
    pub fn forget(&self, scope: impl Into<Scope>) {
        self.inner.forget(&scope.into());
    }

    /// Whether the STEK source has answered and a STEK seals: for a readiness probe. In stateful
    /// mode without a shared store, always.
    pub fn ready(&self) -> bool {
        self.inner.ready()
    }

    /// Does what the housekeeping thread does: rotates, wipes, sweeps, publishes metrics. Returns how long
    /// nothing will be due, at most. For builders with
    /// [`manual_stepping`](ResumptionBuilder::manual_stepping).
    pub fn step(&self) -> Duration {
        self.inner.step()
    }

    /// Ends resumption for good: stops the housekeeping thread, and wipes every STEK and session. From now
    /// on every handshake is a full one. False if the thread was still busy at the deadline; it
    /// ends by itself then.
    ///
    /// Not needed: dropping the last handle, and the last configuration that it was installed in,
    /// does the same without waiting.
    pub fn shutdown(&self, deadline: Duration) -> bool {
        self.inner.shut_down(deadline)
    }

    /// The counters of handshakes.
    pub(crate) fn handshakes(&self) -> &Arc<Counters<AcceptorStats>> {
        &self.inner.handshakes
    }

    /// The time on the clock that births go by.
    pub(crate) fn now(&self) -> Time {
        self.inner.terms.now()
    }

    fn cache(&self) -> SessionCache {
        SessionCache::on(Arc::clone(&self.inner))
    }

    fn ring(&self) -> StekRing {
        StekRing::on(Arc::clone(&self.inner))
    }
}

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
