//! Session IDs that an attacker chooses so that one shard, or one bucket of it, has all the work.

use std::array;

use rustls::server::StoresServerSessions;

use super::*;
use crate::resumption::SessionCache;

/// Of each kind so many: 1,000,000 in all.
const EACH: u32 = 125_000;
const SHARDS: usize = 64;

type Choose = fn(u32) -> [u8; 32];

/// IDs that an attacker may choose, by their number; of a kind no two are equal.
const KINDS: [(&str, Choose); 8] = [
    ("a counter in the first bytes, else zero", |n| {
        with(&[0; 32], 0, n)
    }),
    ("a counter in the last bytes, else ones", |n| {
        with(&[0xff; 32], 28, n)
    }),
    ("a counter across two words, else zero", |n| {
        with(&[0; 32], 14, n)
    }),
    (
        "an equal prefix of 28 bytes, a counter in the high bits",
        |n| with(&[0x5a; 32], 28, n.reverse_bits()),
    ),
    ("an equal xor of all words", |n| {
        with(&with(&[0xa5; 32], 4, n), 12, n)
    }),
    ("an equal sum of all words", |n| {
        with(&with(&[0; 32], 0, n), 16, n.wrapping_neg())
    }),
    ("each bit of a counter in a byte of its own", |n| {
        array::from_fn(|byte| ((n >> (byte % 32)) & 1) as u8)
    }),
    ("multiples of a constant of the hash function's kind", |n| {
        let n = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut id = [0; 32];
        id.chunks_mut(8)
            .for_each(|word| word.copy_from_slice(&n.to_le_bytes()));
        id
    }),
];

fn with(id: &[u8; 32], at: usize, number: u32) -> [u8; 32] {
    let mut id = *id;
    id[at..at + 4].copy_from_slice(&number.to_be_bytes());
    id
}

#[test]
fn no_choice_of_a_million_ids_crowds_a_shard_or_a_bucket() {
    let settings = CacheSettings {
        entries: EACH as usize,
        shards: Some(SHARDS),
        ..CacheSettings::default()
    };
    let mut worst = 0.0_f64;
    for (kind, id) in KINDS {
        let cache = SessionCache::with(settings.clone(), Terms::default());
        for number in 0..EACH {
            assert_eq!(cache.take(&id(number)), None);
            assert!(cache.put(id(number).to_vec(), vec![7]));
        }
        let stats = cache.stats();
        // Some are evicted where a shard is full while others are not: the budget is theirs.
        assert!(stats.entries >= u64::from(EACH) * 99 / 100, "{stats:?}");
        let shards = &cache.inner.cache.shards;
        assert_eq!(shards.len(), SHARDS);
        let asked = shards
            .iter()
            .map(|shard| shard.lock().stats().misses.unknown);
        let fullest = asked.max().unwrap();
        let share = fullest as f64 * SHARDS as f64 / f64::from(EACH);
        let longest = shards.iter().map(|shard| shard.lock().longest_chain());
        let longest = longest.max().unwrap();
        println!("{kind}: {share:.3} of the mean in the fullest shard, {longest} in a bucket");
        // Chance alone makes it 1.06 or so; this is nine standard deviations.
        assert!(share < 1.2, "{kind}: {share}");
        assert!(longest <= 16, "{kind}: {longest}");
        worst = worst.max(share);
    }
    println!("figure: at most {worst:.3} of the mean in a shard");
}
