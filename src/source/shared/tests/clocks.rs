//! Clocks that are wrong: that of a node, that of the place, or both at once.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// By how much a clock is wrong, in hours.
const WRONG: [i64; 6] = [-14, -6, 1, 6, 14, 30 * 24];

fn off(time: Time, hours: i64) -> Time {
    Time(time.0.saturating_add_signed(hours * 60 * 60 * 1000))
}

/// A node and its clocks.
struct Host {
    node: Node,
    hours_off: i64,
}

impl Host {
    fn ask(&mut self, now: Time, rotate: bool) {
        let rotation = Rotation::new();
        let wall = off(now, self.hours_off);
        // A monotonic clock knows no date, and nobody sets it.
        let monotonic = now.since(NOW);
        self.node.ask_by(&SourceQuery {
            monotonic,
            ..query(wall, &rotation, rotate, &[])
        });
    }

    fn held(&self) -> Vec<SourceKey> {
        self.node.held.as_ref().unwrap().source_keys()
    }
}

#[test]
fn a_rotation_by_hand_whatever_the_clocks_leaves_a_record_that_all_can_read() {
    let longest = Rotation::new().ticket_lifetime(Rotation::MAX_TICKET_LIFETIME);
    for place_off in WRONG {
        let place = Memory::default();
        let [mut ours, mut other] = hosts(&place);
        for rotate in [false, true, false] {
            set(&place, place_off);
            ours.node.ask_by(&query(NOW, &longest, rotate, &[]));
        }
        let names = other.node.ask_by(&query(NOW, &longest, false, &[]));
        assert!(names.len() > 1, "{place_off} hours: {names:?}");
        in_record(&place);
    }
}

fn hosts<const N: usize>(place: &Memory) -> [Host; N] {
    [(); N].map(|()| Host {
        node: place.node(),
        hours_off: 0,
    })
}

fn set(place: &Memory, hours_off: i64) {
    place.ahead.set(hours_off * 60 * 60 * 1000);
}

/// The memory's clock follows that of whoever asks: here it is by so much off the right time.
fn ask_all(hosts: &mut [Host], place: &Memory, place_off: i64, now: Time) {
    for host in hosts {
        set(place, place_off - host.hours_off);
        host.ask(now, false);
    }
}

fn in_record(place: &Memory) -> Vec<SourceKey> {
    let record = Record::decode(&place.get().unwrap(), Sealing::Aes256GcmSiv, None);
    record.unwrap().source_keys()
}

#[test]
fn through_two_days_one_wrong_clock_costs_no_key_and_leaves_no_gap() {
    // The first of the nodes, or the place.
    for (wrong, is_of_node) in WRONG
        .into_iter()
        .flat_map(|wrong| [(wrong, true), (wrong, false)])
    {
        let place = Memory::default();
        let mut hosts = hosts::<3>(&place);
        let mut known: Vec<SourceKey> = Vec::new();
        let mut now = NOW;
        while now < NOW.plus(48 * HOUR) {
            let is_wrong = now >= NOW.plus(15 * HOUR) && now < NOW.plus(22 * HOUR);
            let wrong = if is_wrong { wrong } else { 0 };
            let place_off = match is_of_node {
                true => {
                    hosts[0].hours_off = wrong;
                    0
                }
                false => wrong,
            };
            ask_all(&mut hosts, &place, place_off, now);
            let record = in_record(&place);
            let right = &hosts[usize::from(is_of_node && is_wrong)..];
            let why = format!(
                "{wrong} h off, of a node: {is_of_node}, at {:?}",
                now.since(NOW)
            );
            for host in right {
                let held = host.held();
                assert!(held.iter().any(|key| key.window.seals(now)), "a gap: {why}");
                for key in known.iter().filter(|key| key.window.opens(now)) {
                    let has = |keys: &[SourceKey]| {
                        keys.iter()
                            .any(|other| other.stek.name() == key.stek.name())
                    };
                    assert!(has(&held) && has(&record), "a key was dropped: {why}");
                }
            }
            // Those of a wrong clock's future are nobody's before their time.
            let new = record.into_iter().filter(|key| key.window.opens(now));
            known = new.collect();
            now = now.plus(15 * MINUTE);
        }
    }
}

#[test]
fn all_clocks_wrong_at_once_cost_no_key_while_monotonic_time_disagrees() {
    for hours in [14, 30 * 24] {
        let place = Memory::default();
        let mut hosts = hosts::<2>(&place);
        let mut now = NOW;
        for _ in 0..8 {
            ask_all(&mut hosts, &place, 0, now);
            now = now.plus(HOUR);
        }
        let before = in_record(&place);
        assert!(before.len() > 5);
        for host in &mut hosts {
            host.hours_off = hours;
        }
        for _ in 0..10 {
            ask_all(&mut hosts, &place, hours, now);
            now = now.plus(MINUTE);
        }
        for host in &mut hosts {
            assert!(
                host.held()
                    .iter()
                    .all(|key| key.window.opens(off(now, hours)))
            );
            host.hours_off = 0;
        }
        ask_all(&mut hosts, &place, 0, now);
        let names =
            |keys: Vec<SourceKey>| -> Vec<_> { keys.iter().map(|key| *key.stek.name()).collect() };
        for held in hosts.each_ref().map(Host::held) {
            let held = names(held);
            assert!(names(before.clone()).iter().all(|name| held.contains(name)));
        }
    }
}

#[test]
fn a_jump_ahead_of_all_clocks_is_believed_once_it_has_lasted_for_two_lives() {
    let place = Memory::default();
    let [mut host] = hosts::<1>(&place);
    host.ask(NOW, false);
    let first = *in_record(&place)[0].stek.name();
    let has_first = || {
        in_record(&place)
            .iter()
            .any(|key| key.stek.name() == &first)
    };
    host.hours_off = 20;
    let mut now = NOW;
    while now < NOW.plus(12 * HOUR) {
        host.ask(now, false);
        assert!(has_first(), "after {:?}", now.since(NOW));
        now = now.plus(HOUR);
    }
    while now <= NOW.plus(2 * 13 * HOUR) {
        host.ask(now, false);
        now = now.plus(HOUR);
    }
    assert!(!has_first());
}

#[test]
fn a_record_lost_while_the_clock_of_its_place_is_wrong_costs_no_key() {
    for hours in WRONG {
        let place = Memory::default();
        let mut hosts = hosts::<2>(&place);
        for host in &mut hosts {
            host.ask(NOW, false);
        }
        let before = in_record(&place);
        place.set(None);
        // A newcomer that holds nothing is the first to write.
        let [mut newcomer] = self::hosts::<1>(&place);
        set(&place, hours);
        newcomer.ask(NOW, false);
        for host in &mut hosts {
            host.ask(NOW.plus(MINUTE), false);
            let held = host.held();
            assert!(before.iter().all(|key| {
                held.iter()
                    .any(|other| other.stek.name() == key.stek.name())
            }));
        }
        set(&place, 0);
        for _ in 0..2 {
            for host in hosts.iter_mut().chain([&mut newcomer]) {
                host.ask(NOW.plus(2 * MINUTE), false);
            }
        }
        let after = in_record(&place);
        assert!(
            before.iter().all(|key| {
                after
                    .iter()
                    .any(|other| other.stek.name() == key.stek.name())
            }),
            "{hours}"
        );
    }
}

#[test]
fn whose_clock_is_far_off_rotates_within_what_the_keys_are_for_or_not_at_all() {
    let place = Memory::default();
    let (mut a, mut b) = (place.node(), place.node());
    a.ask(NOW, false);
    let rotation = Rotation::new();
    for (off, rotates) in [(HOUR, true), (20 * HOUR, false)] {
        place.ahead.set(-(off.as_millis() as i64));
        let now = NOW.plus(off);
        let before = a.ask(NOW.plus(off), false).len();
        let rotated = b.load(&query(now, &rotation, true, &[]));
        assert_eq!(rotated.is_ok(), rotates, "{rotated:?}");
        if let Ok(keys) = rotated {
            assert_eq!(keys.len(), before + 1);
        }
    }
}
