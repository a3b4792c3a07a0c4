#![no_main]

#[path = "../../tests/fuzzed/key_file.rs"]
mod key_file;

libfuzzer_sys::fuzz_target!(|data: &[u8]| key_file::run(data));
