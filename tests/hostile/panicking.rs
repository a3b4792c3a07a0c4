//! Foreign code that panics in the middle of a handshake.

use std::panic::panic_any;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::StoresServerSessions;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_resumption::stats::StoreHealth;
use rustls_resumption::store::{SharedStore, StoreError, StoreKey, StoreLookup};
use rustls_resumption::{Resumption, ResumptionAcceptor};
use test_support::acceptor::kind;
use test_support::client_auth::{self, Authority, Date, identity};
use test_support::fleet::{MemoryStore, sharing};
use test_support::handshake::{
    FULL, RESUMED, client, client_without_tickets, first_flight, handshake, server_config,
};

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

/// A panic that panics once more when somebody drops it.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

/// A verifier that goes off once it is told to.
#[derive(Debug)]
struct Exploding {
    inner: Arc<dyn ClientCertVerifier>,
    is_lit: AtomicBool,
}

impl Exploding {
    fn pass(&self) {
        if self.is_lit.load(Ordering::Relaxed) {
            panic_any(Bomb);
        }
    }
}

impl ClientCertVerifier for Exploding {
    fn offer_client_auth(&self) -> bool {
        self.pass();
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.pass();
        self.inner.verify_client_cert(leaf, others, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[test]
fn a_verifier_whose_panic_panics_again_refuses() {
    let ca = Authority::make();
    let verifier = Arc::new(Exploding {
        inner: ca.verifier(),
        is_lit: AtomicBool::new(false),
    });
    let mut config = client_auth::config(Some(verifier.clone()), &Date::start());
    let resumption = Resumption::tickets().unwrap();
    resumption.install_with_client_verifier(&mut config, "a", verifier.clone());
    let mut config = Arc::new(config);
    let client = client_auth::client(&TLS13, Some(&ca.issue()));
    assert_eq!(handshake(&client, &config).kind, FULL);
    let ticket = identity(&first_flight(&client, b""));
    verifier.is_lit.store(true, Ordering::Relaxed);
    assert_eq!(config.ticketer.decrypt(&ticket), None);
    assert_eq!(resumption.stats().client_auth.refused.other, 1);
    // What it asks of clients cannot be learnt.
    resumption.install(Arc::make_mut(&mut config), "a");
}

/// A storage around another, that panics.
#[derive(Debug)]
struct Around(Arc<dyn StoresServerSessions>);

impl StoresServerSessions for Around {
    fn put(&self, id: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.put(id, value)
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.0.get(id)
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.0.take(id)
    }

    fn can_cache(&self) -> bool {
        panic!("on purpose");
    }
}

#[test]
fn an_acceptor_takes_a_storage_that_panics_for_a_strangers() {
    let resumption = Resumption::stateful(100).unwrap();
    let mut config = server_config();
    config.session_storage = Arc::new(Around(resumption.session_storage("a")));
    let acceptor = ResumptionAcceptor::from(Arc::new(config));
    assert!(format!("{acceptor:?}").contains("Around"));
}
