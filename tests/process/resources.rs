//! What is left of handles that were dropped: nothing (Linux).
#![cfg(target_os = "linux")]

use std::time::Duration;

use rustls_resumption::source::DerivedSource;
use rustls_resumption::{Resumption, StekRing};
use test_support::alone::alone;
use test_support::process::{held, resident, until_held};
use test_support::session::{id, tls13};

fn make_use_and_drop(number: u64) {
    let resumption = match number % 4 {
        0 => Resumption::tickets().unwrap(),
        1 => Resumption::stateful(10_000).unwrap(),
        2 => {
            let root: Vec<u8> = (0..32).map(|byte| byte ^ number as u8).collect();
            let source = DerivedSource::new(&root).unwrap();
            Resumption::builder().stek_source(source).build().unwrap()
        }
        _ => {
            assert!(StekRing::new().unwrap().scoped("a").ready());
            return;
        }
    };
    let storage = resumption.session_storage("a");
    storage.put(id(number).to_vec(), tls13(b"secret", b""));
    let ticket = resumption.ticketer("a").encrypt(b"session");
    assert_eq!(ticket.is_none(), number % 4 == 1);
    if number.is_multiple_of(3) {
        assert!(resumption.shutdown(Duration::from_secs(30)));
    }
}

#[test]
fn a_thousand_handles_dropped_leave_no_thread_no_file_and_no_memory() {
    alone(|| {
        (0..100).for_each(make_use_and_drop);
        until_held(|(threads, _)| threads == 2); // the test's and its harness's
        let (before, memory) = (held(), resident());
        (100..1_100).for_each(make_use_and_drop);
        until_held(|held| held == before);
        let grown = resident().saturating_sub(memory);
        println!("figure: {grown} bytes grown by 1,000 handles");
        assert!(grown < 2 << 20, "{grown} bytes more than after the first");
    });
}
