//! Dropped handles leave nothing behind (Linux).
#![cfg(target_os = "linux")]

use std::time::Duration;

use rustls_resumption::source::DerivedSource;
use rustls_resumption::{Resumption, StekRing};
use test_support::alone::alone;
use test_support::handshake::mtls_server_config;
use test_support::process::{held, resident, until_held};
use test_support::session::{certificate, id, tls12_with_chain, tls13};

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

/// Two sessions each of so many clients.
const CLIENTS: u64 = 20_000;

#[test]
fn sessions_with_client_certificates_take_less_than_half_of_what_they_are_long() {
    alone(|| {
        let builder = Resumption::builder()
            .stateful(2 * CLIENTS as usize)
            .cache_bytes(1 << 30)
            .resume_unverified_client_certificates();
        let resumption = builder.build().unwrap();
        let mut config = mtls_server_config();
        resumption.install(&mut config, "a");

        let issuers = [certificate(1, 1_024), certificate(2, 1_024)].concat();
        let before = resident();
        let mut len = 0;
        for client in 0..CLIENTS {
            let leaf = certificate(client as u8, 1_024);
            let session = tls12_with_chain(&[7; 48], &[&leaf[..], &issuers].concat());
            len = session.len() as u64;
            for number in [2 * client, 2 * client + 1] {
                assert!(
                    config
                        .session_storage
                        .put(id(number).to_vec(), session.clone())
                );
            }
        }
        assert_eq!(resumption.stats().cache.entries, 2 * CLIENTS);
        // Whole, each would cost its length and the 89 bytes that are measured beside it.
        let whole = 2 * CLIENTS * (len + 89);
        let share = (resident() - before) as f64 / whole as f64;
        println!("figure: {share:.2} of what whole chains take");
        assert!(share <= 0.45, "{share:.2}");
    });
}
