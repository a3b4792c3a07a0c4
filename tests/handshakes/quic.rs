//! Sessions over QUIC: their age, and whom they admit.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ConnectionError, Endpoint, ServerConfig};
use rustls::server::danger::ClientCertVerifier;
use rustls::version::TLS13;
use rustls_resumption::acceptor::{Handshake, Outcome};
use rustls_resumption::{FakeClock, Resumption};
use test_support::client_auth::{self, Authority, Date};
use test_support::fleet::{never_learning, retrying_server};
use test_support::handshake::{client_config, server_config};

const HOUR: Duration = Duration::from_secs(60 * 60);

fn any_port() -> std::net::SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A server that follows its handshakes or does not, at the given configuration.
fn server(resumption: &Resumption, follows: bool) -> Endpoint {
    serve(crypto(resumption, |crypto| match follows {
        true => resumption.follow_quic(crypto),
        false => crypto,
    }))
}

type Crypto = Arc<dyn quinn::crypto::ServerConfig>;

fn crypto(resumption: &Resumption, wrap: impl FnOnce(Crypto) -> Crypto) -> ServerConfig {
    let mut config = server_config();
    prepare(&mut config, resumption);
    resumption.install(&mut config, "api");
    let crypto = QuicServerConfig::try_from(config).unwrap();
    ServerConfig::with_crypto(wrap(Arc::new(crypto)))
}

/// A server that asks for client certificates.
fn mutual(resumption: &Resumption, verifier: Arc<dyn ClientCertVerifier>) -> Endpoint {
    let mut config = client_auth::config(Some(verifier.clone()), &Date::start());
    prepare(&mut config, resumption);
    resumption.install_with_client_verifier(&mut config, "api", verifier);
    let crypto = QuicServerConfig::try_from(config).unwrap();
    serve(ServerConfig::with_crypto(
        resumption.follow_quic(Arc::new(crypto)),
    ))
}

fn prepare(config: &mut rustls::ServerConfig, resumption: &Resumption) {
    config.alpn_protocols = vec![b"test".to_vec()];
    if resumption.stats().steks.active.is_none() {
        // QUIC has no other size.
        config.max_early_data_size = u32::MAX;
    }
}

fn serve(config: ServerConfig) -> Endpoint {
    let endpoint = Endpoint::server(config, any_port()).unwrap();
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else {
                    return;
                };
                // What it says comes after its tickets.
                let mut stream = connection.open_uni().await.unwrap();
                stream.write_all(b"pong").await.unwrap();
                stream.finish().unwrap();
                connection.closed().await;
            });
        }
    });
    endpoint
}

async fn meet(client: &Endpoint, server: &Endpoint) {
    try_to_meet(client, server).await.unwrap();
}

/// The server turns a client away when the client takes itself for connected.
async fn try_to_meet(client: &Endpoint, server: &Endpoint) -> Result<(), ConnectionError> {
    let address = server.local_addr().unwrap();
    let connection = client.connect(address, "localhost").unwrap().await?;
    let mut stream = connection.accept_uni().await?;
    assert_eq!(stream.read_to_end(9).await.unwrap(), b"pong");
    connection.close(0_u32.into(), b"");
    Ok(())
}

fn client() -> Endpoint {
    client_of(client_config(&TLS13))
}

fn client_of(mut config: rustls::ClientConfig) -> Endpoint {
    config.enable_early_data = true;
    config.alpn_protocols = vec![b"test".to_vec()];
    let crypto = QuicClientConfig::try_from(config).unwrap();
    let mut endpoint = Endpoint::client(any_port()).unwrap();
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(crypto)));
    endpoint
}

#[tokio::test]
async fn no_session_over_quic_outlives_its_full_handshake() {
    let builders = [
        Resumption::builder(),
        Resumption::builder().stateful(20_000),
    ];
    for builder in builders {
        let time = FakeClock::new();
        let resumption = builder.clock(time.clock()).build().unwrap();
        let (server, client) = (server(&resumption, true), client());
        for round in 1..=2 {
            meet(&client, &server).await;
            for _ in 0..4 {
                time.advance(5 * HOUR);
                resumption.step();
                meet(&client, &server).await;
            }
            time.advance(4 * HOUR); // 24 hours in all
            resumption.step();
            let stats = resumption.stats();
            assert_eq!(stats.acceptor.resumed, 4 * round);
            assert_eq!(stats.acceptor.full.total(), round);
            assert_eq!((stats.cache.age_unknown, stats.tickets.age_unknown), (0, 0));
        }
        assert_eq!(resumption.stats().acceptor.failed, 0);
    }
}

#[tokio::test]
async fn a_hello_retry_request_over_quic_makes_no_session_younger() {
    for builder in [Resumption::builder(), Resumption::builder().stateful(100)] {
        let time = FakeClock::new();
        let resumption = builder.clock(time.clock()).build().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let report = {
            let told = Arc::clone(&told);
            move |handshake: &Handshake| told.lock().unwrap().push(handshake.outcome)
        };
        let mut config = retrying_server();
        prepare(&mut config, &resumption);
        resumption.install(&mut config, "api");
        let config = Arc::new(QuicServerConfig::try_from(config).unwrap());
        let server = serve(ServerConfig::with_crypto(
            resumption.follow_quic_with(config, report),
        ));
        let client = client_of(Arc::unwrap_or_clone(never_learning(client_config(&TLS13))));
        meet(&client, &server).await;
        for _ in 0..3 {
            time.advance(5 * HOUR);
            resumption.step();
            meet(&client, &server).await;
        }
        let ages: Vec<_> = std::mem::take(&mut *told.lock().unwrap())
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Resumed { age, .. } => age,
                _ => None,
            })
            .collect();
        let expected = [None, Some(5 * HOUR), Some(10 * HOUR), Some(15 * HOUR)];
        assert_eq!(ages, expected);
        let stats = resumption.stats();
        assert_eq!((stats.cache.age_unknown, stats.tickets.age_unknown), (0, 0));
    }
}

#[tokio::test]
async fn a_session_over_quic_that_is_not_followed_has_no_known_age() {
    let resumption = Resumption::builder().build().unwrap();
    let client = client();
    for follows in [false, true] {
        meet(&client, &server(&resumption, follows)).await;
    }
    let stats = resumption.stats();
    assert_eq!(stats.tickets.age_unknown, 2);
    assert_eq!(
        (stats.acceptor.resumed, stats.acceptor.full.total()),
        (1, 0)
    );
}

#[tokio::test]
async fn what_happened_over_quic_is_told() {
    // rustls takes early data where it need not fear a replay. A QUIC client always offers it.
    for (resumption, early_data) in [
        (Resumption::tickets().unwrap(), false),
        (Resumption::stateful(1_000).unwrap(), true),
    ] {
        let told = Arc::new(Mutex::new(Vec::new()));
        let report = {
            let told = Arc::clone(&told);
            move |handshake: &Handshake| told.lock().unwrap().push(*handshake)
        };
        let config = crypto(&resumption, |crypto| {
            resumption.follow_quic_with(crypto, report)
        });
        let (server, client) = (serve(config), client());
        meet(&client, &server).await;
        meet(&client, &server).await;
        let told = told.lock().unwrap();
        let told: Vec<_> = told
            .iter()
            .map(|told| (told.outcome.is_resumed(), told.early_data))
            .collect();
        assert_eq!(told, [(false, Some(false)), (true, Some(early_data))]);
        let counted = resumption.stats().acceptor.early_data;
        assert_eq!(counted, u64::from(early_data));
    }
}

#[tokio::test]
async fn a_revoked_client_does_not_resume_over_quic() {
    let ca = Authority::make();
    for resumption in [Resumption::tickets(), Resumption::stateful(1_000)] {
        let resumption = resumption.unwrap();
        let (good, evil) = (ca.issue(), ca.issue());
        let [honest, thief] = [&good, &evil].map(|certificate| {
            let config = client_auth::client(&TLS13, Some(certificate));
            client_of(Arc::unwrap_or_clone(config))
        });
        let before = mutual(&resumption, ca.verifier());
        for client in [&honest, &thief] {
            meet(client, &before).await;
            meet(client, &before).await;
        }
        let crl = ca.revoke(&[&evil]);
        let after = mutual(&resumption, ca.verifier_with(false, Some(crl)));
        meet(&honest, &after).await;
        assert!(try_to_meet(&thief, &after).await.is_err());
        let stats = resumption.stats();
        assert_eq!(
            (stats.acceptor.resumed, stats.acceptor.full.total()),
            (3, 2)
        );
        assert_eq!(stats.client_auth.refused.revoked, 1);
    }
}
