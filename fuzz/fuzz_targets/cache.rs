#![no_main]

#[path = "../../tests/fuzzed/cache.rs"]
mod cache;
#[path = "../../test-support/src/session.rs"]
mod session;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cache::run(data));
