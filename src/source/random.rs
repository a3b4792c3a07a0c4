use std::sync::Arc;
use std::time::Duration;

use super::plan::{Planned, Planner};
use super::{SourceError, SourceKey, SourceQuery, StekSource};
use crate::clock::Time;
use crate::rotation::Rotation;
use crate::stek::{KeyName, Stek};

/// STEKs of one process, drawn from the random generator on schedule. The default.
///
/// Those that have retired are left to the ring that it is the source of.
#[derive(Debug, Default)]
pub(crate) struct RandomSource {
    keys: Vec<Planned<Arc<Stek>>>,
}

/// The most keys it holds besides the active one and its successor.
const MOST: usize = Rotation::MAX_KEYS as usize - 2;

impl RandomSource {
    pub(crate) const NAME: &str = "random";

    /// Continues with these keys.
    pub(crate) fn with<'a>(keys: impl IntoIterator<Item = &'a SourceKey>) -> Self {
        let planned = |key: &SourceKey| Planned {
            key: Arc::clone(&key.stek),
            window: key.window,
        };
        Self {
            keys: keys.into_iter().map(planned).collect(),
        }
    }

    /// Drops a key.
    pub(crate) fn revoke(&mut self, name: &KeyName) {
        self.keys.retain(|key| key.key.name() != name);
    }
}

impl StekSource for RandomSource {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        self.keys
            .retain(|key| !query.revoked.contains(key.key.name()));
        if let Some(bulletin) = query.bulletin {
            // One that this call retires is listed once more, since its window changes.
            self.keys.retain(|key| query.now < key.window.retires);
            bulletin.others_stay();
        }
        let planner = Planner {
            now: query.now,
            clocks: query.now.into(), // there is one clock only
            rotation: query.rotation,
            max_skew: Duration::ZERO,
            not_before: Time(0),
            rotate: query.rotate,
        };
        // However often somebody rotates by hand, there are no more keys than there may be.
        let too_many = self.keys.len().saturating_sub(MOST);
        self.keys.drain(..too_many);
        planner.update(&mut self.keys, || Stek::random(query.sealing).map(Arc::new))?;
        let key = |key: &Planned<_>| SourceKey::with_window(Arc::clone(&key.key), key.window);
        Ok(self.keys.iter().map(key).collect())
    }

    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn poll_interval(&self) -> Duration {
        Duration::ZERO // costs nothing to ask
    }

    fn is_shared(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aead::Sealing;
    use crate::errands::Errands;

    const HOUR: Duration = Duration::from_secs(60 * 60);
    const START: Time = Time(1_000_000_000);

    fn load(
        source: &mut RandomSource,
        now: Time,
        rotate: bool,
        revoked: &[KeyName],
    ) -> Vec<SourceKey> {
        let query = SourceQuery {
            now,
            monotonic: Duration::ZERO,
            rotation: &Rotation::new(),
            sealing: Sealing::default(),
            rotate,
            revoked,
            bulletin: None,
            log: &Errands::AT_ONCE,
        };
        source.load(&query).unwrap()
    }

    fn active(keys: &[SourceKey], now: Time) -> KeyName {
        let active: Vec<_> = keys.iter().filter(|key| key.window.seals(now)).collect();
        assert_eq!(active.len(), 1, "exactly one seals");
        *active[0].stek.name()
    }

    #[test]
    fn each_key_seals_for_an_interval_and_its_successor_is_published_ahead() {
        let mut source = RandomSource::default();
        let first = load(&mut source, START, false, &[]);
        assert_eq!(first.len(), 1);
        let quiet = load(&mut source, START.plus(HOUR - 6 * HOUR / 60), false, &[]);
        assert_eq!(quiet.len(), 1);
        let ahead = START.plus(HOUR - 5 * HOUR / 60);
        let keys = load(&mut source, ahead, false, &[]);
        assert_eq!(keys.len(), 2);
        assert_eq!(keys[1].window.published, ahead);
        assert_eq!(keys[1].window.activates, START.plus(HOUR));
        assert_eq!(active(&keys, START.plus(HOUR)), *keys[1].stek.name());
    }

    #[test]
    fn keys_are_dropped_when_they_expire() {
        let mut source = RandomSource::default();
        let first = active(&load(&mut source, START, false, &[]), START);
        let last_moment = Time(START.plus(13 * HOUR).0 - 1);
        let holds = |keys: &[SourceKey]| keys.iter().any(|key| *key.stek.name() == first);
        assert!(holds(&load(&mut source, last_moment, false, &[])));
        assert!(!holds(&load(
            &mut source,
            START.plus(13 * HOUR),
            false,
            &[]
        )));
    }

    #[test]
    fn a_week_idle_ends_with_one_fresh_key() {
        let mut source = RandomSource::default();
        let first = active(&load(&mut source, START, false, &[]), START);
        let later = START.plus(7 * 24 * HOUR);
        let keys = load(&mut source, later, false, &[]);
        assert_eq!(keys.len(), 1);
        assert_ne!(active(&keys, later), first);
    }

    #[test]
    fn rotating_now_brings_the_published_key_forward() {
        let mut source = RandomSource::default();
        let ahead = START.plus(HOUR - 4 * HOUR / 60);
        load(&mut source, START, false, &[]);
        let keys = load(&mut source, ahead, false, &[]);
        let (first, next) = (*keys[0].stek.name(), *keys[1].stek.name());
        let keys = load(&mut source, ahead, true, &[]);
        assert_eq!(active(&keys, ahead), next);
        let retired = keys.iter().find(|key| *key.stek.name() == first).unwrap();
        assert_eq!(retired.window.retires, ahead);
        assert_eq!(retired.window.expires, ahead.plus(12 * HOUR));
    }

    #[test]
    fn a_revoked_active_key_is_replaced_at_once() {
        let mut source = RandomSource::default();
        let first = active(&load(&mut source, START, false, &[]), START);
        let keys = load(&mut source, START, false, &[first]);
        assert_ne!(active(&keys, START), first);
        assert!(!keys.iter().any(|key| *key.stek.name() == first));
    }

    #[test]
    fn one_that_goes_on_with_keys_lists_them_and_drops_the_one_that_is_revoked() {
        let mut source = RandomSource::default();
        load(&mut source, START, false, &[]);
        let keys = load(&mut source, START.plus(HOUR - HOUR / 60), false, &[]);
        let names =
            |keys: &[SourceKey]| -> Vec<_> { keys.iter().map(|key| *key.stek.name()).collect() };
        let [first, second] = names(&keys)[..] else {
            panic!("one seals, one is published")
        };
        let mut heir = RandomSource::with(&keys);
        let now = START.plus(HOUR - HOUR / 60);
        assert_eq!(names(&load(&mut heir, now, false, &[])), [first, second]);
        heir.revoke(&second);
        let left = names(&load(&mut heir, now, false, &[]));
        assert!(left.contains(&first) && !left.contains(&second));
        assert_eq!((heir.name(), heir.is_shared()), ("random", false));
    }
}
