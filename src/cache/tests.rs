use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::collection::vec;
use proptest::{prop_assert, prop_assert_eq, proptest};
use rustls::server::StoresServerSessions;

use super::spare::IDLE_ROOM;
use super::upkeep::SWEEP_PARTS;
use super::*;
use crate::client_auth::ClientAuth;
use crate::clock::FakeClock;
use crate::housekeeper::EverySecond;
use crate::resumption::SessionCache;
use crate::scope::Which;
use crate::session::tests::{encoded, encoded_with};
use crate::stats::{Evictions, Misses, NotStored};

fn id(number: u64) -> Vec<u8> {
    let mut id = vec![0x5a; 24];
    id.extend_from_slice(&number.to_be_bytes());
    id
}

#[test]
fn forgetting_leaves_nothing_of_stores_under_way() {
    let cache = SessionCache::new(1_000);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..3 {
            let (cache, stop) = (&cache, &stop);
            scope.spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    cache.put(id((writer << 32) | (number % 500)), vec![7; 8]);
                }
            });
        }
        for _ in 0..2_000 {
            cache.forget("");
        }
        stop.store(true, Ordering::Relaxed);
    });
    cache.forget("");
    assert_eq!(cache.stats().entries, 0, "out of reach, so wiped by nobody");
}

#[test]
fn a_thread_that_gets_no_processor_while_it_holds_a_lock_costs_nobody_a_session() {
    let cache = SessionCache::new(10);
    assert!(cache.put(id(1), vec![7; 8]));
    let shards = &cache.inner.cache.shards;
    let start = Barrier::new(3);
    thread::scope(|scope| {
        let held = Vec::from_iter(shards.iter().map(|shard| shard.lock()));
        let stored = scope.spawn(|| {
            start.wait();
            cache.put(id(2), vec![8; 8])
        });
        let found = scope.spawn(|| {
            start.wait();
            cache.take(&id(1))
        });
        start.wait();
        thread::sleep(Duration::from_millis(250));
        drop(held);
        assert!(stored.join().unwrap());
        assert_eq!(found.join().unwrap(), Some(vec![7; 8]));
    });
}

#[test]
fn a_closed_cache_stores_nothing_whatever_was_given_back_meanwhile() {
    let cache = SessionCache::new(1_000);
    cache.inner.cache.close();
    // As by a shard that is closed last.
    cache
        .inner
        .cache
        .spare
        .entries()
        .fetch_add(1, Ordering::AcqRel);
    assert!(!cache.put(id(1), vec![7; 8]));
    assert_eq!(cache.stats().entries, 0);
    assert_eq!(cache.stats().not_stored.no_room, 1);
}

#[test]
fn the_budget_holds_among_threads_and_no_entry_of_it_is_lost() {
    let cache = SessionCache::new(1_000);
    thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                for step in 0..5_000_u64 {
                    let number = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
                    match (step + thread) % 3 {
                        0 => drop(cache.take(&id(number))),
                        _ => drop(cache.put(id(number), vec![7; 8])),
                    }
                    if step % 500 == 0 {
                        cache.inner.cache.sweep(&cache.inner.terms);
                    }
                }
            });
        }
    });
    let shards = cache.inner.cache.shards.iter();
    let limits: usize = shards.map(|shard| shard.lock().limit()).sum();
    let spare = cache.inner.cache.spare.entries().load(Ordering::Acquire);
    assert_eq!(limits + spare, 1_000);
    for shard in &cache.inner.cache.shards {
        let shard = shard.lock();
        assert!(shard.len() <= shard.limit());
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// A cache of these settings that goes by this clock.
fn cache(time: &FakeClock, settings: CacheSettings) -> SessionCache {
    let terms = Terms {
        clock: time.clock(),
        ..Terms::default()
    };
    SessionCache::with(settings, terms)
}

fn of_entries(entries: usize, shards: usize) -> CacheSettings {
    CacheSettings {
        entries,
        shards: Some(shards),
        ttl: MINUTE,
        ..CacheSettings::default()
    }
}

#[test]
fn a_cache_that_can_hold_nothing_says_so() {
    let time = FakeClock::new();
    let of_bytes = |bytes| CacheSettings {
        bytes: Some(bytes),
        ..CacheSettings::default()
    };
    assert!(cache(&time, CacheSettings::default()).can_cache());
    assert!(cache(&time, of_entries(1, 1)).can_cache());
    assert!(cache(&time, of_bytes(1)).can_cache());
    assert!(!cache(&time, of_entries(0, 1)).can_cache());
    assert!(!cache(&time, of_bytes(0)).can_cache());
    let closed = cache(&time, CacheSettings::default());
    closed.inner.cache.close();
    assert!(!closed.can_cache());
}

#[test]
fn two_caches_hash_an_id_differently() {
    let id = [7; 32];
    let (one, other) = (KeyHasher::random(), KeyHasher::random());
    assert_eq!(one.hash(1, &id), one.hash(1, &id));
    assert_ne!(one.hash(1, &id), one.hash(2, &id));
    assert_ne!(one.hash(1, &id), one.hash(1, &[8; 32]));
    assert_ne!(one.hash(1, &id), other.hash(1, &id));
}

#[test]
fn stats_include_all_that_shards_and_cache_count() {
    let time = FakeClock::new();
    let settings = CacheSettings {
        bytes: Some(1_000),
        ..of_entries(3, 1)
    };
    let cache = cache(&time, settings);
    let tls12 = encoded(Version::Tls12, b"secret", b"nine more");
    let tls13 = encoded(Version::Tls13, b"secret", b"");
    for number in 0..4 {
        assert!(cache.put(id(number), tls12.clone())); // the last evicts one
    }
    assert!(cache.put(id(3), tls12.clone())); // replaces
    assert!(cache.put(id(4), vec![7; 900])); // evicts two more, one for the bytes
    assert!(!cache.put(id(5), vec![7; 1_001]));
    assert!(!cache.put(vec![7; 31], tls12.clone()));
    assert!(cache.put(id(6), tls13)); // of an age that nobody knows
    assert!(cache.take(&id(6)).is_some());
    assert!(cache.get(&id(6)).is_none());
    assert!(cache.get(&[7; 31]).is_none());
    assert!(cache.put(id(7), tls12.clone()));
    assert!(cache.take(&id(7)).is_none(), "of the other version");
    cache.inner.cache.count_not_claimed();
    let old = encoded(Version::Tls13, b"secret", b"");
    let stored = context::in_handshake(Time(0), || cache.put(id(8), old));
    assert!(!stored, "its full handshake was long ago");
    let held = cache.stats();
    time.advance(MINUTE);
    assert!(cache.get(&id(7)).is_none());
    cache.forget("");

    let stats = cache.stats();
    assert_eq!((held.entries, held.max_entries), (2, 3));
    let bytes = 900 + tls12.len() as u64;
    assert_eq!((held.bytes, held.max_bytes), (bytes, 1_000));
    assert_eq!((stats.entries, stats.bytes, stats.max_entries), (0, 0, 3));
    assert_eq!((stats.stored, stats.hits), (8, 1));
    let misses = Misses {
        unknown: 1,
        expired: 1,
        other_version: 1,
        malformed: 1,
        not_claimed: 1,
        client_auth: 0,
    };
    assert_eq!(stats.misses, misses);
    let evictions = Evictions {
        entries: 2,
        bytes: 2,
        forgotten: 1,
        replaced: 1,
    };
    assert_eq!(stats.evictions, evictions);
    let not_stored = NotStored {
        no_room: 1,
        too_old: 1,
        malformed: 1,
        client_auth: 0,
        too_long: 0,
        revoked: 0,
    };
    assert_eq!(stats.not_stored, not_stored);
    assert_eq!((stats.expired, stats.age_unknown), (1, 1));
}

#[test]
fn scopes_that_have_sessions_stay_known_however_many_others_come() {
    let cache = cache(&FakeClock::new(), of_entries(2_000, 1));
    let scoped = |number: u64| cache.scoped(number.to_string());
    for number in 0..1_000 {
        assert!(scoped(number).put(id(number), vec![7; 8]));
    }
    for number in 1_000..3_000 {
        scoped(number);
    }
    for number in 0..1_000 {
        assert_eq!(scoped(number).get(&id(number)), Some(vec![7; 8]));
    }
}

#[test]
fn scopes_that_are_numbered_anew_find_nothing_of_each_other() {
    let cache = cache(&FakeClock::new(), of_entries(10, 1));
    let scopes = ["a", "b", "c"].map(|scope| cache.scoped(scope));
    assert!(scopes[0].put(id(1), vec![7; 8]));
    cache.inner.scopes.use_up_numbers();
    for scope in ["last", "first"] {
        let _ = cache.scoped(scope);
    }
    assert_eq!(cache.stats().entries, 0, "wiped");
    assert!(scopes.iter().all(|scope| scope.get(&id(1)).is_none()));
    assert!(scopes[0].put(id(1), vec![7; 8]));
    assert!(scopes[0].get(&id(1)).is_some());
}

#[test]
fn forgetting_a_scope_tells_how_many_sessions_that_cost() {
    let cache = cache(&FakeClock::new(), of_entries(2_000, 1));
    for number in 0..1_000 {
        let scope = ["few", "many", "many", "many"][number as usize % 4];
        assert!(cache.scoped(scope).put(id(number), vec![7; 8]));
    }
    let forget = |scope: &str| cache.inner.here().forget(Which::Named(&scope.into()));
    assert_eq!(
        ["many", "few", "few"].map(|scope| forget(scope).sessions),
        [750, 250, 0]
    );
}

#[test]
fn a_session_of_the_greatest_length_is_kept_whoever_made_it() {
    let cache = cache(&FakeClock::new(), of_entries(10, 1));
    let (inner, terms) = (&cache.inner.cache, &cache.inner.terms);
    let longest = terms.max_session_len;
    for (len, fits) in [(longest, true), (longest + 1, false)] {
        let value = vec![7; len];
        assert_eq!(cache.put(id(len as u64), value.clone()), fits);
        let now = terms.now();
        let id = [fits.into(); 32];
        let fetched = Fetched {
            value: Zeroizing::new(value),
            lineage: Lineage::of_full_handshake(now),
            expires: now.plus(MINUTE),
            scope_number: cache.at.scope.number(),
        };
        inner.put_fetched(terms, &cache.at.scope, &id, fetched);
        assert_eq!(inner.holds(terms, &cache.at.scope, &id), fits);
    }
    assert_eq!(cache.stats().not_stored.too_long, 2);
}

#[test]
fn the_housekeeper_sweeps_a_part_a_second() {
    let time = FakeClock::new();
    let cache = cache(&time, of_entries(50_000, 1));
    for number in 0..50_000 {
        cache.put(id(number), vec![7; 8]);
    }
    time.advance(MINUTE);
    let mut every_second = EverySecond::default();
    let mut left = vec![50_000];
    for pause in [1_000, 999, 1, 0, 1_000] {
        if every_second.is_due(cache.inner.terms.clock.monotonic()) {
            cache.inner.cache.sweep(&cache.inner.terms);
        }
        left.push(cache.stats().entries);
        time.advance(Duration::from_millis(pause));
    }
    let swept: Vec<_> = left.windows(2).map(|pair| pair[0] - pair[1]).collect();
    let part = 50_000 / u64::from(SWEEP_PARTS);
    assert!(swept[0] >= part && swept[0] <= part + 512, "{swept:?}");
    assert_eq!(swept[2..4], [0, swept[0]], "{swept:?}");
    assert_eq!(swept[4], 0, "at once again: {swept:?}");
}

#[test]
fn room_that_a_shard_no_longer_needs_goes_back_down_to_what_is_its_own() {
    let time = FakeClock::new();
    let cache = cache(&time, of_entries(1_000, 4));
    let limits = || -> Vec<_> {
        let shards = cache.inner.cache.shards.iter();
        shards.map(|shard| shard.lock().limit()).collect()
    };
    assert_eq!(limits(), [125; 4]);
    for number in 0..1_000 {
        cache.put(id(number), vec![7; 8]);
    }
    assert_eq!(limits().iter().sum::<usize>(), 1_000);
    for number in 0..1_000 {
        let held = || -> Vec<_> {
            let shards = cache.inner.cache.shards.iter();
            shards.map(|shard| shard.lock().len()).collect()
        };
        let (before, had) = (limits(), held());
        cache.take(&id(number)).unwrap();
        for (shard, len) in held().into_iter().enumerate() {
            let is_idle = len < had[shard] && before[shard] > 125.max(len + IDLE_ROOM);
            assert_eq!(limits()[shard], before[shard] - usize::from(is_idle));
        }
    }
    assert!(limits().iter().all(|limit| (125..=135).contains(limit)));
    for _ in 0..20 {
        cache.inner.cache.sweep(&cache.inner.terms);
    }
    assert_eq!(limits(), [125; 4]);
    assert_eq!(
        cache.inner.cache.spare.entries().load(Ordering::Relaxed),
        500
    );
}

#[test]
fn a_cache_of_one_shard_keeps_its_room() {
    let cache = cache(&FakeClock::new(), of_entries(100, 1));
    for number in 0..100 {
        cache.put(id(number), vec![7; 8]);
        cache.take(&id(number)).unwrap();
    }
    assert_eq!(cache.inner.cache.shards[0].lock().limit(), 100);
}

#[test]
fn a_shard_takes_spare_room_only_when_it_is_full() {
    let cache = cache(&FakeClock::new(), of_entries(1_000, 2));
    for number in 0..100 {
        cache.put(id(number), vec![7; 8]);
    }
    assert_eq!(
        cache.inner.cache.spare.entries().load(Ordering::Relaxed),
        500
    );
}

/// A certificate after its length, as in a chain.
fn certificate(fill: u8, len: usize) -> Vec<u8> {
    let mut out = (len as u32).to_be_bytes()[1..].to_vec();
    out.extend(std::iter::repeat_n(fill, len));
    out
}

/// A session of a client whose leaf is of so many bytes, and which shows these beside it.
fn with_chain(client: u8, leaf: usize, issuers: &[u8]) -> Vec<u8> {
    let chain = [certificate(client, leaf), issuers.to_vec()].concat();
    encoded_with(Version::Tls12, &[client; 48], Some(&chain), b"")
}

/// Where clients show certificates, which are not verified again.
fn asking(cache: &SessionCache) -> SessionCache {
    SessionCache {
        inner: cache.inner.clone(),
        at: Installation {
            client_auth: ClientAuth::learnt(None, true),
            ..cache.at.clone()
        },
    }
}

#[test]
fn what_chains_have_in_common_is_kept_once_and_given_back_as_it_was() {
    let time = FakeClock::new();
    let cache = asking(&cache(&time, of_entries(1_000, 1)));
    let issuers = [certificate(1, 1_000), certificate(2, 1_000)].concat();
    let sessions: Vec<_> = (0..100)
        .map(|client| with_chain(client, 1_000, &issuers))
        .collect();
    for (number, session) in (0..).zip(&sessions) {
        assert!(cache.put(id(number), session.clone()));
    }
    let whole: usize = sessions.iter().map(Vec::len).sum();
    let bytes = cache.stats().bytes as usize;
    assert!(bytes < whole * 4 / 10, "{bytes} bytes of {whole}");
    for (number, session) in (0..).zip(&sessions) {
        assert!(cache.get(&id(number)).as_ref() == Some(session));
    }
    // Gone with the last, and not before.
    for number in 0..99 {
        assert!(cache.put(id(number), vec![7; 8]));
    }
    assert!(cache.get(&id(99)).as_ref() == Some(&sessions[99]));
    assert!(cache.put(id(99), vec![7; 8]));
    assert_eq!(cache.stats().bytes, 800);
}

#[test]
fn junk_beside_a_certificate_does_not_exceed_the_budget() {
    let time = FakeClock::new();
    let settings = CacheSettings {
        bytes: Some(100_000),
        ..of_entries(1_000, 1)
    };
    let cache = asking(&cache(&time, settings));
    for number in 0..1_000 {
        // Each its own, and some of those of others.
        let junk = certificate((number % 50) as u8, 1_000 + number as usize);
        assert!(cache.put(id(number), with_chain(number as u8, 500, &junk)));
        assert!(cache.stats().bytes <= 100_000);
    }
    assert!(cache.stats().evictions.bytes > 900);
    let honest = with_chain(1, 500, &certificate(1, 1_000));
    assert!(cache.put(id(1_000), honest.clone()));
    assert_eq!(cache.get(&id(1_000)), Some(honest));
    let larger = certificate(1, 17_000);
    assert!(!cache.put(id(1), with_chain(1, 500, &larger)));
    assert_eq!(cache.stats().not_stored.too_long, 1);
    cache.forget("");
    assert_eq!((cache.stats().bytes, cache.stats().entries), (0, 0));
}

proptest! {
    #[test]
    fn cutting_chains_changes_nothing_that_can_be_seen(
        ops in vec((0..5_u8, 0..20_u64, 0..8_u8, 0..4_usize), 0..200),
    ) {
        let time = FakeClock::new();
        let cache = asking(&cache(&time, of_entries(1_000, 1)));
        let mut model = HashMap::new();
        for (op, number, client, issuers) in ops {
            let issuers = certificate(issuers as u8, issuers * 400);
            match op {
                0..3 => {
                    let session = with_chain(client, 300, &issuers);
                    prop_assert!(cache.put(id(number), session.clone()));
                    model.insert(number, session);
                }
                3 => prop_assert_eq!(cache.get(&id(number)), model.get(&number).cloned()),
                _ => {
                    let chain = [certificate(client, 300), issuers].concat();
                    let session = encoded_with(Version::Tls13, &[client; 48], Some(&chain), b"");
                    prop_assert!(cache.put(id(number), session.clone()));
                    prop_assert_eq!(cache.take(&id(number)), Some(session));
                    model.remove(&number);
                }
            }
            prop_assert_eq!(cache.stats().entries, model.len() as u64);
        }
        for number in 0..20 {
            cache.put(id(number), Vec::new());
        }
        prop_assert_eq!(cache.stats().bytes, 0, "nothing is left of what was cut out");
    }
}
