//! How [`Stats`](super::Stats) are told to machines: times in seconds, key names as they are shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::ser::{Serialize, Serializer};

use crate::stek::KeyName;

/// A state, as JSON has it.
pub(super) struct Told<'a, T>(pub(super) &'a T);

/// What is told as it is.
macro_rules! as_it_is {
    ($($type:ty),*) => {$(
        impl serde::Serialize for $crate::stats::json::Told<'_, $type> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }
    )*};
}

/// What is told as it is shown.
macro_rules! as_shown {
    ($($type:ty),*) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

pub(super) use {as_it_is, as_shown};

as_it_is!(u64, bool, &'static str, Option<bool>, Option<KeyName>);
as_shown!(KeyName);

impl Serialize for Told<'_, Option<Duration>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.map(|time| time.as_secs_f64()).serialize(serializer)
    }
}

impl Serialize for Told<'_, Option<SystemTime>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().map(since_1970).serialize(serializer)
    }
}

/// Seconds, with a fraction. What is before 1970 is at its beginning.
pub(super) fn since_1970(time: &SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{FakeClock, Resumption};

    #[test]
    fn stats_and_steks_are_json_without_secrets() {
        let time = FakeClock::new();
        let resumption = Resumption::builder().clock(time.clock()).build().unwrap();
        time.advance(Duration::from_millis(1_500));
        let stats = serde_json::to_value(resumption.stats()).unwrap();
        let steks = serde_json::to_value(resumption.steks()).unwrap();
        let active = resumption.stats().steks.active.unwrap().to_string();
        assert_eq!(stats["steks"]["active"], active);
        assert_eq!(stats["steks"]["active_age"], 1.5);
        assert_eq!(stats["steks"]["source"], "random");
        assert_eq!(stats["tickets"]["refused"]["forged"], 0);
        assert_eq!(stats["store"]["health"]["is_down"], false);
        assert!(stats["steks"]["last_trouble"].is_null());
        assert_eq!(
            (&steks[0]["name"], &steks[0]["state"]),
            (&active.into(), &"current".into())
        );
        assert!(steks[0]["expires"].as_f64() > steks[0]["retires"].as_f64());
    }
}
