use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::introduced::Introduced;
use crate::errands::guarded;
use crate::source::{RandomSource, SourceKey, SourceQuery, StekSource};
use crate::sync::Mutex;
use crate::sync::mpsc::SyncSender;

/// How long a source may take to answer. One that takes longer counts as failed, and local STEKs
/// stand in as soon as none of its own seals; what it says later is taken all the same.
pub(super) const PATIENCE: Duration = Duration::from_millis(1_500);

/// How long a rotation by hand waits for the source.
pub(crate) const ROTATION_DEADLINE: Duration = Duration::from_secs(15);

/// Why a source is not asked in a process that was forked.
pub(super) const LOST: &str = "it was in use when this process was forked, and so is lost here";

/// Why a source is not asked any more.
pub(super) const CLOSED: &str = "resumption was shut down";

/// The source, and who asks it. It is asked by one thread at a time, on one of its own unless it is
/// known to answer at once. This is locked for moments only, never while the source is asked.
pub(super) struct Supply {
    pub(super) name: &'static str,
    pub(super) is_shared: bool,
    /// Whether it is this crate's random source, which answers at once.
    pub(super) is_own: bool,
    /// Whether it is asked on a thread of its own.
    pub(super) on_thread: bool,
    state: Mutex<State>,
    /// Held once more by a source that is to be dropped.
    leaving: Arc<()>,
}

/// A source that is asked no more, and is to be dropped.
pub(super) struct Leaver {
    source: Box<dyn StekSource>,
    leaving: Arc<()>,
}

struct State {
    /// Here unless it is being asked, or was dropped.
    source: Option<Box<dyn StekSource>>,
    manners: Manners,
    /// How often in a row it has failed.
    failed: u32,
    /// By monotonic time.
    asked: Option<Duration>,
    under_way: Option<UnderWay>,
    /// What is to be asked when it has answered.
    next: Option<Wish>,
    is_closed: bool,
    is_lost: bool,
}

/// What a source said of itself when it was last asked.
#[derive(Clone, Copy)]
pub(super) struct Manners {
    pub(super) poll: Duration,
    pub(super) can_rotate: bool,
}

struct UnderWay {
    since: Duration,
    is_late: bool,
    waiting: Vec<Waiting>,
}

/// What is asked for besides the keys there are.
#[derive(Default)]
pub(super) struct Wish {
    pub(super) rotate: bool,
    /// Who is told when the answer was taken.
    pub(super) waiting: Vec<Waiting>,
}

/// Tells what went wrong, if anything did.
pub(super) type Waiting = SyncSender<Result<(), String>>;

/// What is to be done with a source that has answered.
pub(super) enum After {
    AskAgain(Box<dyn StekSource>, Wish),
    Drop(Leaver),
    Nothing,
}

/// How asking stands at some time.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    /// Whether it should be asked.
    pub(super) is_due: bool,
    /// Whether an answer may still come in time.
    pub(super) is_awaited: bool,
    /// For how long it has been asked, if it has just become late.
    pub(super) just_late: Option<Duration>,
    /// When to look again.
    pub(super) next: Duration,
}

impl Manners {
    /// Of a source that has not been asked yet.
    const UNKNOWN: Self = Self {
        poll: SourceQuery::DEFAULT_INTERVAL,
        can_rotate: true,
    };

    pub(super) fn of(source: &dyn StekSource) -> Self {
        let told = || Self {
            poll: source.poll_interval(),
            can_rotate: source.can_rotate(),
        };
        guarded(told).unwrap_or(Self::UNKNOWN)
    }
}

impl Supply {
    /// `None` stands for the random source, which is this crate's own. Where time does not pass by
    /// itself there are no threads.
    pub(super) fn new(source: Option<Introduced>, time_passes: bool) -> Self {
        let is_own = source.is_none();
        let random = || Introduced {
            source: Box::<RandomSource>::default(),
            name: RandomSource::NAME,
            is_shared: false,
        };
        let Introduced {
            source,
            name,
            is_shared,
        } = source.unwrap_or_else(random);
        Self {
            name,
            is_shared,
            is_own,
            on_thread: time_passes && !is_own,
            state: Mutex::new(State {
                manners: Manners::UNKNOWN,
                source: Some(source),
                failed: 0,
                asked: None,
                under_way: None,
                next: None,
                is_closed: false,
                is_lost: false,
            }),
            leaving: Arc::default(),
        }
    }

    /// The same in a process that was forked. A source that another thread was asking is lost: its
    /// half of the work was not forked.
    pub(super) fn heir<'a>(&self, keys: impl Iterator<Item = &'a SourceKey>) -> Self {
        let inherited = self
            .state
            .try_lock()
            .and_then(|mut state| state.source.take());
        let source = match inherited {
            Some(source) => Some(source),
            None if self.is_own => Some(Box::new(RandomSource::with(keys)) as Box<dyn StekSource>),
            None => None,
        };
        Self {
            name: self.name,
            is_shared: self.is_shared,
            is_own: self.is_own,
            on_thread: self.on_thread,
            state: Mutex::new(State {
                manners: Manners::UNKNOWN,
                is_lost: source.is_none(),
                source,
                failed: 0,
                asked: None,
                under_way: None,
                next: None,
                is_closed: false,
            }),
            leaving: Arc::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn hold(&self) -> impl Sized {
        self.state.lock()
    }

    /// Whether it was lost in a fork.
    pub(super) fn is_lost(&self) -> bool {
        self.state.lock().is_lost
    }

    pub(super) fn can_rotate(&self) -> bool {
        self.state.lock().manners.can_rotate
    }

    pub(super) fn poll_interval(&self) -> Duration {
        self.state.lock().manners.poll
    }

    /// How asking stands at this monotonic time, if none of its STEKs seals since `without`.
    pub(super) fn look(&self, now: Duration, without: Option<Duration>) -> Standing {
        let state = &mut *self.state.lock();
        let poll = match without {
            Some(_) => state.pause(),
            None => state.manners.poll,
        };
        let Some(under_way) = &mut state.under_way else {
            let since = state.asked.map(|asked| now.saturating_sub(asked));
            let left = since.map_or(Duration::ZERO, |since| poll.saturating_sub(since));
            return Standing {
                is_due: !state.is_lost && (left.is_zero() || without > state.asked),
                is_awaited: false,
                just_late: None,
                // One that costs nothing to ask is asked when anything else is due, and one that is
                // lost no more.
                next: match self.is_own || state.is_lost || poll.is_zero() {
                    true => Duration::MAX,
                    false => left,
                },
            };
        };
        let waited = now.saturating_sub(under_way.since);
        let is_late = waited >= PATIENCE;
        let was_late = std::mem::replace(&mut under_way.is_late, is_late);
        Standing {
            is_due: false,
            is_awaited: !is_late,
            just_late: (is_late && !was_late).then_some(waited),
            next: match is_late {
                true => Duration::MAX,
                false => PATIENCE.saturating_sub(waited),
            },
        }
    }

    /// For how long it has not answered, if that is too long.
    pub(super) fn late_for(&self, now: Duration) -> Option<Duration> {
        let state = self.state.lock();
        let waited = now.saturating_sub(state.under_way.as_ref()?.since);
        (waited >= PATIENCE).then_some(waited)
    }

    /// Takes the source, to ask it. `None` if that is under way: then it is asked again after it.
    pub(super) fn begin(&self, wish: Wish, now: Duration) -> Option<(Box<dyn StekSource>, Wish)> {
        let state = &mut *self.state.lock();
        if state.is_closed {
            return None;
        }
        if state.under_way.is_some() {
            let next = state.next.get_or_insert_default();
            next.rotate |= wish.rotate;
            next.waiting.extend(wish.waiting);
            return None;
        }
        let source = state.source.take()?;
        Some(state.begin(source, wish, now))
    }

    /// Gives it back, and says who waits for the answer.
    pub(super) fn end(
        &self,
        source: Box<dyn StekSource>,
        manners: Manners,
        is_good: bool,
        now: Duration,
    ) -> (Vec<Waiting>, After) {
        let state = &mut *self.state.lock();
        state.manners = manners;
        state.failed = match is_good {
            true => 0,
            false => state.failed.saturating_add(1),
        };
        let under_way = state.under_way.take();
        let waiting = under_way.map(|it| it.waiting).unwrap_or_default();
        if state.is_closed {
            return (waiting, After::Drop(self.leaver(source)));
        }
        if let Some(wish) = state.next.take() {
            let (source, wish) = state.begin(source, wish, now);
            return (waiting, After::AskAgain(source, wish));
        }
        state.source = Some(source);
        (waiting, After::Nothing)
    }

    /// Has it asked no more, and drops it, unless it is just being asked: then whoever asks does.
    pub(super) fn close(&self) {
        let leaver = {
            let state = &mut *self.state.lock();
            state.is_closed = true;
            state.next = None;
            state.source.take().map(|source| self.leaver(source))
        };
        if let Some(leaver) = leaver {
            self.leave(leaver);
        }
    }

    /// Whether it is being asked, or dropped.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.state.lock();
        state.under_way.is_some() || Arc::strong_count(&self.leaving) > 1
    }

    /// Made under the lock, so that it is busy throughout.
    fn leaver(&self, source: Box<dyn StekSource>) -> Leaver {
        let leaving = Arc::clone(&self.leaving);
        Leaver { source, leaving }
    }

    /// Drops the source where nobody waits for it: it may join threads of its own, or hang.
    fn leave(&self, leaver: Leaver) {
        if !self.on_thread {
            leaver.leave();
            return;
        }
        let started = guarded(|| {
            thread::Builder::new()
                .name("resumption-source".into())
                .spawn(|| leaver.leave())
        });
        drop(started); // without a thread it was dropped here
    }
}

impl Leaver {
    /// Drops it.
    pub(super) fn leave(self) {
        let Self { source, leaving } = self;
        guarded(|| drop(source));
        drop(leaving);
    }
}

impl State {
    /// How long to leave it alone while local keys stand in: twice its interval once it has failed
    /// twice. No longer, for the fleet should share keys again within seconds after it is well.
    fn pause(&self) -> Duration {
        let intervals = self.failed.clamp(1, 2);
        self.manners.poll.saturating_mul(intervals)
    }

    fn begin(
        &mut self,
        source: Box<dyn StekSource>,
        mut wish: Wish,
        now: Duration,
    ) -> (Box<dyn StekSource>, Wish) {
        self.asked = Some(now);
        self.under_way = Some(UnderWay {
            since: now,
            is_late: false,
            waiting: std::mem::take(&mut wish.waiting),
        });
        (source, wish)
    }
}

impl Drop for Supply {
    fn drop(&mut self) {
        // In a process that was forked nobody may be there to release the lock.
        let state = self.state.try_lock_for(Duration::from_millis(100));
        let source = state.and_then(|mut state| state.source.take());
        guarded(|| drop(source));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::source_fn;

    fn supply() -> Supply {
        let source = Introduced {
            source: Box::new(source_fn("test", |_| Ok(Vec::new()))),
            name: "test",
            is_shared: false,
        };
        Supply::new(Some(source), false)
    }

    #[test]
    fn an_answer_is_awaited_for_as_long_as_patience_lasts_and_lateness_is_told_once() {
        let supply = supply();
        assert!(supply.look(Duration::ZERO, None).is_due);
        let _asked = supply.begin(Wish::default(), Duration::ZERO).unwrap();
        let almost = PATIENCE - Duration::from_millis(1);
        let early = supply.look(almost, None);
        assert!(early.is_awaited && early.just_late.is_none() && !early.is_due);
        assert_eq!(supply.late_for(almost), None);
        assert_eq!(supply.late_for(PATIENCE), Some(PATIENCE));
        let late = supply.look(PATIENCE, None);
        assert!(!late.is_awaited && late.just_late == Some(PATIENCE));
        let later = supply.look(2 * PATIENCE, None);
        assert!(!later.is_awaited && later.just_late.is_none());
    }

    #[test]
    fn who_wishes_to_rotate_while_the_source_is_asked_has_it_done_thereafter() {
        let supply = supply();
        let (source, _) = supply.begin(Wish::default(), Duration::ZERO).unwrap();
        for rotate in [true, false] {
            let wish = Wish {
                rotate,
                ..Wish::default()
            };
            assert!(supply.begin(wish, Duration::ZERO).is_none());
        }
        let manners = Manners::of(&*source);
        let (_, after) = supply.end(source, manners, true, Duration::ZERO);
        assert!(matches!(after, After::AskAgain(_, wish) if wish.rotate));
    }

    #[test]
    fn a_source_that_is_closed_while_it_is_asked_is_busy_until_it_is_dropped() {
        let supply = supply();
        let (source, _) = supply.begin(Wish::default(), Duration::ZERO).unwrap();
        supply.close();
        assert!(supply.is_busy());
        let manners = Manners::of(&*source);
        let (_, after) = supply.end(source, manners, true, Duration::ZERO);
        assert!(supply.is_busy());
        let After::Drop(leaver) = after else {
            panic!("it is closed");
        };
        leaver.leave();
        assert!(!supply.is_busy());
    }

    #[test]
    fn a_source_that_was_lost_is_never_due() {
        let supply = supply();
        let asked = supply.begin(Wish::default(), Duration::ZERO);
        let heir = supply.heir(std::iter::empty());
        assert!(heir.is_lost() && asked.is_some());
        assert!(!heir.look(Duration::from_secs(3_600), None).is_due);
    }

    #[test]
    fn what_a_child_has_no_need_to_ask_or_cannot_ask_wakes_nobody() {
        let own = Supply::new(None, false);
        let heir = own.heir(std::iter::empty());
        assert_eq!(heir.look(Duration::ZERO, None).next, Duration::MAX);
        let foreign = supply();
        let held = foreign.hold();
        let heir = foreign.heir(std::iter::empty());
        drop(held);
        let standing = heir.look(Duration::ZERO, None);
        assert!(heir.is_lost() && !standing.is_due);
        assert_eq!(standing.next, Duration::MAX);
    }
}
