//! Nodes that derive their STEKs from one secret.

use std::time::{Duration, SystemTime};

use rustls_resumption::source::DerivedSource;
use rustls_resumption::{FakeClock, Resumption, Rotation};
use test_support::handshake::{FULL, RESUMED, VERSIONS, client, kind};

use super::{HOUR, MINUTE, Node, assert_resumes_everywhere, clock_ahead};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn secret(number: u8) -> [u8; 32] {
    std::array::from_fn(|i| number.wrapping_add(i as u8))
}

fn source() -> DerivedSource {
    DerivedSource::new(&secret(1)).unwrap()
}

fn node(time: FakeClock) -> Node {
    Node::new(source(), Rotation::new(), time)
}

#[test]
fn three_nodes_resume_each_others_clients_across_rotations_with_clocks_apart() {
    let ahead = 5 * MINUTE; // of the default schedule
    for version in VERSIONS {
        let nodes = [Duration::ZERO, ahead / 2, ahead].map(|by| node(clock_ahead(by)));
        let client = client(version);
        assert_eq!(kind(&client, &nodes[1].server), FULL);
        for minute in (0..6 * 60).step_by(5) {
            assert_resumes_everywhere(&client, &nodes, &format!("after {minute} minutes"));
            nodes.iter().for_each(|node| node.pass(5 * MINUTE));
        }
        for node in &nodes {
            let stats = node.resumption.stats();
            assert!(stats.steks.rotations >= 5 && !stats.steks.fallen_back);
            assert_eq!(stats.tickets.refused, Default::default());
        }
    }
}

#[test]
fn clocks_may_be_as_far_apart_as_the_schedule_publishes_ahead() {
    let ahead = 30 * MINUTE;
    for version in VERSIONS {
        let nodes = [Duration::ZERO, ahead].map(|by| {
            let rotation = Rotation::new().publish_ahead(ahead);
            Node::new(source(), rotation, clock_ahead(by))
        });
        let client = client(version);
        assert_eq!(kind(&client, &nodes[1].server), FULL);
        for minute in (0..3 * 60).step_by(10) {
            assert_resumes_everywhere(&client, &nodes, &format!("after {minute} minutes"));
            nodes.iter().for_each(|node| node.pass(10 * MINUTE));
        }
    }
}

#[test]
fn clocks_further_apart_only_cost_full_handshakes_around_rotations() {
    let nodes = [Duration::ZERO, 4 * MINUTE].map(|by| {
        let rotation = Rotation::new().publish_ahead(2 * MINUTE);
        Node::new(source(), rotation, clock_ahead(by))
    });
    let client = client(VERSIONS[1]);
    let full: Vec<u64> = (0..180)
        .filter(|_| {
            kind(&client, &nodes[1].server);
            let full = kind(&client, &nodes[0].server) == FULL;
            nodes.iter().for_each(|node| node.pass(MINUTE));
            full
        })
        .collect();
    // The one seals with the next key from minute 56 on, the other opens with it from 58 on.
    assert_eq!(full, [56, 57, 116, 117, 176, 177]);
    let refused = nodes[0].resumption.stats().tickets.refused;
    assert_eq!(refused.unknown_key_name, 6);
}

#[test]
fn a_restarted_node_opens_earlier_tickets() {
    for version in VERSIONS {
        let before = node(FakeClock::new());
        let client = client(version);
        assert_eq!(kind(&client, &before.server), FULL);
        before.pass(12 * HOUR);
        let after = node(before.time.clone());
        assert_eq!(kind(&client, &after.server), RESUMED);
    }
}

#[test]
fn a_different_secret_or_interval_only_costs_full_handshakes() {
    for version in VERSIONS {
        let other = DerivedSource::new(&secret(2)).unwrap();
        let half = Rotation::new().interval(HOUR / 2);
        let nodes = [
            node(FakeClock::new()),
            Node::new(other, Rotation::new(), FakeClock::new()),
            Node::new(source(), half, FakeClock::new()),
        ];
        for from in &nodes {
            for to in &nodes {
                let client = client(version);
                kind(&client, &from.server);
                let same = std::ptr::eq(from, to);
                assert_eq!(kind(&client, &to.server), if same { RESUMED } else { FULL });
            }
        }
    }
}

/// Each step is rolled out node by node, in another order each time, while a client goes round.
#[test]
fn a_changed_secret_and_schedule_roll_out_without_a_gap_and_back() {
    let schedules = [Rotation::new(), Rotation::new().interval(HOUR / 2)];
    let sources = || [secret(1), secret(2)].map(|secret| DerivedSource::new(&secret).unwrap());
    // Whose STEKs seal, and whether the other's open.
    let steps = [
        (0, true),
        (1, true),
        (1, false),
        (1, true),
        (0, true),
        (0, false),
    ];
    for version in VERSIONS {
        let clocks = [0, 2, 5].map(|minutes| clock_ahead(minutes * MINUTE));
        let mut nodes = clocks.map(node);
        let client = client(version);
        assert_eq!(kind(&client, &nodes[0].server), FULL);
        for (step, (own, also)) in steps.into_iter().enumerate() {
            for i in 0..3 {
                let i = (i + step) % 3;
                let [old, new] = sources();
                let (mut source, other) = if own == 0 { (old, new) } else { (new, old) };
                if also {
                    source = source.also_open(other, schedules[1 - own]).unwrap();
                }
                nodes[i] = Node::new(source, schedules[own], nodes[i].time.clone());
                for _ in 0..3 {
                    assert_resumes_everywhere(&client, &nodes, &format!("in step {step}"));
                    nodes.iter().for_each(|node| node.pass(7 * MINUTE));
                }
            }
            // The last step waits for the tickets of the other secret to be gone.
            for _ in 0..26 {
                assert_resumes_everywhere(&client, &nodes, &format!("after step {step}"));
                nodes.iter().for_each(|node| node.pass(HOUR / 2));
            }
        }
    }
}

#[test]
fn a_clock_years_ahead_costs_full_handshakes_until_it_is_set_right() {
    for version in VERSIONS {
        let nodes = [node(FakeClock::new()), node(FakeClock::new())];
        let client = client(version);
        kind(&client, &nodes[0].server);
        nodes.iter().for_each(|node| node.pass(20 * HOUR));
        kind(&client, &nodes[0].server);
        nodes[1].time.step_forward(10 * YEAR);
        nodes[1].resumption.step();
        assert_eq!(kind(&client, &nodes[1].server), FULL);
        for _ in 0..10 {
            nodes.iter().for_each(|node| node.pass(HOUR));
        }
        nodes[1].time.step_back(10 * YEAR);
        nodes[1].resumption.step();
        kind(&client, &nodes[0].server);
        assert_resumes_everywhere(&client, &nodes, "when it is set right");
        assert_eq!(nodes[1].resumption.stats().steks.source_failures, 0);
    }
}

#[test]
fn a_node_that_starts_with_a_wrong_clock_joins_when_it_is_set_right() {
    let right = FakeClock::new().wall();
    for wrong in [right + 10 * YEAR, right - YEAR, SystemTime::UNIX_EPOCH] {
        let time = FakeClock::starting_at(wrong);
        let nodes = [node(FakeClock::new()), node(time)];
        let client = client(VERSIONS[1]);
        kind(&client, &nodes[0].server);
        assert_eq!(kind(&client, &nodes[1].server), FULL);
        assert_eq!(
            kind(&client, &nodes[1].server),
            RESUMED,
            "it serves its own"
        );
        nodes.iter().for_each(|node| node.pass(HOUR));
        let time = &nodes[1].time;
        match wrong > right {
            true => time.step_back(10 * YEAR),
            false => time.step_forward(right.duration_since(wrong).unwrap()),
        }
        assert_eq!(time.wall(), nodes[0].time.wall());
        nodes[1].resumption.step();
        kind(&client, &nodes[0].server);
        assert_resumes_everywhere(&client, &nodes, "when it is set right");
    }
}

#[test]
fn a_clock_before_the_origin_is_not_ready_and_says_why() {
    let time = FakeClock::starting_at(SystemTime::UNIX_EPOCH);
    let node = node(time);
    let stats = node.resumption.stats().steks;
    assert!(!node.resumption.ready() && stats.fallen_back && stats.source_failures > 0);
    node.time.step_forward(57 * YEAR);
    node.resumption.step();
    assert!(node.resumption.ready() && !node.resumption.stats().steks.fallen_back);
}

#[test]
fn it_rotates_by_its_schedule_only() {
    let node = node(FakeClock::new());
    let error = node.resumption.rotate_now().unwrap_err().to_string();
    assert!(error.starts_with("STEK source `derived`: rotates by its schedule"));
}

#[test]
fn revoking_all_ends_every_ticket_here_and_the_next_epoch_seals_again() {
    let nodes = [node(FakeClock::new()), node(FakeClock::new())];
    let client = client(VERSIONS[1]);
    kind(&client, &nodes[0].server);
    let _ = nodes[1].resumption.revoke_all();
    assert_eq!(kind(&client, &nodes[1].server), FULL);
    assert!(nodes[1].resumption.stats().steks.fallen_back);
    nodes.iter().for_each(|node| node.pass(HOUR));
    kind(&client, &nodes[0].server);
    assert_eq!(kind(&client, &nodes[1].server), RESUMED);
    assert!(!nodes[1].resumption.stats().steks.fallen_back);
}

#[test]
fn it_works_on_the_system_clock() {
    let build = || {
        let rotation = Rotation::new().interval(Duration::from_millis(100));
        let rotation = rotation.ticket_lifetime(Duration::from_secs(1));
        let builder = Resumption::builder().stek_source(source());
        builder.rotation(rotation).build().unwrap()
    };
    let (a, b) = (build(), build());
    // Waits for the event: how long it takes does not matter here.
    while a.stats().steks.rotations < 5 || b.stats().steks.rotations < 5 {
        std::thread::yield_now();
    }
    let [a, b] = [a, b].map(|resumption| resumption.ticketer("a"));
    while a
        .encrypt(b"session")
        .is_none_or(|ticket| b.decrypt(&ticket).is_none())
    {
        std::thread::yield_now();
    }
}
