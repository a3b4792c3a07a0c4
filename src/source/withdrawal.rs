use std::error::Error as StdError;
use std::fmt;

use super::{SourceError, SourceKey};

/// The error of a source that cannot answer, but knows of keys that must not be used meanwhile.
#[derive(Debug)]
pub(crate) struct Withdrawal {
    /// Of the keys it gave before, those that stay in use.
    pub(crate) keys: Vec<SourceKey>,
    pub(crate) cause: SourceError,
}

impl fmt::Display for Withdrawal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl StdError for Withdrawal {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_its_cause_and_what_caused_that() {
        let disk = std::io::Error::other("the disk is on fire");
        let withdrawal = Withdrawal {
            keys: Vec::new(),
            cause: Box::new(crate::Error::source("files", disk)),
        };
        assert!(withdrawal.to_string().contains("the disk is on fire"));
        let source = withdrawal.source().map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("the disk is on fire"));
    }
}
