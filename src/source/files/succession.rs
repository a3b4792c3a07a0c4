use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::clock::Time;
use crate::rotation::Window;
use crate::source::{SourceKey, SourceQuery};
use crate::stek::{KeyName, Stek};

/// The listed keys that are in use, and which of them seals.
///
/// A key that was not listed before seals only once the other nodes have it as well, that is, after
/// the publish-ahead; until then the one before it continues.
#[derive(Clone, Debug, Default)]
pub(super) struct Succession {
    /// In the order in which they are listed.
    keys: Vec<KeyInUse>,
    active: Option<KeyName>,
}

#[derive(Clone, Debug)]
struct KeyInUse {
    stek: Arc<Stek>,
    /// The monotonic time from which every node has it.
    everywhere_from: Duration,
    /// When it began to seal, once it has.
    seals_since: Time,
}

impl Succession {
    /// Takes over the keys that are listed now, each with the time at which its file was changed.
    /// The one named `wanted` is meant to seal.
    pub(super) fn update(
        &mut self,
        listed: impl Iterator<Item = (Stek, Time)>,
        wanted: Option<KeyName>,
        at_start: bool,
        query: &SourceQuery<'_>,
    ) -> Vec<SourceKey> {
        let mut before = std::mem::take(&mut self.keys);
        for (stek, modified) in listed {
            let same = |key: &KeyInUse| key.stek.name() == stek.name();
            self.keys.push(match before.iter().position(same) {
                Some(index) => before.swap_remove(index),
                None => KeyInUse::new(stek, modified, at_start, query),
            });
        }

        self.answer(wanted, at_start, query)
    }

    /// Drops the keys of these names, which are no longer listed, and takes over no others.
    pub(super) fn withdraw(
        &mut self,
        names: &[KeyName],
        query: &SourceQuery<'_>,
    ) -> Vec<SourceKey> {
        self.keys.retain(|key| !names.contains(key.stek.name()));
        self.answer(None, false, query)
    }

    fn answer(
        &mut self,
        wanted: Option<KeyName>,
        at_start: bool,
        query: &SourceQuery<'_>,
    ) -> Vec<SourceKey> {
        let active = self.choose(wanted, query);
        let takes_over = !at_start && active != self.active;
        self.active = active;
        let keys = self.keys.iter_mut().map(|key| {
            if Some(*key.stek.name()) != active {
                return SourceKey::opening(Arc::clone(&key.stek));
            }
            if takes_over {
                key.seals_since = query.now;
                key.warn_if_early(query);
            }
            // It keeps sealing even if the wall clock was set back.
            key.seals_since = key.seals_since.min(query.now);
            let window = Window {
                activates: key.seals_since,
                ..SourceKey::ALWAYS
            };
            SourceKey::with_window(Arc::clone(&key.stek), window)
        });
        keys.collect()
    }

    /// The key that seals: the wanted one, once every node has it; until then the one that sealed
    /// before or, at the start, another that every node has. Failing all these, the wanted one
    /// seals at once. Never one that was revoked: that is listed all the same, for a ring forgets in
    /// time what is not.
    fn choose(&self, wanted: Option<KeyName>, query: &SourceQuery<'_>) -> Option<KeyName> {
        let may_seal = |key: &&KeyInUse| !query.revoked.contains(key.stek.name());
        let keys = || self.keys.iter().filter(may_seal);
        let listed = |name: Option<KeyName>| keys().find(|key| Some(*key.stek.name()) == name);
        let is_everywhere = |key: &&KeyInUse| key.everywhere_from <= query.monotonic;
        let chosen = listed(wanted)
            .filter(is_everywhere)
            .or_else(|| listed(self.active))
            .or_else(|| keys().find(is_everywhere))
            .or_else(|| listed(wanted))
            .or_else(|| keys().next());
        chosen.map(|key| *key.stek.name())
    }
}

impl KeyInUse {
    fn new(stek: Stek, modified: Time, at_start: bool, query: &SourceQuery<'_>) -> Self {
        let listed_for = match at_start {
            true => query.now.since(modified),
            false => Duration::ZERO,
        };
        let wait = query.rotation.ahead().saturating_sub(listed_for);
        Self {
            stek: Arc::new(stek),
            everywhere_from: query.monotonic.saturating_add(wait),
            // Not 0, which stands for a time that is not known: a file of 1970 is over age too.
            seals_since: modified.max(Time(1)),
        }
    }

    fn warn_if_early(&self, query: &SourceQuery<'_>) {
        if self.everywhere_from > query.monotonic {
            let key = *self.stek.name();
            query.log.tell(move || {
                warn!(
                    %key,
                    "STEK seals before other nodes may have it, because no other is listed; list \
                     the old key after the new one"
                );
            });
        }
    }
}

#[cfg(test)]
mod model;
