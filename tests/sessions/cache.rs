//! The session cache against a naive model, its budgets, and a flood.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use fuzz_bodies::cache::{Op, TTL, check};
use proptest::prelude::*;
use rustls::HandshakeKind;
use rustls::server::StoresServerSessions;
use rustls_resumption::store::{SharedStore, StoreKey, StoreLookup};
use rustls_resumption::{FakeClock, Resumption, SessionCache};
use test_support::fleet::sharing;
use test_support::handshake::{client_without_tickets, kind, server_config};
use test_support::session::{id, tls12, tls13};

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let id = 0..40_u16;
    let op = prop_oneof![
        4 => (id.clone(), 0..200_usize).prop_map(|(id, len)| Op::Put { id, len }),
        3 => id.clone().prop_map(Op::Get),
        2 => id.prop_map(Op::Take),
        1 => (0..40_u64).prop_map(|s| Op::Pass(Duration::from_secs(s))),
    ];
    proptest::collection::vec(op, 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn behaves_like_a_naive_model(ops in ops(), entries in 0..30_usize, bytes in 0..3_000_usize) {
        check(ops, entries, bytes);
    }
}

#[test]
fn as_many_sessions_fit_as_the_budget_says() {
    for entries in [1, 2, 63, 64, 100, 1_000, 5_000, 100_000] {
        let cache = SessionCache::new(entries);
        for number in 0..entries as u64 {
            assert!(cache.put(id(number).to_vec(), vec![7; 8]));
        }
        assert_eq!(cache.stats().entries, entries as u64, "{entries}");
        assert_eq!(cache.stats().evictions.entries, 0, "{entries}");
        for number in 0..2 * entries as u64 {
            cache.put(id(1_000_000 + number).to_vec(), vec![7; 8]);
        }
        assert_eq!(cache.stats().entries, entries as u64, "{entries}");
    }
}

#[test]
fn taking_and_putting_for_long_leaks_no_entries() {
    let cache = SessionCache::new(1_000);
    let mut live: Vec<u64> = (0..1_000).collect();
    for number in &live {
        cache.put(id(*number).to_vec(), vec![7; 8]);
    }
    for round in 0..50_000_u64 {
        let at = (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % live.len();
        cache.take(&id(live[at]));
        live[at] = 1_000 + round;
        cache.put(id(live[at]).to_vec(), vec![7; 8]);
    }
    let entries = cache.stats().entries;
    assert!((900..=1_000).contains(&entries), "{entries} of 1,000");
}

#[test]
fn expired_sessions_are_wiped_within_a_minute_however_few_there_are() {
    let time = FakeClock::new();
    let resumption = Resumption::builder()
        .stateful(50_000)
        .cache_shards(1)
        .session_ttl(TTL)
        .clock(time.clock())
        .build()
        .unwrap();
    let cache = resumption.session_storage("a");
    for number in 0..50_000 {
        cache.put(id(number).to_vec(), vec![7; 8]);
    }
    for number in (0..50_000).filter(|number| number % 5_000 != 0) {
        assert!(cache.take(&id(number)).is_some());
    }
    time.advance(TTL);
    for _ in 0..61 {
        resumption.step();
        time.advance(Duration::from_secs(1));
    }
    assert_eq!(resumption.stats().cache.entries, 0);
}

#[test]
fn absurd_budgets_neither_panic_nor_cost_memory() {
    let cache = SessionCache::new(usize::MAX);
    assert!(cache.put(id(1).to_vec(), vec![1, 2, 3]));
    assert_eq!(cache.get(&id(1)), Some(vec![1, 2, 3]));
    let none = SessionCache::new(0);
    assert!(!none.can_cache());
    assert!(!none.put(id(1).to_vec(), vec![1, 2, 3]));
    assert_eq!(none.stats().not_stored.no_room, 1);
}

#[test]
fn ids_that_are_not_32_bytes_store_nothing_and_find_nothing() {
    let cache = SessionCache::new(100);
    for len in [0, 1, 31, 33, 65_535] {
        assert!(!cache.put(vec![7; len], vec![1]));
        assert_eq!(cache.get(&vec![7; len]), None);
        assert_eq!(cache.take(&vec![7; len]), None);
    }
    let stats = cache.stats();
    assert_eq!(
        (stats.not_stored.malformed, stats.misses.malformed),
        (5, 10)
    );
    assert_eq!(stats.entries, 0);
}

#[test]
fn a_session_of_one_tls_version_is_not_handed_to_the_other() {
    let cache = SessionCache::new(100);
    cache.put(id(2).to_vec(), tls12(b"secret"));
    cache.put(id(3).to_vec(), tls13(b"secret", b""));
    assert_eq!(cache.take(&id(2)), None, "offered as a PSK identity");
    assert_eq!(cache.get(&id(3)), None, "offered as a session ID");
    assert_eq!(cache.stats().misses.other_version, 2);
    assert_eq!(
        cache.get(&id(2)),
        Some(tls12(b"secret")),
        "nothing was burnt"
    );
    assert_eq!(cache.take(&id(3)), Some(tls13(b"secret", b"")));
    assert_eq!(cache.take(&id(3)), None);
}

#[test]
fn whatever_its_id_a_session_is_found_in_its_own_scope_only() {
    let cache = SessionCache::new(1_000);
    let scopes = ["", "a", "b", "ab", "a\0", "\u{1}"];
    for (number, scope) in scopes.into_iter().enumerate() {
        let value = vec![number as u8; 9];
        assert!(cache.scoped(scope).put(id(0).to_vec(), value));
    }
    for (number, scope) in scopes.into_iter().enumerate() {
        assert_eq!(cache.scoped(scope).get(&id(0)), Some(vec![number as u8; 9]));
    }
    assert_eq!(cache.scoped("another").get(&id(0)), None);
}

#[test]
fn only_one_of_many_threads_takes_a_session() {
    let cache = SessionCache::new(10_000);
    for number in 0..1_000 {
        cache.put(id(number).to_vec(), tls13(b"secret", b""));
    }
    let takers: Vec<_> = (0..8)
        .map(|_| {
            let cache = cache.clone();
            std::thread::spawn(move || (0..1_000).filter(|n| cache.take(&id(*n)).is_some()).count())
        })
        .collect();
    let taken: usize = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
    assert_eq!(taken, 1_000);
}

#[test]
fn a_flood_of_unused_sessions_evicts_no_used_ones() {
    let resumption = Resumption::stateful(20_000).unwrap();
    let cache = resumption.session_storage("a");
    for number in 0..10_000 {
        cache.put(id(number).to_vec(), tls12(b"in use"));
        assert!(cache.get(&id(number)).is_some());
    }
    for number in 0..100_000 {
        cache.put(id(1_000_000 + number).to_vec(), tls12(b"never to return"));
    }
    let kept = (0..10_000).filter(|n| cache.get(&id(*n)).is_some()).count();
    assert!(kept >= 9_500, "{kept} of 10,000 still resume");
}

#[test]
fn clients_in_use_survive_a_flood_of_real_handshakes() {
    let resumption = Resumption::builder().stateful(20).build().unwrap();
    let mut config = server_config();
    resumption.install(&mut config, "a");
    let server = Arc::new(config);
    let regulars: Vec<_> = (0..10).map(|_| client_without_tickets()).collect();
    for client in &regulars {
        assert_eq!(kind(client, &server), HandshakeKind::Full);
        assert_eq!(kind(client, &server), HandshakeKind::Resumed);
    }
    for _ in 0..100 {
        assert_eq!(
            kind(&client_without_tickets(), &server),
            HandshakeKind::Full
        );
    }
    for client in &regulars {
        assert_eq!(kind(client, &server), HandshakeKind::Resumed);
    }
}

#[test]
fn the_byte_budget_is_kept_whatever_the_sizes() {
    let resumption = Resumption::builder()
        .stateful(20_000)
        .cache_bytes(1_000_000)
        .build()
        .unwrap();
    let cache = resumption.session_storage("a");
    for number in 0..5_000 {
        let len = (number as usize * 7_919) % 16_000;
        cache.put(id(number).to_vec(), vec![7; len]);
        assert!(resumption.stats().cache.bytes <= 1_000_000);
    }
    let stats = resumption.stats().cache;
    assert!(stats.bytes > 800_000, "{} bytes are in use", stats.bytes);
    assert!(stats.evictions.bytes > 0);
}

/// A store that takes what it is given, or nothing.
struct Picky {
    takes: bool,
}

impl SharedStore for Picky {
    fn fetch(&self, _: &StoreKey, _: Duration) -> StoreLookup {
        Box::pin(ready(Ok(None)))
    }

    fn claim(&self, _: &StoreKey, _: Duration) -> StoreLookup {
        Box::pin(ready(Ok(None)))
    }

    fn write(&self, _: StoreKey, _: Vec<u8>, _: Duration) -> bool {
        self.takes
    }
}

#[test]
fn a_session_is_kept_if_the_cache_or_the_store_takes_it() {
    for (entries, takes) in [(0, false), (0, true), (10, false), (10, true)] {
        let store = Arc::new(Picky { takes });
        let resumption = sharing(&store).stateful(entries).build().unwrap();
        let storage = resumption.session_storage("a");
        let is_kept = storage.put(id(7).to_vec(), tls12(&[7; 48]));
        assert_eq!(is_kept, entries > 0 || takes, "{entries}, {takes}");
    }
}
