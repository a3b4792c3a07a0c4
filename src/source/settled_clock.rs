use std::time::Duration;

use crate::clock::Time;

/// How far time has come by both clocks: the wall clock, as far as the monotonic clock confirms it.
///
/// The monotonic clock knows no date, but the difference between the two tells whether the wall
/// clock was set meanwhile. A difference is believed once it was seen for the settling time, and of
/// all that were seen within that time the lowest counts. So a wall clock that was ahead and was
/// corrected within the settling time was never believed; one that jumped ahead for good, as after
/// a suspension, is believed after one to two settling times; and while both clocks agree, nothing
/// lags.
#[derive(Debug, Default)]
pub(super) struct SettledClock {
    current: Option<Period>,
    /// The lowest difference of the period before, which lasted for the settling time.
    previous: Option<Difference>,
}

/// A period of observation.
#[derive(Debug)]
struct Period {
    /// In monotonic time.
    since: Duration,
    lowest: Difference,
}

/// Wall time less monotonic time, in milliseconds.
type Difference = i128;

impl SettledClock {
    /// Takes a reading of both clocks. Returns the time that both confirm, if there is one yet.
    pub(super) fn read(
        &mut self,
        wall: Time,
        monotonic: Duration,
        settling: Duration,
    ) -> Option<Time> {
        let lowest = self.observe(wall, monotonic, settling);
        Some(time_at(monotonic, lowest.min(self.previous?)))
    }

    /// The same, except that the first reading is believed at once: only a jump that is seen has to
    /// last.
    pub(super) fn read_from_start(
        &mut self,
        wall: Time,
        monotonic: Duration,
        settling: Duration,
    ) -> Time {
        let lowest = self.observe(wall, monotonic, settling);
        time_at(monotonic, lowest.min(self.previous.unwrap_or(lowest)))
    }

    /// Returns the lowest difference of this period.
    fn observe(&mut self, wall: Time, monotonic: Duration, settling: Duration) -> Difference {
        let difference = i128::from(wall.0).saturating_sub(millis(monotonic));
        let period = self.current.get_or_insert(Period {
            since: monotonic,
            lowest: difference,
        });
        period.lowest = period.lowest.min(difference);
        if monotonic.saturating_sub(period.since) >= settling {
            self.previous = Some(period.lowest);
            *period = Period {
                since: monotonic,
                lowest: difference,
            };
        }
        period.lowest
    }
}

fn time_at(monotonic: Duration, difference: Difference) -> Time {
    let wall = difference.saturating_add(millis(monotonic));
    Time(u64::try_from(wall).unwrap_or(0))
}

fn millis(monotonic: Duration) -> i128 {
    i128::try_from(monotonic.as_millis()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    const NOW: Time = Time(1_800_000_000_000);

    /// Readings at these monotonic times, with the wall clock as far ahead as given.
    fn readings(readings: &[(Duration, Duration)]) -> Vec<Option<Time>> {
        let mut clock = SettledClock::default();
        readings
            .iter()
            .map(|(at, ahead)| clock.read(NOW.plus(*at).plus(*ahead), *at, 2 * HOUR))
            .collect()
    }

    #[test]
    fn nothing_is_settled_until_the_settling_time_has_passed() {
        let none = Duration::ZERO;
        let settled = readings(&[
            (none, none),
            (HOUR, none),
            (2 * HOUR, none),
            (3 * HOUR, none),
        ]);
        let at = |hours| Some(NOW.plus(hours * HOUR));
        assert_eq!(settled, [None, None, at(2), at(3)]);
    }

    #[test]
    fn while_the_clocks_agree_nothing_lags() {
        let none = Duration::ZERO;
        let settled = readings(&[
            (none, none),
            (50 * HOUR, none),
            (50 * HOUR + HOUR / 60, none),
        ]);
        assert_eq!(settled[1], Some(NOW.plus(50 * HOUR)));
        assert_eq!(settled[2], Some(NOW.plus(50 * HOUR + HOUR / 60)));
    }

    #[test]
    fn a_clock_that_was_wrong_at_first_was_never_believed() {
        let none = Duration::ZERO;
        let settled = readings(&[
            (none, 10 * YEAR),
            (HOUR, 10 * YEAR),
            (HOUR + HOUR / 2, none),
            (2 * HOUR, none),
            (4 * HOUR, none),
        ]);
        assert_eq!(settled[..3], [None, None, None]);
        assert_eq!(settled[3], Some(NOW.plus(2 * HOUR)));
        assert_eq!(settled[4], Some(NOW.plus(4 * HOUR)));
    }

    #[test]
    fn a_jump_ahead_counts_once_it_has_lasted() {
        let none = Duration::ZERO;
        let settled = readings(&[
            (none, none),
            (3 * HOUR, none),
            (4 * HOUR, YEAR),
            (5 * HOUR, YEAR),
            (6 * HOUR, YEAR),
            (7 * HOUR, YEAR),
        ]);
        assert_eq!(settled[2], Some(NOW.plus(4 * HOUR)), "not yet");
        assert_eq!(settled[3], Some(NOW.plus(5 * HOUR)), "nor here");
        assert_eq!(settled[5], Some(NOW.plus(7 * HOUR).plus(YEAR)));
    }

    #[test]
    fn read_from_the_start_only_a_jump_ahead_has_to_last() {
        let mut clock = SettledClock::default();
        let mut read = |at, ahead| clock.read_from_start(NOW.plus(at).plus(ahead), at, 2 * HOUR);
        let none = Duration::ZERO;
        assert_eq!(
            read(none, YEAR),
            NOW.plus(YEAR),
            "there is nothing else to go by"
        );
        assert_eq!(read(HOUR / 2, none), NOW.plus(HOUR / 2));
        for (at, ahead) in [
            (HOUR, YEAR),
            (2 * HOUR, YEAR),
            (3 * HOUR, none),
            (4 * HOUR, none),
        ] {
            assert_eq!(read(at, ahead), NOW.plus(at));
        }
        for at in 5..8 {
            assert_eq!(read(at * HOUR, YEAR), NOW.plus(at * HOUR), "not yet");
        }
        assert_eq!(read(8 * HOUR, YEAR), NOW.plus(8 * HOUR).plus(YEAR));
    }

    #[test]
    fn a_jump_back_counts_at_once() {
        let mut clock = SettledClock::default();
        clock.read(NOW, HOUR, HOUR);
        let before = clock.read(NOW.plus(2 * HOUR), 3 * HOUR, HOUR);
        assert_eq!(before, Some(NOW.plus(2 * HOUR)));
        let back = clock.read(NOW, 3 * HOUR, HOUR);
        assert_eq!(back, Some(NOW));
    }
}
