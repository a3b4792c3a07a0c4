use super::*;
use crate::aead::Sealing;
use crate::stek::Stek;

const AHEAD: Duration = Duration::from_millis(5);

/// A key that seals for ten milliseconds from this time, and opens for a hundred more.
fn key(activates: u64) -> SourceKey {
    let window = Window {
        published: Time(activates.saturating_sub(5)),
        activates: Time(activates),
        retires: Time(activates + 10),
        expires: Time(activates + 110),
    };
    SourceKey::with_window(Stek::random(Sealing::default()).unwrap(), window)
}

fn name(key: &SourceKey) -> KeyName {
    *key.stek.name()
}

#[test]
fn what_is_due_is_known_and_done_in_time() {
    let mut held = Held::default();
    let (first, second) = (key(100), key(110));
    held.add(vec![first.clone(), second.clone()], AHEAD);
    assert!(held.advance(Time(100), AHEAD).is_empty());
    let mut dues = Vec::new();
    while held.due() < Time(210) {
        dues.push(held.due().0);
        assert!(held.advance(held.due(), AHEAD).is_empty());
    }
    // The second is published, the first needs a successor, retires as the second activates,
    // which needs a successor, and retires.
    assert_eq!(dues, [105, 110, 115, 120]);
    assert_eq!(held.advance(Time(210), AHEAD), [name(&first)]);
    assert_eq!(held.advance(Time(1_000), AHEAD), [name(&second)]);
    assert_eq!((held.due(), held.sourced), (Time(u64::MAX), 0));
}

#[test]
fn a_key_that_had_retired_seals_again_when_the_clock_is_set_back() {
    let mut held = Held::default();
    held.add(vec![key(100)], AHEAD);
    held.advance(Time(150), AHEAD);
    assert!(!held.seals(Time(105)));
    assert!(held.advance(Time(103), AHEAD).is_empty());
    assert!(held.seals(Time(105)));
    assert_eq!(held.due(), Time(105));
    assert_eq!(held.snapshot(&[]).active(Time(105)).map(|_| ()), Some(()));
}

#[test]
fn keys_that_the_source_lists_no_more_go_and_local_ones_stay() {
    let mut held = Held::default();
    let (first, second, local) = (key(100), key(110), key(100));
    held.replace(vec![first.clone(), second.clone()], AHEAD);
    held.stand_in(std::slice::from_ref(&local), AHEAD);
    assert_eq!(held.replace(vec![second.clone()], AHEAD), [name(&first)]);
    let snapshot = held.snapshot(std::slice::from_ref(&local));
    assert_eq!((snapshot.len(), held.sourced), (2, 1));
    assert!(snapshot.is_local(&name(&local)) && !snapshot.is_local(&name(&second)));
    held.stand_in(&[], AHEAD);
    assert!(held.get(&name(&local)).is_none());
    assert!(held.get(&name(&second)).is_some());
}

#[test]
fn only_the_last_few_names_of_what_is_gone_are_remembered() {
    let mut held = Held::default();
    let expired: Vec<_> = (0..100).map(|_| name(&key(0))).collect();
    let revoked: Vec<_> = (0..300).map(|_| name(&key(0))).collect();
    held.revoke(&revoked);
    for name in expired.iter().chain(&revoked[200..]) {
        held.note_expired(*name);
    }
    let is_expired = |name: &&KeyName| matches!(held.slots.get(name), Some(Slot::Expired));
    let known: Vec<_> = expired.iter().filter(is_expired).collect();
    assert_eq!(known, Vec::from_iter(&expired[100 - EXPIRED_NAMES..]));
    let snapshot = held.snapshot(&[]);
    let is_known = |name: &&KeyName| snapshot.has_revoked(Some(**name));
    let known: Vec<_> = revoked.iter().filter(is_known).collect();
    assert_eq!(known, Vec::from_iter(&revoked[300 - REVOKED_NAMES..]));
}

#[test]
fn only_of_the_last_few_keys_that_were_revoked_is_it_known_when_they_opened() {
    let mut held = Held::default();
    let keys: Vec<_> = (0..300).map(|_| key(100)).collect();
    let names: Vec<_> = keys.iter().map(name).collect();
    held.add(keys, AHEAD);
    held.revoke(&names);
    assert_eq!(held.openings.len(), REVOKED_NAMES);
}

#[test]
fn a_local_key_that_the_source_has_come_to_list_stays_when_none_stands_in_any_more() {
    let mut held = Held::default();
    let key = key(100);
    held.stand_in(std::slice::from_ref(&key), AHEAD);
    held.add(vec![key.clone()], AHEAD);
    held.stand_in(&[], AHEAD);
    assert!(held.get(&name(&key)).is_some_and(|held| !held.is_local));
}

#[test]
fn a_source_that_comes_to_list_a_local_key_and_no_other_has_no_other() {
    let mut held = Held::default();
    let (own, local) = (key(100), key(100));
    held.replace(vec![own.clone()], AHEAD);
    held.stand_in(std::slice::from_ref(&local), AHEAD);
    assert_eq!(held.replace(vec![local.clone()], AHEAD), [name(&own)]);
    assert!(held.get(&name(&own)).is_none());
    assert!(held.get(&name(&local)).is_some_and(|held| !held.is_local));
}

#[test]
fn of_too_many_keys_those_go_that_retired_first_and_none_that_may_seal_or_stands_in() {
    let mut held = Held::default();
    let keys: Vec<_> = [100, 110, 120, 130].map(key).into();
    let local = key(90);
    held.add(keys.clone(), AHEAD);
    held.stand_in(std::slice::from_ref(&local), AHEAD);
    let now = Time(120);
    held.advance(now, AHEAD);
    let mut gone = Vec::new();
    held.shed(3, now, &mut gone);
    assert_eq!(gone, [name(&keys[0])]);
    held.shed(1, now, &mut gone);
    assert_eq!(gone, [name(&keys[0]), name(&keys[1])]);
    for key in keys[2..].iter().chain([&local]) {
        assert!(held.get(&name(key)).is_some());
    }
}

#[test]
fn a_key_that_is_listed_again_keeps_its_count_of_seals_and_its_new_window_counts() {
    let mut held = Held::default();
    let first = key(100);
    held.add(vec![first.clone()], AHEAD);
    let mut again = first.clone();
    again.window.retires = Time(104);
    held.add(vec![again], AHEAD);
    let kept = held.get(&name(&first)).unwrap();
    assert!(Arc::ptr_eq(&kept.key.stek, &first.stek));
    held.advance(Time(104), AHEAD);
    assert!(!held.seals(Time(104)));
    assert_eq!(
        (held.sourced, held.agenda.len(), held.sealing.len()),
        (1, 1, 0)
    );
}
