use std::collections::HashSet;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::cache::{Cache, CacheSettings};
use crate::clock::Time;
use crate::counters::Counters;
use crate::error::Error;
use crate::fips;
use crate::housekeeper::Housekeeper;
use crate::installation::Installation;
use crate::outside::Outside;
use crate::process::Process;
use crate::ring::{Introduced, Ring, RingSettings};
use crate::scope::{Scope, ScopeState, Scopes};
use crate::stats::metrics::Publisher;
use crate::stats::{AcceptorStats, HeldStek, HousekeeperStats, Stats, StekStats, TicketStats};
use crate::store::Sharing;
use crate::sync::Mutex;
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
    pub(crate) ring: Option<Arc<Ring>>,
    /// Whether the ring seals tickets, not only what goes into a shared store.
    pub(super) makes_tickets: bool,
    /// Whether the owner wants to tell connections of one session.
    pub(super) keeps_tags: bool,
    /// Whether sessions with client certificates resume where no verifier was given.
    pub(super) unverified_client_certificates: bool,
    /// Only beside a ring, whose store keys seal what is shared.
    pub(super) sharing: Option<Arc<Sharing>>,
    /// Counters of the handshakes that were followed.
    handshakes: Arc<Counters<AcceptorStats>>,
    pub(super) outside: Outside,
    life: Life,
    /// Locked while what others forgot is followed.
    following: Mutex<()>,
}

/// What belongs to one process alone: its thread, and what that process was told.
struct Life {
    /// The process, whose threads and locks the rest of [`Inner`] has.
    process: Process,
    /// Told to end when this is dropped.
    housekeeper: OnceLock<Housekeeper>,
    /// Whether a thread does what its own has not done in time.
    is_rescued: AtomicBool,
    /// Whether the recorder has yet to get to what it was last to publish.
    is_publishing: AtomicBool,
    /// Whether it was shut down.
    is_closed: AtomicBool,
    /// What takes the place of this in a process that was forked from it.
    heir: OnceLock<Arc<Inner>>,
    /// Whether it took the place of another, which has the same STEKs.
    is_heir: bool,
}

/// What is to be known of a [`Resumption`](crate::Resumption) for a handshake to be followed.
pub(crate) struct Followed {
    /// The time on the clock that births go by.
    pub(crate) now: Time,
    pub(crate) counts: Arc<Counters<AcceptorStats>>,
    pub(crate) makes_tickets: bool,
    /// Whether the owner wants to tell connections of one session.
    pub(crate) keeps_tags: bool,
}

mod housekeeping;
mod incident;

/// How long a call waits, at most, for the log to be written.
const TELLING: Duration = Duration::from_millis(250);

impl Life {
    fn begin() -> Self {
        Self {
            process: Process::current(),
            housekeeper: OnceLock::new(),
            is_rescued: AtomicBool::new(false),
            is_publishing: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            heir: OnceLock::new(),
            is_heir: false,
        }
    }
}

impl Inner {
    /// With a cache and nothing else.
    pub(crate) fn new(terms: Terms, cache: CacheSettings, publisher: Option<Publisher>) -> Self {
        Self {
            outside: Outside::new(publisher, terms.clock.runs()),
            terms,
            scopes: Scopes::default(),
            cache: Cache::new(cache),
            ring: None,
            makes_tickets: false,
            keeps_tags: false,
            unverified_client_certificates: false,
            sharing: None,
            handshakes: Arc::new(Counters::new()),
            life: Life::begin(),
            following: Mutex::new(()),
        }
    }

    /// Adds a ring, by whose source's clock all go from now on, and asks the source once. `None`
    /// stands for the random source.
    pub(crate) fn add_ring(
        &mut self,
        mut settings: RingSettings,
        source: Option<Introduced>,
    ) -> Result<(), Error> {
        // Neither a key nor a ticket need be kept once it opens nothing.
        settings.rotation = settings.rotation.at_most(self.terms.max_session_age);
        self.terms.max_skew = self.terms.max_skew.max(settings.rotation.ahead());
        let ring = Ring::new(settings, source, &self.terms.clock);
        self.terms.basis = ring.basis();
        ring.begin(&self.terms, &self.outside)?;
        self.ring = Some(ring);
        Ok(())
    }

    /// For handles. From now on it follows, whenever its source has answered, what that heard.
    pub(crate) fn shared(self) -> Arc<Self> {
        let inner = Arc::new(self);
        let weak = Arc::downgrade(&inner);
        if let Some(ring) = &inner.ring {
            ring.follow_with(move || {
                if let Some(inner) = weak.upgrade() {
                    inner.follow_others();
                }
            });
        }
        inner
    }

    /// What takes the place of this, if this process was forked from that of this. The system is
    /// asked, so handshakes do only when housekeeping is overdue.
    fn heir_if_forked(&self) -> Option<&Arc<Self>> {
        (!self.life.process.is_current()).then(|| self.life.heir.get_or_init(|| self.make_heir()))
    }

    fn make_heir(&self) -> Arc<Self> {
        let terms = self.terms.afresh();
        let outside = Outside::new(self.outside.publisher.clone(), terms.clock.runs());
        let ring = self.ring.as_ref().map(|ring| ring.heir(&terms, &outside));
        let heir = Self {
            scopes: self.scopes.heir(),
            cache: self.cache.heir(),
            ring,
            makes_tickets: self.makes_tickets,
            keeps_tags: self.keeps_tags,
            unverified_client_certificates: self.unverified_client_certificates,
            sharing: self.sharing.clone(),
            handshakes: Arc::clone(&self.handshakes),
            life: Life {
                is_heir: true,
                ..Life::begin()
            },
            following: Mutex::new(()),
            outside,
            terms,
        }
        .shared();
        if self.life.is_closed.load(Ordering::Acquire) {
            heir.close();
        } else if self.terms.pulse.is_armed() {
            // If there is no thread to be had, handshakes see to it.
            let _ = heir.start_housekeeper();
        }
        heir
    }

    /// Forgets what other processes forgot, and what was forgotten before they could be told.
    pub(super) fn follow_others(&self) {
        // Whoever finds no news goes by it that those before are followed.
        let _following = self.following.lock();
        if !self.terms.generations.take_news() {
            return;
        }
        self.bring_up_to_date(&self.scopes.named(None));
        self.follow_for_unknown();
    }

    /// Where not all scopes are known that have handles, any of them may be the one that was
    /// forgotten.
    pub(super) fn follow_for_unknown(&self) {
        let greatest = self.terms.generations.greatest();
        if self.scopes.may_be_behind(greatest) {
            self.put_all_out_of_reach();
        }
    }

    /// Has scopes forget what was forgotten of them elsewhere.
    fn bring_up_to_date(&self, states: &[Arc<ScopeState>]) {
        let is_behind = |state: &&Arc<ScopeState>| {
            let forgotten = self.terms.generations.of(&state.scope);
            let is_behind = state.is_behind(forgotten);
            if !is_behind {
                state.heed(forgotten, self.terms.moment());
            }
            is_behind
        };
        let behind = states.iter().filter(is_behind);
        self.put_out_of_reach(behind.map(|state| &state.scope));
    }

    /// Puts all that these scopes made out of reach, and wipes it then: that takes longer. Returns how
    /// many sessions were dropped.
    fn put_out_of_reach<'a>(&self, scopes: impl Iterator<Item = &'a Scope>) -> usize {
        // Read before each is forgotten: a call of another process that comes to be known meanwhile
        // came after it, and is still to be followed.
        let forget = |scope| {
            let forgotten = self.terms.generations.of(scope);
            let now = self.terms.moment();
            self.scopes.forget(scope, forgotten, now, &self.cache)
        };
        let numbers: Vec<Option<u32>> = scopes.map(forget).collect();
        let numbers: Option<HashSet<u32>> = numbers.into_iter().collect();
        self.cache.drop_all(numbers.as_ref())
    }

    #[inline(always)] // it has one caller
    pub(super) fn followed(&self) -> Followed {
        Followed {
            now: self.terms.now(),
            counts: Arc::clone(&self.handshakes),
            makes_tickets: self.makes_tickets,
            keeps_tags: self.keeps_tags,
        }
    }

    /// The shared store, and the ring whose store keys seal what is in it.
    pub(crate) fn sharing(&self) -> Option<(&Sharing, &Ring)> {
        self.sharing.as_deref().zip(self.ring.as_deref())
    }

    pub(crate) fn rotate_now(&self) -> Result<(), Error> {
        let rotate = |ring: &Arc<Ring>| ring.rotate(&self.terms, &self.outside);
        let rotated = self.ring.as_ref().map_or(Ok(()), rotate);
        self.let_tell();
        rotated
    }

    /// Gives the log time to be written before a call returns, as is usual, but not for ever.
    pub(crate) fn let_tell(&self) {
        self.outside.log.settle(TELLING);
    }

    /// The state of a scope.
    pub(crate) fn scope(&self, scope: Scope) -> Arc<ScopeState> {
        let forgotten = self.terms.generations.of(&scope);
        let now = self.terms.moment();
        let state = self.scopes.state_since(scope, forgotten, now, &self.cache);
        // It may have been here before, with handshakes and sessions that are not to outlive what
        // another process has told.
        self.bring_up_to_date(std::slice::from_ref(&state));
        state
    }

    pub(crate) fn ready(&self) -> bool {
        let is_ready = |ring: &Arc<Ring>| ring.is_ready(&self.terms);
        self.ring.as_ref().is_none_or(is_ready)
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            cache: self.cache.stats(),
            tickets: self.ticket_stats(),
            steks: self.stek_stats(),
            store: self
                .sharing
                .as_deref()
                .map(Sharing::stats)
                .unwrap_or_default(),
            client_auth: self.terms.client_auth.counts.read(),
            acceptor: self.handshakes.read(),
            housekeeper: self.housekeeper_stats(),
        }
    }

    fn housekeeper_stats(&self) -> HousekeeperStats {
        let Outside { log, metrics, .. } = &self.outside;
        let last = self.terms.pulse.last(&self.terms.clock);
        HousekeeperStats {
            age: last.map(|(age, _)| age),
            last_run: last.map(|(_, time)| time),
            lost: log.failed().saturating_add(metrics.failed()),
        }
    }

    pub(crate) fn ticket_stats(&self) -> TicketStats {
        self.ring
            .as_ref()
            .map(|ring| ring.ticket_stats())
            .unwrap_or_default()
    }

    pub(crate) fn steks(&self) -> Vec<HeldStek> {
        let steks = |ring: &Arc<Ring>| ring.steks(&self.terms);
        self.ring.as_ref().map(steks).unwrap_or_default()
    }

    pub(crate) fn stek_stats(&self) -> StekStats {
        let stats = |ring: &Arc<Ring>| ring.stek_stats(&self.terms);
        StekStats {
            fips: fips::is_on(),
            ..self.ring.as_ref().map(stats).unwrap_or_default()
        }
    }
}

/// A handle on what belongs to this process: the heir of what was set up, if it was forked since.
#[derive(Clone)]
pub(crate) struct Root(Arc<Inner>);

impl From<Arc<Inner>> for Root {
    fn from(inner: Arc<Inner>) -> Self {
        Self(inner)
    }
}

impl Root {
    /// What belongs to this process, which takes over if it was forked. The system is asked for
    /// that, so this is for calls outside handshakes.
    pub(crate) fn here(&self) -> &Arc<Inner> {
        let known = &**self;
        known.heir_if_forked().unwrap_or(known)
    }

    /// For a handle in this scope that sees no configuration.
    pub(super) fn unseen(&self, scope: Scope) -> Installation {
        Installation::unseen(self.here().scope(scope))
    }
}

/// What belongs to this process, as far as is known: for handshakes.
impl Deref for Root {
    type Target = Arc<Inner>;

    fn deref(&self) -> &Arc<Inner> {
        let mut inner = &self.0;
        while let Some(heir) = inner.life.heir.get() {
            inner = heir;
        }
        inner
    }
}

#[cfg(test)]
mod tests;
