//! Inputs for the bodies of fuzz targets where there is no fuzzer: their seeds, mutated seeds, and
//! random bytes.

use std::env;
use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::repository;

/// Runs a target on each of its seeds, and on as many inputs more; the environment's `FUZZ_CASES`
/// asks for another number.
pub fn try_all(target: &str, cases: u32, run: fn(&[u8])) {
    for seed in seeds(target) {
        run(&seed);
    }
    let asked = env::var("FUZZ_CASES").map(|cases| cases.parse().expect("FUZZ_CASES: a number"));
    let config = ProptestConfig::with_cases(asked.unwrap_or(cases));
    proptest!(config, |(data in inputs(target))| run(&data));
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = repository().join("fuzz/seeds");
    let files = fs::read_dir(directory.join(target)).expect("seeds");
    let seeds: Vec<_> = files
        .map(|file| fs::read(file.expect("a seed").path()).expect("a seed"))
        .collect();
    assert!(!seeds.is_empty());
    seeds
}

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
