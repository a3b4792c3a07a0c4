use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::trace;

use crate::aead::Sealing;
use crate::clock::{Basis, Clock, Time};
use crate::context::{self, Given, ResumedBy};
use crate::counters::Counters;
use crate::error::Error;
use crate::fips;
use crate::housekeeper::Housekeeper;
use crate::rotation::Rotation;
use crate::scope::{Scope, ScopeState, Scopes};
use crate::session::{Session, Version};
use crate::source::{RandomSource, SourceKey, SourceQuery, StekSource};
use crate::stats::metrics::Publisher;
use crate::stats::{StekStats, TicketCount, TicketStats};
use crate::stek::{KeyName, Stek};
use crate::sync::{ArcSwap, Mutex};
use crate::terms::DEFAULT_MAX_SESSION_AGE;
use crate::ticket::{self, DEFAULT_MAX_TICKET_LEN, Trailer};

#[cfg(all(test, rustls_resumption_shuttle))]
mod interleavings;
mod keeper;
mod snapshot;
#[cfg(test)]
mod tests;

use keeper::Keeper;
use snapshot::{Found, Snapshot};

/// How long set-up waits for a STEK source that does not answer, by default: 5 seconds.
pub(crate) const DEFAULT_SOURCE_DEADLINE: Duration = Duration::from_secs(5);

/// How long set-up waits before it asks such a source again.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// How far a birth may lie in the future, because another host's clock is ahead: 5 minutes, or as
/// far ahead as the schedule publishes keys if that is more.
const MAX_SKEW: Duration = Duration::from_secs(5 * 60);

/// Stateless session tickets: a ring of STEKs on a schedule.
///
/// Implements [`rustls::server::ProducesTickets`]. Sealing and opening take no lock: they read one
/// immutable snapshot of the ring. A small thread publishes, activates, retires and wipes STEKs on
/// time, also without traffic; it ends with the last handle. Every seal and open checks the STEK's
/// window against the clock as well, so a late or missing timer stretches no life.
///
/// A handle is cheap to clone, and [`StekRing::scoped`] gives one for another [`Scope`]: a ticket
/// opens only in the scope that sealed it. **Configurations that authenticate clients differently
/// must not share a scope.**
///
/// ```
/// use std::sync::Arc;
/// use rustls_resumption::StekRing;
/// # fn f(mut config: rustls::ServerConfig) -> Result<(), rustls_resumption::Error> {
/// config.ticketer = Arc::new(StekRing::new()?);
/// # Ok(()) }
/// ```
///
/// A ticket is sealed with AES-256-GCM-SIV unless [`Sealing`] says otherwise, and is
/// 89 bytes longer than the session in it. With random 96-bit nonces one STEK can seal 2³²
/// tickets and still have less than one chance in 2³² that a nonce repeats; and a repeated one would only show
/// that two equal sessions are equal.
#[derive(Clone)]
pub struct StekRing {
    core: Arc<Core>,
    scope: Arc<ScopeState>,
    timer: Option<Arc<Housekeeper>>,
}

impl StekRing {
    /// A ring of random STEKs on the default [`Rotation`], in the default scope.
    ///
    /// # Errors
    ///
    /// [`Error::Random`] or [`Error::Thread`] if the system gives no random bytes or no thread.
    pub fn new() -> Result<Self, Error> {
        Self::with_rotation(Rotation::new())
    }

    /// The same on another schedule.
    ///
    /// # Errors
    ///
    /// [`Error::Duration`] if the schedule cannot work, else as [`StekRing::new`].
    pub fn with_rotation(rotation: Rotation) -> Result<Self, Error> {
        let settings = RingSettings {
            rotation,
            ..RingSettings::default()
        };
        let ring = Self::build(settings, Box::<RandomSource>::default(), Arc::default())?;
        let stepper = ring.stepper();
        let timer = Housekeeper::start(move || stepper.step()).map_err(Error::Thread)?;
        Ok(ring.with_timer(Arc::new(timer)))
    }

    /// A ring that nobody steps yet. It has asked its source once.
    pub(crate) fn build(
        settings: RingSettings,
        source: Box<dyn StekSource>,
        scopes: Arc<Scopes>,
    ) -> Result<Self, Error> {
        fips::check(settings.sealing)?;
        settings.rotation.validate()?;
        context::read();
        let basis = match source.is_shared() {
            true => Basis::Wall,
            false => Basis::Steady,
        };
        let scope = scopes.state(Scope::default());
        let core = Arc::new(Core {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            keeper: Mutex::new(Keeper::new(settings.rotation, settings.sealing)),
            source_name: source.name(),
            source: Mutex::new(Asking {
                source: Some(source),
                asked: None,
            }),
            basis,
            settings,
            scopes,
            counters: Counters::new(),
        });
        core.begin()?;
        Ok(Self {
            core,
            scope,
            timer: None,
        })
    }

    pub(crate) fn with_timer(mut self, timer: Arc<Housekeeper>) -> Self {
        self.timer = Some(timer);
        self
    }

    /// What the timer's job holds: it must not keep the timer alive.
    pub(crate) fn stepper(&self) -> Stepper {
        Stepper(Arc::clone(&self.core))
    }

    /// The same ring in another scope.
    #[must_use]
    pub fn scoped(&self, scope: impl Into<Scope>) -> Self {
        Self {
            core: Arc::clone(&self.core),
            scope: self.core.scopes.state(scope.into()),
            timer: self.timer.clone(),
        }
    }

    /// Does what is due: asks the source, publishes, activates, retires, wipes. Returns how long
    /// nothing will be due, at most. For those who run a scheduler of their own; the timer thread
    /// does nothing else.
    pub fn step(&self) -> Duration {
        self.stepper().step()
    }

    /// Makes another STEK seal from now on. What the retired one sealed still opens for the ticket
    /// lifetime: after an incident it is [`StekRing::revoke`] that helps.
    ///
    /// # Errors
    ///
    /// [`Error::Source`] if the source failed, or rotates by its schedule only.
    pub fn rotate_now(&self) -> Result<(), Error> {
        self.core.rotate()
    }

    /// Drops and wipes one STEK and refuses what it sealed, from the next handshake on. If it was
    /// the one that seals, another takes over. False if there is no such STEK.
    ///
    /// A shared source goes on giving the key to other processes: see the page
    /// [`operating`](crate::docs::operating).
    pub fn revoke(&self, name: &KeyName) -> bool {
        self.core.revoke(Some(name)) > 0
    }

    /// Drops and wipes every STEK and refuses all tickets made so far, from the next handshake on.
    pub fn revoke_all(&self) {
        self.core.revoke(None);
    }

    /// Refuses what this scope sealed up to now, from the next handshake on.
    pub fn forget(&self, scope: impl Into<Scope>) {
        self.core.scopes.forget(&scope.into(), self.core.now());
    }

    /// Whether the source has answered and a STEK seals: a readiness probe.
    pub fn ready(&self) -> bool {
        self.core.keeper.lock().has_answered()
            && self.core.snapshot.load().sealing(self.core.now()).is_some()
    }

    /// Counters of the tickets.
    pub fn ticket_stats(&self) -> TicketStats {
        self.core.ticket_stats()
    }

    /// The state of the STEKs.
    pub fn stek_stats(&self) -> StekStats {
        self.core.stek_stats()
    }

    pub(crate) fn ticket_lifetime(&self) -> Duration {
        self.core.settings.rotation.lifetime()
    }

    /// The time by the clock that this ring's windows go by.
    pub(crate) fn now(&self) -> Time {
        self.core.now()
    }

    /// Whether a session of this birth may no longer resume.
    pub(crate) fn is_too_old(&self, birth: Time, now: Time) -> bool {
        self.core.is_too_old(birth, now)
    }

    pub(crate) fn max_session_age(&self) -> Duration {
        self.core.settings.max_session_age
    }

    /// The STEK under which a shared store's values are sealed now.
    pub(crate) fn sharing_key(&self) -> SharingKey {
        let snapshot = self.core.snapshot.load();
        match snapshot.active(self.core.now()) {
            Some(key) if snapshot.is_local(key.stek.name()) => SharingKey::FallenBack,
            Some(key) => SharingKey::Key(key.clone()),
            None => SharingKey::NoKey,
        }
    }

    /// The STEK that opens a shared store's values of this key name.
    pub(crate) fn opening_key(&self, name: &KeyName) -> Option<Arc<Stek>> {
        let snapshot = self.core.snapshot.load();
        let (key, _) = opening(&snapshot, name, || self.core.now()).ok()?;
        Some(Arc::clone(&key.stek))
    }

    /// Drops every key for good: nothing is sealed or opened any more.
    pub(crate) fn close(&self) {
        {
            let mut keeper = self.core.keeper.lock();
            keeper.close();
            self.core.snapshot.store(Arc::default());
        }
        self.core.drop_source_if_closed();
    }

    pub(crate) fn seal(&self, session: &[u8]) -> Option<Vec<u8>> {
        let sealed = self.core.seal(&self.scope, session);
        match &sealed {
            Ok((ticket, _)) => trace!(len = ticket.len(), "ticket sealed"),
            Err(why) => trace!(?why, "no ticket"),
        }
        self.core.counters.add(match &sealed {
            Ok((_, count)) => *count,
            Err(why) => *why,
        });
        sealed.ok().map(|(ticket, _)| ticket)
    }

    pub(crate) fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let opened = self.core.open(&self.scope, ticket);
        match &opened {
            Ok(_) => trace!("ticket opened"),
            Err(why) => {
                trace!(?why, "ticket refused");
                context::miss(reason(*why));
            }
        }
        self.core.counters.add(match &opened {
            Ok(_) => TicketCount::Opened,
            Err(why) => *why,
        });
        opened.ok()
    }
}

impl fmt::Debug for StekRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StekRing")
            .field("scope", &self.scope.scope)
            .field("rotation", &self.core.settings.rotation)
            .field("active", &self.core.stek_stats().active)
            .finish_non_exhaustive()
    }
}

/// Which STEK seals for other processes.
pub(crate) enum SharingKey {
    Key(SourceKey),
    /// One seals, but stands in for the source's: no other process has it.
    FallenBack,
    NoKey,
}

/// How a ring is to work.
#[derive(Clone, Debug)]
pub(crate) struct RingSettings {
    pub(crate) rotation: Rotation,
    pub(crate) sealing: Sealing,
    pub(crate) max_session_age: Duration,
    pub(crate) max_ticket_len: usize,
    pub(crate) clock: Clock,
    pub(crate) source_deadline: Duration,
    pub(crate) publisher: Publisher,
}

impl Default for RingSettings {
    fn default() -> Self {
        Self {
            rotation: Rotation::new(),
            sealing: Sealing::default(),
            max_session_age: DEFAULT_MAX_SESSION_AGE,
            max_ticket_len: DEFAULT_MAX_TICKET_LEN,
            clock: Clock::system(),
            source_deadline: DEFAULT_SOURCE_DEADLINE,
            publisher: Publisher::default(),
        }
    }
}

/// The part of a ring that its timer may hold.
pub(crate) struct Stepper(Arc<Core>);

impl Stepper {
    pub(crate) fn step(&self) -> Duration {
        // What went wrong was logged and counted there.
        self.0
            .step(Ask::IfDue)
            .unwrap_or(SourceQuery::DEFAULT_INTERVAL)
    }
}

/// Whether a step asks the source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ask {
    IfDue,
    Now,
    ToRotate,
}

/// The source, until the ring is closed, and when it was last asked.
struct Asking {
    source: Option<Box<dyn StekSource>>,
    asked: Option<Duration>,
}

/// Why a ticket was refused, as the metrics have it.
fn reason(refused: TicketCount) -> &'static str {
    match refused {
        TicketCount::UnknownKeyName => "unknown_key_name",
        TicketCount::TooLong => "too_long",
        TicketCount::Malformed => "malformed",
        TicketCount::Forged => "forged",
        TicketCount::WrongScope => "wrong_scope",
        TicketCount::ExpiredKey => "expired_key",
        TicketCount::TooOld => "too_old",
        TicketCount::Revoked => "revoked",
        _ => "refused",
    }
}

struct Core {
    /// What handshakes read.
    snapshot: ArcSwap<Snapshot>,
    /// What makes the next snapshot, which is stored while this is locked: never by a handshake.
    keeper: Mutex<Keeper>,
    /// Locked while the source is asked, which may take its time.
    source: Mutex<Asking>,
    source_name: &'static str,
    basis: Basis,
    settings: RingSettings,
    scopes: Arc<Scopes>,
    counters: Counters<TicketStats>,
}

impl Core {
    fn now(&self) -> Time {
        self.settings.clock.now().on(self.basis)
    }

    /// A ticket, and what to count it under.
    fn seal(
        &self,
        scope: &ScopeState,
        session: &[u8],
    ) -> Result<(Vec<u8>, TicketCount), TicketCount> {
        let parsed = Session::parse(session);
        if session.len().saturating_add(ticket::OVERHEAD) > self.settings.max_ticket_len {
            return Err(TicketCount::TooLongToSeal);
        }
        // First the snapshot, then the clock: so the time is never before the snapshot's, in which
        // what had retired by then no longer seals.
        let snapshot = self.snapshot.load();
        let now = self.now();
        let lineage = context::lineage_of_sealed(parsed.as_ref(), now);
        if self.is_too_old(lineage.birth, now) {
            return Err(TicketCount::TooOldToSeal);
        }
        let trailer = Trailer {
            // What was forgotten at this very moment was issued before it; this is issued after.
            issued: now.max(Time(scope.forgotten().0.saturating_add(1))),
            lineage,
            scope: *scope.scope.digest(),
        };
        let stek = snapshot.sealing(now).ok_or(TicketCount::NoKeyToSeal)?;
        let ticket = ticket::seal(stek, &trailer, session).ok_or(TicketCount::NoKeyToSeal)?;
        let is_tls13 = parsed.is_some_and(|session| session.version == Version::Tls13);
        let count = match is_tls13 && lineage.begins_unknown() {
            true => TicketCount::SealedAgeUnknown,
            false => TicketCount::Sealed,
        };
        Ok((ticket, count))
    }

    fn open(&self, scope: &ScopeState, ticket: &[u8]) -> Result<Vec<u8>, TicketCount> {
        if ticket.len() > self.settings.max_ticket_len {
            return Err(TicketCount::TooLong);
        }
        let name = ticket::key_name(ticket).ok_or(TicketCount::Malformed)?;
        let snapshot = self.snapshot.load();
        let (key, now) = opening(&snapshot, &name, || self.now())?;
        let (trailer, session) = ticket::open(&key.stek, ticket).ok_or(TicketCount::Forged)?;
        if let Err(why) = self.admit(&trailer, scope, now) {
            drop(zeroize::Zeroizing::new(session));
            return Err(why);
        }
        let given = Given {
            by: ResumedBy::Ticket,
            lineage: trailer.lineage,
            age: now.since(trailer.lineage.birth),
            key_name: Some(name),
        };
        context::give(&session, given);
        Ok(session)
    }

    /// Whether an opened ticket may be used here and now.
    fn admit(&self, trailer: &Trailer, scope: &ScopeState, now: Time) -> Result<(), TicketCount> {
        if trailer.scope != *scope.scope.digest() {
            return Err(TicketCount::WrongScope);
        }
        if trailer.issued <= scope.forgotten() {
            return Err(TicketCount::Revoked);
        }
        if self.is_too_old(trailer.lineage.birth, now) {
            return Err(TicketCount::TooOld);
        }
        Ok(())
    }

    fn is_too_old(&self, birth: Time, now: Time) -> bool {
        let skew = MAX_SKEW.max(self.settings.rotation.ahead());
        now >= birth.plus(self.settings.max_session_age) || birth > now.plus(skew)
    }

    /// Asks the source for the first time. One that does not answer by the deadline is not the end:
    /// the ring begins on local random STEKs, and says so.
    fn begin(&self) -> Result<(), Error> {
        let clock = &self.settings.clock;
        let start = clock.monotonic();
        loop {
            let Err(error) = self.step(Ask::Now) else {
                return Ok(());
            };
            if self.basis == Basis::Steady {
                return Err(error); // the random source: there is nothing to wait for
            }
            let waited = clock.monotonic().saturating_sub(start);
            if !clock.runs() || waited >= self.settings.source_deadline {
                return Ok(());
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
    }

    fn step(&self, ask: Ask) -> Result<Duration, Error> {
        let outcome = self.ask(ask);
        self.drop_source_if_closed();
        outcome
    }

    /// Called by whoever closed the ring, and by whoever has just unlocked the source: so one of
    /// them drops it, and with it the keys that it holds.
    fn drop_source_if_closed(&self) {
        if !self.keeper.lock().is_closed() {
            return;
        }
        if let Some(mut asking) = self.source.try_lock() {
            asking.source = None;
        }
    }

    fn ask(&self, ask: Ask) -> Result<Duration, Error> {
        let asking = &mut *self.source.lock();
        let Some(source) = &mut asking.source else {
            return Ok(SourceQuery::DEFAULT_INTERVAL);
        };
        let now = self.now();
        let monotonic = self.settings.clock.monotonic();
        let poll = source.poll_interval();
        let worn = self.snapshot.load().is_worn(now) && source.can_rotate();
        let rotate = ask == Ask::ToRotate || worn;
        let (without, revoked) = {
            let keeper = self.keeper.lock();
            (keeper.is_without(now), keeper.revoked())
        };
        let is_due = |asked| monotonic.saturating_sub(asked) >= poll;
        let mut outcome = Ok(());
        if rotate || without || ask == Ask::Now || asking.asked.is_none_or(is_due) {
            let query = SourceQuery {
                now,
                monotonic,
                rotation: &self.settings.rotation,
                sealing: self.settings.sealing,
                rotate,
                revoked: &revoked,
            };
            let began = Instant::now();
            // One that panics must not end the timer thread: who would wipe the keys that expire?
            let answer = catch_unwind(AssertUnwindSafe(|| source.load(&query)))
                .unwrap_or_else(|_| Err("it panicked".into()));
            if source.is_shared() {
                let publisher = &self.settings.publisher;
                publisher.source_answered(self.source_name, began.elapsed());
            }
            asking.asked = Some(monotonic);
            let mut keeper = self.keeper.lock();
            outcome = keeper.take_answer(&**source, answer, monotonic);
        }
        let mut keeper = self.keeper.lock();
        let snapshot = keeper.advance(now, monotonic, rotate)?;
        self.snapshot.store(Arc::new(snapshot));
        let idle = keeper.idle(now);
        outcome.map(|()| if poll.is_zero() { idle } else { idle.min(poll) })
    }

    fn rotate(&self) -> Result<(), Error> {
        let can_rotate = {
            let asking = self.source.lock();
            let source = asking.source.as_ref();
            source.is_none_or(|source| source.can_rotate())
        };
        self.drop_source_if_closed();
        if !can_rotate {
            let why = "rotates by its schedule only; to put a key out of use, revoke it";
            return Err(Error::source(self.source_name, why));
        }
        self.step(Ask::ToRotate).map(drop)
    }

    fn revoke(&self, name: Option<&KeyName>) -> usize {
        let revoked = {
            // First refuse; the source, asked for a successor, may take its time.
            let mut keeper = self.keeper.lock();
            let revoked = keeper.revoke(name);
            self.snapshot.store(Arc::new(keeper.snapshot(self.now())));
            revoked
        };
        if revoked > 0 {
            // What goes wrong was logged and counted, and local random keys seal.
            let _ = self.step(Ask::Now);
        }
        revoked
    }

    fn ticket_stats(&self) -> TicketStats {
        let counted = self.counters.read();
        TicketStats {
            sealed: counted.sealed.saturating_add(counted.age_unknown),
            ..counted
        }
    }

    fn stek_stats(&self) -> StekStats {
        let now = self.now();
        let snapshot = self.snapshot.load();
        let active_age = snapshot.active_since(now).map(|since| now.since(since));
        StekStats {
            active: snapshot.sealing(now).map(|stek| *stek.name()),
            active_age,
            over_age: active_age.is_some_and(|age| self.settings.rotation.is_over_age(age)),
            interval: Some(self.settings.rotation.sealing_time()),
            keys: snapshot.len() as u64,
            source: self.source_name,
            ..self.keeper.lock().stats(self.settings.clock.monotonic())
        }
    }
}

/// The STEK of this name, if it opens now, and the time. The clock is not read for a name that means
/// nothing.
fn opening<'a>(
    snapshot: &'a Snapshot,
    name: &KeyName,
    now: impl FnOnce() -> Time,
) -> Result<(&'a SourceKey, Time), TicketCount> {
    let key = match snapshot.find(name) {
        Found::Key(key) => key,
        Found::Expired => return Err(TicketCount::ExpiredKey),
        Found::Revoked => return Err(TicketCount::Revoked),
        Found::Nothing => return Err(TicketCount::UnknownKeyName),
    };
    let now = now();
    if now < key.window.published {
        return Err(TicketCount::UnknownKeyName);
    }
    match key.window.opens(now) {
        true => Ok((key, now)),
        false => Err(TicketCount::ExpiredKey),
    }
}
