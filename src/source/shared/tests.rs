use std::cell::{Cell, RefCell};
use std::rc::Rc;

use test_support::log::Log;

use super::record::tests::{names, query};
use super::*;
use crate::aead::Sealing;
use crate::rotation::Rotation;
use crate::source::bulletin::{ALL, Bulletin, Forgotten, ScopeDigest};
use crate::stek::KeyName;

mod agreement;
mod clocks;

const HOUR: Duration = Duration::from_secs(60 * 60);
const NOW: Time = Time(1_800_000_000_000);

/// A record in memory.
#[derive(Clone, Debug, Default)]
struct Memory {
    record: Rc<RefCell<Option<Vec<u8>>>>,
    /// How many more times another process will be faster, with the record there.
    races: usize,
    /// By how many milliseconds its clock is ahead of those of the nodes.
    ahead: Rc<Cell<i64>>,
}

type Node = Shared<Memory>;

impl Backend for Memory {
    type Basis = Option<Vec<u8>>;

    const HAS_CLOCK: bool = true;

    fn limit(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn place(&self) -> String {
        "the test".into()
    }

    fn read(
        &mut self,
        query: &SourceQuery<'_>,
        _: usize,
        _: Instant,
    ) -> Result<Reading<Self::Basis>, SourceError> {
        let basis = self.get();
        Ok(Reading {
            record: basis.clone().map(Zeroizing::new),
            now: Time(query.now.0.saturating_add_signed(self.ahead.get())),
            basis,
        })
    }

    fn replace(
        &mut self,
        basis: Self::Basis,
        next: &Next,
        _: Instant,
    ) -> Result<bool, SourceError> {
        assert_eq!(self.get(), basis);
        if self.races > 0 {
            self.races -= 1;
            return Ok(false);
        }
        self.set(Some(next.record.encode().to_vec()));
        Ok(true)
    }

    fn damaged(&self, why: &str) -> SourceError {
        why.into()
    }
}

impl Memory {
    fn node(&self) -> Node {
        Shared::new(self.clone())
    }

    fn get(&self) -> Option<Vec<u8>> {
        self.record.borrow().clone()
    }

    fn set(&self, record: Option<Vec<u8>>) {
        *self.record.borrow_mut() = record;
    }

    fn version(&self) -> u64 {
        let record = Record::decode(&self.get().unwrap(), Sealing::Aes256GcmSiv, None);
        record.unwrap().version
    }
}

impl Node {
    fn ask(&mut self, now: Time, rotate: bool) -> Vec<KeyName> {
        self.ask_by(&query(now, &Rotation::new(), rotate, &[]))
    }

    fn ask_by(&mut self, query: &SourceQuery<'_>) -> Vec<KeyName> {
        let keys = self.load(query).unwrap();
        keys.iter().map(|key| *key.stek.name()).collect()
    }
}

#[test]
fn the_second_process_takes_over_the_record() {
    let place = Memory::default();
    let (mut a, mut b) = (place.node(), place.node());
    let first = a.ask(NOW, false);
    assert_eq!(b.ask(NOW, false), first);
    let rotated = b.ask(NOW, true);
    assert_eq!(rotated.len(), 2);
    assert_eq!(a.ask(NOW, false), rotated);
    assert_eq!(place.version(), 2);
}

#[test]
fn a_lost_record_is_written_again_without_what_has_expired() {
    let place = Memory::default();
    let mut a = place.node();
    let first = a.ask(NOW, false);
    let both = a.ask(NOW.plus(HOUR - HOUR / 12), false);
    place.set(None);
    assert_eq!(a.ask(NOW.plus(HOUR), false), both);
    assert_eq!(place.version(), 3);
    place.set(None);
    let later = a.ask(NOW.plus(13 * HOUR), false);
    assert!(!later.contains(&first[0]) && later.contains(&both[1]));
}

#[test]
fn an_emptied_record_gets_all_keys_back_even_if_a_newcomer_writes_first() {
    let place = Memory::default();
    let (mut a, mut b, mut newcomer) = (place.node(), place.node(), place.node());
    a.ask(NOW, false);
    b.ask(NOW, false);
    let newest = b.ask(NOW, true);
    place.set(None);
    let fresh = newcomer.ask(NOW, false);
    let all = b.ask(NOW, false);
    assert_eq!(newcomer.ask(NOW, false), all);
    assert_eq!(a.ask(NOW, false), all);
    assert_eq!(all.len(), 3);
    assert!(newest.iter().chain(&fresh).all(|name| all.contains(name)));
    assert_eq!(
        all.last(),
        newest.last(),
        "it activated last, so it goes on sealing"
    );
}

#[test]
fn a_revoked_key_stays_revoked_even_if_a_process_that_was_cut_off_writes_the_same_version() {
    let place = Memory::default();
    let [mut a, mut c, mut d] = [(); 3].map(|()| place.node());
    let revoked = a.ask(NOW, false);
    c.ask(NOW, false);
    let rotation = Rotation::new();
    a.ask_by(&query(NOW, &rotation, false, &revoked));
    assert!(!d.ask(NOW, false).contains(&revoked[0]));
    let version = place.version();
    place.set(None);
    assert!(c.ask(NOW, false).contains(&revoked[0]), "it was cut off");
    assert_eq!(place.version(), version);
    for node in [&mut d, &mut a, &mut c] {
        assert!(!node.ask(NOW, false).contains(&revoked[0]));
    }
    assert!(!place.node().ask(NOW, false).contains(&revoked[0]));
}

#[test]
fn a_key_revoked_before_it_is_known_is_refused_when_it_appears() {
    let place = Memory::default();
    let (mut a, mut b) = (place.node(), place.node());
    let revoked = a.ask(NOW, false);
    place.set(None);
    let rotation = Rotation::new();
    let fresh = b.ask_by(&query(NOW, &rotation, false, &revoked));
    assert_eq!(a.ask(NOW, false), fresh);
    let version = place.version();
    let again = b.ask_by(&query(NOW.plus(HOUR / 60), &rotation, false, &revoked));
    assert_eq!(
        (again, place.version()),
        (fresh, version),
        "it has been said"
    );
}

#[test]
fn forgotten_scopes_reach_all_and_outlive_the_record_and_restarts() {
    let place = Memory::default();
    let (mut a, mut b) = (place.node(), place.node());
    let rotation = Rotation::new();
    let ask = |node: &mut Node, forgotten: &[(ScopeDigest, Forgotten)]| {
        let bulletin = Bulletin::new(forgotten.to_vec());
        node.ask_by(&SourceQuery {
            bulletin: Some(&bulletin),
            ..query(NOW, &rotation, false, &[])
        });
        bulletin.heard()
    };
    ask(&mut b, &[]);
    let forgotten = |generation| {
        let time = NOW;
        Forgotten { generation, time }
    };
    let told = [([1; 32], forgotten(7))];
    let heard = ask(&mut a, &told);
    assert_eq!(
        (&heard.found[..], &heard.forgotten[..]),
        (&[][..], &told[..])
    );
    let heard = ask(&mut b, &[([1; 32], forgotten(6))]);
    assert_eq!(
        (&heard.found[..], &heard.forgotten[..]),
        (&told[..], &told[..])
    );
    let version = place.version();
    assert_eq!(ask(&mut place.node(), &[]), heard, "after a restart");
    place.set(None);
    assert_eq!(ask(&mut place.node(), &[]).forgotten, []);
    let heard = ask(&mut b, &[]);
    assert_eq!(
        (&heard.found[..], &heard.forgotten[..]),
        (&[][..], &told[..])
    );
    assert!(place.version() > version);
}

#[test]
fn a_holder_of_a_key_that_another_revoked_learns_its_name() {
    let place = Memory::default();
    let (mut a, mut b) = (place.node(), place.node());
    let revoked = a.ask(NOW, false);
    b.ask(NOW, false);
    let rotation = Rotation::new();
    a.ask_by(&query(NOW, &rotation, false, &revoked));
    let bulletin = Bulletin::default();
    b.ask_by(&SourceQuery {
        bulletin: Some(&bulletin),
        ..query(NOW, &rotation, false, &[])
    });
    assert_eq!(bulletin.heard().revoked, revoked);
}

#[test]
fn more_than_can_be_remembered_is_counted_and_withdraws_more_instead_of_less() {
    let place = Memory::default();
    let (mut a, mut b) = (place.node(), place.node());
    let rotation = Rotation::new();
    let scopes: Vec<_> = (0..300_u16)
        .map(|number| {
            let mut scope = [0; 32];
            scope[..2].copy_from_slice(&number.to_be_bytes());
            let (generation, time) = (u64::from(number) + 1, NOW);
            (scope, Forgotten { generation, time })
        })
        .collect();
    let bulletin = Bulletin::new(scopes);
    let withdrawing = SourceQuery {
        bulletin: Some(&bulletin),
        ..query(NOW, &rotation, false, &[])
    };
    let (log, _) = Log::of(|| a.ask_by(&withdrawing));
    assert_eq!(log.warnings().len(), 1);
    let heard = bulletin.heard();
    assert_eq!((heard.overflows, heard.others.generation), (1, 44));
    assert_eq!(heard.found_others.generation, 0);
    a.ask_by(&withdrawing);
    let heard = bulletin.heard();
    assert_eq!((heard.overflows, heard.found_others.generation), (1, 44));
    let theirs = Bulletin::default();
    b.ask_by(&SourceQuery {
        bulletin: Some(&theirs),
        ..query(NOW, &rotation, false, &[])
    });
    let expected = Heard {
        overflows: 0,
        ..heard
    };
    assert_eq!(theirs.heard(), expected);
}

#[test]
fn revoking_all_revokes_keys_that_it_had_not_heard_of() {
    let place = Memory::default();
    let (mut a, mut b, mut c) = (place.node(), place.node(), place.node());
    let rotation = Rotation::new();
    let first = a.ask(NOW, false);
    let second = b.ask(NOW, true);
    let before = place.get();
    let third = c.ask(NOW, true);
    // What only that one knows of is lost.
    place.set(before);
    let forgotten = Forgotten {
        generation: NOW.0,
        time: NOW,
    };
    let bulletin = Bulletin::new(vec![(ALL, forgotten)]);
    let mut revoke_all = || {
        a.ask_by(&SourceQuery {
            bulletin: Some(&bulletin),
            ..query(NOW, &rotation, false, &first)
        })
    };
    let after = revoke_all();
    assert_eq!(after.len(), 1);
    assert!(!second.contains(&after[0]) && !third.contains(&after[0]));
    for node in [&mut b, &mut c] {
        assert_eq!(node.ask(NOW, false), after);
    }
    assert_eq!(revoke_all(), after, "once");
}

#[test]
fn fields_of_a_later_release_are_preserved() {
    let place = Memory::default();
    let (mut a, mut b) = (place.node(), place.node());
    a.ask(NOW, false);
    let unknown = [9, 0, 0, 0, 3, 1, 2, 3];
    place.set(Some([&place.get().unwrap()[..], &unknown].concat()));
    a.ask(NOW, true);
    b.ask(NOW, true);
    assert!(place.get().unwrap().ends_with(&unknown));
    place.set(None);
    a.ask(NOW, false);
    assert!(place.get().unwrap().ends_with(&unknown));
}

#[test]
fn one_wrong_clock_costs_no_key() {
    const HOUR_MILLIS: i64 = 60 * 60 * 1000;
    for off in [-14, -6, 6, 14, 30 * 24].map(|hours| hours * HOUR_MILLIS) {
        for is_of_node in [false, true] {
            let place = Memory::default();
            let (mut a, mut b) = (place.node(), place.node());
            a.ask(NOW, false);
            let keys = a.ask(NOW, true);
            b.ask(NOW, false);
            // The clock of the place is off, or that of b, which sees the place's as off.
            if is_of_node {
                place.ahead.set(-off);
                b.ask(Time(NOW.0.saturating_add_signed(off)), false);
                place.ahead.set(0);
            } else {
                place.ahead.set(off);
                a.ask(NOW, false);
                b.ask(NOW, false);
                place.ahead.set(0);
            }
            for node in [&mut a, &mut b] {
                let after = node.ask(NOW, false);
                assert!(keys.iter().all(|key| after.contains(key)), "{off}");
                let held = node.held.as_ref().unwrap().source_keys();
                assert!(held.iter().any(|key| key.window.seals(NOW)), "{off}");
            }
        }
    }
}

#[test]
fn an_old_copy_is_brought_up_to_date_and_replaced() {
    let place = Memory::default();
    let (mut a, mut b) = (place.node(), place.node());
    a.ask(NOW, false);
    let old = place.get();
    let newest = a.ask(NOW, true);
    b.ask(NOW, false);
    place.set(old);
    assert_eq!(b.ask(NOW, false), newest);
    assert_eq!(place.version(), 3);
    assert_eq!(a.ask(NOW, false), newest);
}

#[test]
fn a_key_revoked_by_one_does_not_return_through_another_that_still_held_it() {
    let place = Memory::default();
    let (mut a, mut b) = (place.node(), place.node());
    let revoked = a.ask(NOW, false);
    b.ask(NOW, false);
    let rotation = Rotation::new();
    let revoking = query(NOW, &rotation, false, &revoked);
    let fresh = a.ask_by(&revoking);
    assert!(!fresh.contains(&revoked[0]));
    place.set(None);
    b.ask(NOW, false); // had not heard of it yet
    assert!(!a.ask_by(&revoking).contains(&revoked[0]));
    assert!(!b.ask(NOW, false).contains(&revoked[0]));
}

#[test]
fn a_process_that_is_overtaken_retries_and_gives_up_eventually() {
    let place = Memory::default();
    let mut node = place.node();
    node.backend.races = ATTEMPTS - 1;
    assert_eq!(node.ask(NOW, false).len(), 1);
    node.backend.races = ATTEMPTS;
    let rotation = Rotation::new();
    let error = node.load(&query(NOW, &rotation, true, &[])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the test: other processes changed it 5 times in a row"
    );
    assert_eq!(place.version(), 1);
}

#[test]
fn expired_and_revoked_keys_are_forgotten_even_if_nothing_can_be_read() {
    let place = Memory::default();
    let mut a = place.node();
    a.ask(NOW, false);
    let both = a.ask(NOW, true);
    let rotation = Rotation::new();
    a.withdraw(&query(NOW, &rotation, false, &both[..1]));
    assert_eq!(names(a.held.as_ref().unwrap()), both[1..]);
    a.withdraw(&query(NOW.plus(24 * HOUR), &rotation, false, &[]));
    assert!(names(a.held.as_ref().unwrap()).is_empty());
}

#[test]
fn schedules_that_differ_are_noticed_by_who_did_not_write_last() {
    let place = Memory::default();
    let (mut a, mut b) = (place.node(), place.node());
    a.ask(NOW, false);
    let other = Rotation::new().interval(2 * HOUR);
    b.ask_by(&query(NOW, &other, false, &[]));
    assert_eq!(
        (a.fleet_agrees(), b.fleet_agrees()),
        (Some(true), Some(false))
    );
    b.ask_by(&query(NOW, &other, true, &[]));
    a.ask(NOW, false);
    assert_eq!(
        (a.fleet_agrees(), b.fleet_agrees()),
        (Some(false), Some(true))
    );
}

#[test]
fn a_differing_schedule_is_logged_whenever_it_appears() {
    let place = Memory::default();
    let mut a = place.node();
    let usual = Rotation::new();
    let other = Rotation::new().interval(2 * HOUR);
    a.ask(NOW, false);
    let mut warnings = |rotation| {
        let query = query(NOW, rotation, false, &[]);
        Log::of(|| a.ask_by(&query)).0.warnings()
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
