use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::sync::atomic::{AtomicI64, Ordering};

mod time;

pub(crate) use time::{Time, instant_in, millis};

/// Where the crate reads the time: the system's clocks, or a [`FakeClock`] in a test.
///
/// It has two readings. *Wall* time is what hosts can agree on. *Steady* time starts at wall time,
/// then follows whichever of the wall and the monotonic clock is further ahead, and never goes
/// back: neither a clock stepped back nor a suspended machine lengthens a key's life.
///
/// On Linux it reads the kernel's coarse clocks, which takes a few nanoseconds at the resolution of
/// the timer tick (1 to 10 ms); elsewhere it reads the standard library's.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    reading: Reading,
    /// The furthest that wall time was ever ahead of the monotonic reading; only grows.
    ahead: AtomicI64,
}

enum Reading {
    #[cfg(target_os = "linux")]
    Coarse,
    #[cfg(not(target_os = "linux"))]
    Std(std::time::Instant),
    Fake(FakeClock),
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) wall: Time,
    pub(crate) steady: Time,
    /// Since an arbitrary start.
    pub(crate) monotonic: Duration,
}

/// When something happens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    /// By the clock that decides.
    pub(crate) time: Time,
    /// What no clock that is set changes.
    pub(crate) monotonic: Duration,
}

/// Which of the two readings decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Basis {
    /// One process alone: elapsed time counts.
    Steady,
    /// Several hosts that share keys: only wall time means the same on all of them.
    Wall,
}

/// Steps in which `ahead` grows, so that a clock being slewed does not make every reading a write.
const GRAIN_MS: i64 = 128;

impl Clock {
    /// The system's clocks.
    pub fn system() -> Self {
        #[cfg(target_os = "linux")]
        let reading = Reading::Coarse;
        #[cfg(not(target_os = "linux"))]
        let reading = Reading::Std(std::time::Instant::now());
        Self::with(reading)
    }

    fn with(reading: Reading) -> Self {
        let (wall, monotonic) = reading.read();
        Self(Arc::new(Inner {
            reading,
            ahead: AtomicI64::new(wall.saturating_sub(monotonic)),
        }))
    }

    #[inline(always)]
    pub(crate) fn now(&self) -> Now {
        let (wall, monotonic) = self.0.reading.read();
        let ahead = self.0.ahead.load(Ordering::Acquire);
        let mut steady = monotonic.saturating_add(ahead);
        if wall > steady {
            steady =
                monotonic.saturating_add(self.0.move_ahead(ahead, wall.saturating_sub(steady)));
        }
        Now {
            wall: Time::from_millis(wall),
            steady: Time::from_millis(steady),
            monotonic: since_start(monotonic),
        }
    }

    /// Monotonic time since an arbitrary start: for measuring how long something took.
    pub(crate) fn monotonic(&self) -> Duration {
        since_start(self.0.reading.read().1)
    }

    /// Whether time passes by itself, so that a housekeeping thread makes sense.
    pub(crate) fn runs(&self) -> bool {
        !matches!(self.0.reading, Reading::Fake(_))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}

/// What the monotonic clock reads, in milliseconds.
fn since_start(monotonic: i64) -> Duration {
    Duration::from_millis(u64::try_from(monotonic).unwrap_or(0))
}

impl Inner {
    /// Wall time leads the steady time that was reckoned with so much `ahead`. Returns what is to be
    /// reckoned with.
    #[cold]
    fn move_ahead(&self, ahead: i64, lead: i64) -> i64 {
        let steps = lead.saturating_add(GRAIN_MS - 1) / GRAIN_MS;
        let further = ahead.saturating_add(steps.saturating_mul(GRAIN_MS));
        further.max(self.ahead.fetch_max(further, Ordering::AcqRel))
    }
}

impl Reading {
    /// Wall and monotonic time in milliseconds.
    #[inline(always)] // it is little more than two calls
    fn read(&self) -> (i64, i64) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Coarse => {
                use rustix::time::{ClockId, clock_gettime};
                let wall = clock_gettime(ClockId::RealtimeCoarse);
                let monotonic = clock_gettime(ClockId::MonotonicCoarse);
                // No kernel's clock goes beyond 300 years, and no second has more nanoseconds than fit.
                let millis = |t: rustix::time::Timespec| {
                    let fraction = t.tv_nsec as u32 / 1_000_000;
                    t.tv_sec.wrapping_mul(1_000).wrapping_add(fraction.into())
                };
                (millis(wall), millis(monotonic))
            }
            #[cfg(not(target_os = "linux"))]
            Self::Std(start) => (
                Time::from(SystemTime::now()).0 as i64,
                i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX),
            ),
            Self::Fake(fake) => (
                fake.0.wall.load(Ordering::Acquire),
                fake.0.monotonic.load(Ordering::Acquire),
            ),
        }
    }
}

impl Now {
    pub(crate) fn on(self, basis: Basis) -> Time {
        match basis {
            Basis::Steady => self.steady,
            Basis::Wall => self.wall,
        }
    }

    pub(crate) fn moment(self, basis: Basis) -> Moment {
        Moment {
            time: self.on(basis),
            monotonic: self.monotonic,
        }
    }
}

/// A clock that a test moves by hand. Clones move together.
///
/// ```
/// # use std::time::Duration;
/// use rustls_resumption::{FakeClock, Resumption};
///
/// let time = FakeClock::new();
/// let resumption = Resumption::builder().clock(time.clock()).build()?;
/// let before = resumption.stats().steks.active;
/// time.advance(Duration::from_secs(2 * 60 * 60));
/// resumption.step(); // no thread does so on a fake clock
/// assert_ne!(resumption.stats().steks.active, before);
/// # Ok::<(), rustls_resumption::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FakeClock(Arc<FakeTime>);

#[derive(Debug)]
struct FakeTime {
    wall: AtomicI64,
    monotonic: AtomicI64,
}

impl FakeClock {
    /// Wall time at which a fake clock starts, in seconds since the Unix epoch.
    pub const START: u64 = 1_800_000_000;

    /// A clock set to [`FakeClock::START`].
    pub fn new() -> Self {
        Self::starting_at(Time(Self::START * 1_000).into())
    }

    /// A clock whose wall time starts at `wall`.
    pub fn starting_at(wall: SystemTime) -> Self {
        let wall = i64::try_from(Time::from(wall).0).unwrap_or(i64::MAX);
        Self(Arc::new(FakeTime {
            wall: AtomicI64::new(wall),
            monotonic: AtomicI64::new(0),
        }))
    }

    /// A [`Clock`] for a builder. Each one has its own steady time and shares this wall time.
    pub fn clock(&self) -> Clock {
        Clock::with(Reading::Fake(self.clone()))
    }

    /// Moves both clocks forward: time passes.
    pub fn advance(&self, by: Duration) {
        let by = signed_millis(by);
        // Monotonic time first: otherwise a concurrent reader sees the wall clock stepped ahead,
        // and counts the time twice.
        shift(&self.0.monotonic, by);
        shift(&self.0.wall, by);
    }

    /// Steps the wall clock forward, as NTP does, or as a machine finds it after a suspension.
    pub fn step_forward(&self, by: Duration) {
        shift(&self.0.wall, signed_millis(by));
    }

    /// Steps the wall clock back.
    pub fn step_back(&self, by: Duration) {
        shift(&self.0.wall, signed_millis(by).saturating_neg());
    }

    /// Its wall time.
    pub fn wall(&self) -> SystemTime {
        Time::from_millis(self.0.wall.load(Ordering::Acquire)).into()
    }
}

impl Default for FakeClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Saturates: a clock must not wrap around.
fn shift(clock: &AtomicI64, by: i64) {
    let shifted = |millis: i64| Some(millis.saturating_add(by));
    let _ = clock.fetch_update(Ordering::AcqRel, Ordering::Acquire, shifted);
}

fn signed_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    #[test]
    fn steady_time_starts_at_wall_time() {
        let now = FakeClock::new().clock().now();
        assert_eq!(now.steady, now.wall);
        assert_eq!(now.wall, Time(FakeClock::START * 1_000));
    }

    #[test]
    fn steady_time_never_goes_back_and_never_stops() {
        let fake = FakeClock::new();
        let clock = fake.clock();
        let start = clock.now().steady;
        fake.step_back(5 * HOUR);
        assert_eq!(clock.now().steady, start);
        fake.advance(HOUR);
        assert_eq!(clock.now().steady, start.plus(HOUR));
    }

    #[test]
    fn a_jump_ahead_counts_and_stays_counted() {
        let fake = FakeClock::new();
        let clock = fake.clock();
        let start = clock.now().steady;
        fake.step_forward(10 * HOUR);
        let jumped = clock.now().steady;
        assert!(jumped >= start.plus(10 * HOUR));
        fake.step_back(10 * HOUR);
        assert_eq!(clock.now().steady, jumped);
        assert_eq!(clock.now().wall, start);
    }

    #[test]
    fn a_jump_ahead_counts_as_far_as_the_next_whole_grain() {
        for (jump, counted) in [(1, 1), (GRAIN_MS, 1), (GRAIN_MS + 1, 2), (9 * GRAIN_MS, 9)] {
            let fake = FakeClock::new();
            let clock = fake.clock();
            let start = clock.now().steady;
            fake.step_forward(Duration::from_millis(jump as u64));
            let grains = Duration::from_millis((counted * GRAIN_MS) as u64);
            assert_eq!(clock.now().steady, start.plus(grains), "{jump}");
        }
    }

    #[test]
    fn a_clock_before_1970_or_after_2106_does_not_wrap() {
        let fake = FakeClock::starting_at(UNIX_EPOCH);
        let clock = fake.clock();
        fake.step_back(HOUR);
        assert_eq!(clock.now().wall, Time(0));
        assert_eq!(clock.now().steady, Time(0));
        let fake = FakeClock::starting_at(UNIX_EPOCH + Duration::from_secs(1 << 33));
        assert_eq!(fake.clock().now().wall, Time((1 << 33) * 1_000));
    }

    #[test]
    fn a_clock_at_the_end_of_time_stops_there() {
        let fake = FakeClock::new();
        let clock = fake.clock();
        for _ in 0..3 {
            fake.advance(Duration::MAX);
            fake.step_forward(Duration::MAX);
            assert_eq!(clock.now().wall, Time(i64::MAX as u64));
            assert_eq!(clock.now().steady, Time(i64::MAX as u64));
        }
        for _ in 0..3 {
            fake.step_back(Duration::MAX);
        }
        assert_eq!(clock.now().wall, Time(0));
        assert_eq!(clock.now().steady, Time(i64::MAX as u64));
    }

    #[cfg(rustls_resumption_shuttle)]
    #[test]
    fn shuttle_time_that_passes_while_the_clock_is_read_counts_once() {
        crate::sync::try_schedules(2_000, || {
            let fake = FakeClock::new();
            let clock = fake.clock();
            let start = clock.now().steady;
            let readers = [(); 2].map(|()| {
                let clock = clock.clone();
                shuttle::thread::spawn(move || clock.now())
            });
            fake.advance(HOUR);
            fake.advance(HOUR);
            for reader in readers {
                assert!(reader.join().unwrap().steady <= start.plus(2 * HOUR));
            }
            assert_eq!(clock.now().steady, start.plus(2 * HOUR));
        });
    }

    #[test]
    fn the_system_clock_agrees_with_the_standard_library() {
        let ours = Clock::system().now().wall;
        let theirs = Time::from(SystemTime::now());
        assert!(theirs.since(ours) < Duration::from_secs(5));
        assert_eq!(ours.since(theirs), Duration::ZERO, "it is never ahead");
    }
}
