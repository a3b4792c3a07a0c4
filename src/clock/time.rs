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

    pub(crate) fn from_millis(millis: i64) -> Self {
        Self(u64::try_from(millis).unwrap_or(0))
    }

    pub(crate) fn plus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    pub(crate) fn minus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// The time since `earlier`; zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
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
