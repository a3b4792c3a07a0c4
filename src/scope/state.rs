use std::sync::Arc;
use std::sync::atomic::AtomicU64 as ProcessAtomicU64;
use std::time::Duration;

use super::{Forgotten, Scope, ScopeDigest};
use crate::clock::{Moment, Time, millis};
use crate::lineage::Lineage;
use crate::rotation::Rotation;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What a cache or ring knows about a scope; shared by all handles of that scope.
#[derive(Debug)]
pub(crate) struct ScopeState {
    pub(crate) scope: Scope,
    /// Stands for the scope in the cache's keys; changes when the scope is forgotten, so that
    /// everything stored before is out of reach at once. 0 while it gets another.
    pub(super) number: AtomicU32,
    pub(super) own: Extent,
    /// The same of every scope.
    pub(super) all: Arc<Extent>,
    /// Whether anything was stored under any of its numbers.
    pub(super) has_stored: AtomicBool,
}

/// How far a scope was forgotten, or all scopes, known or not.
#[derive(Debug, Default)]
pub(super) struct Extent {
    /// Which call was the last, as [`times_forgotten`] counts them; 0 if there was none.
    incident: AtomicU64,
    /// When that was, by monotonic time in milliseconds.
    called: AtomicU64,
    /// Where there are no generations, sessions born up to this time (in milliseconds) do not resume.
    time: AtomicU64,
    /// What is bound to an earlier generation does not resume. 0 unless all processes that share the
    /// STEKs know it. Of all scopes, 0 but in a forked child that does not know all that have handles.
    opening: AtomicU64,
    /// What is sealed is bound to this one, which comes after.
    generation: AtomicU64,
}

impl Extent {
    /// Notes a call that was made then. Whoever reads these reads them the other way round.
    fn note(&self, now: Moment) {
        self.called
            .fetch_max(millis(now.monotonic), Ordering::AcqRel);
        self.incident.fetch_max(next_incident(), Ordering::AcqRel);
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn forget(&self, now: Moment) {
        self.note(now);
        self.time.fetch_max(now.time.0, Ordering::AcqRel);
    }

    /// Of a scope that is met now, of which nothing is under way.
    pub(super) fn since(forgotten: Forgotten) -> Self {
        let Forgotten { time, generation } = forgotten;
        let incident = match time {
            Time(0) => 0,
            _ => next_incident(),
        };
        Self {
            called: AtomicU64::new(0),
            incident: AtomicU64::new(incident),
            time: AtomicU64::new(time.0),
            opening: AtomicU64::new(generation),
            generation: AtomicU64::new(generation),
        }
    }

    /// Takes over a generation. A handshake that begins in the middle of a call may have opened what
    /// was made before it. So first nothing of that opens any more, then all that began by then is
    /// known to have begun before, and only then is anything bound to the generation.
    pub(super) fn heed(&self, generation: u64, now: Moment) {
        if self.generation() < generation {
            self.opening.fetch_max(generation, Ordering::AcqRel);
            self.note(now);
            self.generation.fetch_max(generation, Ordering::AcqRel);
        }
    }
}

/// To which generation of its scope a session is bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bound {
    /// Whoever made it had forgotten what is forgotten here, so made it of nothing before that.
    Current,
    Earlier,
    /// There are no generations; when it was made decides.
    Never,
}

/// The birth of what is not to resume, because its scope was forgotten while its handshake was under
/// way.
const NEVER: Time = Time(0);

impl ScopeState {
    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Acquire)
    }

    #[cfg(all(test, rustls_resumption_shuttle))]
    pub(crate) fn pretend_number(&self, number: u32) {
        self.number.store(number, Ordering::Release);
    }

    /// The greater of what holds for it and for all.
    #[inline(always)]
    fn greater(&self, of: impl Fn(&Extent) -> &AtomicU64) -> u64 {
        let own = of(&self.own).load(Ordering::Acquire);
        own.max(of(&self.all).load(Ordering::Acquire))
    }

    pub(super) fn forgotten(&self) -> Time {
        Time(self.greater(|extent| &extent.time))
    }

    /// Which call forgot it last; 0 if none did.
    #[inline(always)]
    fn incident(&self) -> u64 {
        self.greater(|extent| &extent.incident)
    }

    /// What a session in a shared store is bound to: the scope and a generation of it. The last 8 of
    /// the 32 bytes of a hash are enough to spare.
    pub(crate) fn binding(&self, generation: u64) -> ScopeDigest {
        let mut binding = *self.scope.digest();
        if let Some(last) = binding.last_chunk_mut() {
            *last = (u64::from_be_bytes(*last) ^ generation).to_be_bytes();
        }
        binding
    }

    /// How far what is sealed for it now must be known to be forgotten; 0 if there are no generations.
    ///
    /// Whoever makes a session reads it before anything else of the scope. Whoever forgets stores it
    /// last, so nothing is bound to a generation that was not compared with its call.
    #[inline(always)]
    pub(crate) fn generation(&self) -> u64 {
        self.greater(|extent| &extent.generation)
    }

    /// The generation of what opens now; 0 if there are none.
    #[inline(always)]
    pub(crate) fn opening(&self) -> u64 {
        self.greater(|extent| &extent.opening)
    }

    /// How a session of this generation stands to what is forgotten here.
    pub(crate) fn bound(&self, generation: u64) -> Bound {
        match self.opening() {
            0 => Bound::Never,
            current if generation < current => Bound::Earlier,
            _ => Bound::Current,
        }
    }

    /// Whether generations decide over what is sealed, and times do not.
    fn has_generation(&self) -> bool {
        self.generation() != 0
    }

    /// Whether that is a later generation than it is at.
    pub(crate) fn is_behind(&self, forgotten: Forgotten) -> bool {
        self.generation() < forgotten.generation
    }

    /// Takes over what was forgotten. What was made before must be out of reach by then.
    pub(crate) fn heed(&self, forgotten: Forgotten, now: Moment) {
        let Forgotten { time, generation } = forgotten;
        if time > self.forgotten() {
            self.own.forget(Moment { time, ..now });
        }
        self.own.heed(generation, now);
    }

    /// The birth of a session made by a full handshake that began at this time, when so much had been
    /// forgotten.
    #[inline(always)]
    pub(crate) fn birth(&self, began: Time, times_forgotten: u64) -> Time {
        match self.incident() {
            0 => began,
            _ => self.birth_since(began, times_forgotten),
        }
    }

    /// Where times decide, the birth is after what was forgotten before, however the clock stands.
    #[cold]
    fn birth_since(&self, began: Time, times_forgotten: u64) -> Time {
        let before = match self.has_generation() {
            true => NEVER,
            false => self.forgotten(),
        };
        // After that was read: whoever forgets notes the call and then the time, so the time of a call
        // that is not known yet does not make a session seem to be born after it.
        match self.incident() > times_forgotten {
            true => NEVER,
            false => began.max(before.next()),
        }
    }

    /// The same of a session that renews one of this birth, which may be by a clock that is ahead. It
    /// was opened by a handshake that began when so much had been forgotten.
    #[inline(always)]
    pub(crate) fn renewed_birth(&self, birth: Time, times_forgotten: u64) -> Time {
        match self.incident() > times_forgotten {
            false => birth,
            true => NEVER,
        }
    }

    /// Whether a session must not be made because the scope was forgotten since its handshake began.
    /// Where nobody saw it begin, it may have been under way for so long.
    #[inline(always)]
    pub(crate) fn withholds(
        &self,
        lineage: Lineage,
        made: Time,
        under_way: impl FnOnce() -> UnderWay,
    ) -> bool {
        self.incident() != 0 && self.withholds_since(lineage, made, under_way())
    }

    #[cold]
    fn withholds_since(&self, lineage: Lineage, made: Time, under_way: UnderWay) -> bool {
        match self.has_generation() {
            // Clocks may have been wrong at the call, so times tell nothing.
            true => {
                let called = Duration::from_millis(self.greater(|extent| &extent.called));
                let since = under_way.now.saturating_sub(called);
                lineage.birth == NEVER || !lineage.is_exact() && since <= under_way.here
            }
            false => self.has_forgotten(lineage, made, || under_way.anywhere),
        }
    }

    /// Whether a session must not resume because the scope was forgotten since its birth, where times
    /// decide over that. If the birth is not known exactly, the time at which the session was made
    /// does: the handshake may have been `under_way` for so long.
    #[inline(always)]
    pub(crate) fn has_forgotten(
        &self,
        lineage: Lineage,
        made: Time,
        under_way: impl FnOnce() -> Duration,
    ) -> bool {
        let forgotten = self.forgotten();
        if forgotten == Time(0) {
            return false;
        }
        lineage.birth <= forgotten || !lineage.is_exact() && made <= forgotten.plus(under_way())
    }

    /// Keeps the state for as long as the cache may have a session of it.
    pub(crate) fn note_stored(&self) {
        if !self.has_stored.load(Ordering::Relaxed) {
            self.has_stored.store(true, Ordering::Relaxed);
        }
    }

    /// Always moves forward, even if the clock stood still, because births are after the time last
    /// forgotten.
    pub(super) fn forget(&self, now: Moment) {
        let time = now.time.max(self.forgotten().next());
        self.own.forget(Moment { time, ..now });
    }

    /// Whether what it has forgotten beyond the others need not be remembered.
    pub(super) fn may_be_dropped(&self, now: Moment) -> bool {
        let [own, all] = [&self.own, &*self.all].map(|it| it.incident.load(Ordering::Acquire));
        let called = Duration::from_millis(self.own.called.load(Ordering::Acquire));
        own <= all || called.saturating_add(MEMORY) < now.monotonic
    }
}

/// The longest that anything may be offered again after it was issued: what was forgotten before
/// need not be remembered.
pub(super) const MEMORY: Duration = Rotation::MAX_TICKET_LIFETIME;

/// For how long a handshake may have been under way that nobody saw begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnderWay {
    /// In this process.
    pub(crate) here: Duration,
    /// In another one too, which learns later of what was forgotten.
    pub(crate) anywhere: Duration,
    /// The monotonic time now.
    pub(crate) now: Duration,
}

// Of the standard library always: one for all tests, of which shuttle runs each in a world of its own.
static INCIDENTS: ProcessAtomicU64 = ProcessAtomicU64::new(0);

/// How often anything was forgotten in this process. What began at a lower number began before.
pub(crate) fn times_forgotten() -> u64 {
    INCIDENTS.load(Ordering::Acquire)
}

fn next_incident() -> u64 {
    INCIDENTS.fetch_add(1, Ordering::AcqRel).saturating_add(1)
}

/// For models, which go on from one standing in several ways.
#[cfg(test)]
impl Extent {
    pub(super) fn twin(&self) -> Self {
        let load = |number: &AtomicU64| AtomicU64::new(number.load(Ordering::Acquire));
        Self {
            called: load(&self.called),
            incident: load(&self.incident),
            time: load(&self.time),
            opening: load(&self.opening),
            generation: load(&self.generation),
        }
    }
}
