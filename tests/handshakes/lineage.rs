//! Connections of one session have one lineage, and no two others have.

use std::sync::{Arc, Mutex};

use rustls::client::Resumption as ClientResumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use rustls_resumption::acceptor::SessionLineage;
use rustls_resumption::source::DerivedSource;
use rustls_resumption::{Resumption, ResumptionAcceptor, ResumptionBuilder};
use test_support::acceptor::{met, visit};
use test_support::fleet::{MemoryStore, retrying_server, sharing};
use test_support::handshake::{
    FULL, RESUMED, VERSIONS, client, client_config, client_without_tickets, kind, server_config,
    server_config_with,
};
use tokio::io::duplex;
use tokio_rustls::TlsAcceptor;

fn installed(resumption: &Resumption, mut config: ServerConfig) -> Arc<ServerConfig> {
    resumption.install(&mut config, "ftp");
    Arc::new(config)
}

type Told = (bool, Option<SessionLineage>);

/// Whether a handshake resumes, and its lineage.
fn meet(resumption: &Resumption, client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Told {
    let followed = resumption.follow_blocking(|| Ok::<_, ()>(kind(client, server)));
    let (_, told) = followed.unwrap();
    (told.outcome.is_resumed(), told.lineage)
}

/// The same with an acceptor, which sees the connection.
async fn meet_acceptor(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> (HandshakeKind, Option<SessionLineage>) {
    let told = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&told);
    let acceptor = ResumptionAcceptor::from(Arc::clone(server));
    let acceptor = acceptor.on_handshake(move |handshake| {
        *tell.lock().unwrap() = handshake.lineage;
    });
    let (near, far) = duplex(1 << 18);
    let accept = async { met(acceptor.accept(far).await.unwrap()).await.kind };
    let (kind, visited) = tokio::join!(accept, visit(client, near, b""));
    visited.unwrap();
    let told = *told.lock().unwrap();
    (kind, told)
}

fn modes() -> [ResumptionBuilder; 2] {
    [
        Resumption::builder(),
        Resumption::builder().stateful(20_000),
    ]
}

#[test]
fn the_connections_of_a_session_have_one_lineage_however_it_is_renewed() {
    for builder in modes() {
        let resumption = builder.session_lineage().build().unwrap();
        let server = installed(&resumption, server_config());
        let mut seen = Vec::new();
        for client in [
            client(&TLS12),
            client(&TLS13),
            client_without_tickets(),
            client(&TLS12),
            client(&TLS13),
        ] {
            let (resumed, first) = meet(&resumption, &client, &server);
            assert!(!resumed && first.is_some());
            for _ in 0..5 {
                assert_eq!(meet(&resumption, &client, &server), (true, first));
            }
            assert!(!seen.contains(&first), "that of another client");
            seen.push(first);
        }
        // What comes after it is another.
        let _ = resumption.revoke_all();
        let client = client(&TLS13);
        let (_, one) = meet(&resumption, &client, &server);
        let _ = resumption.revoke_all();
        let (resumed, other) = meet(&resumption, &client, &server);
        assert!(!resumed && one != other);
    }
}

#[tokio::test]
async fn both_tickets_of_a_handshake_have_its_lineage() {
    for builder in modes() {
        let resumption = builder.session_lineage().build().unwrap();
        let server = installed(&resumption, server_config());
        let silent = silent(&resumption, server_config());
        let client = client(&TLS13);
        let (_, first) = meet(&resumption, &client, &server);
        for _ in 0..2 {
            assert_eq!(meet_acceptor(&client, &silent).await, (RESUMED, first));
        }
        let none_made = (FULL, None);
        assert_eq!(meet_acceptor(&client, &silent).await, none_made);
    }
}

/// A server that makes no sessions in TLS 1.3.
fn silent(resumption: &Resumption, mut config: ServerConfig) -> Arc<ServerConfig> {
    config.send_tls13_tickets = 0;
    installed(resumption, config)
}

#[tokio::test]
async fn who_offers_a_session_and_does_not_resume_it_is_not_taken_for_its_client() {
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
        ..aws_lc_rs::default_provider()
    };
    for builder in modes() {
        let resumption = builder.session_lineage().build().unwrap();
        let server = installed(&resumption, server_config());
        // It opens the session, declines it for its cipher suite, before it has looked at the binder,
        // and makes no other that would show that.
        let other = server_config_with(Arc::new(provider.clone()), false);
        let other = silent(&resumption, other);
        let client = client(&TLS13);
        assert!(meet(&resumption, &client, &server).1.is_some());
        assert_eq!(meet(&resumption, &client, &other).1, None);
        assert_eq!(meet_acceptor(&client, &other).await, (FULL, None));
    }
}

#[test]
fn nodes_that_tell_it_and_nodes_that_do_not_resume_each_others_sessions() {
    let node = || {
        let source = DerivedSource::new(b"a secret of thirty-two bytes and more").unwrap();
        Resumption::builder().stek_source(source)
    };
    for version in VERSIONS {
        let telling = node().session_lineage().build().unwrap();
        let silent = node().build().unwrap();
        let client = client(version);
        let visit = |node: &Resumption| {
            let server = installed(node, server_config());
            meet(node, &client, &server)
        };
        assert_eq!(visit(&silent), (false, None));
        let (resumed, first) = visit(&telling);
        assert!(resumed && first.is_some(), "it begins where it is wanted");
        assert_eq!(visit(&telling), (true, first));
        assert_eq!(visit(&silent), (true, None));
        let (resumed, last) = visit(&telling);
        // TLS 1.2 keeps its secret; of TLS 1.3 the silent node dropped it.
        assert!(resumed && (last == first) == (version.version == TLS12.version));
    }
}

#[tokio::test]
async fn nodes_tell_the_same_lineage_and_so_do_all_acceptors() {
    let store = Arc::new(MemoryStore::default());
    let nodes: [_; 2] = std::array::from_fn(|_| sharing(&store).session_lineage().build().unwrap());
    for server in [server_config, retrying_server] {
        for version in VERSIONS {
            let mut config = client_config(version);
            config.resumption = ClientResumption::in_memory_sessions(8);
            let client = Arc::new(config);
            let mut seen = Vec::new();
            for node in [&nodes[0], &nodes[1], &nodes[0]] {
                let (kind, lineage) = meet_acceptor(&client, &installed(node, server())).await;
                assert_eq!(kind == FULL || seen.is_empty(), seen.is_empty());
                seen.push(lineage.expect("a session was made"));
            }
            assert!(seen.iter().all(|lineage| *lineage == seen[0]));
        }
    }
}

#[tokio::test]
async fn a_plain_acceptor_that_is_followed_tells_it_too() {
    let resumption = Resumption::builder().session_lineage().build().unwrap();
    let acceptor = TlsAcceptor::from(installed(&resumption, server_config()));
    let client = client(&TLS13);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (near, far) = duplex(1 << 18);
        let accept = async {
            let (stream, told) = resumption.follow(|| acceptor.accept(far)).await.unwrap();
            met(stream).await;
            told.lineage
        };
        let (lineage, visited) = tokio::join!(accept, visit(&client, near, b""));
        visited.unwrap();
        seen.push(lineage);
    }
    assert!(seen[0].is_some() && seen[0] == seen[1]);
}
