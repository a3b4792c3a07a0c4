//! Foreign code that panics in the middle of a handshake.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::version::TLS13;
use rustls_resumption::ResumptionAcceptor;
use rustls_resumption::stats::StoreHealth;
use rustls_resumption::store::{SharedStore, StoreError, StoreKey, StoreLookup};
use test_support::acceptor::kind;
use test_support::fleet::{MemoryStore, sharing};
use test_support::handshake::{FULL, RESUMED, client, client_without_tickets, server_config};

/// Panics in the method of this number.
#[derive(Default)]
struct Panicking {
    store: MemoryStore,
    place: Arc<AtomicU32>,
}

impl Panicking {
    fn pass(&self, place: u32) {
        pass(&self.place, place);
    }
}

fn pass(chosen: &AtomicU32, place: u32) {
    assert_ne!(chosen.load(Ordering::Relaxed), place, "on purpose");
}

impl SharedStore for Panicking {
    fn fetch(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.pass(1);
        Box::pin(Lookup(
            self.store.fetch(key, deadline),
            Arc::clone(&self.place),
        ))
    }

    fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.pass(2);
        Box::pin(Lookup(
            self.store.claim(key, deadline),
            Arc::clone(&self.place),
        ))
    }

    fn write(&self, key: StoreKey, value: Vec<u8>, ttl: Duration) -> bool {
        self.pass(3);
        self.store.write(key, value, ttl)
    }

    fn prepare(&self, _: Duration) {
        self.pass(4);
    }

    fn name(&self) -> &'static str {
        self.pass(5);
        "panicking"
    }

    fn health(&self) -> StoreHealth {
        self.pass(6);
        StoreHealth::default()
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        self.pass(7);
    }
}

struct Lookup(StoreLookup, Arc<AtomicU32>);

impl Future for Lookup {
    type Output = Result<Option<Vec<u8>>, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        pass(&self.1, 8);
        self.0.as_mut().poll(cx)
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        pass(&self.1, 9);
    }
}

#[tokio::test]
async fn a_store_that_panics_anywhere_costs_full_handshakes_and_nothing_else() {
    for place in 1..=9 {
        let store = Panicking::default();
        let chosen = Arc::clone(&store.place);
        let built_while = |place| {
            chosen.store(place, Ordering::Relaxed);
            sharing(&Arc::new(store)).build().unwrap()
        };
        let resumption = built_while(if matches!(place, 4 | 5) { place } else { 0 });
        let mut config = server_config();
        resumption.install(&mut config, "a");
        let acceptor = ResumptionAcceptor::from(Arc::new(config));
        for client in [client(&TLS13), client_without_tickets()] {
            assert_eq!(kind(&client, &acceptor).await, FULL);
            assert_eq!(kind(&client, &acceptor).await, RESUMED);
            chosen.store(place, Ordering::Relaxed);
            kind(&client, &acceptor).await;
            kind(&client, &acceptor).await;
            assert_eq!(resumption.stats().acceptor.failed, 0);
            // It goes on once the store does.
            chosen.store(0, Ordering::Relaxed);
            kind(&client, &acceptor).await;
            assert_eq!(kind(&client, &acceptor).await, RESUMED, "{place}");
        }
        chosen.store(place, Ordering::Relaxed);
        drop((resumption, acceptor));
    }
}
