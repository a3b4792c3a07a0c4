#![no_main]

#[path = "../../tests/fuzzed/ring.rs"]
mod ring;
#[path = "../../test-support/src/session.rs"]
mod session;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ring::run(data));
