use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::stek::KeyName;

/// The names of STEKs that were revoked here, each for as long as its key could come back: until it
/// would have expired, and for a week at least, also after a source last listed it.
///
/// By monotonic time: a wall clock that was ahead for a while must not make it forget.
#[derive(Default)]
pub(crate) struct Revoked {
    until: HashMap<KeyName, Duration>,
    ends: BTreeSet<(Duration, KeyName)>,
    /// All of them, as sources are told.
    list: Arc<Vec<KeyName>>,
    /// Those that the ring's own source has not been told of.
    news: Vec<KeyName>,
    count: u64,
}

/// How long one is remembered at least.
pub(super) const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Revoked {
    pub(super) fn add(&mut self, name: KeyName, until: Duration) {
        if self.keep(name, until) {
            self.count = self.count.saturating_add(1);
            Arc::make_mut(&mut self.list).push(name);
            self.news.push(name);
        }
    }

    /// Remembers one for longer. True if it was not known.
    fn keep(&mut self, name: KeyName, until: Duration) -> bool {
        let before = self.until.insert(name, until);
        if let Some(before) = before {
            self.ends.remove(&(before, name));
        }
        self.ends.insert((until, name));
        before.is_none()
    }

    /// Whether it was revoked. A source that lists it has it remembered for a week more.
    pub(super) fn is_listed_again(&mut self, name: &KeyName, now: Duration) -> bool {
        let Some(until) = self.until.get(name).copied() else {
            return false;
        };
        // Once a minute will do.
        let wanted = now.saturating_add(WEEK);
        if until.saturating_add(Duration::from_secs(60)) < wanted {
            self.keep(*name, wanted);
        }
        true
    }

    pub(super) fn contains(&self, name: &KeyName) -> bool {
        self.until.contains_key(name)
    }

    /// Forgets those whose time is over.
    pub(super) fn forget_ended(&mut self, now: Duration) {
        let mut has_ended = false;
        while let Some((until, name)) = self.ends.first().copied().filter(|(end, _)| *end <= now) {
            self.ends.remove(&(until, name));
            self.until.remove(&name);
            has_ended = true;
        }
        if has_ended {
            let until = &self.until;
            Arc::make_mut(&mut self.list).retain(|name| until.contains_key(name));
        }
    }

    /// All of them.
    pub(super) fn list(&self) -> Arc<Vec<KeyName>> {
        Arc::clone(&self.list)
    }

    /// Those since this was last asked.
    pub(super) fn news(&mut self) -> Arc<Vec<KeyName>> {
        Arc::new(std::mem::take(&mut self.news))
    }

    /// How many in all.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn name(number: u64) -> KeyName {
        let mut bytes = [0; KeyName::LEN];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        KeyName::from_bytes(bytes)
    }

    #[test]
    fn names_are_remembered_until_their_keys_would_have_expired() {
        let mut revoked = Revoked::default();
        revoked.add(name(1), HOUR);
        revoked.add(name(2), 2 * HOUR);
        revoked.add(name(1), 3 * HOUR);
        assert_eq!(*revoked.news(), [name(1), name(2)]);
        assert!(revoked.news().is_empty());
        revoked.forget_ended(2 * HOUR);
        assert!(revoked.contains(&name(1)) && !revoked.contains(&name(2)));
        assert_eq!(*revoked.list(), [name(1)]);
        assert!(revoked.is_listed_again(&name(1), 2 * HOUR));
        revoked.forget_ended(3 * HOUR);
        assert!(revoked.contains(&name(1)), "its source still lists it");
        revoked.forget_ended(2 * HOUR + WEEK);
        assert!(!revoked.is_listed_again(&name(1), 2 * HOUR + WEEK));
        assert!(revoked.ends.is_empty() && revoked.list().is_empty());
        assert_eq!(revoked.count(), 2, "each once");
    }
}
