//! What the nodes of a fleet share, and clients that need a HelloRetryRequest.

use std::collections::HashMap;
use std::future::{pending, ready};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption as ClientResumption,
    Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup, ServerConfig};
use rustls_resumption::source::{SourceKey, StekSource, source_fn};
use rustls_resumption::stats::StoreHealth;
use rustls_resumption::store::{SharedStore, StoreKey, StoreLookup};
use rustls_resumption::{FakeClock, Resumption, ResumptionBuilder};

use crate::handshake::server_config_with;

/// Waits until a store is as it should be.
pub async fn until(store: &impl SharedStore, reached: impl Fn(StoreHealth) -> bool) {
    let reached = async {
        while !reached(store.health()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), reached).await;
    waited.unwrap_or_else(|_| panic!("{:?}", store.health()));
}

/// A server that speaks P-256 alone, with which most clients must say hello twice.
pub fn retrying_server() -> ServerConfig {
    server_config_with(
        Arc::new(CryptoProvider {
            kx_groups: vec![aws_lc_rs::kx_group::SECP256R1],
            ..aws_lc_rs::default_provider()
        }),
        false,
    )
}

/// A client that never remembers which group a server wanted, so that it is asked to retry each
/// time it meets a [`retrying_server`].
pub fn never_learning(mut client: ClientConfig) -> Arc<ClientConfig> {
    let store = Forgetful(ClientSessionMemoryCache::new(256));
    client.resumption = ClientResumption::store(Arc::new(store));
    Arc::new(client)
}

#[derive(Debug)]
struct Forgetful(ClientSessionMemoryCache);

impl ClientSessionStore for Forgetful {
    fn set_kx_hint(&self, _server: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server, value);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.0.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(server, value);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(server)
    }
}

/// One STEK that every node has.
pub fn shared_source() -> impl StekSource + 'static {
    source_fn("test", |query| {
        Ok(vec![SourceKey::sealing(query.stek(SECRET)?)])
    })
}

pub const SECRET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// A stateful node of a fleet that shares a store.
pub fn sharing(store: &Arc<impl SharedStore + 'static>) -> ResumptionBuilder {
    Resumption::builder()
        .stateful(20_000)
        .stek_source(shared_source())
        .shared_store(Arc::clone(store))
}

/// A shared store in memory.
#[derive(Default)]
pub struct MemoryStore {
    pub values: Mutex<HashMap<StoreKey, Vec<u8>>>,
    pub claims: AtomicU64,
    pub fetches: AtomicU64,
    /// Whether look-ups are never answered.
    pub hangs: AtomicBool,
    /// Whether it takes no more.
    pub is_full: AtomicBool,
}

impl MemoryStore {
    fn answer(&self, found: Option<Vec<u8>>) -> StoreLookup {
        match self.hangs.load(Ordering::Relaxed) {
            true => Box::pin(pending()),
            false => Box::pin(ready(Ok(found))),
        }
    }

    pub fn count(&self) -> usize {
        self.values.lock().unwrap().len()
    }
}

impl SharedStore for MemoryStore {
    fn fetch(&self, key: &StoreKey, _deadline: Duration) -> StoreLookup {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        self.answer(self.values.lock().unwrap().get(key).cloned())
    }

    fn claim(&self, key: &StoreKey, _deadline: Duration) -> StoreLookup {
        self.claims.fetch_add(1, Ordering::Relaxed);
        self.answer(self.values.lock().unwrap().remove(key))
    }

    fn write(&self, key: StoreKey, value: Vec<u8>, _ttl: Duration) -> bool {
        let takes = !self.is_full.load(Ordering::Relaxed);
        if takes {
            self.values.lock().unwrap().insert(key, value);
        }
        takes
    }
}

/// Every way to resume through an acceptor, on a fake clock.
pub fn ways() -> [(FakeClock, Resumption); 3] {
    let store = Arc::new(MemoryStore::default());
    let builders = [
        Resumption::builder(),
        Resumption::builder().stateful(20_000),
        // A stranger's session stays as long as any other: what ends it here is its age.
        sharing(&store).first_ttl(Duration::from_secs(24 * 60 * 60)),
    ];
    builders.map(|builder| {
        let time = FakeClock::new();
        let resumption = builder.clock(time.clock()).build().unwrap();
        (time, resumption)
    })
}
