use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::stek::KeyName;

/// One value of a metric, under its name and label.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) label: Option<(&'static str, &'static str)>,
    pub(crate) value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Counter(u64),
    Gauge(f64),
}

impl Sample {
    /// `help` may be the line of a doc comment, which begins with a space.
    pub(crate) fn new(name: &'static str, help: &'static str, value: Value) -> Self {
        Self {
            name,
            help: help.trim_start(),
            label: None,
            value,
        }
    }

    pub(crate) fn label(self, key: &'static str, value: &'static str) -> Self {
        let label = Some((key, value));
        Self { label, ..self }
    }

    pub(crate) fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }
}

impl Value {
    pub(crate) fn number(number: u64) -> Self {
        Self::Gauge(number as f64)
    }

    pub(crate) fn flag(flag: bool) -> Self {
        Self::Gauge(f64::from(u8::from(flag)))
    }

    pub(crate) fn seconds(duration: Option<Duration>, otherwise: f64) -> Self {
        Self::Gauge(duration.map_or(otherwise, |duration| duration.as_secs_f64()))
    }

    pub(crate) fn timestamp(time: Option<SystemTime>) -> Self {
        let since_1970 = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self::seconds(since_1970, f64::NAN)
    }

    /// The first 48 bits of a name: as many whole bytes as every `f64` can hold exactly.
    pub(crate) fn key(name: &KeyName) -> Self {
        let bytes = name.as_bytes().iter().take(6);
        Self::Gauge(bytes.fold(0.0, |number, byte| number * 256.0 + f64::from(*byte)))
    }
}
