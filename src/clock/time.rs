use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Time(pub(crate) u64);

impl Time {
    /// Its length in bytes where it is written: six last for nine millennia.
    pub(crate) const LEN: usize = 6;

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let [_, _, bytes @ ..] = self.0.to_be_bytes();
        bytes
    }

    pub(crate) fn from_bytes([a, b, c, d, e, f]: [u8; Self::LEN]) -> Self {
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// Its length in bytes where it is written as whole seconds after an earlier time.
    pub(crate) const AFTER_LEN: usize = 3;

    /// Whole seconds after `earlier`: 0 if that is later, and 194 days at most, which is longer than
    /// any session resumes.
    pub(crate) fn to_bytes_after(self, earlier: Self) -> [u8; Self::AFTER_LEN] {
        const MOST: u64 = (1 << 24) - 1;
        let seconds = self.since(earlier).as_secs().min(MOST);
        let [_, _, _, _, _, bytes @ ..] = seconds.to_be_bytes();
        bytes
    }

    pub(crate) fn from_bytes_after(earlier: Self, [a, b, c]: [u8; Self::AFTER_LEN]) -> Self {
        let seconds = u32::from_be_bytes([0, a, b, c]);
        earlier.plus(Duration::from_secs(seconds.into()))
    }

    pub(crate) fn from_millis(millis: i64) -> Self {
        Self(u64::try_from(millis).unwrap_or(0))
    }

    pub(crate) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    pub(crate) fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// The millisecond after it.
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The time since `earlier`; zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// As `Duration::as_millis`, which reckons with 128 bits. What does not fit is the most that does.
pub(crate) fn millis(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000);
    whole.saturating_add(duration.subsec_millis().into())
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        Self(0).plus(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

impl From<Time> for SystemTime {
    fn from(time: Time) -> Self {
        // Beyond the platform's range a time means "for ever": any distant second will do.
        let duration = Duration::from_millis(time.0);
        UNIX_EPOCH
            .checked_add(duration)
            .or_else(|| UNIX_EPOCH.checked_add(Duration::from_secs(i32::MAX as u64)))
            .unwrap_or(UNIX_EPOCH)
    }
}

/// The instant `duration` from now, for waiting: at most a century, which fits every platform.
pub(crate) fn instant_in(duration: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let now = Instant::now();
    now.checked_add(duration.min(CENTURY)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_after_another_is_written_in_whole_seconds_up_to_194_days() {
        let earlier = Time(1_800_000_000_123);
        for (after, read) in [
            (0, 0),
            (999, 0),
            (1_000, 1_000),
            (16_777_215_999, 16_777_215_000),
            (u64::MAX / 2, 16_777_215_000),
        ] {
            let bytes = Time(earlier.0 + after).to_bytes_after(earlier);
            assert_eq!(Time::from_bytes_after(earlier, bytes).0 - earlier.0, read);
        }
        assert_eq!(Time(1).to_bytes_after(earlier), [0; 3]);
    }
}
