//! One process's share in a record that others keep up too.

use tracing::warn;

use super::{SourceKey, SourceQuery};
use crate::aead::Sealing;
use crate::clock::Time;
use crate::error::Error;

#[cfg(unix)]
mod directory;
#[cfg(feature = "redis")]
mod kek;
mod record;
#[cfg(feature = "redis")]
mod redis;

#[cfg(unix)]
pub use directory::KeyDirectory;
#[cfg(all(feature = "redis", any(test, fuzzing)))]
pub use kek::fuzzed::run as fuzzed_redis_record;
use record::{Record, Schedule};
#[cfg(feature = "redis")]
pub use redis::RedisSource;

/// Decides what to make of the record that is found, and remembers the newest one: so that a lost
/// record is written again, and an older one neither believed nor left standing.
#[derive(Debug)]
pub(crate) struct Share {
    /// Where the record is, in the log.
    place: String,
    held: Option<Record>,
    agrees: Option<bool>,
}

/// What the record is to be.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) record: Record,
    /// Whether it must be written for that, in place of what was found.
    pub(crate) write: bool,
    mishap: Option<Mishap>,
}

#[derive(Clone, Copy, Debug)]
enum Mishap {
    Lost,
    /// To this version.
    RolledBack(u64),
}

impl Share {
    pub(crate) fn new(place: String) -> Self {
        Self {
            place,
            held: None,
            agrees: None,
        }
    }

    /// Before anything else: drops what must not be held any longer, even if the record can be
    /// neither read nor written today.
    pub(crate) fn forget(&mut self, query: &SourceQuery<'_>) {
        if let Some(held) = &mut self.held {
            held.forget(query.now, query.revoked);
        }
    }

    pub(crate) fn decode(&self, bytes: &[u8], sealing: Sealing) -> Result<Record, String> {
        Record::decode(bytes, sealing, self.held.as_ref())
    }

    /// What the record is to be, where this was found at this time. Nothing is decided until it is
    /// [kept](Share::keep).
    ///
    /// A version lower than one seen before is an old copy, restored: what is held here is newer and
    /// takes its place. So of several processes that hold keys the newest wins, whoever writes
    /// first; what had expired meanwhile does not come back.
    pub(crate) fn settle(
        &self,
        found: Option<Record>,
        now: Time,
        query: &SourceQuery<'_>,
    ) -> Result<Settled, Error> {
        let (base, mishap) = match (found, &self.held) {
            (Some(found), Some(held)) if found.version < held.version => {
                (held.clone(), Some(Mishap::RolledBack(found.version)))
            }
            (Some(found), _) => (found, None),
            (None, Some(held)) => (held.clone(), Some(Mishap::Lost)),
            (None, None) => (Record::empty(query.rotation), None),
        };
        let (mut record, changed) = base.step(now, query)?;
        let write = changed || mishap.is_some();
        if write {
            record.version = record.version.saturating_add(1);
        }
        Ok(Settled {
            record,
            write,
            mishap,
        })
    }

    /// What was settled is so: it has been written, if it had to be.
    pub(crate) fn keep(&mut self, settled: Settled, query: &SourceQuery<'_>) -> Vec<SourceKey> {
        let Settled { record, mishap, .. } = settled;
        let (place, version) = (&self.place, record.version);
        match mishap {
            Some(Mishap::Lost) => {
                warn!(%place, version, "the record of STEKs was gone: written again");
            }
            Some(Mishap::RolledBack(found)) => warn!(
                %place, found, version,
                "an old copy of the record of STEKs had taken its place: refused, written again"
            ),
            None => {}
        }
        let ours = Schedule::of(query.rotation);
        let agrees = record.schedule == ours;
        if !agrees && self.agrees != Some(false) {
            warn!(
                %place, theirs = %record.schedule, %ours,
                "another process rotates STEKs on another schedule: full handshakes at worst; \
                 configure all alike"
            );
        }
        self.agrees = Some(agrees);
        let keys = record.source_keys();
        self.held = Some(record);
        keys
    }

    pub(crate) fn fleet_agrees(&self) -> Option<bool> {
        self.agrees
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use test_support::log::Log;

    use super::record::tests::{names, query};
    use super::*;
    use crate::rotation::Rotation;
    use crate::stek::KeyName;

    const HOUR: Duration = Duration::from_secs(60 * 60);
    const NOW: Time = Time(1_800_000_000_000);

    /// A place for the record, and processes that share it.
    #[derive(Default)]
    struct Place(Option<Vec<u8>>);

    impl Place {
        /// What a source does when it is asked.
        fn ask(&mut self, share: &mut Share, now: Time, rotate: bool) -> Vec<KeyName> {
            self.ask_by(share, &query(now, &Rotation::new(), rotate, &[]))
        }

        fn ask_by(&mut self, share: &mut Share, query: &SourceQuery<'_>) -> Vec<KeyName> {
            share.forget(query);
            let found = self.0.as_ref();
            let found = found.map(|bytes| share.decode(bytes, query.sealing).unwrap());
            let settled = share.settle(found, query.now, query).unwrap();
            if settled.write {
                self.0 = Some(settled.record.encode().to_vec());
            }
            let keys = share.keep(settled, query);
            keys.iter().map(|key| *key.stek.name()).collect()
        }

        fn version(&self) -> u64 {
            let bytes = self.0.as_ref().unwrap();
            let record = Record::decode(bytes, Sealing::default(), None);
            record.unwrap().version
        }
    }

    fn share() -> Share {
        Share::new("the test".into())
    }

    #[test]
    fn who_comes_second_takes_what_is_there() {
        let mut place = Place::default();
        let (mut a, mut b) = (share(), share());
        let first = place.ask(&mut a, NOW, false);
        assert_eq!(place.ask(&mut b, NOW, false), first);
        let rotated = place.ask(&mut b, NOW, true);
        assert_eq!(rotated.len(), 2);
        assert_eq!(place.ask(&mut a, NOW, false), rotated);
        assert_eq!(place.version(), 2);
    }

    #[test]
    fn a_lost_record_is_written_again_without_what_has_expired() {
        let mut place = Place::default();
        let mut a = share();
        let first = place.ask(&mut a, NOW, false);
        let both = place.ask(&mut a, NOW.plus(HOUR - HOUR / 12), false);
        place.0 = None;
        assert_eq!(place.ask(&mut a, NOW.plus(HOUR), false), both);
        assert_eq!(place.version(), 3);
        place.0 = None;
        let later = place.ask(&mut a, NOW.plus(13 * HOUR), false);
        assert!(!later.contains(&first[0]) && later.contains(&both[1]));
    }

    #[test]
    fn of_an_emptied_place_the_newest_holder_wins_even_if_a_newcomer_writes_first() {
        let mut place = Place::default();
        let (mut a, mut b, mut newcomer) = (share(), share(), share());
        place.ask(&mut a, NOW, false);
        place.ask(&mut b, NOW, false);
        let newest = place.ask(&mut b, NOW, true);
        place.0 = None;
        let fresh = place.ask(&mut newcomer, NOW, false);
        assert_eq!(place.ask(&mut b, NOW, false), newest);
        assert_eq!(place.ask(&mut newcomer, NOW, false), newest);
        assert_eq!(place.ask(&mut a, NOW, false), newest);
        assert!(!newest.contains(&fresh[0]));
    }

    #[test]
    fn an_old_copy_is_refused_and_replaced() {
        let mut place = Place::default();
        let (mut a, mut b) = (share(), share());
        place.ask(&mut a, NOW, false);
        let old = place.0.clone();
        let newest = place.ask(&mut a, NOW, true);
        place.ask(&mut b, NOW, false);
        place.0 = old;
        assert_eq!(place.ask(&mut b, NOW, false), newest);
        assert_eq!(place.version(), 3);
        assert_eq!(place.ask(&mut a, NOW, false), newest);
    }

    #[test]
    fn what_one_revoked_does_not_come_back_through_another_that_still_held_it() {
        let mut place = Place::default();
        let (mut a, mut b) = (share(), share());
        let revoked = place.ask(&mut a, NOW, false);
        place.ask(&mut b, NOW, false);
        let rotation = Rotation::new();
        let revoking = query(NOW, &rotation, false, &revoked);
        let fresh = place.ask_by(&mut a, &revoking);
        assert!(!fresh.contains(&revoked[0]));
        place.0 = None;
        place.ask(&mut b, NOW, false); // had not heard of it yet
        assert!(!place.ask_by(&mut a, &revoking).contains(&revoked[0]));
        assert!(!place.ask(&mut b, NOW, false).contains(&revoked[0]));
    }

    #[test]
    fn expired_and_revoked_keys_are_forgotten_even_if_nothing_can_be_read() {
        let mut place = Place::default();
        let mut a = share();
        place.ask(&mut a, NOW, false);
        let both = place.ask(&mut a, NOW, true);
        let rotation = Rotation::new();
        a.forget(&query(NOW, &rotation, false, &both[..1]));
        assert_eq!(names(a.held.as_ref().unwrap()), both[1..]);
        a.forget(&query(NOW.plus(24 * HOUR), &rotation, false, &[]));
        assert!(names(a.held.as_ref().unwrap()).is_empty());
    }

    #[test]
    fn schedules_that_differ_are_noticed_by_who_did_not_write_last() {
        let mut place = Place::default();
        let (mut a, mut b) = (share(), share());
        place.ask(&mut a, NOW, false);
        let other = Rotation::new().interval(2 * HOUR);
        place.ask_by(&mut b, &query(NOW, &other, false, &[]));
        assert_eq!(
            (a.fleet_agrees(), b.fleet_agrees()),
            (Some(true), Some(false))
        );
        place.ask_by(&mut b, &query(NOW, &other, true, &[]));
        place.ask(&mut a, NOW, false);
        assert_eq!(
            (a.fleet_agrees(), b.fleet_agrees()),
            (Some(false), Some(true))
        );
    }

    #[test]
    fn a_schedule_that_differs_is_warned_of_whenever_it_begins_to() {
        let (mut place, mut a) = (Place::default(), share());
        let usual = Rotation::new();
        let other = Rotation::new().interval(2 * HOUR);
        place.ask(&mut a, NOW, false);
        let mut warnings = |rotation| {
            let query = query(NOW, rotation, false, &[]);
            Log::of(|| place.ask_by(&mut a, &query)).0.warnings()
        };
        assert!(warnings(&usual).is_empty());
        let said = warnings(&other);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains(
                "place=the test \
             theirs=interval 3600s, ticket lifetime 43200s, publish-ahead 300s \
             ours=interval 7200s, ticket lifetime 43200s, publish-ahead 300s"
            ),
            "{said:?}"
        );
        assert!(warnings(&other).is_empty(), "it has been said");
        assert!(warnings(&usual).is_empty());
        assert_eq!(warnings(&other).len(), 1, "it differs again");
    }

    #[derive(Clone, Debug)]
    enum Event {
        Asks(usize),
        Rotates(usize),
        Revokes(usize),
        Restarts(usize),
        IsLost,
        IsRestored(prop::sample::Index),
        Passes(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let node = || 0..NODES;
        prop_oneof![
            6 => node().prop_map(Event::Asks),
            2 => node().prop_map(Event::Rotates),
            1 => node().prop_map(Event::Revokes),
            1 => node().prop_map(Event::Restarts),
            1 => Just(Event::IsLost),
            1 => any::<prop::sample::Index>().prop_map(Event::IsRestored),
            3 => (0_u64..3 * 60 * 60 * 1000).prop_map(Event::Passes),
        ]
    }

    const NODES: usize = 4;

    proptest! {
        /// Whatever befell the record, once all nodes have looked twice they agree, on keys of
        /// which one seals, and on none that had expired or that a node remembers to have revoked.
        #[test]
        fn nodes_come_to_agree(events in prop::collection::vec(event(), 1..80)) {
            let rotation = Rotation::new();
            let mut place = Place::default();
            let mut nodes = [(); NODES].map(|()| (share(), Vec::new()));
            let (mut now, mut copies) = (NOW, vec![None]);
            for event in events {
                match event {
                    Event::Asks(node) | Event::Rotates(node) => {
                        let (share, revoked) = &mut nodes[node];
                        let rotate = matches!(event, Event::Rotates(_));
                        place.ask_by(share, &query(now, &rotation, rotate, revoked));
                    }
                    Event::Revokes(node) => {
                        let (share, revoked) = &mut nodes[node];
                        revoked.extend(share.held.iter().flat_map(names));
                        place.ask_by(share, &query(now, &rotation, false, revoked));
                    }
                    Event::Restarts(node) => nodes[node] = (share(), Vec::new()),
                    Event::IsLost => place.0 = None,
                    Event::IsRestored(copy) => place.0 = copy.get(&copies).clone(),
                    Event::Passes(millis) => now = Time(now.0 + millis),
                }
                copies.push(place.0.clone());
            }
            for _ in 0..2 {
                for (share, revoked) in &mut nodes {
                    place.ask_by(share, &query(now, &rotation, false, revoked));
                }
            }
            let version = place.version();
            let keys: Vec<_> = nodes
                .iter_mut()
                .map(|(share, _)| place.ask(share, now, false))
                .collect();
            prop_assert_eq!(place.version(), version, "nothing more to do");
            prop_assert!(keys.iter().all(|of_node| *of_node == keys[0]));
            let revoked = nodes.iter().flat_map(|(_, revoked)| revoked);
            prop_assert!(revoked.into_iter().all(|name| !keys[0].contains(name)));
            let windows = nodes[0].0.held.iter().flat_map(Record::source_keys);
            let windows: Vec<_> = windows.map(|key| key.window).collect();
            prop_assert!(windows.iter().all(|window| now < window.expires));
            prop_assert!(windows.iter().any(|window| window.seals(now)));
        }
    }
}
