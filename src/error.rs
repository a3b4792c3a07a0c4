use std::error::Error as StdError;
use std::time::Duration;
use std::{fmt, io};

/// An error from setting up or managing resumption.
///
/// The handshake path never returns one: a failure there is a full handshake and a counter (see
/// [`Stats`](crate::Stats)). Each message names the field, file or source at fault, what is wrong
/// with it, and what would be accepted.
///
/// It becomes a [`std::io::Error`] or a `rustls::Error` by `?`, which the functions that set up
/// a server mostly return. For others there is `.map_err(std::io::Error::from)`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An invalid setting, for the author of the configuration to fix.
    Config {
        /// The setting, by the name of its setter.
        field: &'static str,
        /// What is wrong, and what would be accepted.
        why: String,
    },
    /// An invalid duration, for the author of the configuration to fix.
    Duration {
        /// The setting, by the name of its setter.
        field: &'static str,
        /// The refused value.
        value: Duration,
        /// What is wrong, and what would be accepted.
        why: String,
    },
    /// The operating system refused to start a background thread.
    Thread(io::Error),
    /// The random generator failed, so no key could be made.
    Random,
    /// A STEK source failed to answer, or its answer was refused.
    Source {
        /// Which source: `random`, `derived`, `file`, `directory`, `redis`, or the name of a custom
        /// one.
        name: &'static str,
        /// The underlying error.
        cause: Box<dyn StdError + Send + Sync>,
    },
    /// A key that is too weak, for its maker to replace.
    WeakKey {
        /// The field or file that holds the key.
        place: String,
        /// What is wrong, and what would be accepted.
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

/// Of the kind [`InvalidInput`](io::ErrorKind::InvalidInput) where a setting or key is at fault, of
/// that of the system's own error where a thread could not be started, else
/// [`Other`](io::ErrorKind::Other). The error itself is kept inside.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Config { .. } | Error::Duration { .. } | Error::WeakKey { .. } => {
                io::ErrorKind::InvalidInput
            }
            Error::Thread(error) => error.kind(),
            Error::Random | Error::Source { .. } => io::ErrorKind::Other,
        };
        Self::new(kind, error)
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

    #[test]
    fn a_question_mark_makes_it_an_io_error_that_keeps_message_and_kind() {
        fn set_up(error: Error) -> io::Result<()> {
            Err(error)?
        }
        let error = set_up(Error::weak_key("a.key", "all bytes are equal")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "weak key in a.key: all bytes are equal");
        assert!(error.get_ref().unwrap().is::<Error>());
        let refused = Error::Thread(io::ErrorKind::WouldBlock.into());
        assert_eq!(
            set_up(refused).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        let error = set_up(Error::Random).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other);
    }
}
