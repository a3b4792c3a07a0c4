use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ProducesTickets, StoresServerSessions};
use tracing::warn;

use self::storage::{Installed, Storage};
use crate::cache::SessionCache;
use crate::clock::Time;
use crate::counters::Counters;
use crate::error::Error;
use crate::housekeeper::Housekeeper;
use crate::ring::StekRing;
use crate::scope::Scope;
use crate::stats::metrics::Publisher;
use crate::stats::{AcceptorStats, Stats};
use crate::stek::KeyName;
use crate::store::{SharedStore, Sharing, SharingSettings};

mod builder;
pub(crate) mod storage;

pub use builder::ResumptionBuilder;

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
    cache: SessionCache,
    /// `None` in stateful mode without a shared store.
    ring: Option<StekRing>,
    /// Whether the ring seals tickets, not only what goes into a shared store.
    makes_tickets: bool,
    sharing: Option<Arc<Sharing>>,
    acceptor: Arc<Counters<AcceptorStats>>,
    timer: Option<Arc<Housekeeper>>,
    publisher: Publisher,
}

impl Resumption {
    /// Stateless tickets for TLS 1.3 and 1.2, and a cache of [`SessionCache::DEFAULT_ENTRIES`] for
    /// TLS 1.2 clients without ticket support; every default. 0-RTT is given up: rustls allows it
    /// only for single-use sessions.
    ///
    /// # Errors
    ///
    /// [`Error::Random`] or [`Error::Thread`] if the system gives no random bytes or no thread.
    pub fn tickets() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// No tickets: a cache of so many sessions for TLS 1.3 and 1.2; every other default. TLS 1.3
    /// stores two per handshake, so provide for twice the clients.
    ///
    /// # Errors
    ///
    /// [`Error::Thread`] if the system gives no thread.
    pub fn stateful(entries: usize) -> Result<Self, Error> {
        Self::builder().stateful().cache_entries(entries).build()
    }

    /// For everything else.
    pub fn builder() -> ResumptionBuilder {
        ResumptionBuilder::new()
    }

    pub(crate) fn assemble(parts: Parts) -> Result<Self, Error> {
        let Parts {
            cache,
            ring,
            makes_tickets,
            store,
            with_timer,
            publisher,
        } = parts;
        let sharing = store.map(|(store, settings)| Arc::new(Sharing::new(store, settings)));
        let untimed = Self {
            cache,
            ring,
            makes_tickets,
            sharing,
            acceptor: Arc::new(Counters::new()),
            timer: None,
            publisher,
        };
        if !with_timer {
            return Ok(untimed);
        }
        let timed = untimed.clone();
        let mut sweeper = untimed.cache.sweeper();
        let stepper = untimed.ring.as_ref().map(StekRing::stepper);
        let mut publisher = untimed.publisher.clone();
        // What the job holds has no timer, so it does not keep itself alive.
        let job = move || {
            sweeper.step();
            let idle = stepper.as_ref().map_or(Duration::MAX, |ring| ring.step());
            publisher.publish_if_due(|| untimed.stats());
            idle
        };
        let timer = Arc::new(Housekeeper::start(job).map_err(Error::Thread)?);
        Ok(Self {
            cache: timed.cache.with_timer(Arc::clone(&timer)),
            ring: timed.ring.map(|ring| ring.with_timer(Arc::clone(&timer))),
            timer: Some(timer),
            ..timed
        })
    }

    /// The counters of handshakes.
    pub(crate) fn handshakes(&self) -> &Arc<Counters<AcceptorStats>> {
        &self.acceptor
    }

    /// The time on the clock that births go by.
    pub(crate) fn now(&self) -> Time {
        self.cache.now()
    }

    /// Sets `session_storage` and `ticketer` of a configuration, nothing else.
    ///
    /// Sessions resume only between configurations installed with the same scope. **Give
    /// configurations that authenticate clients differently different scopes**; see [`Scope`].
    ///
    /// Warns (in the log) if tickets meet `max_early_data_size > 0`, which rustls refuses.
    pub fn install(&self, config: &mut ServerConfig, scope: impl Into<Scope>) {
        let scope = scope.into();
        if self.makes_tickets && config.max_early_data_size > 0 {
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
        Arc::new(Storage::new(Installed {
            cache: self.cache.scoped(scope),
            sharing: self.sharing.clone().zip(self.ring.clone()),
            counts: Arc::clone(&self.acceptor),
        }))
    }

    /// What [`install`](Resumption::install) puts into `ticketer`. In stateful mode it makes no
    /// tickets.
    pub fn ticketer(&self, scope: impl Into<Scope>) -> Arc<dyn ProducesTickets> {
        match &self.ring {
            Some(ring) if self.makes_tickets => Arc::new(ring.scoped(scope)),
            Some(_) | None => Arc::new(NoTickets),
        }
    }

    /// Counters and state, as they are now.
    pub fn stats(&self) -> Stats {
        let ring = self.ring.as_ref();
        Stats {
            cache: self.cache.stats(),
            tickets: ring.map(StekRing::ticket_stats).unwrap_or_default(),
            steks: ring.map(StekRing::stek_stats).unwrap_or_default(),
            store: self
                .sharing
                .as_deref()
                .map(Sharing::stats)
                .unwrap_or_default(),
            acceptor: self.acceptor.read(),
        }
    }

    /// Publishes [`stats`](Resumption::stats) through the `metrics` facade, under the names that the
    /// page [`operating`](crate::docs::operating#metrics) lists. The timer thread does so every
    /// second by itself; call it before a scrape that must see the very latest, or without a timer.
    #[cfg(feature = "metrics")]
    pub fn publish_metrics(&self) {
        self.publisher.publish(|| self.stats());
    }

    /// Makes another STEK seal from now on; what was sealed still opens. Not an answer to an
    /// incident: that is [`revoke_all`](Resumption::revoke_all). In stateful mode without a shared
    /// store there is none to rotate, and nothing happens.
    ///
    /// # Errors
    ///
    /// [`Error::Source`] if the source failed, or rotates by its schedule only.
    pub fn rotate_now(&self) -> Result<(), Error> {
        self.ring.as_ref().map_or(Ok(()), StekRing::rotate_now)
    }

    /// Drops and wipes one STEK, and refuses what it sealed from the next handshake on. False if
    /// there is no such STEK here.
    pub fn revoke(&self, name: &KeyName) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.revoke(name))
    }

    /// Drops and wipes every STEK and every session: nothing that was made before resumes, from the
    /// next handshake on. The answer to an incident, on this node.
    pub fn revoke_all(&self) {
        if let Some(ring) = &self.ring {
            ring.revoke_all();
        }
        self.cache.clear();
    }

    /// Drops and wipes the sessions of a scope and refuses its tickets made up to now, from the next
    /// handshake on.
    pub fn forget(&self, scope: impl Into<Scope>) {
        // Cache and ring share what they know of scopes.
        self.cache.forget(scope);
    }

    /// Whether the STEK source has answered and a STEK seals: for a readiness probe. In stateful
    /// mode without a shared store, always.
    pub fn ready(&self) -> bool {
        self.ring.as_ref().is_none_or(StekRing::ready)
    }

    /// Does what the timer thread does: rotates, wipes, sweeps, publishes metrics. Returns how long
    /// nothing will be due, at most. For builders with
    /// [`manual_stepping`](ResumptionBuilder::manual_stepping).
    pub fn step(&self) -> Duration {
        self.cache.sweeper().step();
        let idle = self.ring.as_ref().map_or(MAX_STEP, StekRing::step);
        self.publisher.publish(|| self.stats());
        idle.min(MAX_STEP)
    }

    /// Ends resumption for good: stops the timer thread, and wipes every STEK and session. From now
    /// on every handshake is a full one. False if the thread was still busy at the deadline; it
    /// ends by itself then.
    ///
    /// Not needed: dropping the last handle, and the last configuration that it was installed in,
    /// does the same without waiting.
    pub fn shutdown(&self, deadline: Duration) -> bool {
        let ended = self.timer.as_ref().is_none_or(|timer| timer.stop(deadline));
        if let Some(ring) = &self.ring {
            ring.close();
        }
        self.cache.close();
        self.publisher.publish(|| self.stats());
        ended
    }
}

/// Makes no tickets. (The type that rustls has for this is private.)
#[derive(Debug)]
pub(crate) struct NoTickets;

/// The longest time between two steps: a stepped wall clock must not go unnoticed for longer.
const MAX_STEP: Duration = Duration::from_secs(1);

/// What a [`Resumption`] is made of.
pub(crate) struct Parts {
    pub(crate) cache: SessionCache,
    pub(crate) ring: Option<StekRing>,
    pub(crate) makes_tickets: bool,
    pub(crate) store: Option<(Box<dyn SharedStore>, SharingSettings)>,
    pub(crate) with_timer: bool,
    pub(crate) publisher: Publisher,
}

impl fmt::Debug for Resumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumption")
            .field("cache", &self.cache)
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}
