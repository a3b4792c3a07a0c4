//! When STEKs are made, brought forward, retired and dropped: the rules of every source that makes
//! STEKs by itself and on schedule.

use std::time::Duration;

use crate::clock::Time;
use crate::rotation::{Rotation, Window};

/// A key and the window in which it may be used.
#[derive(Clone, Debug)]
pub(crate) struct Planned<T> {
    pub(crate) key: T,
    pub(crate) window: Window,
}

/// The time by more than one clock. A key is given up, or cut short, only as far as all of them say
/// so: none that is wrong costs keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    pub(crate) earliest: Time,
    pub(crate) latest: Time,
}

impl Clocks {
    pub(crate) fn new(one: Time, other: Time) -> Self {
        Self {
            earliest: one.min(other),
            latest: one.max(other),
        }
    }

    /// With another clock, which does not count where it is ahead.
    pub(crate) fn or_before(self, time: Time) -> Self {
        Self {
            earliest: self.earliest.min(time),
            ..self
        }
    }

    pub(crate) fn agree_within(self, skew: Duration) -> bool {
        self.latest.since(self.earliest) <= skew
    }
}

impl From<Time> for Clocks {
    fn from(time: Time) -> Self {
        Self::new(time, time)
    }
}

/// Decides which keys there must be at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planner<'a> {
    pub(crate) now: Time,
    pub(crate) clocks: Clocks,
    pub(crate) rotation: &'a Rotation,
    /// How far behind the clocks of others with these keys may be. A key is published as of so long
    /// ago: whoever has it may open with it, whatever the time is there.
    pub(crate) max_skew: Duration,
    /// No key may be published before this.
    pub(crate) not_before: Time,
    /// Whether another key must seal from now on.
    pub(crate) rotate: bool,
}

impl Planner<'_> {
    /// Drops expired keys, makes sure that one seals now, and publishes its successor when that is
    /// due. True if anything changed.
    pub(crate) fn update<T, E>(
        self,
        keys: &mut Vec<Planned<T>>,
        mut make: impl FnMut() -> Result<T, E>,
    ) -> Result<bool, E> {
        let mut changed = self.drop_expired(keys);
        let sealed = keys.iter().any(|key| key.window.seals(self.now));
        if self.rotate {
            self.retire_current(keys); // so that another must seal, below
        }
        let published = self.now.minus(self.max_skew).max(self.not_before);
        // The earliest at which a key made here could seal: later only if a clock is behind that of
        // whoever says that none may be published yet.
        let first = self.now.max(published);
        if sealed_until(keys, first) == first {
            // Where another key sealed until now, a node whose clock is behind continues with that
            // one. Else it must be able to start with this one: it activates in the past, but by no
            // more than half an interval, so that it still seals for the other half.
            let half = self.rotation.sealing_time().checked_div(2);
            let behind = match sealed {
                true => Duration::ZERO,
                false => self.max_skew.min(half.unwrap_or_default()),
            };
            let activates = self.now.minus(behind).max(published);
            let window = self.rotation.window(published, activates);
            let upcoming = keys
                .iter_mut()
                .filter(|key| key.window.activates > first)
                .min_by_key(|key| key.window.activates);
            match upcoming {
                Some(next) => next.window = next.window.earlier(window),
                None => keys.push(Planned {
                    key: make()?,
                    window,
                }),
            }
            changed = true;
        }
        let end = sealed_until(keys, first);
        if end <= first.plus(self.rotation.ahead()) {
            keys.push(Planned {
                key: make()?,
                window: self.rotation.window(published, end),
            });
            changed = true;
        }
        Ok(changed)
    }

    /// Also drops what was published a whole lifetime in the future: by a wrong clock, since set
    /// right.
    fn drop_expired<T>(&self, keys: &mut Vec<Planned<T>>) -> bool {
        let before = keys.len();
        let latest = self.clocks.latest;
        let horizon = self.rotation.window(latest, latest).expires;
        keys.retain(|key| {
            self.clocks.earliest < key.window.expires && key.window.published <= horizon
        });
        keys.len() != before
    }

    fn retire_current<T>(&self, keys: &mut [Planned<T>]) {
        let end = match self.clocks.agree_within(self.rotation.ahead()) {
            true => self.now,
            false => self.now.max(self.clocks.latest),
        };
        for key in keys.iter_mut().filter(|key| key.window.seals(self.now)) {
            key.window.retires = self.now;
            let expires = end.plus(self.rotation.lifetime());
            // Nobody takes a record in which a key opens for longer than that.
            let latest = self.now.plus(Rotation::MAX_TICKET_LIFETIME);
            key.window.expires = key.window.expires.min(expires).min(latest);
        }
    }
}

/// Until when there is always a key that seals, from `now` on.
fn sealed_until<T>(keys: &[Planned<T>], now: Time) -> Time {
    let mut end = now;
    // Each round moves the end to where some key retires, so there are no more rounds than keys.
    while let Some(key) = keys.iter().find(|key| key.window.seals(end)) {
        end = key.window.retires;
    }
    end
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(60 * 60);
    const START: Time = Time(1_800_000_000_000);

    /// Numbers stand for keys, in the order in which they are made.
    #[derive(Default)]
    struct Keys {
        keys: Vec<Planned<u32>>,
        made: u32,
    }

    impl Keys {
        fn step(&mut self, now: Time, max_skew: Duration, rotate: bool) -> bool {
            let planner = Planner {
                now,
                clocks: now.into(),
                rotation: &Rotation::new(),
                max_skew,
                not_before: Time(0),
                rotate,
            };
            let made = &mut self.made;
            let make = || {
                *made += 1;
                Ok::<_, Infallible>(*made)
            };
            planner.update(&mut self.keys, make).unwrap()
        }

        fn numbers(&self) -> Vec<u32> {
            self.keys.iter().map(|key| key.key).collect()
        }

        /// The key that a ring would seal with.
        fn active(&self, now: Time) -> Option<u32> {
            let sealing = self.keys.iter().filter(|key| key.window.seals(now));
            let active = sealing.max_by_key(|key| key.window.activates);
            active.map(|key| key.key)
        }
    }

    #[test]
    fn nothing_changes_until_the_successor_is_due() {
        let mut keys = Keys::default();
        assert!(keys.step(START, Duration::ZERO, false));
        assert!(!keys.step(START, MINUTE, false));
        assert!(!keys.step(START.plus(54 * MINUTE), MINUTE, false));
        assert!(keys.step(START.plus(55 * MINUTE), MINUTE, false));
        assert_eq!(keys.numbers(), [1, 2]);
        let next = keys.keys[1].window;
        assert_eq!(next.published, START.plus(54 * MINUTE));
        assert_eq!(next.activates, START.plus(HOUR));
    }

    #[test]
    fn the_first_key_seals_at_once_where_the_clock_is_behind() {
        let mut keys = Keys::default();
        keys.step(START, 5 * MINUTE, false);
        assert_eq!(keys.active(START.minus(5 * MINUTE)), Some(1));
        assert_eq!(keys.keys[0].window.retires, START.plus(55 * MINUTE));
    }

    #[test]
    fn the_first_key_seals_for_half_an_interval_at_least() {
        let mut keys = Keys::default();
        keys.step(START, 50 * MINUTE, false);
        let window = keys.keys[0].window;
        assert_eq!(window.published, START.minus(50 * MINUTE));
        assert_eq!(window.activates, START.minus(30 * MINUTE));
        assert_eq!(window.retires, START.plus(30 * MINUTE));
    }

    #[test]
    fn what_is_published_a_whole_life_ahead_is_dropped_and_no_sooner() {
        for (ahead, is_kept) in [(13 * HOUR, true), (13 * HOUR + MINUTE, false)] {
            let mut keys = Keys::default();
            keys.step(START, MINUTE, false);
            keys.keys.push(Planned {
                key: 99,
                window: Rotation::new().window(START.plus(ahead), START.plus(ahead)),
            });
            keys.step(START, MINUTE, false);
            assert_eq!(keys.numbers().contains(&99), is_kept);
        }
    }

    #[test]
    fn after_a_forced_rotation_a_clock_behind_seals_with_the_old_key_and_opens_with_the_new() {
        let mut keys = Keys::default();
        keys.step(START, 5 * MINUTE, false);
        let now = START.plus(10 * MINUTE);
        keys.step(now, 5 * MINUTE, true);
        assert_eq!(keys.active(now), Some(2));
        let behind = now.minus(5 * MINUTE);
        assert_eq!(keys.active(behind), Some(1));
        assert!(keys.keys.iter().all(|key| key.window.opens(behind)));
        assert_eq!(keys.keys[0].window.expires, now.plus(12 * HOUR));
    }

    #[test]
    fn a_forced_rotation_by_a_clock_that_is_behind_cuts_no_life_short() {
        let mut keys = Keys::default();
        keys.step(START, MINUTE, false);
        let before = keys.keys[0].window;
        let now = START.plus(3 * HOUR);
        let behind = START.plus(30 * MINUTE);
        let planner = Planner {
            now: behind,
            clocks: Clocks::new(now, behind),
            rotation: &Rotation::new(),
            max_skew: MINUTE,
            not_before: Time(0),
            rotate: true,
        };
        planner
            .update(&mut keys.keys, || Ok::<_, Infallible>(9))
            .unwrap();
        let after = keys.keys[0].window;
        assert_eq!((after.retires, after.expires), (behind, before.expires));
    }

    #[test]
    fn a_clock_that_was_ahead_leaves_nothing_for_long() {
        let mut keys = Keys::default();
        keys.step(START, MINUTE, false);
        let year = 365 * 24 * HOUR;
        keys.step(START.plus(year), MINUTE, false);
        assert_eq!(keys.numbers(), [2], "the first has expired there");
        keys.step(START.plus(MINUTE), MINUTE, false);
        assert_eq!(keys.numbers(), [3], "the second is of the future");
        assert_eq!(keys.active(START.plus(MINUTE)), Some(3));
    }

    #[test]
    fn a_clock_that_was_behind_shortens_the_life_of_the_oldest_key_alone() {
        let mut keys = Keys::default();
        keys.step(START, MINUTE, false);
        for hour in 1..5 {
            keys.step(START.plus(hour * HOUR - 5 * MINUTE), MINUTE, false);
        }
        let now = START.plus(5 * HOUR - 10 * MINUTE);
        let (active, before) = (keys.active(now), keys.keys.clone());
        keys.step(START.minus(5 * HOUR), MINUTE, false);
        keys.step(now, MINUTE, false);
        assert_eq!(keys.active(now), active);
        assert_eq!(keys.keys[0].window.expires, START.plus(8 * HOUR - MINUTE));
        for (after, before) in keys.keys[1..].iter().zip(&before[1..]) {
            assert_eq!((after.key, after.window), (before.key, before.window));
        }
    }

    #[test]
    fn a_key_of_the_near_future_does_not_keep_the_successor_from_being_published() {
        let mut keys = Keys::default();
        keys.step(START, MINUTE, false);
        keys.keys.push(Planned {
            key: 99,
            window: Rotation::new().window(START, START.plus(3 * HOUR)),
        });
        assert!(keys.step(START.plus(55 * MINUTE), MINUTE, false));
        assert_eq!(keys.active(START.plus(HOUR)), Some(2));
    }

    proptest! {
        #[test]
        fn a_key_always_seals_and_its_successor_is_there_in_time(
            jumps in proptest::collection::vec((0_u64..20_000_000, any::<bool>()), 1..60),
            slack in 0_u64..300_000,
        ) {
            let slack = Duration::from_millis(slack);
            let mut keys = Keys::default();
            let mut now = START;
            keys.step(now, slack, false);
            for (jump, rotate) in jumps {
                now = Time(now.0 + jump);
                keys.step(now, slack, rotate);
                prop_assert!(keys.active(now).is_some());
                let ahead = sealed_until(&keys.keys, now);
                prop_assert!(ahead > now.plus(Rotation::new().ahead()));
                for key in &keys.keys {
                    let Window { published, activates, retires, expires } = key.window;
                    prop_assert!(published <= activates && activates <= retires);
                    prop_assert!(expires.since(now) <= 14 * HOUR && now < expires);
                    prop_assert!(retires.plus(12 * HOUR) >= expires);
                }
            }
        }
    }
}
