//! The cache's shards, its spare budget and the numbers of scopes, on every schedule that there is
//! time for.

use rustls::server::StoresServerSessions;
use shuttle::thread;

use super::*;
use crate::resumption::SessionCache;
use crate::scope::Scope;
use crate::session::tests::encoded;
use crate::sync::atomic::Ordering;
use crate::sync::try_schedules;

const TRIES: usize = 1_000;

fn id(number: u8) -> Vec<u8> {
    vec![number; 32]
}

fn tls13() -> Vec<u8> {
    encoded(Version::Tls13, &[7; 48], b"")
}

/// Of two shards, which share a spare budget.
fn cache(entries: usize) -> SessionCache {
    let settings = CacheSettings {
        entries,
        shards: Some(2),
        ..CacheSettings::default()
    };
    let cache = SessionCache::with(settings, Terms::default());
    assert_eq!(cache.inner.cache.shards.len(), 2);
    cache
}

/// Stores what a handshake makes that begins now.
fn put_in_handshake(cache: &SessionCache, number: u8) -> bool {
    let began = cache.inner.terms.now();
    context::in_handshake(began, || cache.put(id(number), tls13()))
}

#[test]
fn shuttle_a_session_is_taken_by_one_of_many() {
    try_schedules(TRIES, || {
        let cache = cache(128);
        assert!(cache.put(id(1), tls13()));
        let takers = [(); 3].map(|()| {
            let cache = cache.clone();
            thread::spawn(move || cache.take(&id(1)).is_some())
        });
        let taken = takers.map(|taker| taker.join().unwrap());
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses.unknown, stats.entries), (1, 2, 0));
    });
}

#[test]
fn shuttle_no_scope_finds_what_another_stored_under_a_number_that_was_its_own() {
    try_schedules(TRIES, || {
        let cache = cache(128);
        let other = cache.scoped("other");
        let numbers = [&cache, &other].map(|cache| cache.at.scope.number());
        let held = Vec::from_iter(cache.inner.cache.shards.iter().map(|shard| shard.lock()));
        let taker = {
            let cache = cache.clone();
            thread::spawn(move || cache.take(&id(1)))
        };
        // As when scopes are numbered anew.
        cache.at.scope.pretend_number(numbers[1]);
        other.at.scope.pretend_number(numbers[0]);
        drop(held);
        assert!(other.put(id(1), tls13()));
        assert_eq!(taker.join().unwrap(), None);
        assert!(other.take(&id(1)).is_some());
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses.unknown), (1, 1));
    });
}

#[test]
fn shuttle_forgetting_reaches_all_that_was_stored_before_and_nothing_is_left_out_of_reach() {
    try_schedules(TRIES, || {
        let cache = cache(128);
        assert!(cache.put(id(1), tls13()));
        let storer = {
            let cache = cache.clone();
            // One whose handshake was under way is refused.
            thread::spawn(move || [2, 3].map(|number| put_in_handshake(&cache, number)))
        };
        let other = {
            let cache = cache.clone();
            thread::spawn(move || cache.clear())
        };
        cache.forget(Scope::default());
        assert_eq!(cache.take(&id(1)), None);
        let stored = storer.join().unwrap();
        other.join().unwrap();
        let reached = [2, 3].map(|number| cache.take(&id(number)).is_some());
        let stats = cache.stats();
        let count = |all: [bool; 2]| all.iter().filter(|is| **is).count() as u64;
        let (stored, found) = (1 + count(stored), count(reached));
        assert_eq!((stats.stored, stats.entries), (stored, 0), "{found} found");
        assert_eq!(stats.evictions.forgotten, stored - found);
        // Between the two steps of a call a birth may be that of the call before, or the oldest.
        let refused = stats.not_stored.revoked + stats.not_stored.too_old;
        assert_eq!(refused, 3 - stored);
        let begun_after = put_in_handshake(&cache, 4);
        assert!(begun_after);
        assert!(cache.take(&id(4)).is_some());
    });
}

#[test]
fn shuttle_the_budget_holds_and_no_entry_of_it_is_lost() {
    try_schedules(TRIES / 4, || {
        let cache = cache(128);
        // Full, but for two.
        for number in 0..126 {
            assert!(cache.put(id(number), tls13()));
        }
        let full = cache.stats().entries;
        let threads = [126, 200].map(|first| {
            let cache = cache.clone();
            thread::spawn(move || {
                for number in first..first + 3 {
                    assert!(cache.put(id(number), tls13()));
                    cache.take(&id(number - 100));
                }
            })
        });
        cache.inner.cache.sweep(&cache.inner.terms);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        let shards = cache.inner.cache.shards.iter();
        let limits: usize = shards.map(|shard| shard.lock().limit()).sum();
        assert_eq!(
            limits + cache.inner.cache.spare.entries().load(Ordering::Acquire),
            128
        );
        let stats = cache.stats();
        assert!(stats.entries <= 128, "of {full}: {stats:?}");
        let left = stats.evictions.entries + stats.hits;
        assert_eq!(stats.stored, stats.entries + left, "{stats:?}");
    });
}

#[test]
fn shuttle_a_closed_cache_keeps_nothing() {
    try_schedules(TRIES, || {
        let cache = cache(128);
        // As if each shard had been full, with more than its own, and is not any more.
        for shard in &cache.inner.cache.shards {
            shard.lock().set_limit(64);
        }
        cache
            .inner
            .cache
            .spare
            .entries()
            .store(0, Ordering::Release);
        for number in 0..4 {
            assert!(cache.put(id(number), tls13()));
        }
        let storer = {
            let cache = cache.clone();
            thread::spawn(move || {
                for number in 0..4 {
                    cache.take(&id(number)); // which gives room back
                }
                cache.put(id(4), tls13());
            })
        };
        cache.inner.cache.close();
        assert!(!cache.put(id(5), tls13()));
        storer.join().unwrap();
        let stats = cache.stats();
        assert_eq!((stats.entries, stats.bytes), (0, 0), "{stats:?}");
        assert!(!cache.put(id(6), tls13()));
    });
}
