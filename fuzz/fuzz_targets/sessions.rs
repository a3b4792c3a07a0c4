#![no_main]

#[path = "../../tests/fuzzed/sessions.rs"]
mod sessions;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sessions::run(data));
