#![no_main]

#[path = "../../tests/fuzzed/ticket.rs"]
mod ticket;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ticket::run(data));
