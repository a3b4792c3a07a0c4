#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rustls_resumption::fuzzed::early_data(data));
