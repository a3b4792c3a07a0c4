use std::time::Duration;

use super::events::Event;
use crate::clock::Time;

/// Notices when wall time and monotonic time part: the clock was set, or the machine slept.
#[derive(Debug, Default)]
pub(crate) struct Jumps {
    last: Option<(Time, Duration)>,
}

/// What time services correct without a step is less, and no window of a STEK depends on it.
const WORTH_TELLING: Duration = Duration::from_secs(60);

impl Jumps {
    /// Whether wall time has jumped since this was last called.
    pub(crate) fn look(&mut self, wall: Time, monotonic: Duration) -> Option<Event> {
        let (then, began) = self.last.replace((wall, monotonic))?;
        let expected = then.plus(monotonic.saturating_sub(began));
        let (ahead, back) = (wall.since(expected), expected.since(wall));
        match (ahead >= WORTH_TELLING, back >= WORTH_TELLING) {
            (true, _) => Some(Event::ClockAhead { by: ahead }),
            (_, true) => Some(Event::ClockBack { by: back }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_of_a_minute_and_more_are_noticed_once_and_time_that_passes_is_none() {
        let at = |seconds: i64| Time::from_millis(seconds * 1_000);
        let mut jumps = Jumps::default();
        let mut look = |wall, seconds| jumps.look(at(wall), Duration::from_secs(seconds));
        assert_eq!(look(1_000_000, 7), None);
        assert_eq!(look(1_003_600, 3_607), None, "an hour has passed");
        assert_eq!(look(1_003_660, 3_608), None, "59 seconds are no jump");
        let by = Duration::from_secs(86_400);
        assert_eq!(look(1_090_061, 3_609), Some(Event::ClockAhead { by }));
        assert_eq!(look(1_090_062, 3_610), None, "it was told");
        assert_eq!(look(1_003_663, 3_611), Some(Event::ClockBack { by }));
    }
}
