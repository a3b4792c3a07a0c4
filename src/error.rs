use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// What can go wrong while resumption is set up or managed.
///
/// The handshake path never returns one: there, trouble is a full handshake and a counter (see
/// [`Stats`](crate::Stats)). Each message names the field, file or source at fault, says what is
/// wrong with it, and what would be right.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot work. For whoever wrote the configuration.
    Config {
        /// The setting's name, as its setter is called.
        field: &'static str,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// A duration that cannot work. For whoever wrote the configuration.
    Duration {
        /// The setting's name, as its setter is called.
        field: &'static str,
        /// The value that was refused.
        value: Duration,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// The operating system would not start a background thread.
    Thread(std::io::Error),
    /// The random generator failed, so no key could be made.
    Random,
    /// A STEK source could not answer, or what it answered was refused.
    Source {
        /// Which source: `random`, `derived`, `file`, `directory`, `redis`, or a custom one's name.
        name: &'static str,
        /// What it said.
        cause: Box<dyn StdError + Send + Sync>,
    },
    /// A key too weak to protect anything. For whoever made the key.
    WeakKey {
        /// The field or file that holds it.
        place: String,
        /// What is wrong, and what would be right.
        why: &'static str,
    },
}

impl Error {
    pub(crate) fn config(field: &'static str, why: impl Into<String>) -> Self {
        Self::Config {
            field,
            why: why.into(),
        }
    }

    pub(crate) fn duration(field: &'static str, value: Duration, why: impl Into<String>) -> Self {
        Self::Duration {
            field,
            value,
            why: why.into(),
        }
    }

    pub(crate) fn source(
        name: &'static str,
        cause: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::Source {
            name,
            cause: cause.into(),
        }
    }

    pub(crate) fn weak_key(place: impl Into<String>, why: &'static str) -> Self {
        Self::WeakKey {
            place: place.into(),
            why,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config { field, why } => write!(f, "{field}: {why}"),
            Self::Duration { field, value, why } => write!(f, "{field} = {value:?}: {why}"),
            Self::Thread(error) => write!(f, "a background thread could not be started: {error}"),
            Self::Random => f.write_str("the random generator failed: no key could be made"),
            Self::Source { name, cause } => write!(f, "STEK source `{name}`: {cause}"),
            Self::WeakKey { place, why } => write!(f, "weak key in {place}: {why}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Thread(error) => Some(error),
            Self::Source { cause, .. } => Some(&**cause),
            Self::Config { .. } | Self::Duration { .. } | Self::Random | Self::WeakKey { .. } => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_place_and_what_is_wrong() {
        let error = Error::duration("interval", Duration::ZERO, "must be at least 1 ms");
        assert_eq!(error.to_string(), "interval = 0ns: must be at least 1 ms");
        let error = Error::weak_key("keys/a.key", "all bytes are equal");
        assert_eq!(
            error.to_string(),
            "weak key in keys/a.key: all bytes are equal"
        );
        let error = Error::source("file", "no such file");
        assert_eq!(error.to_string(), "STEK source `file`: no such file");
        assert!(StdError::source(&error).is_some());
    }
}
