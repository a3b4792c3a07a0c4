//! What must not resume any longer, as a ring and its shared source tell each other.

pub(crate) use crate::scope::{ALL, Forgotten, ScopeDigest};
use crate::stek::KeyName;
use crate::sync::Mutex;

/// What a ring hands to its source with a query, and what the source hands back. A source that no
/// other process uses, or that cannot carry it, leaves it alone.
#[derive(Debug, Default)]
pub(crate) struct Bulletin {
    /// The scopes that were forgotten in this process, as far as it remembers.
    pub(crate) forgotten: Vec<(ScopeDigest, Forgotten)>,
    /// So far were others forgotten in this process, too many to list.
    pub(crate) dropped: Forgotten,
    /// Whether the ring still has all that the source last answered, but for what was revoked or
    /// has expired since: then the source may answer with no more than what is new.
    pub(crate) continues: bool,
    /// Whether it did.
    others_stay: Mutex<bool>,
    heard: Mutex<Heard>,
}

/// What a source knows of what any process withdrew.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Heard {
    /// STEKs that this process held when it heard that another had revoked them.
    pub(crate) revoked: Vec<KeyName>,
    /// All scopes that any process forgot, this one included.
    pub(crate) forgotten: Vec<(ScopeDigest, Forgotten)>,
    /// So far is every scope forgotten that is not listed: there were too many to remember each.
    pub(crate) others: Forgotten,
    /// The same as it was before the source was told of this process.
    pub(crate) found: Vec<(ScopeDigest, Forgotten)>,
    pub(crate) found_others: Forgotten,
    /// How often this process raised such a bound, for scopes or for STEKs.
    pub(crate) overflows: u64,
    /// Whether the source carries any of this.
    pub(crate) is_carried: bool,
}

impl Bulletin {
    pub(crate) fn new(forgotten: Vec<(ScopeDigest, Forgotten)>) -> Self {
        Self {
            forgotten,
            ..Self::default()
        }
    }

    pub(crate) fn and_others(mut self, dropped: Forgotten) -> Self {
        self.dropped = dropped;
        self
    }

    pub(crate) fn continuing(mut self, continues: bool) -> Self {
        self.continues = continues;
        self
    }

    /// For the source: what it gave before and does not list now stays until it expires.
    pub(crate) fn others_stay(&self) {
        *self.others_stay.lock() = true;
    }

    pub(crate) fn do_others_stay(&self) -> bool {
        *self.others_stay.lock()
    }

    /// For the source.
    pub(crate) fn tell(&self, heard: Heard) {
        *self.heard.lock() = heard;
    }

    /// What the source told.
    pub(crate) fn heard(&self) -> Heard {
        self.heard.lock().clone()
    }
}
