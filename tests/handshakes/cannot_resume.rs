//! Clients that cannot resume, whatever they are given, are counted by reason.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::client::Resumption as ClientResumption;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::UnixTime;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, ServerConfig, ServerConnection};
use rustls_resumption::acceptor::BlockingAcceptor;
use rustls_resumption::stats::CannotResume;
use rustls_resumption::{Resumption, ResumptionAcceptor, ResumptionBuilder, Rotation};
use test_support::acceptor::meet_with;
use test_support::handshake::{
    FULL, RESUMED, client, client_config, client_without_tickets, kind, server_config,
};
use test_support::peer::program;

fn installed(resumption: &Resumption) -> Arc<ServerConfig> {
    let mut config = server_config();
    resumption.install(&mut config, "api");
    Arc::new(config)
}

fn followed(
    resumption: &Resumption,
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> HandshakeKind {
    test_support::handshake::followed(resumption, || kind(client, server))
}

fn cannot(resumption: &Resumption) -> [u64; 3] {
    let CannotResume {
        no_psk_dhe_ke,
        no_session_id,
        ticket_when_stateful,
        ..
    } = resumption.stats().acceptor.cannot;
    [no_psk_dhe_ke, no_session_id, ticket_when_stateful]
}

#[test]
fn a_tls12_client_with_a_ticket_gets_no_session_in_stateful_mode() {
    let tickets = Resumption::tickets().unwrap();
    let stateful = Resumption::stateful(1_000).unwrap();
    let (old, new) = (installed(&tickets), installed(&stateful));
    let (tls12, tls13) = (client(&TLS12), client(&TLS13));
    for client in [&tls12, &tls13] {
        assert_eq!(kind(client, &old), FULL);
        assert_eq!(followed(&stateful, client, &new), FULL);
    }
    assert_eq!(followed(&stateful, &tls13, &new), RESUMED);
    for _ in 0..3 {
        assert_eq!(followed(&stateful, &tls12, &new), FULL);
    }
    assert_eq!(cannot(&stateful), [0, 0, 4]);
    // One that dropped it begins anew.
    let mut dropped = (*tls12).clone();
    dropped.resumption = ClientResumption::in_memory_sessions(8);
    let dropped = Arc::new(dropped);
    assert_eq!(followed(&stateful, &dropped, &new), FULL);
    assert_eq!(followed(&stateful, &dropped, &new), RESUMED);
    assert_eq!(cannot(&stateful), [0, 1, 4]);
}

/// A client's clock, so many seconds ahead.
#[derive(Debug, Default)]
struct Ahead(AtomicU64);

impl TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        let now = DefaultTimeProvider.current_time()?.as_secs();
        let ahead = Duration::from_secs(self.0.load(Ordering::Relaxed));
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now) + ahead))
    }
}

#[test]
fn a_tls12_client_drops_its_ticket_when_its_lifetime_ends() {
    let tickets = Resumption::tickets().unwrap();
    let stateful = Resumption::stateful(1_000).unwrap();
    let (old, new) = (installed(&tickets), installed(&stateful));
    let time = Arc::new(Ahead::default());
    let mut client = client_config(&TLS12);
    client.time_provider = Arc::<Ahead>::clone(&time);
    let client = Arc::new(client);
    assert_eq!(kind(&client, &old), FULL);
    let lifetime = Rotation::DEFAULT_TICKET_LIFETIME.as_secs();
    time.0.store(lifetime - 60, Ordering::Relaxed);
    assert_eq!(kind(&client, &new), FULL);
    assert_eq!(kind(&client, &new), FULL);
    time.0.store(lifetime + 1, Ordering::Relaxed);
    assert_eq!(kind(&client, &new), FULL);
    assert_eq!(kind(&client, &new), RESUMED);
}

#[test]
fn a_tls12_client_that_offers_no_session_id_in_stateful_mode_is_counted() {
    let forgetful = || {
        let mut config = client_config(&TLS12);
        config.resumption = ClientResumption::disabled();
        Arc::new(config)
    };
    for (resumption, expected) in [
        (Resumption::stateful(1_000).unwrap(), 4),
        (Resumption::tickets().unwrap(), 0),
    ] {
        let server = installed(&resumption);
        let (returning, other) = (client_without_tickets(), forgetful());
        for expected in [FULL, RESUMED, RESUMED] {
            assert_eq!(followed(&resumption, &returning, &server), expected);
            assert_eq!(followed(&resumption, &other, &server), FULL);
        }
        assert_eq!(followed(&resumption, &client(&TLS13), &server), FULL);
        assert_eq!(cannot(&resumption), [0, expected, 0]);
    }
}

/// GnuTLS names no way to resume if it wants no tickets.
#[test]
fn a_client_without_psk_modes_is_counted_and_gets_no_session() {
    for resumption in [
        Resumption::tickets().unwrap(),
        Resumption::stateful(1_000).unwrap(),
    ] {
        let acceptor = BlockingAcceptor::from(installed(&resumption));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let visit = |without: &str| {
            let priority = format!("NORMAL:-VERS-ALL:+VERS-TLS1.3{without}");
            let mut client = Command::new(program("gnutls-cli", "gnutls-bin"))
                .args(["--insecure", "--priority", &priority])
                .args(["localhost", "--port", &port])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut stream = acceptor.accept(listener.accept().unwrap().0).unwrap();
            stream.write_all(b"pong").unwrap();
            drop(client.stdin.take());
            let _ = stream.read(&mut [0; 9]);
            stream.conn.send_close_notify();
            let _ = stream.flush();
            drop(stream);
            client.wait().unwrap();
        };
        visit(":%NO_TICKETS");
        assert_eq!(cannot(&resumption), [1, 0, 0]);
        let stats = resumption.stats();
        assert_eq!((stats.cache.stored, stats.tickets.sealed), (0, 0));
        visit("");
        assert_eq!(cannot(&resumption), [1, 0, 0]);
        let stats = resumption.stats();
        assert_eq!(stats.cache.stored + stats.tickets.sealed, 2);
        assert_eq!(stats.acceptor.full.not_offered, 2);
    }
}

#[tokio::test]
async fn no_client_is_blamed_for_what_the_server_does_not_make_or_keep() {
    let sparing = |config: &mut ServerConfig| config.send_tls13_tickets = 0;
    let usual = |_: &mut ServerConfig| ();
    let builder = Resumption::builder;
    type Set = fn(&mut ServerConfig);
    let servers: [(&str, ResumptionBuilder, Set); 4] = [
        ("it makes none", builder(), sparing),
        ("it keeps none", builder().stateful(0), usual),
        ("they are too long", builder().max_ticket_len(1_024), usual),
        (
            "they are too long to keep",
            builder().stateful(10).max_session_len(1_024),
            usual,
        ),
    ];
    for (why, builder, set) in servers {
        let resumption = builder.build().unwrap();
        let mut config = server_config();
        set(&mut config);
        resumption.install(&mut config, "api");
        let acceptor = ResumptionAcceptor::from(Arc::new(config));
        for version in [&TLS12, &TLS13] {
            meet(&client(version), &acceptor).await;
            let [no_psk_dhe_ke, ..] = cannot(&resumption);
            assert_eq!(no_psk_dhe_ke, 0, "{why}: {version:?}");
        }
        assert_eq!(resumption.stats().acceptor.full.total(), 2);
    }
}

#[tokio::test]
async fn no_client_that_resumes_is_counted_whoever_made_its_session() {
    let resumption = Resumption::tickets().unwrap();
    let mut config = server_config();
    resumption.install(&mut config, "api");
    config.ticketer = Ticketer::new().unwrap(); // rustls's own, of which nothing is known here
    let acceptor = ResumptionAcceptor::from(Arc::new(config));
    let client = client(&TLS13);
    meet(&client, &acceptor).await;
    let before = cannot(&resumption);
    meet(&client, &acceptor).await;
    assert_eq!(resumption.stats().acceptor.resumed, 1);
    assert_eq!(cannot(&resumption), before);
}

/// The application keeps much in each session.
async fn meet(client: &Arc<ClientConfig>, acceptor: &ResumptionAcceptor) {
    let keep_much = |connection: &mut ServerConnection| connection.set_resumption_data(&[7; 1_024]);
    meet_with(client, acceptor, b"", keep_much).await;
}
