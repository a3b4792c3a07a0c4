//! What must not resume any longer, as a ring and its shared source tell each other.

use crate::clock::Time;
use crate::scope::Scope;
use crate::stek::KeyName;
use crate::sync::Mutex;

/// How far a scope was forgotten. Of two, both of the greater numbers count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Forgotten {
    /// Grows each time: what is bound to an earlier generation must not resume. The time of the
    /// call in milliseconds, or one more than the generation before if that is greater: so two
    /// nodes that forget a scope before they hear of each other do not call it the same.
    pub(crate) generation: u64,
    /// When that was, by the clock of whoever forgot it.
    pub(crate) time: Time,
}

impl Forgotten {
    pub(crate) fn later(self, other: Self) -> Self {
        Self {
            generation: self.generation.max(other.generation),
            time: self.time.max(other.time),
        }
    }

    /// Whether both of its numbers are as great as the other's.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.later(other) == self
    }
}

/// Names a scope where its own name need not be known.
pub(crate) type ScopeDigest = [u8; Scope::DIGEST_LEN];

/// What a ring hands to its source with a query, and what the source hands back. A source that no
/// other process uses, or that cannot carry it, leaves it alone.
#[derive(Debug, Default)]
pub(crate) struct Bulletin {
    /// The scopes that were forgotten in this process, as far as it remembers.
    pub(crate) forgotten: Vec<(ScopeDigest, Forgotten)>,
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
    /// How often this process raised such a bound, for scopes or for STEKs.
    pub(crate) overflows: u64,
}

impl Bulletin {
    #[cfg(test)]
    pub(crate) fn new(forgotten: Vec<(ScopeDigest, Forgotten)>) -> Self {
        let heard = Mutex::default();
        Self { forgotten, heard }
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
