use std::fmt;
use std::time::Duration;

use crate::clock::{Time, millis};
use crate::error::Error;
use crate::rotation::Rotation;

/// The rotation of whoever changed a record last, in whole milliseconds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::source::shared) struct Schedule {
    pub(super) interval: Duration,
    pub(super) ticket_lifetime: Duration,
    pub(super) publish_ahead: Duration,
}

impl Schedule {
    pub(in crate::source::shared) fn of(rotation: &Rotation) -> Self {
        let window = rotation.window(Time(0), Time(0));
        let whole_millis = |duration| Duration::from_millis(millis(duration));
        Self {
            interval: window.retires.since(Time(0)),
            ticket_lifetime: window.expires.since(window.retires),
            publish_ahead: whole_millis(rotation.ahead()),
        }
    }

    /// The longest that a key lives from when it is made.
    pub(super) fn longest_life(&self) -> Duration {
        let ahead = self.publish_ahead.saturating_mul(2);
        ahead
            .saturating_add(self.interval)
            .saturating_add(self.ticket_lifetime)
    }

    /// Whether no more keys are alive at once than there may be.
    pub(super) fn check(&self, most: usize) -> Result<(), Error> {
        let retired = self
            .ticket_lifetime
            .as_millis()
            .checked_div(self.interval.as_millis());
        // One that seals, one published ahead, one that is about to expire.
        let keys = retired.unwrap_or(u128::MAX).saturating_add(3);
        if keys <= most as u128 {
            return Ok(());
        }
        let why = format!(
            "too short for a ticket lifetime of {:?}: {keys} keys would be alive at once, and at \
             most {most} can be shared",
            self.ticket_lifetime
        );
        Err(Error::duration("interval", self.interval, why))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            interval,
            ticket_lifetime,
            publish_ahead,
        } = self;
        write!(
            f,
            "interval {interval:?}, ticket lifetime {ticket_lifetime:?}, \
             publish-ahead {publish_ahead:?}"
        )
    }
}
