//! What a cache keeps of sessions that are in a shared store, once a STEK is withdrawn that sealed
//! some of them there.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::version::TLS12;
use rustls_resumption::acceptor::Outcome;
use rustls_resumption::source::{SourceKey, source_fn};
use rustls_resumption::{FakeClock, KeyName, Resumption, ResumptionAcceptor};
use test_support::acceptor::{acceptor, kind};
use test_support::fleet::{MemoryStore, SECRET, sharing};
use test_support::handshake::{FULL, RESUMED, client, server_config};
use test_support::session::tls12;

const ANOTHER: &[u8; 32] = b"vutsrqponmlkjihgfedcba9876543210";

struct Node {
    resumption: Resumption,
    acceptor: ResumptionAcceptor,
    time: FakeClock,
    /// Whether its source lists the STEK that sealed first.
    lists_first: Arc<AtomicBool>,
}

impl Node {
    fn new(store: &Arc<MemoryStore>) -> Self {
        let lists_first = Arc::new(AtomicBool::new(true));
        let listed = Arc::clone(&lists_first);
        let source = source_fn("two", move |query| {
            let first = listed.load(Ordering::Relaxed).then_some(SECRET);
            let secrets = first.into_iter().chain([ANOTHER]);
            let steks = secrets.map(|secret| query.stek(secret).map(SourceKey::sealing));
            Ok(steks.collect::<Result<_, _>>()?)
        });
        let time = FakeClock::new();
        let builder = sharing(store).stek_source(source).clock(time.clock());
        let resumption = builder.build().unwrap();
        Self {
            acceptor: acceptor(&resumption, server_config()),
            resumption,
            time,
            lists_first,
        }
    }

    fn active(&self) -> KeyName {
        self.resumption.stats().steks.active.unwrap()
    }

    async fn kind(&self, client: &Arc<ClientConfig>) -> rustls::HandshakeKind {
        kind(client, &self.acceptor).await
    }
}

/// Its source is asked once more.
fn unlist(node: &Node) {
    node.lists_first.store(false, Ordering::Relaxed);
    node.time.advance(Duration::from_secs(60 * 60));
    node.resumption.step();
}

#[tokio::test]
async fn what_a_withdrawn_stek_sealed_resumes_nowhere_and_the_rest_everywhere() {
    let revoke = |node: &Node| {
        assert_eq!(node.resumption.revoke(&node.active()).steks, 1);
    };
    let withdraw: [&dyn Fn(&Node); 2] = [&revoke, &unlist];
    for withdraw in withdraw {
        let store = Arc::new(MemoryStore::default());
        let nodes = [(); 2].map(|()| Node::new(&store));
        let clients = [(); 2].map(|()| client(&TLS12));
        for client in &clients {
            assert_eq!(nodes[0].kind(client).await, FULL);
            for node in &nodes {
                assert_eq!(node.kind(client).await, RESUMED);
            }
        }
        let first = nodes[0].active();
        for (node, client) in nodes.iter().zip(&clients) {
            withdraw(node);
            assert_ne!(node.active(), first);
            assert_eq!(node.kind(client).await, FULL);
            assert_eq!(node.resumption.stats().store.misses.unknown_key_name, 1);
        }
        for node in &nodes {
            for client in &clients {
                assert_eq!(node.kind(client).await, RESUMED, "it has another session");
            }
        }
    }
}

#[tokio::test]
async fn what_another_stek_sealed_stays() {
    let store = Arc::new(MemoryStore::default());
    let node = Node::new(&store);
    let first = node.active();
    unlist(&node);
    let client = client(&TLS12);
    assert_eq!(node.kind(&client).await, FULL);
    node.lists_first.store(true, Ordering::Relaxed);
    node.time.advance(Duration::from_secs(60));
    node.resumption.step();
    assert_eq!(node.active(), first);
    assert_eq!(node.resumption.revoke(&first).steks, 1);
    assert_eq!(node.kind(&client).await, RESUMED);
    assert_eq!(store.fetches.load(Ordering::Relaxed), 0);
    let stats = node.resumption.stats();
    assert_eq!(
        (stats.cache.entries, stats.store.misses.unknown_key_name),
        (1, 0)
    );
}

/// Without the store's copy nothing says that a STEK may be known to others.
#[tokio::test]
async fn what_did_not_get_to_the_store_resumes_whatever_is_withdrawn() {
    let store = Arc::new(MemoryStore::default());
    store.is_full.store(true, Ordering::Relaxed);
    let node = Node::new(&store);
    let client = client(&TLS12);
    assert_eq!(node.kind(&client).await, FULL);
    assert_eq!(node.resumption.stats().store.not_shared.not_taken, 1);
    assert_eq!(node.resumption.revoke(&node.active()).steks, 1);
    assert_eq!(node.kind(&client).await, RESUMED);
}

#[test]
fn why_a_copy_does_not_resume_is_told() {
    let node = Node::new(&Arc::default());
    let storage = node.resumption.session_storage("api");
    assert!(storage.put(vec![7; 32], tls12(&[7; 48])));
    let ask = || Ok::<_, Infallible>(storage.get(&[7; 32]));
    let (found, _) = node.resumption.follow_blocking(ask).unwrap();
    assert!(found.is_some());
    let _ = node.resumption.revoke(&node.active());
    let (found, told) = node.resumption.follow_blocking(ask).unwrap();
    let why = "unknown_key_name";
    assert_eq!((found, told.outcome), (None, Outcome::NotFound { why }));
}

#[test]
fn a_session_is_kept_if_the_store_or_the_cache_has_it() {
    for (entries, is_full, is_kept) in [
        (100, false, true),
        (0, false, true),
        (100, true, true),
        (0, true, false),
    ] {
        let store = Arc::new(MemoryStore::default());
        store.is_full.store(is_full, Ordering::Relaxed);
        let resumption = sharing(&store).cache_entries(entries).build().unwrap();
        let storage = resumption.session_storage("api");
        let kept = storage.put(vec![7; 32], tls12(&[7; 48]));
        assert_eq!(kept, is_kept, "{entries} {is_full}");
    }
}
