use super::super::value::Value;
use super::*;

const LATER: Time = Time(1_000);

/// Of one shard, with room for so many.
fn shard(limit: usize) -> Shard {
    Shard::new(KeyHasher::random(), limit, limit, usize::MAX, usize::MAX)
}

fn put(shard: &mut Shard, number: u8, expires: Time, now: Time) {
    let entry = Entry {
        value: Value::new(vec![number; 4]),
        issuers: None,
        lineage: Lineage::of_full_handshake(Time(0)),
        version: None,
        expires,
        is_renewal: false,
    };
    let key = [number; 32];
    let key = shard.hasher.key(1, &key);
    assert!(shard.put(key, entry, now, &mut Removed::default()));
}

#[test]
fn storing_sweeps_the_expired_out_now_and_then() {
    let mut shard = shard(1_000);
    for number in 0..20 {
        put(&mut shard, number, LATER, Time(0));
    }
    for number in 20..PUTS_PER_SWEEP as u8 - 1 {
        put(&mut shard, number, Time(2_000), LATER);
    }
    assert_eq!(shard.stats().expired, 0, "not yet");
    put(&mut shard, 200, Time(2_000), LATER);
    assert_eq!(shard.stats().expired, 20);
    assert_eq!(shard.stats().entries, u64::from(PUTS_PER_SWEEP) - 20);
    for number in 0..20 {
        put(&mut shard, number, LATER, Time(0));
    }
    for _ in 0..4 * PUTS_PER_SWEEP {
        put(&mut shard, 200, Time(2_000), LATER);
    }
    assert_eq!(shard.stats().expired, 40, "round after round");
}

#[test]
fn evicting_what_has_expired_anyway_counts_as_that() {
    let mut shard = shard(2);
    put(&mut shard, 0, LATER, Time(0));
    put(&mut shard, 1, Time(2_000), Time(0));
    put(&mut shard, 2, Time(2_000), LATER);
    put(&mut shard, 3, Time(2_000), LATER);
    let stats = shard.stats();
    assert_eq!((stats.expired, stats.evictions.entries), (1, 1));
}

#[test]
fn a_shard_of_less_than_its_share_keeps_a_fifth_of_it_for_the_new() {
    let mut shard = shard(100);
    for number in 0..100 {
        put(&mut shard, number, LATER, Time(0));
        let id = [number; 32];
        let key = shard.hasher.key(1, &id);
        let found = shard.get(key, Time(0), &mut Vec::new(), &mut Removed::default());
        assert!(found.is_some());
    }
    assert_eq!(shard.lru.lens(), (80, 20));
    shard.set_limit(60);
    for number in 100..200 {
        put(&mut shard, number, LATER, Time(0));
    }
    assert_eq!(shard.lru.lens(), (48, 12));
}

#[test]
fn only_a_live_session_of_tls12_is_held_for_tls12() {
    let mut shard = shard(10);
    for (number, version) in [
        (2, Some(Version::Tls12)),
        (3, Some(Version::Tls13)),
        (4, None),
    ] {
        let entry = Entry {
            value: Value::new(vec![number; 4]),
            issuers: None,
            lineage: Lineage::of_full_handshake(Time(0)),
            version,
            expires: LATER,
            is_renewal: false,
        };
        let id = [number; 32];
        let key = shard.hasher.key(1, &id);
        assert!(shard.put(key, entry, Time(0), &mut Removed::default()));
        let is_held = version == Some(Version::Tls12);
        assert_eq!(shard.holds(key, Time(999)), is_held);
        assert!(!shard.holds(key, LATER));
    }
}
