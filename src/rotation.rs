use std::time::Duration;

use crate::clock::Time;
use crate::error::Error;

/// The shortest interval between rotations, and the resolution of every window: 1 millisecond.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// The longest interval between rotations: 100 years.
const MAX_INTERVAL: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// The schedule of [STEKs](crate::docs::glossary).
///
/// ```text
///  published      activates                 retires                          expires
///  |              |                         |                                |
///  |<-- ahead --->|<------- interval ------>|<------- ticket lifetime ------>|
///                 |<-------- seals -------->|
///  |<--------------------------- opens ------------------------------------->|
/// ```
///
/// A STEK seals in `[activates, retires)` and opens in `[published, expires)`; both are checked
/// against the clock on every seal and open. So a thief of the keys in memory can read sessions
/// resumed within the last `interval + ticket lifetime`, and those until the next rotation, no
/// others. For "ahead" see publish-ahead in the [glossary](crate::docs::glossary).
///
/// ```
/// use std::time::Duration;
/// use rustls_resumption::{Resumption, Rotation};
///
/// let hour = Duration::from_secs(3600);
/// let rotation = Rotation::new().interval(hour / 2).ticket_lifetime(6 * hour);
/// let resumption = Resumption::builder().rotation(rotation).build()?;
/// # Ok::<(), rustls_resumption::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rotation {
    interval: Duration,
    ticket_lifetime: Duration,
    publish_ahead: Option<Duration>,
}

impl Rotation {
    /// How long each STEK seals, by default: 1 hour.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(60 * 60);

    /// How long a ticket opens at least after it was sealed, by default: 12 hours, rustls's own
    /// hint to clients.
    pub const DEFAULT_TICKET_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

    /// How far ahead of its activation the next STEK is published, by default: 5 minutes.
    pub const DEFAULT_PUBLISH_AHEAD: Duration = Duration::from_secs(5 * 60);

    /// How many keys may open at once: 50,000. More cannot be held, derived and looked through in
    /// time.
    pub(crate) const MAX_KEYS: u128 = 50_000;

    /// The longest that TLS 1.3 lets a ticket live
    /// ([RFC 8446 §4.6.1](https://www.rfc-editor.org/rfc/rfc8446#section-4.6.1)): 7 days.
    pub const MAX_TICKET_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    /// The default schedule.
    pub const fn new() -> Self {
        Self {
            interval: Self::DEFAULT_INTERVAL,
            ticket_lifetime: Self::DEFAULT_TICKET_LIFETIME,
            publish_ahead: None,
        }
    }

    /// How long each STEK seals. From 1 millisecond to 100 years; and not so short that more than
    /// 50,000 STEKs would open at once, over the ticket lifetime.
    ///
    /// Defaults to [`Rotation::DEFAULT_INTERVAL`].
    #[must_use]
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long after retiring a STEK still opens, so how long every ticket opens at least. It is
    /// also the hint that clients get. From 1 second to [`Rotation::MAX_TICKET_LIFETIME`]. No longer
    /// than [`max_session_age`](crate::ResumptionBuilder::max_session_age) in effect, 24 hours by
    /// default: for more, raise that too.
    ///
    /// Defaults to [`Rotation::DEFAULT_TICKET_LIFETIME`].
    #[must_use]
    pub const fn ticket_lifetime(mut self, lifetime: Duration) -> Self {
        self.ticket_lifetime = lifetime;
        self
    }

    /// How long a new STEK opens tickets before it seals any: at least the clock skew within the
    /// fleet plus the time that a new key takes to reach every node. At most the interval.
    ///
    /// Defaults to [`Rotation::DEFAULT_PUBLISH_AHEAD`], or half the interval if that is less.
    #[must_use]
    pub const fn publish_ahead(mut self, ahead: Duration) -> Self {
        self.publish_ahead = Some(ahead);
        self
    }

    /// Whether the schedule can be kept. Builders call it.
    ///
    /// # Errors
    ///
    /// [`Error::Duration`] naming the value that cannot work.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |field, value, why: &str| Err(Error::duration(field, value, why));
        let Self {
            interval,
            ticket_lifetime,
            publish_ahead,
        } = *self;
        if interval < MIN_INTERVAL {
            return refuse("interval", interval, "must be at least 1 ms");
        }
        if interval > MAX_INTERVAL {
            let why = "must be at most 100 years: without rotation there is no forward secrecy";
            return refuse("interval", interval, why);
        }
        if ticket_lifetime < Duration::from_secs(1) {
            let why = "must be at least 1 s: TLS counts ticket lifetimes in seconds";
            return refuse("ticket_lifetime", ticket_lifetime, why);
        }
        if ticket_lifetime > Self::MAX_TICKET_LIFETIME {
            let why = "must be at most 7 days (RFC 8446 section 4.6.1)";
            return refuse("ticket_lifetime", ticket_lifetime, why);
        }
        if let Some(ahead) = publish_ahead.filter(|ahead| *ahead > interval) {
            let why = format!("must be at most the interval of {interval:?}");
            return refuse("publish_ahead", ahead, &why);
        }
        if self.most_keys() > Self::MAX_KEYS {
            let why = format!(
                "too short for a ticket lifetime of {ticket_lifetime:?}: {} keys would open at once, \
                 and at most {} may",
                self.most_keys(),
                Self::MAX_KEYS
            );
            return refuse("interval", interval, &why);
        }
        Ok(())
    }

    /// How many keys open at once, at most: published, active and retired ones.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "an interval is 1 ms at least"
    )]
    fn most_keys(&self) -> u128 {
        let life = self.ahead() + self.interval + self.ticket_lifetime;
        life.as_nanos().div_ceil(self.interval.as_nanos())
    }

    /// The same schedule for sessions that resume no later than this age.
    pub(crate) fn at_most(mut self, age: Duration) -> Self {
        self.ticket_lifetime = self.ticket_lifetime.min(age);
        self
    }

    /// The interval: how long each STEK seals.
    pub(crate) fn sealing_time(&self) -> Duration {
        self.interval
    }

    /// Whether a STEK that has been active for this long should have been replaced. Only an
    /// operator's key can have been.
    pub(crate) fn is_over_age(&self, age: Duration) -> bool {
        age > self.interval
    }

    pub(crate) fn lifetime(&self) -> Duration {
        self.ticket_lifetime
    }

    #[expect(clippy::arithmetic_side_effects, reason = "divided by two")]
    pub(crate) fn ahead(&self) -> Duration {
        self.publish_ahead
            .unwrap_or_else(|| Self::DEFAULT_PUBLISH_AHEAD.min(self.interval / 2))
    }

    /// The window of a STEK that activates at `activates`, published at `published`.
    pub(crate) fn window(&self, published: Time, activates: Time) -> Window {
        let retires = activates.plus(self.interval);
        Window {
            published: published.min(activates),
            activates,
            retires,
            expires: retires.plus(self.ticket_lifetime),
        }
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self::new()
    }
}

/// When a STEK may be used; see [`Rotation`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Window {
    pub(crate) published: Time,
    pub(crate) activates: Time,
    pub(crate) retires: Time,
    pub(crate) expires: Time,
}

impl Window {
    pub(crate) fn seals(&self, now: Time) -> bool {
        self.activates <= now && now < self.retires
    }

    pub(crate) fn opens(&self, now: Time) -> bool {
        self.published <= now && now < self.expires
    }

    /// The earlier of each of their times.
    pub(crate) fn earlier(self, other: Self) -> Self {
        Self {
            published: self.published.min(other.published),
            activates: self.activates.min(other.activates),
            retires: self.retires.min(other.retires),
            expires: self.expires.min(other.expires),
        }
    }

    /// The next time after `now` at which something changes.
    pub(crate) fn next_change(&self, now: Time) -> Option<Time> {
        [self.published, self.activates, self.retires, self.expires]
            .into_iter()
            .filter(|time| *time > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    #[test]
    fn defaults_are_what_their_constants_say() {
        let rotation = Rotation::default();
        assert_eq!(rotation.interval, HOUR);
        assert_eq!(rotation.lifetime(), 12 * HOUR);
        assert_eq!(rotation.ahead(), HOUR / 12);
        assert_eq!(Rotation::MAX_TICKET_LIFETIME, 7 * 24 * HOUR);
        rotation.validate().unwrap();
    }

    #[test]
    fn impossible_schedules_are_refused_naming_the_value_and_why() {
        let rotation = Rotation::new();
        for (rotation, message) in [
            (
                rotation.interval(Duration::ZERO),
                "interval = 0ns: must be at least 1 ms",
            ),
            (
                rotation.interval(Duration::MAX),
                "must be at most 100 years",
            ),
            (
                rotation.ticket_lifetime(Duration::ZERO),
                "ticket_lifetime = 0ns: must be at least 1 s",
            ),
            (
                rotation.ticket_lifetime(7 * 24 * HOUR + Duration::from_secs(1)),
                "ticket_lifetime = 604801s: must be at most 7 days",
            ),
            (
                rotation.publish_ahead(2 * HOUR),
                "publish_ahead = 7200s: must be at most the interval of 3600s",
            ),
        ] {
            let error = rotation.validate().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn the_limits_are_accepted_and_nothing_beyond_them() {
        let (rotation, step) = (Rotation::new(), Duration::from_nanos(1));
        let shortest = Duration::from_millis(1);
        let brief = rotation.ticket_lifetime(Duration::from_secs(1));
        let longest = 100 * 366 * 24 * HOUR;
        brief.interval(shortest).validate().unwrap();
        brief.interval(shortest - step).validate().unwrap_err();
        rotation.interval(longest).validate().unwrap();
        rotation.interval(longest + step).validate().unwrap_err();
        let (second, week) = (Duration::from_secs(1), 7 * 24 * HOUR);
        rotation.ticket_lifetime(second).validate().unwrap();
        let too_short = rotation.ticket_lifetime(second - step);
        too_short.validate().unwrap_err();
        rotation.ticket_lifetime(week).validate().unwrap();
        let too_long = rotation.ticket_lifetime(week + step);
        too_long.validate().unwrap_err();
        rotation.publish_ahead(HOUR).validate().unwrap();
        let too_far = rotation.publish_ahead(HOUR + step);
        too_far.validate().unwrap_err();
    }

    #[test]
    fn a_stek_is_over_age_when_it_seals_for_longer_than_the_interval() {
        let rotation = Rotation::new();
        assert!(!rotation.is_over_age(Duration::ZERO));
        assert!(!rotation.is_over_age(HOUR));
        assert!(rotation.is_over_age(HOUR + Duration::from_millis(1)));
    }

    #[test]
    fn a_short_interval_publishes_the_next_key_half_way() {
        let rotation = Rotation::new()
            .interval(Duration::from_millis(10))
            .ticket_lifetime(Duration::from_secs(1));
        rotation.validate().unwrap();
        assert_eq!(rotation.ahead(), Duration::from_millis(5));
        rotation
            .publish_ahead(Duration::from_millis(10))
            .validate()
            .unwrap();
    }

    #[test]
    fn no_more_keys_may_open_at_once_than_can_be_held() {
        let second = Duration::from_secs(1);
        let rotation = Rotation::new().interval(second);
        rotation.validate().unwrap();
        assert_eq!(rotation.most_keys(), 43_202);
        let keys = |keys: u32| {
            // Half an interval ahead, one to seal.
            let lifetime = (keys - 2) * second / 10;
            rotation.interval(second / 10).ticket_lifetime(lifetime)
        };
        assert_eq!(keys(50_000).most_keys(), Rotation::MAX_KEYS);
        keys(50_000).validate().unwrap();
        let error = keys(50_001).validate().unwrap_err().to_string();
        assert!(error.contains("50001 keys would open at once"), "{error}");
    }

    #[test]
    fn windows_are_closed_at_their_start_and_open_at_their_end() {
        let window = Rotation::new().window(Time(1_000), Time(5_000));
        let retires = Time(5_000).plus(HOUR);
        let expires = retires.plus(12 * HOUR);
        assert_eq!((window.retires, window.expires), (retires, expires));
        let before = |time: Time| Time(time.0 - 1);
        assert!(!window.opens(before(Time(1_000))) && window.opens(Time(1_000)));
        assert!(window.opens(before(expires)) && !window.opens(expires));
        assert!(!window.seals(before(Time(5_000))) && window.seals(Time(5_000)));
        assert!(window.seals(before(retires)) && !window.seals(retires));
        assert_eq!(window.next_change(Time(0)), Some(Time(1_000)));
        assert_eq!(window.next_change(Time(5_000)), Some(retires));
        assert_eq!(window.next_change(expires), None);
    }
}
