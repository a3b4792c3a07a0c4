use super::entry::{FileKey, Place};
use super::wrong::FormatError;

/// What a file holds.
#[derive(Debug, Default)]
pub(in crate::source::files) struct Content {
    /// The keys that could be read, in their order.
    pub(in crate::source::files) keys: Vec<(Place, FileKey)>,
    /// The index of the one that is meant to seal.
    pub(in crate::source::files) sealing: usize,
    /// Whether the file is a whole set of keys, not one key of a set.
    pub(in crate::source::files) is_list: bool,
    /// What works, but should be improved.
    pub(in crate::source::files) advice: Vec<String>,
    /// Why the file cannot be used.
    pub(in crate::source::files) wrong: Option<FormatError>,
}

impl Content {
    pub(in crate::source::files) fn one(key: FileKey) -> Self {
        Self {
            keys: vec![(Place::WholeFile, key)],
            ..Self::default()
        }
    }

    pub(in crate::source::files) fn refused(wrong: FormatError) -> Self {
        Self {
            wrong: Some(wrong),
            ..Self::default()
        }
    }
}
