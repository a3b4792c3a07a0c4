use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Basis;
use crate::context;
use crate::counters::Counters;
use crate::error::Error;
use crate::rotation::Rotation;
use crate::source::bulletin::Bulletin;
use crate::source::{SourceQuery, StekSource};
use crate::stats::metrics::Publisher;
use crate::stats::{StekStats, TicketStats};
use crate::stek::KeyName;
use crate::sync::{ArcSwap, Mutex};
use crate::terms::Terms;

#[cfg(all(test, rustls_resumption_shuttle))]
mod interleavings;
mod keeper;
mod settings;
mod snapshot;
#[cfg(test)]
mod tests;
mod tickets;

use keeper::Keeper;
pub(crate) use settings::{DEFAULT_SOURCE_DEADLINE, RingSettings};
use snapshot::Snapshot;
pub(crate) use tickets::SharingKey;

/// How long set-up waits before it asks a source again that did not answer.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// STEKs, each with its window. Handshakes read one immutable [`Snapshot`] of them; a step asks the
/// source and stores the next snapshot. [`StekRing`](crate::StekRing) is the handle on it.
pub(crate) struct Ring {
    /// What handshakes read.
    snapshot: ArcSwap<Snapshot>,
    /// What makes the next snapshot, which is stored while this is locked: never by a handshake.
    keeper: Mutex<Keeper>,
    /// Locked while the source is asked, which may take its time.
    supply: Mutex<Supply>,
    source_name: &'static str,
    settings: RingSettings,
    counters: Counters<TicketStats>,
}

/// The source, until the ring is closed, and when it was last asked.
struct Supply {
    source: Option<Box<dyn StekSource>>,
    asked: Option<Duration>,
}

/// Whether a step asks the source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ask {
    IfDue,
    Now,
    ToRotate,
}

/// By which clock a ring of this source goes.
pub(crate) fn basis_of(source: &dyn StekSource) -> Basis {
    match source.is_shared() {
        true => Basis::Wall,
        false => Basis::Steady,
    }
}

impl Ring {
    /// A ring that has asked its source once. Its settings were validated.
    pub(crate) fn new(
        settings: RingSettings,
        source: Box<dyn StekSource>,
        terms: &Terms,
        publisher: Option<&Publisher>,
    ) -> Result<Self, Error> {
        context::read();
        let ring = Self {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            keeper: Mutex::new(Keeper::default()),
            source_name: source.name(),
            supply: Mutex::new(Supply {
                source: Some(source),
                asked: None,
            }),
            settings,
            counters: Counters::new(),
        };
        ring.begin(terms, publisher)?;
        Ok(ring)
    }

    pub(crate) fn rotation(&self) -> &Rotation {
        &self.settings.rotation
    }

    pub(crate) fn ticket_lifetime(&self) -> Duration {
        self.settings.rotation.lifetime()
    }

    /// Whether the source has answered and a STEK seals.
    pub(crate) fn is_ready(&self, terms: &Terms) -> bool {
        self.keeper.lock().has_answered() && self.snapshot.load().sealing(terms.now()).is_some()
    }

    /// Drops every key for good: nothing is sealed or opened any more.
    pub(crate) fn close(&self) {
        {
            let mut keeper = self.keeper.lock();
            keeper.close();
            self.snapshot.store(Arc::default());
        }
        self.drop_source_if_closed();
    }

    /// Does what is due: asks the source, publishes, activates, retires, wipes. Returns how long
    /// nothing will be due, at most.
    pub(crate) fn step(&self, terms: &Terms, publisher: Option<&Publisher>) -> Duration {
        // What went wrong was logged and counted there.
        let idle = self.advance(terms, publisher, Ask::IfDue);
        idle.unwrap_or(SourceQuery::DEFAULT_INTERVAL)
    }

    /// Asks the source for the first time. One that does not answer by the deadline is not the end:
    /// the ring begins on local random STEKs, and says so.
    fn begin(&self, terms: &Terms, publisher: Option<&Publisher>) -> Result<(), Error> {
        let clock = &terms.clock;
        let start = clock.monotonic();
        loop {
            let Err(error) = self.advance(terms, publisher, Ask::Now) else {
                return Ok(());
            };
            if terms.basis == Basis::Steady {
                return Err(error); // the random source: there is nothing to wait for
            }
            let waited = clock.monotonic().saturating_sub(start);
            if !clock.runs() || waited >= self.settings.source_deadline {
                return Ok(());
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
    }

    fn advance(
        &self,
        terms: &Terms,
        publisher: Option<&Publisher>,
        ask: Ask,
    ) -> Result<Duration, Error> {
        let outcome = self.ask(terms, publisher, ask);
        self.drop_source_if_closed();
        outcome
    }

    /// Called by whoever closed the ring, and by whoever has just unlocked the source: so one of
    /// them drops it, and with it the keys that it holds.
    fn drop_source_if_closed(&self) {
        if !self.keeper.lock().is_closed() {
            return;
        }
        if let Some(mut supply) = self.supply.try_lock() {
            supply.source = None;
        }
    }

    fn ask(
        &self,
        terms: &Terms,
        publisher: Option<&Publisher>,
        ask: Ask,
    ) -> Result<Duration, Error> {
        let supply = &mut *self.supply.lock();
        let Some(source) = &mut supply.source else {
            return Ok(SourceQuery::DEFAULT_INTERVAL);
        };
        let now = terms.now();
        let monotonic = terms.clock.monotonic();
        let poll = source.poll_interval();
        let worn = self.snapshot.load().is_worn(now) && source.can_rotate();
        let rotate = ask == Ask::ToRotate || worn;
        let (without, revoked) = {
            let keeper = self.keeper.lock();
            (keeper.is_without(now), keeper.revoked())
        };
        let is_due = |asked| monotonic.saturating_sub(asked) >= poll;
        let mut outcome = Ok(());
        if rotate || without || ask == Ask::Now || supply.asked.is_none_or(is_due) {
            let bulletin = Bulletin::default();
            let query = SourceQuery {
                now,
                monotonic,
                rotation: &self.settings.rotation,
                sealing: self.settings.sealing,
                rotate,
                revoked: &revoked,
                bulletin: Some(&bulletin),
            };
            let began = Instant::now();
            // One that panics must not end the housekeeping thread: who would wipe the keys that expire?
            let answer = catch_unwind(AssertUnwindSafe(|| source.load(&query)))
                .unwrap_or_else(|_| Err("it panicked".into()));
            if let Some(publisher) = publisher.filter(|_| source.is_shared()) {
                publisher.source_answered(self.source_name, began.elapsed());
            }
            supply.asked = Some(monotonic);
            let mut keeper = self.keeper.lock();
            keeper.hear(&bulletin.heard());
            outcome = keeper.take_answer(&self.settings, &**source, answer, monotonic);
        }
        let mut keeper = self.keeper.lock();
        let snapshot = keeper.advance(&self.settings, now, monotonic, rotate)?;
        self.snapshot.store(Arc::new(snapshot));
        let idle = keeper.idle(&self.settings, now);
        outcome.map(|()| if poll.is_zero() { idle } else { idle.min(poll) })
    }

    /// Makes another STEK seal from now on.
    pub(crate) fn rotate(&self, terms: &Terms, publisher: Option<&Publisher>) -> Result<(), Error> {
        let can_rotate = {
            let supply = self.supply.lock();
            let source = supply.source.as_ref();
            source.is_none_or(|source| source.can_rotate())
        };
        self.drop_source_if_closed();
        if !can_rotate {
            let why = "rotates by its schedule only; to put a key out of use, revoke it";
            return Err(Error::source(self.source_name, why));
        }
        self.advance(terms, publisher, Ask::ToRotate).map(drop)
    }

    /// Drops and wipes one STEK or all. Returns how many.
    pub(crate) fn revoke(
        &self,
        terms: &Terms,
        publisher: Option<&Publisher>,
        name: Option<&KeyName>,
    ) -> usize {
        let revoked = {
            // First refuse; the source, asked for a successor, may take its time.
            let mut keeper = self.keeper.lock();
            let revoked = keeper.revoke(name);
            self.snapshot.store(Arc::new(keeper.snapshot(terms.now())));
            revoked
        };
        if revoked > 0 {
            // What goes wrong was logged and counted, and local random keys seal.
            let _ = self.advance(terms, publisher, Ask::Now);
        }
        revoked
    }

    pub(crate) fn ticket_stats(&self) -> TicketStats {
        let counted = self.counters.read();
        TicketStats {
            sealed: counted.sealed.saturating_add(counted.age_unknown),
            ..counted
        }
    }

    pub(crate) fn stek_stats(&self, terms: &Terms) -> StekStats {
        let now = terms.now();
        let snapshot = self.snapshot.load();
        let active_age = snapshot.active_since(now).map(|since| now.since(since));
        StekStats {
            active: snapshot.sealing(now).map(|stek| *stek.name()),
            active_age,
            over_age: active_age.is_some_and(|age| self.settings.rotation.is_over_age(age)),
            interval: Some(self.settings.rotation.sealing_time()),
            keys: snapshot.len() as u64,
            source: self.source_name,
            ..self.keeper.lock().stats(terms.clock.monotonic())
        }
    }
}
