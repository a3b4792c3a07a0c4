//! What a client may offer for a ticket: any bytes, any bytes behind the name of a STEK that opens,
//! and true tickets changed in any way.

use std::cell::OnceCell;
use std::sync::Arc;

use rustls::server::ProducesTickets;
use rustls_resumption::{FakeClock, Resumption, Stats};

use crate::changed::changed;

/// What is offered tickets, and a true one.
struct Target {
    resumption: Resumption,
    ring: Arc<dyn ProducesTickets>,
    ticket: Vec<u8>,
}

const SESSION: &[u8] = b"what rustls wants to find again";

impl Target {
    fn new() -> Self {
        let builder = Resumption::builder().clock(FakeClock::new().clock());
        let resumption = builder.build().unwrap();
        let ring = resumption.ticketer("a");
        let ticket = ring.encrypt(SESSION).unwrap();
        Self {
            resumption,
            ring,
            ticket,
        }
    }
}

/// Opens what the bytes say, which only the true ticket survives.
pub fn run(data: &[u8]) {
    thread_local! {
        static TARGET: OnceCell<Target> = const { OnceCell::new() };
    }
    TARGET.with(|target| {
        let target = target.get_or_init(Target::new);
        let offered = match data.split_first() {
            Some((0, rest)) => rest.to_vec(),
            Some((1, rest)) => [&target.ticket[..16], rest].concat(),
            Some((_, rest)) => changed(&target.ticket, rest),
            None => Vec::new(),
        };
        let before = outcomes(&target.resumption.stats());
        let opened = target.ring.decrypt(&offered);
        let is_true = offered == target.ticket;
        assert_eq!(opened.as_deref(), is_true.then_some(SESSION));
        let after = outcomes(&target.resumption.stats());
        let counted = (
            before.0 + u64::from(is_true),
            before.1 + u64::from(!is_true),
        );
        assert_eq!(after, counted, "each outcome is counted once");
    });
}

fn outcomes(stats: &Stats) -> (u64, u64) {
    (stats.tickets.opened, stats.tickets.refused.total())
}
