//! What becomes of a session that was claimed in a shared store for a handshake which is then half
//! open for long: the client must say hello again, and takes its time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::TLS13;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use rustls_resumption::source::{SourceKey, source_fn};
use rustls_resumption::{FakeClock, Resumption, ResumptionAcceptor, ResumptionBuilder};
use test_support::acceptor::{acceptor, kind, met};
use test_support::client_auth::{Authority, Date, Wallet, client_showing, config_with};
use test_support::fleet::{MemoryStore, SECRET, never_learning, retrying_server, sharing};
use test_support::handshake::{RESUMED, client, client_config, server_config};

const RETRIED: HandshakeKind = HandshakeKind::FullWithHelloRetryRequest;
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A handshake in the middle of which something happens: the client was asked to say hello again.
async fn kind_while(
    client: &Arc<ClientConfig>,
    acceptor: &ResumptionAcceptor,
    happens: impl FnOnce(),
) -> HandshakeKind {
    let serve = async |far| met(acceptor.accept(far).await.unwrap()).await.kind;
    test_support::acceptor::kind_while(client, serve, happens).await
}

fn node() -> (FakeClock, Resumption) {
    let time = FakeClock::new();
    let store = Arc::new(MemoryStore::default());
    let resumption = sharing(&store).clock(time.clock()).build().unwrap();
    (time, resumption)
}

#[tokio::test]
async fn a_claimed_session_resumes_no_more_once_it_is_withdrawn_or_over() {
    type Event = (&'static str, fn(&FakeClock, &Resumption), HandshakeKind);
    let events: [Event; 6] = [
        ("nothing", |_, _| (), RESUMED),
        (
            "another scope is forgotten",
            |_, r| drop(r.forget("b")),
            RESUMED,
        ),
        ("revoke_all", |_, r| drop(r.revoke_all()), RETRIED),
        ("forget", |_, r| drop(r.forget("api")), RETRIED),
        (
            "revoke",
            |_, r| drop(r.revoke(&r.stats().steks.active.unwrap())),
            RETRIED,
        ),
        ("its time is over", |time, _| time.advance(HOUR), RETRIED),
    ];
    for (event, happens, expected) in events {
        let (time, resumption) = node();
        let acceptor = acceptor(&resumption, retrying_server());
        let client = never_learning(client_config(&TLS13));
        assert_eq!(kind(&client, &acceptor).await, RETRIED);
        let happens = || {
            assert_eq!(resumption.stats().store.claimed, 1);
            happens(&time, &resumption);
        };
        let met = kind_while(&client, &acceptor, happens).await;
        assert_eq!(met, expected, "{event}");
        let stats = resumption.stats();
        let refused = u64::from(expected == RETRIED);
        assert_eq!(stats.store.unused, refused, "{event}");
        assert_eq!(stats.acceptor.full.not_found, refused, "{event}");
    }
}

#[tokio::test]
async fn what_renews_a_claimed_session_is_not_shared_once_its_stek_is_revoked() {
    let store = Arc::new(MemoryStore::default());
    // Of two, so that another seals for the fleet when the first is revoked.
    let two = source_fn("two", |query| {
        let another = b"vutsrqponmlkjihgfedcba9876543210";
        let steks = [query.stek(SECRET)?, query.stek(another)?];
        Ok(steks.map(SourceKey::sealing).into())
    });
    let builder = sharing(&store).stek_source(two);
    let resumption = builder.clock(FakeClock::new().clock()).build().unwrap();
    let acceptor = acceptor(&resumption, server_config());
    let client = client(&TLS13);
    kind(&client, &acceptor).await;
    let first = resumption.stats().steks.active.unwrap();
    let revoked = || {
        let told = resumption.revoke(&first);
        assert_eq!(told.steks, 1);
    };
    let met = kind_while(&client, &acceptor, revoked).await;
    assert_eq!(met, RESUMED, "it had resumed by then");
    let stats = resumption.stats();
    assert_ne!(stats.steks.active, Some(first));
    assert_eq!((stats.store.shared, stats.store.not_shared.revoked), (2, 2));
}

/// A server of mutual TLS with which most clients must say hello twice, and what it tells of how long
/// ago a client was verified, in seconds.
fn verifying(
    resumption: &Resumption,
    ca: &Authority,
    date: &Date,
) -> (ResumptionAcceptor, Arc<Mutex<Vec<Option<u64>>>>) {
    let provider = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    };
    let mut config: ServerConfig = config_with(provider.into(), Some(ca.verifier()), date);
    resumption.install_with_client_verifier(&mut config, "api", ca.verifier());
    let told = Arc::<Mutex<Vec<_>>>::default();
    let acceptor = ResumptionAcceptor::new(config.into()).on_handshake({
        let told = Arc::clone(&told);
        move |handshake| {
            let ago = handshake.client_verified.map(|ago| ago.as_secs());
            told.lock().unwrap().push(ago);
        }
    });
    (acceptor, told)
}

#[tokio::test]
async fn how_long_ago_the_client_of_a_claimed_session_was_verified_is_told() {
    let (time, resumption) = node();
    let (ca, date) = (Authority::make(), Date::start());
    let (acceptor, told) = verifying(&resumption, &ca, &date);
    let client = client_showing(&TLS13, Wallet::with(Some(&ca.issue())));
    for _ in 0..3 {
        kind(&client, &acceptor).await;
        date.pass(&time, Duration::from_secs(7));
    }
    assert_eq!(*told.lock().unwrap(), [None, Some(0), Some(7)]);
}

#[tokio::test]
async fn a_claimed_session_resumes_only_if_its_client_is_admitted_by_then() {
    let (time, resumption) = node();
    let (ca, date) = (Authority::make(), Date::start());
    let (acceptor, _) = verifying(&resumption, &ca, &date);
    let wallet = Wallet::with(Some(&ca.issue_until(2028)));
    let client = client_showing(&TLS13, Arc::clone(&wallet));
    let client = never_learning(Arc::unwrap_or_clone(client));
    let end = 1_830_297_600;
    date.0.store(end - 1, Ordering::Relaxed);
    assert_eq!(kind(&client, &acceptor).await, RETRIED);
    let expires = || {
        date.pass(&time, ResumptionBuilder::DEFAULT_RECHECK_INTERVAL);
        wallet.change(Some(&ca.issue()));
    };
    assert_eq!(kind_while(&client, &acceptor, expires).await, RETRIED);
    assert_eq!(resumption.stats().client_auth.refused.expired, 1);
}
