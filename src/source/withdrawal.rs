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
