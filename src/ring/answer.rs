use std::time::Duration;

use super::supply::Manners;
use crate::source::SourceKey;
use crate::source::bulletin::Heard;

/// What a source said.
pub(crate) struct Answer {
    pub(crate) keys: Result<Vec<SourceKey>, Failure>,
    pub(crate) fleet_agrees: Option<bool>,
    pub(crate) manners: Manners,
    pub(crate) took: Duration,
    pub(crate) heard: Heard,
    /// Whether the keys that it gave before and does not list now stay until they expire.
    pub(crate) others_stay: bool,
}

/// What a source said that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) trouble: String,
    /// The keys that go on, if it said so: others must not.
    pub(crate) left: Option<Vec<SourceKey>>,
}

impl From<String> for Failure {
    fn from(trouble: String) -> Self {
        Self {
            trouble,
            left: None,
        }
    }
}
