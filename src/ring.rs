use std::cmp::Reverse;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::{Basis, Clock, instant_in};
use crate::context;
use crate::counters::Counters;
use crate::error::Error;
use crate::hook::Hook;
use crate::outside::Outside;
use crate::rotation::Rotation;
use crate::stats::{HeldStek, StekStats, TicketStats};
use crate::stek::KeyName;
use crate::sync::{ArcSwap, Mutex};
use crate::terms::Terms;

mod answer;
mod asking;
mod events;
mod held;
#[cfg(all(test, rustls_resumption_shuttle))]
mod interleavings;
mod introduced;
mod jumps;
mod keeper;
mod opened;
mod revoked;
mod settings;
mod slots;
mod snapshot;
mod supply;
#[cfg(test)]
mod tests;
mod tickets;

use events::Event;
pub(crate) use introduced::Introduced;
use keeper::Keeper;
pub(crate) use settings::{DEFAULT_SOURCE_DEADLINE, RingSettings};
pub(crate) use snapshot::Snapshot;
pub(crate) use supply::ROTATION_DEADLINE;
use supply::{LOST, PATIENCE, Supply, Wish};
pub(crate) use tickets::SharingKey;

/// How long set-up waits before it asks a failed source again.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// STEKs, each with its window. Handshakes read one immutable [`Snapshot`] of them; a step does
/// what is due, has the source asked, and stores the next snapshot. [`StekRing`](crate::StekRing)
/// is the handle on it.
///
/// ```text
///  step ──▶ tend: expire, wipe, activate, fall back ──▶ Snapshot ──▶ handshakes
///    └────▶ ask ──▶ the source, on a thread of its own ──▶ take its answer ──▶ Snapshot
/// ```
pub(crate) struct Ring {
    /// What handshakes read.
    snapshot: ArcSwap<Snapshot>,
    /// Makes the next snapshot, which is stored while this is locked. Handshakes never lock it.
    keeper: Mutex<Keeper>,
    supply: Supply,
    settings: RingSettings,
    counters: Counters<TicketStats>,
    /// Follows what was heard of other processes.
    follow: Hook,
}

impl Ring {
    /// A ring that has no keys yet. Its settings were validated.
    pub(crate) fn new(
        settings: RingSettings,
        source: Option<Introduced>,
        clock: &Clock,
    ) -> Arc<Self> {
        context::read();
        Arc::new(Self {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            keeper: Mutex::new(Keeper::default()),
            supply: Supply::new(source, clock.runs()),
            settings,
            counters: Counters::new(),
            follow: Hook::default(),
        })
    }

    /// Has this called when a source has answered: once what it heard is known, before its STEKs are
    /// in use, and once they are.
    pub(crate) fn follow_with(&self, follow: impl Fn() + Send + Sync + 'static) {
        self.follow.set(follow);
    }

    /// A ring that continues with the keys of this one in a forked child. It waits for no lock,
    /// since threads that were not forked may have held any. The keys here are dropped, so that
    /// they are wiped when they expire there; only a snapshot that another thread was just reading
    /// is never dropped.
    pub(crate) fn heir(&self, terms: &Terms, outside: &Outside) -> Arc<Self> {
        let snapshot = self.snapshot.load_full();
        let monotonic = terms.clock.monotonic();
        let inherited = self.keeper.try_lock();
        let mut keeper = match inherited {
            Some(mut keeper) => std::mem::take(&mut *keeper),
            None => Keeper::of(&snapshot, &self.settings),
        };
        self.snapshot.store(Arc::default());
        let supply = self.supply.heir(keeper.sourced());
        if supply.is_lost() {
            keeper
                .health
                .note_unanswered("it was in use when this process was forked", monotonic);
            let source = supply.name;
            events::tell(vec![Event::SourceLost { source }], &outside.log);
        }
        Arc::new(Self {
            snapshot: ArcSwap::new(snapshot),
            keeper: Mutex::new(keeper),
            supply,
            settings: self.settings.clone(),
            counters: Counters::new(),
            follow: Hook::default(),
        })
    }

    /// Holds every lock, as threads that were not forked may.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> impl Sized {
        (self.keeper.lock(), self.supply.hold())
    }

    /// Whether other processes may have the same STEKs.
    pub(crate) fn is_shared(&self) -> bool {
        self.supply.is_shared
    }

    /// Whether the source was lost in a fork: it hears of nothing, and tells nobody.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.supply.is_lost()
    }

    /// Which clock decides.
    pub(crate) fn basis(&self) -> Basis {
        match self.supply.is_shared {
            true => Basis::Wall,
            false => Basis::Steady,
        }
    }

    pub(crate) fn rotation(&self) -> &Rotation {
        &self.settings.rotation
    }

    pub(crate) fn ticket_lifetime(&self) -> Duration {
        self.settings.rotation.lifetime()
    }

    /// Whether the source has answered, and can be asked again, and a STEK seals.
    pub(crate) fn is_ready(&self, terms: &Terms) -> bool {
        self.keeper.lock().health.has_answered()
            && !self.is_cut_off()
            && self.snapshot.load().sealing(terms.now()).is_some()
    }

    /// Drops every key for good: nothing is sealed or opened any more.
    pub(crate) fn close(&self) {
        {
            let mut keeper = self.keeper.lock();
            keeper.close();
            self.snapshot.store(Arc::default());
        }
        self.supply.close();
    }

    /// Waits until the source is not being asked or dropped. False if the deadline passed first.
    pub(crate) fn wait_for_source(&self, deadline: Duration) -> bool {
        let until = instant_in(deadline);
        while self.supply.is_busy() {
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Does what is due: publishes, activates, retires, wipes, falls back, and has the source
    /// asked. Returns the longest time to wait before the next step.
    pub(crate) fn step(self: &Arc<Self>, terms: &Terms, outside: &Outside) -> Duration {
        let (now, monotonic) = (terms.now(), terms.clock.monotonic());
        let worn = self.snapshot.load().is_worn(now) && self.supply.can_rotate();
        let wall = terms.clock.now().wall;
        let (jump, without, is_any_due) = {
            let mut keeper = self.keeper.lock();
            let jump = keeper.jumps.look(wall, monotonic);
            (
                jump,
                keeper.without_since(now, monotonic),
                keeper.is_due(now),
            )
        };
        events::tell(Vec::from_iter(jump), &outside.log);
        let standing = self.supply.look(monotonic, without);
        if self.supply.is_own {
            self.keeper.lock().health.note_well(monotonic); // it always answers
        }
        let is_due = match self.supply.is_own {
            // Its work is due when something is due here.
            true => is_any_due,
            false => standing.is_due,
        };
        if let Some(waited) = standing.just_late {
            let source = self.supply.name;
            let is_news = self.keeper.lock().health.note_late(waited, monotonic);
            let late = is_news.then_some(Event::SourceLate { source, waited });
            events::tell(Vec::from_iter(late), &outside.log);
        }
        if worn || is_due {
            let wish = Wish {
                rotate: worn,
                waiting: Vec::new(),
            };
            self.ask(terms, outside, wish);
        }
        let standing = self.supply.look(monotonic, without);
        // This fails only if no random key can be made. Then none seals, which is logged.
        let _ = self.tend(terms, outside, standing.is_awaited);
        let idle = self.keeper.lock().idle(now);
        idle.min(standing.next)
    }

    /// Asks the source for the first time. If it does not answer by the deadline, the ring starts
    /// with local random STEKs, and logs that.
    pub(crate) fn begin(self: &Arc<Self>, terms: &Terms, outside: &Outside) -> Result<(), Error> {
        let (source, deadline) = (self.supply.name, self.settings.source_deadline);
        if !self.supply.is_own {
            events::tell(vec![Event::Begun { source, deadline }], &outside.log);
        }
        let until = instant_in(deadline);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Err(error) = self.ask_and_wait(terms, outside, false, left) else {
                return Ok(());
            };
            if self.supply.is_own {
                return Err(error); // the random source: there is nothing to wait for
            }
            let left = until.saturating_duration_since(Instant::now());
            if !terms.clock.runs() || left.is_zero() {
                break;
            }
            thread::sleep(BETWEEN_TRIES.min(left));
        }
        self.tend(terms, outside, false)
    }

    /// Makes another STEK seal from now on.
    pub(crate) fn rotate(self: &Arc<Self>, terms: &Terms, outside: &Outside) -> Result<(), Error> {
        if !self.supply.can_rotate() {
            let why = "rotates by its schedule only; to put a key out of use, revoke it";
            return Err(Error::source(self.supply.name, why));
        }
        if self.supply.is_lost() {
            return Err(Error::source(self.supply.name, LOST));
        }
        if let Some(waited) = self.supply.late_for(terms.clock.monotonic()) {
            let why = format!("it has not answered for {waited:?}");
            return Err(Error::source(self.supply.name, why));
        }
        let deadline = ROTATION_DEADLINE.max(self.settings.source_deadline);
        self.ask_and_wait(terms, outside, true, deadline)
    }

    /// Drops and wipes one STEK or all, here and now. Returns how many.
    pub(crate) fn revoke(&self, terms: &Terms, outside: &Outside, name: Option<&KeyName>) -> usize {
        let mut events = Vec::new();
        let revoked = {
            let mut keeper = self.keeper.lock();
            let now = terms.now();
            let revoked = keeper.revoke(name, now, terms.clock.monotonic(), &mut events);
            self.snapshot.store(Arc::new(keeper.snapshot()));
            revoked
        };
        events::tell(events, &outside.log);
        revoked
    }

    /// Activates another STEK where the active one was revoked: the source's if it answers in time,
    /// else a local one.
    pub(crate) fn succeed(self: &Arc<Self>, terms: &Terms, outside: &Outside) -> Result<(), Error> {
        // A failure was logged and counted, and local random keys seal.
        let told = match self.supply.late_for(terms.clock.monotonic()) {
            None => self.ask_and_wait(terms, outside, false, PATIENCE),
            Some(late) => {
                let why = format!("it was asked {late:?} ago and has not answered yet");
                Err(Error::source(self.supply.name, why))
            }
        };
        let _ = self.tend(terms, outside, false);
        told
    }

    /// Does what is due: wipes expired keys, logs which one is active, and falls back to local keys
    /// where none of the source's is, unless its answer is still awaited.
    fn tend(&self, terms: &Terms, outside: &Outside, is_awaited: bool) -> Result<(), Error> {
        let mut events = Vec::new();
        let (now, monotonic) = (terms.now(), terms.clock.monotonic());
        let made = {
            let mut keeper = self.keeper.lock();
            let (snapshot, made) = keeper.advance(
                &self.settings,
                now,
                monotonic,
                false,
                is_awaited,
                &mut events,
            );
            if let Some(snapshot) = snapshot {
                self.snapshot.store(Arc::new(snapshot));
            }
            made
        };
        events::tell(events, &outside.log);
        made
    }

    pub(crate) fn ticket_stats(&self) -> TicketStats {
        let counted = self.counters.read();
        TicketStats {
            sealed: counted.sealed.saturating_add(counted.age_unknown),
            ..counted
        }
    }

    /// The STEKs that are held, the newest first.
    pub(crate) fn steks(&self, terms: &Terms) -> Vec<HeldStek> {
        let (snapshot, now) = (self.snapshot.load(), terms.now());
        let active = snapshot.sealing(now).map(|stek| *stek.name());
        let mut held: Vec<_> = snapshot
            .keys()
            .map(|held| (held, held.key.window))
            .collect();
        held.retain(|(_, window)| now < window.expires);
        held.sort_by_key(|(held, window)| Reverse((window.activates, *held.key.stek.name())));
        let shown = held.into_iter().map(|(held, window)| {
            let name = *held.key.stek.name();
            HeldStek::new(name, window, active == Some(name), held.is_local, now)
        });
        shown.collect()
    }

    pub(crate) fn stek_stats(&self, terms: &Terms) -> StekStats {
        let (now, monotonic) = (terms.now(), terms.clock.monotonic());
        let snapshot = self.snapshot.load();
        let active_age = snapshot.active_since(now).map(|since| now.since(since));
        let source_late = self.supply.late_for(monotonic).is_some() || self.is_cut_off();
        let kept = self.keeper.lock().stats(monotonic);
        StekStats {
            active: snapshot.sealing(now).map(|stek| *stek.name()),
            is_ready: self.is_ready(terms),
            active_age,
            over_age: active_age.is_some_and(|age| self.settings.rotation.is_over_age(age)),
            interval: Some(self.settings.rotation.sealing_time()),
            keys: snapshot.len() as u64,
            source: self.supply.name,
            poll_interval: Some(self.supply.poll_interval()),
            source_late,
            fleet_agrees: kept.fleet_agrees.filter(|_| !source_late),
            ..kept
        }
    }
}
