use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crate::cache::{Cache, CacheSettings};
use crate::counters::Counters;
use crate::error::Error;
use crate::housekeeper::{EverySecond, Housekeeper};
use crate::ring::{Ring, RingSettings, basis_of};
use crate::scope::{Scope, Scopes};
use crate::source::StekSource;
use crate::stats::metrics::Publisher;
use crate::stats::{AcceptorStats, Stats, StekStats, TicketStats};
use crate::stek::KeyName;
use crate::store::Sharing;
use crate::terms::Terms;

/// What every handle is a handle on: [`Resumption`](crate::Resumption),
/// [`SessionCache`](crate::SessionCache), [`StekRing`](crate::StekRing), and what is installed in
/// configurations. A cache used alone has no ring and no thread; a ring used alone has a cache of 0
/// entries.
pub(crate) struct Inner {
    pub(crate) terms: Terms,
    pub(crate) scopes: Scopes,
    pub(crate) cache: Cache,
    /// `None` in stateful mode without a shared store.
    pub(crate) ring: Option<Ring>,
    /// Whether the ring seals tickets, not only what goes into a shared store.
    pub(super) makes_tickets: bool,
    /// Whether sessions with client certificates resume where no verifier was given.
    pub(super) unverified_client_certificates: bool,
    /// Only beside a ring, whose store keys seal what is shared.
    pub(super) sharing: Option<Sharing>,
    /// Counters of the handshakes that were followed.
    pub(crate) handshakes: Arc<Counters<AcceptorStats>>,
    /// `None` for a cache or a ring used alone.
    pub(super) publisher: Option<Publisher>,
    /// Told to end when this is dropped.
    housekeeper: OnceLock<Housekeeper>,
}

/// The longest time between two steps: a stepped wall clock must not go unnoticed for longer.
const MAX_STEP: Duration = Duration::from_secs(1);

impl Inner {
    /// With a cache and nothing else.
    pub(crate) fn new(terms: Terms, cache: CacheSettings) -> Self {
        Self {
            terms,
            scopes: Scopes::default(),
            cache: Cache::new(cache),
            ring: None,
            makes_tickets: false,
            unverified_client_certificates: false,
            sharing: None,
            handshakes: Arc::new(Counters::new()),
            publisher: None,
            housekeeper: OnceLock::new(),
        }
    }

    /// Adds a ring, by whose source's clock all go from now on, and asks the source once.
    pub(crate) fn add_ring(
        &mut self,
        settings: RingSettings,
        source: Box<dyn StekSource>,
    ) -> Result<(), Error> {
        self.terms.basis = basis_of(&*source);
        self.terms.max_skew = self.terms.max_skew.max(settings.rotation.ahead());
        let ring = Ring::new(settings, source, &self.terms, self.publisher.as_ref())?;
        self.ring = Some(ring);
        Ok(())
    }

    /// Starts the thread that does what is due until this is dropped. It holds this weakly.
    pub(crate) fn start_housekeeper(self: &Arc<Self>) -> Result<(), Error> {
        let weak = Arc::downgrade(self);
        let mut every_second = EverySecond::default();
        let job = move || {
            let inner = Weak::upgrade(&weak)?;
            let is_due = every_second.is_due(inner.terms.clock.monotonic());
            if is_due {
                inner.cache.sweep(&inner.terms);
            }
            let idle = inner.step_ring();
            if is_due {
                inner.publish();
            }
            Some(idle)
        };
        let housekeeper = Housekeeper::start(job).map_err(Error::Thread)?;
        let _ = self.housekeeper.set(housekeeper); // it is started once
        Ok(())
    }

    /// Does what the housekeeper does.
    pub(crate) fn step(&self) -> Duration {
        self.cache.sweep(&self.terms);
        let idle = self.step_ring();
        self.publish();
        idle.min(MAX_STEP)
    }

    pub(crate) fn step_ring(&self) -> Duration {
        let step = |ring: &Ring| ring.step(&self.terms, self.publisher.as_ref());
        self.ring.as_ref().map_or(Duration::MAX, step)
    }

    pub(crate) fn publish(&self) {
        if let Some(publisher) = &self.publisher {
            publisher.publish(|| self.stats());
        }
    }

    /// The shared store, and the ring whose store keys seal what is in it.
    pub(crate) fn sharing(&self) -> Option<(&Sharing, &Ring)> {
        self.sharing.as_ref().zip(self.ring.as_ref())
    }

    pub(crate) fn rotate_now(&self) -> Result<(), Error> {
        let rotate = |ring: &Ring| ring.rotate(&self.terms, self.publisher.as_ref());
        self.ring.as_ref().map_or(Ok(()), rotate)
    }

    pub(crate) fn revoke(&self, name: &KeyName) -> bool {
        self.revoke_keys(Some(name)) > 0
    }

    pub(crate) fn revoke_all_keys(&self) {
        self.revoke_keys(None);
    }

    fn revoke_keys(&self, name: Option<&KeyName>) -> usize {
        let revoke = |ring: &Ring| ring.revoke(&self.terms, self.publisher.as_ref(), name);
        self.ring.as_ref().map_or(0, revoke)
    }

    /// Puts what the scope stored and sealed up to now out of reach, and wipes what is here.
    pub(crate) fn forget(&self, scope: &Scope) {
        if let Some(number) = self.scopes.forget(scope, self.terms.now()) {
            self.cache.drop_all(Some(number));
        }
    }

    /// The same for every scope.
    pub(crate) fn clear(&self) {
        self.scopes.forget_all(self.terms.now());
        self.cache.drop_all(None);
    }

    pub(crate) fn ready(&self) -> bool {
        let is_ready = |ring: &Ring| ring.is_ready(&self.terms);
        self.ring.as_ref().is_none_or(is_ready)
    }

    /// Ends everything for good. False if the housekeeper was still busy at the deadline.
    pub(crate) fn shut_down(&self, deadline: Duration) -> bool {
        let housekeeper = self.housekeeper.get();
        let ended = housekeeper.is_none_or(|housekeeper| housekeeper.stop(deadline));
        if let Some(ring) = &self.ring {
            ring.close();
        }
        self.cache.close();
        self.scopes.forget_all(self.terms.now());
        self.publish();
        ended
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            cache: self.cache.stats(),
            tickets: self.ticket_stats(),
            steks: self.stek_stats(),
            store: self
                .sharing
                .as_ref()
                .map(Sharing::stats)
                .unwrap_or_default(),
            client_auth: self.terms.client_auth.counts.read(),
            acceptor: self.handshakes.read(),
        }
    }

    pub(crate) fn ticket_stats(&self) -> TicketStats {
        self.ring
            .as_ref()
            .map(Ring::ticket_stats)
            .unwrap_or_default()
    }

    pub(crate) fn stek_stats(&self) -> StekStats {
        let stats = |ring: &Ring| ring.stek_stats(&self.terms);
        self.ring.as_ref().map(stats).unwrap_or_default()
    }
}
