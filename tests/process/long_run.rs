//! A month of sessions, tickets and rotations, in simulated time: memory does not grow (Linux).
#![cfg(target_os = "linux")]

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use rustls_resumption::{FakeClock, Resumption, Stats};
use test_support::alone::alone;
use test_support::process::resident;
use test_support::session::{id, tls12, tls13};

const DAYS: u64 = 30;
const MINUTES: u64 = 24 * 60;

/// Sessions that come each minute.
const COMING: u64 = 5;

/// So many are away at a time.
const RETURNING: usize = 25;

/// Of the sessions a third come back after a quarter of an hour; the others are left to be evicted.
/// Each day a scope is forgotten.
fn live(resumption: &Resumption, time: &FakeClock, minutes: Range<u64>) {
    let mut returning = VecDeque::new();
    for minute in minutes {
        let scope = format!("site {}", minute % 40);
        let storage = resumption.session_storage(&*scope);
        let ticketer = resumption.ticketer(&*scope);
        for number in 0..COMING {
            let number = minute * COMING + number;
            let session = tls12(&number.to_be_bytes());
            assert!(storage.put(id(number).to_vec(), session.clone()));
            let other = id(u64::MAX - number).to_vec();
            assert!(storage.put(other, tls13(&number.to_be_bytes(), b"")));
            let ticket = ticketer.encrypt(&session).unwrap();
            assert_eq!(ticketer.decrypt(&ticket), Some(session));
            if number.is_multiple_of(3) {
                returning.push_back((scope.clone(), number, ticket));
            }
        }
        while returning.len() > RETURNING {
            let (scope, number, ticket) = returning.pop_front().unwrap();
            let session = Some(tls12(&u64::to_be_bytes(number)));
            let found = resumption.session_storage(&*scope).get(&id(number));
            assert_eq!(found, session, "{number}");
            let opened = resumption.ticketer(&*scope).decrypt(&ticket);
            assert_eq!(opened, session, "{number}");
        }
        time.advance(Duration::from_secs(60));
        resumption.step();
        if (minute + 1).is_multiple_of(MINUTES) {
            let _ = resumption.forget(&*scope);
            returning.clear();
        }
    }
}

#[test]
fn a_month_of_sessions_and_rotations_does_not_grow_memory() {
    alone(|| {
        let time = FakeClock::new();
        let resumption = Resumption::builder()
            .cache_entries(2_500)
            .clock(time.clock())
            .build()
            .unwrap();
        let mut memory = Vec::new();
        for day in 0..DAYS {
            live(&resumption, &time, day * MINUTES..(day + 1) * MINUTES);
            memory.push(resident() / 1024);
        }
        let Stats { cache, steks, .. } = resumption.stats();
        println!("resident after each day, KiB: {memory:?}");
        let (early, last) = (memory[2], memory[DAYS as usize - 1]);
        println!("figure: {last} KiB after {DAYS} simulated days, {early} after three");
        assert!(cache.entries > cache.max_entries / 2, "{cache:?}");
        assert!(cache.evictions.entries > 0, "{cache:?}");
        assert!(steks.rotations > DAYS, "{steks:?}");
        assert!(last.saturating_sub(early) < 1_024, "{memory:?}");
    });
}
