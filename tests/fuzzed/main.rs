//! The bodies of the fuzz targets, on their seeds and on some random bytes: the same that `fuzz/`
//! runs for long.

mod cache;
mod key_file;
mod ring;
#[path = "../support/session.rs"]
mod session;
mod sessions;
mod ticket;

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzzed/seeds");
    let files = fs::read_dir(directory.join(target)).expect("seeds");
    let seeds: Vec<_> = files
        .map(|file| fs::read(file.expect("a seed").path()).expect("a seed"))
        .collect();
    assert!(!seeds.is_empty());
    seeds
}

/// Random bytes, and seeds of which some bytes were changed.
fn inputs(target: &str) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..5);
    let seed = prop::sample::select(seeds(target));
    let changed = (seed, changes).prop_map(|(mut seed, changes)| {
        for (at, value) in changes {
            if !seed.is_empty() {
                let at = at.index(seed.len());
                seed[at] = value;
            }
        }
        seed
    });
    prop_oneof![vec(any::<u8>(), 0..400), changed]
}

macro_rules! targets {
    ($(fn $test:ident() { $module:ident, $cases:literal })*) => {$(
        #[test]
        fn $test() {
            for seed in seeds(stringify!($module)) {
                $module::run(&seed);
            }
            proptest!(ProptestConfig::with_cases($cases), |(data in inputs(stringify!($module)))| {
                $module::run(&data);
            });
        }
    )*};
}

targets! {
    fn whatever_is_done_the_cache_does_what_its_model_does() { cache, 100 }
    fn whatever_a_key_file_holds_it_is_read_or_refused_by_name() { key_file, 1_000 }
    fn whatever_is_done_the_ring_keeps_its_windows() { ring, 50 }
    fn whatever_rustls_hands_over_comes_back_in_its_scope_and_sheds_no_age() { sessions, 500 }
    fn whatever_is_offered_only_the_true_ticket_opens() { ticket, 2_000 }
}
