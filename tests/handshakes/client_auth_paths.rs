//! A revoked client resumes in no way at all: through an acceptor, after a HelloRetryRequest, by a
//! store that nodes share. Nor does a ClientHello full of its tickets cost many verifications.

use std::future::{Future, ready};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoClientAuth;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, HandshakeKind, ServerConfig, ServerConnection};
use rustls_resumption::{FakeClock, Resumption, ResumptionAcceptor};
use test_support::acceptor::{met, visit};
use test_support::client_auth::*;
use test_support::fleet::{MemoryStore, never_learning, sharing, ways};
use test_support::handshake::{
    FULL, RESUMED, VERSIONS, first_flight, kind, provider, try_handshake,
};
use test_support::hello;
use test_support::log::Log;
use tokio::io::{DuplexStream, duplex};
use tokio_rustls::server::TlsStream;

fn installed(resumption: &Resumption, verifier: Arc<dyn ClientCertVerifier>) -> Arc<ServerConfig> {
    installed_with(provider(), resumption, verifier)
}

fn installed_with(
    provider: Arc<CryptoProvider>,
    resumption: &Resumption,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Arc<ServerConfig> {
    let mut config = config_with(provider, Some(verifier.clone()), &Date::start());
    resumption.install_with_client_verifier(&mut config, "api", verifier);
    Arc::new(config)
}

/// How a client's handshake went, unless it failed.
async fn outcome<A>(
    client: &Arc<ClientConfig>,
    accept: impl FnOnce(DuplexStream) -> A,
) -> Option<HandshakeKind>
where
    A: Future<Output = io::Result<TlsStream<DuplexStream>>>,
{
    let (near, far) = duplex(1 << 18);
    let accepting = accept(far);
    let server = async { Some(met(accepting.await.ok()?).await.kind) };
    let (kind, visited) = tokio::join!(server, visit(client, near, b""));
    assert_eq!(kind.is_some(), visited.is_ok());
    kind
}

#[tokio::test]
async fn a_revoked_client_resumes_through_no_acceptor_whoever_chooses_the_configuration() {
    let ca = Authority::make();
    for (_, resumption) in ways() {
        for version in VERSIONS {
            let (good, evil) = (ca.issue(), ca.issue());
            let [honest, thief] = [&good, &evil].map(|c| client(version, Some(c)));
            let before = ResumptionAcceptor::from(installed(&resumption, ca.verifier()));
            for client in [&honest, &thief] {
                assert_eq!(outcome(client, |io| before.accept(io)).await, Some(FULL));
                assert_eq!(outcome(client, |io| before.accept(io)).await, Some(RESUMED));
            }
            let crl = ca.revoke(&[&evil]);
            let config = installed(&resumption, ca.verifier_with(false, Some(crl)));
            let chosen = |io| {
                let config = Arc::clone(&config);
                before.accept_with_config(io, |_| ready(Ok(config)), |_| ())
            };
            assert_eq!(outcome(&honest, chosen).await, Some(RESUMED));
            assert_eq!(outcome(&thief, chosen).await, None);
            let after = ResumptionAcceptor::from(Arc::clone(&config));
            assert_eq!(outcome(&honest, |io| after.accept(io)).await, Some(RESUMED));
            assert_eq!(outcome(&thief, |io| after.accept(io)).await, None);
        }
        assert_ne!(resumption.stats().client_auth.refused.revoked, 0);
    }
}

#[tokio::test]
async fn a_revoked_client_does_not_resume_after_a_hello_retry_request() {
    let ca = Authority::make();
    let retrying = || {
        Arc::new(CryptoProvider {
            kx_groups: vec![aws_lc_rs::kx_group::SECP256R1],
            ..aws_lc_rs::default_provider()
        })
    };
    for (_, resumption) in ways() {
        let (good, evil) = (ca.issue(), ca.issue());
        let [honest, thief] =
            [&good, &evil].map(|c| never_learning(Arc::unwrap_or_clone(client(&TLS13, Some(c)))));
        let verifiers = [
            ca.verifier(),
            ca.verifier_with(false, Some(ca.revoke(&[&evil]))),
        ];
        let [before, after] = verifiers.map(|verifier| {
            ResumptionAcceptor::from(installed_with(retrying(), &resumption, verifier))
        });
        for client in [&honest, &thief] {
            let first = outcome(client, |io| before.accept(io)).await;
            assert_eq!(first, Some(HandshakeKind::FullWithHelloRetryRequest));
            assert_eq!(outcome(client, |io| before.accept(io)).await, Some(RESUMED));
        }
        assert_eq!(outcome(&honest, |io| after.accept(io)).await, Some(RESUMED));
        assert_eq!(outcome(&thief, |io| after.accept(io)).await, None);
    }
}

#[tokio::test]
async fn a_node_with_a_new_crl_resumes_nobody_it_lists_whichever_node_made_the_session() {
    let ca = Authority::make();
    let store = Arc::new(MemoryStore::default());
    for version in VERSIONS {
        let (good, evil) = (ca.issue(), ca.issue());
        let [honest, thief] = [&good, &evil].map(|c| client(version, Some(c)));
        let nodes = [(); 2].map(|()| sharing(&store).build().unwrap());
        let behind = ResumptionAcceptor::from(installed(&nodes[0], ca.verifier()));
        let crl = ca.revoke(&[&evil]);
        let verifier = ca.verifier_with(false, Some(crl));
        let ahead = ResumptionAcceptor::from(installed(&nodes[1], verifier));
        for client in [&honest, &thief] {
            assert_eq!(outcome(client, |io| behind.accept(io)).await, Some(FULL));
            assert_eq!(outcome(client, |io| behind.accept(io)).await, Some(RESUMED));
        }
        assert_eq!(outcome(&thief, |io| ahead.accept(io)).await, None);
        assert_eq!(outcome(&honest, |io| ahead.accept(io)).await, Some(RESUMED));
        assert_eq!(
            outcome(&honest, |io| behind.accept(io)).await,
            Some(RESUMED)
        );
        let refused = |node: &Resumption| node.stats().client_auth.refused.revoked;
        assert_eq!((refused(&nodes[0]), refused(&nodes[1])), (0, 1));
    }
}

#[test]
fn a_hello_full_of_a_revoked_clients_tickets_costs_one_verification_and_of_many_clients_two() {
    let ca = Authority::make();
    // Time stands still, so that the moment for which a thread stops verifying does not pass.
    let time = FakeClock::new();
    let builder = Resumption::builder().clock(time.clock());
    let resumption = builder.build().unwrap();
    let before = installed(&resumption, ca.verifier());
    let ticket_of = |certificate| {
        let thief = client(&TLS13, Some(certificate));
        assert_eq!(kind(&thief, &before), FULL);
        identity(&first_flight(&thief, b""))
    };
    let certificates = Vec::from_iter((0..50).map(|_| ca.issue()));
    let ticket = ticket_of(&certificates[0]);
    // As many as a ClientHello has room for.
    let room = 60_000 / (ticket.len() + 8);
    assert!(room > 50, "{room}");
    let copies = vec![ticket.clone(); room];
    let session = before.ticketer.decrypt(&ticket).unwrap();
    let sealed_again = |_| before.ticketer.encrypt(&session).unwrap();
    let different = Vec::from_iter((0..room).map(sealed_again));
    let of_many = Vec::from_iter(certificates.iter().map(ticket_of));
    let crl = ca.revoke(&Vec::from_iter(&certificates));
    for (tickets, verifications) in [(copies, 1), (different, 1), (of_many.clone(), 2)] {
        // On a thread of its own: a thread that saw refusals stops verifying for a moment.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let verifier = Watched::new(ca.verifier_with(false, Some(crl.clone())));
                let after = installed(&resumption, verifier.clone());
                let refused = || resumption.stats().client_auth.refused.total();
                let refused_before = refused();
                greet(&after, &hello::offering(&tickets));
                assert_eq!(
                    refused() - refused_before,
                    tickets.len() as u64,
                    "all were looked at"
                );
                assert_eq!(verifier.asked(), verifications);
            });
        });
    }
    // Nor is one stopped any later that takes longer than the moment.
    let verifier = ca.verifier_with(false, Some(crl));
    let verifier = Watched::slow(verifier, time, Duration::from_millis(50));
    let after = installed(&resumption, verifier.clone());
    greet(&after, &hello::offering(&of_many));
    assert_eq!(verifier.asked(), 2);
}

#[test]
fn a_verifier_that_asks_less_than_its_configuration_lets_nobody_in() {
    let ca = Authority::make();
    let none = Arc::new(NoClientAuth) as Arc<dyn ClientCertVerifier>;
    for handed_over in [ca.verifier_with(true, None), none] {
        for version in VERSIONS {
            let resumption = Resumption::tickets().unwrap();
            let open = installed(&resumption, ca.verifier_with(true, None));
            let mut strict = config_with(provider(), Some(ca.verifier()), &Date::start());
            let (log, ()) = Log::of(|| {
                let verifier = Arc::clone(&handed_over);
                resumption.install_with_client_verifier(&mut strict, "api", verifier);
            });
            let warned = |line: &String| line.contains("not that of the configuration");
            assert!(log.warnings().iter().any(warned));
            let nobody = client(version, None);
            assert_eq!(kind(&nobody, &open), FULL);
            assert_eq!(kind(&nobody, &open), RESUMED);
            assert!(try_handshake(&nobody, &Arc::new(strict), b"").is_err());
        }
    }
}

/// Has a server answer a first flight.
fn greet(server: &Arc<ServerConfig>, mut flight: &[u8]) {
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    while !flight.is_empty() {
        server.read_tls(&mut flight).unwrap();
        server.process_new_packets().unwrap();
    }
    assert!(server.wants_write());
}
