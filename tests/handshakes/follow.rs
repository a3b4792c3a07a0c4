//! `follow` around any way to accept connections: ages are carried forward, and outcomes reported.

use std::fs;
use std::future::Future;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption as ClientResumption,
    Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ServerConfig, ServerConnection,
};
use rustls_resumption::acceptor::{Handshake, Outcome, ResumedBy};
use rustls_resumption::stats::AcceptorStats;
use rustls_resumption::{FakeClock, Resumption, ResumptionAcceptor};
use tempfile::NamedTempFile;
use test_support::acceptor::*;
use test_support::fleet::{MemoryStore, never_learning, retrying_server, sharing};
use test_support::handshake::{
    FULL, RESUMED, VERSIONS, client, client_config, client_without_tickets, first_flight,
    server_config, server_config_with,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};
use tracing::field::Empty;
use tracing::{Instrument, info, info_span};

const HOUR: Duration = Duration::from_secs(60 * 60);

fn counted(resumption: &Resumption) -> AcceptorStats {
    resumption.stats().acceptor
}

fn ways() -> [(FakeClock, Resumption); 2] {
    [
        Resumption::builder(),
        Resumption::builder().stateful(20_000),
    ]
    .map(|builder| {
        let time = FakeClock::new();
        let resumption = builder.clock(time.clock()).build().unwrap();
        (time, resumption)
    })
}

fn plain(resumption: &Resumption, mut config: ServerConfig) -> TlsAcceptor {
    resumption.install(&mut config, "api");
    TlsAcceptor::from(Arc::new(config))
}

/// A handshake through a plain acceptor, followed.
async fn followed(
    client: &Arc<ClientConfig>,
    acceptor: &TlsAcceptor,
    resumption: &Resumption,
) -> (HandshakeKind, Handshake) {
    let (near, far) = duplex(1 << 18);
    let server = async {
        let accepted = resumption.follow(|| acceptor.accept(far)).await;
        let (stream, handshake) = accepted.unwrap();
        (met(stream).await.kind, handshake)
    };
    let (told, visited) = tokio::join!(server, visit(client, near, b""));
    visited.unwrap();
    told
}

/// The same, not followed.
async fn unfollowed(client: &Arc<ClientConfig>, acceptor: &TlsAcceptor) -> HandshakeKind {
    let (near, far) = duplex(1 << 18);
    let server = async { met(acceptor.accept(far).await.unwrap()).await.kind };
    let (kind, visited) = tokio::join!(server, visit(client, near, b""));
    visited.unwrap();
    kind
}

fn resumed(outcome: Outcome) -> (ResumedBy, Option<Duration>) {
    match outcome {
        Outcome::Resumed { by, age, .. } => (by, age),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_session_outlives_its_full_handshake_where_a_plain_acceptor_is_followed() {
    let servers: [fn() -> ServerConfig; 2] = [server_config, retrying_server];
    for server in servers {
        for (time, resumption) in ways() {
            let acceptor = plain(&resumption, server());
            for version in VERSIONS {
                let client = never_learning(client_config(version));
                for _ in 0..2 {
                    let (kind, _) = followed(&client, &acceptor, &resumption).await;
                    assert_ne!(kind, RESUMED);
                    for i in 1..=4 {
                        time.advance(5 * HOUR);
                        resumption.step();
                        let (kind, told) = followed(&client, &acceptor, &resumption).await;
                        assert_eq!(kind, RESUMED);
                        assert_eq!(resumed(told.outcome).1, Some(i * 5 * HOUR));
                    }
                    time.advance(4 * HOUR); // 24 hours in all
                    resumption.step();
                }
            }
            let stats = resumption.stats();
            let unknown = [stats.cache.age_unknown, stats.tickets.age_unknown];
            assert_eq!(unknown, [0; 2]);
        }
    }
}

#[tokio::test]
async fn outcomes_are_reported_and_counted() {
    for (_, resumption) in ways() {
        let makes_tickets = resumption.stats().steks.active.is_some();
        let acceptor = plain(&resumption, server_config());
        let clients = [client(&TLS12), client(&TLS13), client_without_tickets()];
        for (i, client) in clients.iter().enumerate() {
            let (kind, told) = followed(client, &acceptor, &resumption).await;
            assert_eq!((kind, told.outcome), (FULL, Outcome::NotOffered), "{i}");
            assert_eq!((told.early_data, told.hello_retry), (None, None));
            let (kind, told) = followed(client, &acceptor, &resumption).await;
            assert_eq!(kind, RESUMED);
            let expected = match makes_tickets && i < 2 {
                true => Outcome::Resumed {
                    by: ResumedBy::Ticket,
                    age: Some(Duration::ZERO),
                    key_name: resumption.stats().steks.active,
                },
                false => Outcome::Resumed {
                    by: match i == 1 {
                        true => ResumedBy::Cache,
                        false => ResumedBy::SessionId,
                    },
                    age: Some(Duration::ZERO),
                    key_name: None,
                },
            };
            assert_eq!(told.outcome, expected, "{i}");
        }
        let _ = resumption.revoke_all();
        for client in &clients {
            let (kind, told) = followed(client, &acceptor, &resumption).await;
            assert_eq!(kind, FULL);
            let why = match told.outcome {
                Outcome::NotFound { why } => why,
                other => panic!("{other:?}"),
            };
            assert!(["not_found", "revoked"].contains(&why), "{why}");
        }
        let counts = counted(&resumption);
        assert_eq!((counts.resumed, counts.full.total()), (3, 6));
        assert_eq!((counts.full.not_offered, counts.full.not_found), (3, 3));
        assert_eq!(counts.failed, 0);
    }
}

/// A client whose sessions are good for every server name.
fn one_for_all(mut client: ClientConfig) -> Arc<ClientConfig> {
    #[derive(Debug)]
    struct OneForAll(ClientSessionMemoryCache);

    fn any() -> ServerName<'static> {
        ServerName::try_from("any").unwrap()
    }

    impl ClientSessionStore for OneForAll {
        fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

        fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
            None
        }

        fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
            self.0.set_tls12_session(any(), value);
        }

        fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
            self.0.tls12_session(&any())
        }

        fn remove_tls12_session(&self, _: &ServerName<'static>) {
            self.0.remove_tls12_session(&any());
        }

        fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
            self.0.insert_tls13_ticket(any(), value);
        }

        fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
            self.0.take_tls13_ticket(&any())
        }
    }

    let store = OneForAll(ClientSessionMemoryCache::new(256));
    client.resumption = ClientResumption::store(Arc::new(store));
    Arc::new(client)
}

#[tokio::test]
async fn sessions_made_after_a_server_name_mismatch_have_their_own_age() {
    for (time, resumption) in ways() {
        let acceptor = plain(&resumption, server_config());
        for version in VERSIONS {
            let mut with_name = client_config(version);
            with_name.resumption = ClientResumption::in_memory_sessions(8);
            let with_name = one_for_all(with_name);
            let mut nameless = (*with_name).clone();
            nameless.enable_sni = false;
            let nameless = Arc::new(nameless);
            followed(&with_name, &acceptor, &resumption).await;
            time.advance(HOUR);
            resumption.step();
            let (kind, told) = followed(&nameless, &acceptor, &resumption).await;
            assert_eq!((kind, told.outcome), (FULL, Outcome::Declined));
            time.advance(HOUR);
            resumption.step();
            let (kind, told) = followed(&nameless, &acceptor, &resumption).await;
            assert_eq!(kind, RESUMED);
            assert_eq!(resumed(told.outcome).1, Some(HOUR), "{version:?}");
        }
        assert_eq!(counted(&resumption).full.declined, 2);
    }
}

#[tokio::test]
async fn sessions_made_after_a_cipher_suite_mismatch_have_their_own_age() {
    let of_suite = |suite| {
        let provider = CryptoProvider {
            cipher_suites: vec![suite],
            ..aws_lc_rs::default_provider()
        };
        let mut config = server_config_with(Arc::new(provider), false);
        config.send_tls13_tickets = 4;
        config
    };
    for (time, resumption) in ways() {
        let one = of_suite(aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256);
        let other = of_suite(aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256);
        let (one, other) = (plain(&resumption, one), plain(&resumption, other));
        let client = client(&TLS13);
        followed(&client, &one, &resumption).await;
        time.advance(HOUR);
        resumption.step();
        let (kind, told) = followed(&client, &other, &resumption).await;
        assert_eq!((kind, told.outcome), (FULL, Outcome::Declined));
        time.advance(HOUR);
        resumption.step();
        let (_, told) = followed(&client, &other, &resumption).await;
        assert_eq!(resumed(told.outcome).1, Some(HOUR));
    }
}

#[tokio::test]
async fn the_outcome_is_reported_without_new_tickets_too() {
    for (_, resumption) in ways() {
        let acceptor = plain(&resumption, server_config());
        let mut sparing = server_config();
        sparing.send_tls13_tickets = 0;
        let sparing = plain(&resumption, sparing);
        let client = client(&TLS13);
        followed(&client, &acceptor, &resumption).await;
        for _ in 0..2 {
            let (kind, told) = followed(&client, &sparing, &resumption).await;
            assert_eq!((kind, told.outcome.is_resumed()), (RESUMED, true));
        }
        let (kind, told) = followed(&client, &sparing, &resumption).await;
        assert_eq!((kind, told.outcome), (FULL, Outcome::NotOffered));
    }
}

#[tokio::test]
async fn a_listener_that_does_not_follow_never_makes_a_session_younger() {
    for (time, resumption) in ways() {
        let acceptor = plain(&resumption, server_config());
        let client = client(&TLS13);
        let unknown = || {
            let stats = resumption.stats();
            stats.cache.age_unknown + stats.tickets.age_unknown
        };
        followed(&client, &acceptor, &resumption).await;
        assert_eq!(unknown(), 0);
        time.advance(10 * HOUR);
        resumption.step();
        assert_eq!(unfollowed(&client, &acceptor).await, RESUMED);
        assert_eq!(unknown(), 2);
        // From here on its age is counted from when nobody knew it, and goes on from there.
        for hours in [1, 10, 10] {
            time.advance(hours * HOUR);
            resumption.step();
            let (kind, told) = followed(&client, &acceptor, &resumption).await;
            assert_eq!((kind, resumed(told.outcome).1), (RESUMED, None));
        }
        assert_eq!(unknown(), 2, "those that were not followed");
        time.advance(3 * HOUR);
        resumption.step();
        let (kind, _) = followed(&client, &acceptor, &resumption).await;
        assert_eq!(kind, FULL, "24 hours after its age was last unknown");
        let (_, told) = followed(&client, &acceptor, &resumption).await;
        assert_eq!(resumed(told.outcome).1, Some(Duration::ZERO), "known again");
    }
}

#[tokio::test]
async fn a_configuration_may_be_chosen_before() {
    let (_, resumption) = &ways()[1];
    let config = Arc::clone(plain(resumption, server_config()).config());
    let client = client(&TLS13);
    for expected in [FULL, RESUMED] {
        let (near, far) = duplex(1 << 18);
        let server = async {
            let start = LazyConfigAcceptor::new(Default::default(), far)
                .await
                .unwrap();
            // rustls processes the ClientHello in this call, not in the future.
            let accepting = || start.into_stream(Arc::clone(&config));
            let (stream, told) = resumption.follow(accepting).await.unwrap();
            assert_eq!(told.outcome.is_resumed(), expected == RESUMED);
            met(stream).await.kind
        };
        let (kind, visited) = tokio::join!(server, visit(&client, near, b""));
        visited.unwrap();
        assert_eq!(kind, expected);
    }
}

#[tokio::test]
async fn a_handshake_that_fails_in_any_flight_is_counted_and_gives_io_back() {
    let (_, resumption) = &ways()[0];
    let acceptor = plain(resumption, server_config());
    let hello = first_flight(&client(&TLS13), b"");
    for (i, bytes) in [&b"GET / HTTP/1.1\r\n\r\n"[..], &hello[..20], &hello]
        .into_iter()
        .enumerate()
    {
        let (mut near, far) = duplex(1 << 18);
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        let accepting = resumption.follow(|| acceptor.accept(far).into_fallible());
        let (error, _far) = accepting.await.map(drop).unwrap_err();
        let expected = match i {
            0 => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::UnexpectedEof,
        };
        assert_eq!(error.kind(), expected);
        assert_eq!(counted(resumption).failed, i as u64 + 1);
    }
    drop(resumption.follow(|| acceptor.accept(duplex(1).0)));
    assert_eq!(counted(resumption).failed, 4);
}

#[tokio::test]
async fn a_handshake_that_fails_in_its_last_flight_is_counted_and_makes_no_session() {
    for (_, resumption) in ways() {
        let acceptor = plain(&resumption, server_config());
        for (version, failed) in VERSIONS.into_iter().zip(1..) {
            let client = client(version);
            let (mut near, far) = duplex(1 << 18);
            let damage = async {
                let name = ServerName::try_from("localhost").unwrap();
                let mut client = ClientConnection::new(client, name).unwrap();
                loop {
                    let mut flight = Vec::new();
                    while client.wants_write() {
                        client.write_tls(&mut flight).unwrap();
                    }
                    // The first one is a ClientHello, the last one ends with Finished.
                    if flight.first() != Some(&22) || client.handshake_kind().is_some() {
                        *flight.last_mut().unwrap() ^= 1;
                    }
                    near.write_all(&flight).await.unwrap();
                    let mut buffer = [0; 1 << 14];
                    let Ok(len @ 1..) = near.read(&mut buffer).await else {
                        return;
                    };
                    let mut read = &buffer[..len];
                    while !read.is_empty() {
                        client.read_tls(&mut read).unwrap();
                        if client.process_new_packets().is_err() {
                            return; // the server's alert
                        }
                    }
                }
            };
            let accepting = resumption.follow(|| acceptor.accept(far));
            let (accepted, ()) = tokio::join!(accepting, damage);
            let error = accepted.map(drop).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let stats = resumption.stats();
            assert_eq!(stats.acceptor.failed, failed, "{version:?}");
            assert_eq!((stats.cache.stored, stats.tickets.sealed), (0, 0));
        }
    }
}

/// Both sides of a handshake on one thread, and how often the server is polled.
async fn polled_at_most(
    polls: usize,
    client: &Arc<ClientConfig>,
    acceptor: &TlsAcceptor,
    resumption: &Resumption,
) -> Option<Handshake> {
    let (near, far) = duplex(64); // many polls
    let mut server = Box::pin(resumption.follow(|| acceptor.accept(far)));
    let mut left = polls;
    let limited = std::future::poll_fn(|cx| {
        let Some(less) = left.checked_sub(1) else {
            return Poll::Ready(None);
        };
        left = less;
        server
            .as_mut()
            .poll(cx)
            .map(|accepted| Some(accepted.unwrap()))
    });
    tokio::select! {
        accepted = limited => match accepted {
            Some((stream, handshake)) => {
                drop(stream);
                Some(handshake)
            }
            None => {
                drop(server);
                None
            }
        },
        _ = visit(client, near, b"") => unreachable!("no pong was said"),
    }
}

#[tokio::test]
async fn following_can_be_cancelled_at_any_poll() {
    for (_, resumption) in ways() {
        let acceptor = plain(&resumption, server_config());
        for version in VERSIONS {
            let client = client(version);
            followed(&client, &acceptor, &resumption).await;
            let mut polls = 0;
            loop {
                let failed = counted(&resumption).failed;
                let told = polled_at_most(polls, &client, &acceptor, &resumption).await;
                // Nothing of it is left on this thread.
                let unknown = || {
                    let stats = resumption.stats();
                    stats.cache.age_unknown + stats.tickets.age_unknown
                };
                let before = unknown();
                unfollowed(&client, &acceptor).await;
                let made = if version == &TLS13 { 2 } else { 0 };
                assert_eq!(unknown() - before, made);
                if told.is_some() {
                    break;
                }
                assert_eq!(counted(&resumption).failed - failed, 1);
                polls += 1;
            }
            assert!(polls > 3, "{polls}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn handshakes_on_many_threads_keep_their_own_ages() {
    for (time, resumption) in ways() {
        let acceptor = plain(&resumption, server_config());
        let mut clients = Vec::new();
        for hour in 0..6_u32 {
            let client = client(VERSIONS[hour as usize % 2]);
            followed(&client, &acceptor, &resumption).await;
            clients.push((client, hour));
            time.advance(HOUR);
            resumption.step();
        }
        for round in 0..8 {
            let handshakes: Vec<_> = clients
                .iter()
                .map(|(client, hour)| {
                    let (client, acceptor) = (Arc::clone(client), acceptor.clone());
                    let (resumption, hour) = (resumption.clone(), *hour);
                    tokio::spawn(async move {
                        let (kind, told) = followed(&client, &acceptor, &resumption).await;
                        assert_eq!(kind, RESUMED);
                        let age = (6 - hour) * HOUR;
                        assert_eq!(resumed(told.outcome).1, Some(age), "round {round}");
                    })
                })
                .collect();
            for handshake in handshakes {
                handshake.await.unwrap();
            }
        }
        assert_eq!(counted(&resumption).resumed, 6 * 8);
    }
}

#[test]
fn a_blocking_handshake_is_followed_as_well() {
    for (time, resumption) in ways() {
        let config = Arc::clone(plain(&resumption, server_config()).config());
        let client = client(&TLS13);
        let meet = || {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut far, _) = listener.accept().unwrap();
            thread::scope(|scope| {
                let server = scope.spawn(|| {
                    let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                    let accepted = resumption.follow_blocking(|| {
                        while connection.is_handshaking() {
                            connection.complete_io(&mut far)?;
                        }
                        io::Result::Ok(())
                    });
                    connection.send_close_notify();
                    while connection.wants_write() {
                        connection.write_tls(&mut far).unwrap();
                    }
                    accepted.unwrap().1
                });
                let name = ServerName::try_from("localhost").unwrap();
                let mut connection = ClientConnection::new(Arc::clone(&client), name).unwrap();
                let mut stream = rustls::Stream::new(&mut connection, &mut near);
                io::copy(&mut stream, &mut io::sink()).unwrap();
                server.join().unwrap()
            })
        };
        assert_eq!(meet().outcome, Outcome::NotOffered);
        time.advance(20 * HOUR);
        resumption.step();
        // The STEK has expired by then, not the session in the cache.
        let makes_tickets = resumption.stats().steks.active.is_some();
        assert_eq!(meet().outcome.is_resumed(), !makes_tickets);
        assert_eq!(
            counted(&resumption).full.total() + counted(&resumption).resumed,
            2
        );
    }
}

#[tokio::test]
async fn with_a_shared_store_a_plain_acceptor_finds_no_tls13_session_and_counts_it() {
    let store = Arc::new(MemoryStore::default());
    let resumption = sharing(&store).build().unwrap();
    let acceptor = plain(&resumption, server_config());
    let (tls12, tls13) = (client_without_tickets(), client(&TLS13));
    followed(&tls12, &acceptor, &resumption).await;
    followed(&tls13, &acceptor, &resumption).await;
    let (_, told) = followed(&tls12, &acceptor, &resumption).await;
    assert_eq!(resumed(told.outcome).0, ResumedBy::SessionId);
    let (kind, told) = followed(&tls13, &acceptor, &resumption).await;
    assert_eq!(kind, FULL);
    assert_eq!(told.outcome, Outcome::NotFound { why: "not_claimed" });
}

#[tokio::test]
async fn an_acceptor_reports_what_rustls_says_too() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (_, resumption) = &ways()[1];
    let mut config = retrying_server();
    config.max_early_data_size = 16_384;
    let acceptor = acceptor(resumption, config).on_handshake({
        let told = Arc::clone(&told);
        move |handshake| told.lock().unwrap().push(*handshake)
    });
    let client = never_learning(client_config(&TLS13));
    kind(&client, &acceptor).await;
    kind(&client, &acceptor).await;
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].outcome, Outcome::NotOffered);
    assert_eq!(
        resumed(told[1].outcome),
        (ResumedBy::Cache, Some(Duration::ZERO))
    );
    for told in told {
        assert_eq!(
            (told.hello_retry, told.early_data),
            (Some(true), Some(false))
        );
    }
}

#[tokio::test]
async fn sessions_from_a_store_are_reported_as_such() {
    let store = Arc::new(MemoryStore::default());
    let told = Arc::new(Mutex::new(Vec::new()));
    let nodes = [(); 2].map(|()| {
        let told = Arc::clone(&told);
        let resumption = sharing(&store).build().unwrap();
        acceptor(&resumption, server_config())
            .on_handshake(move |handshake| told.lock().unwrap().push(handshake.outcome))
    });
    for client in [client(&TLS13), client_without_tickets()] {
        assert_eq!(kind(&client, &nodes[0]).await, FULL);
        assert_eq!(kind(&client, &nodes[1]).await, RESUMED);
        let told = std::mem::take(&mut *told.lock().unwrap());
        assert_eq!(told[0], Outcome::NotOffered);
        assert_eq!(resumed(told[1]).0, ResumedBy::SharedStore);
    }
}

#[tokio::test]
async fn a_session_that_the_store_has_lost_is_not_found() {
    let store = Arc::new(MemoryStore::default());
    let told = Arc::new(Mutex::new(Vec::new()));
    let resumption = sharing(&store).build().unwrap();
    let acceptor = acceptor(&resumption, server_config()).on_handshake({
        let told = Arc::clone(&told);
        move |handshake| told.lock().unwrap().push(handshake.outcome)
    });
    let client = client(&TLS13);
    for expected in [Outcome::NotOffered, Outcome::NotFound { why: "not_found" }] {
        assert_eq!(kind(&client, &acceptor).await, FULL);
        assert_eq!(told.lock().unwrap().pop(), Some(expected));
        store.values.lock().unwrap().clear();
    }
    assert_eq!(resumption.stats().cache.misses.not_claimed, 0);
}

#[tokio::test]
async fn a_session_that_rustls_declines_is_told_as_declined_though_it_makes_no_other() {
    let (_, resumption) = &ways()[1];
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut sparing = server_config();
    sparing.send_tls13_tickets = 0;
    let sparing = acceptor(resumption, sparing).on_handshake({
        let told = Arc::clone(&told);
        move |handshake| told.lock().unwrap().push(handshake.outcome)
    });
    let with_name = one_for_all(client_config(&TLS13));
    let mut nameless = (*with_name).clone();
    nameless.enable_sni = false;
    assert_eq!(
        kind(&with_name, &acceptor(resumption, server_config())).await,
        FULL
    );
    assert_eq!(kind(&Arc::new(nameless), &sparing).await, FULL);
    assert_eq!(*told.lock().unwrap(), [Outcome::Declined]);
}

#[tokio::test]
async fn the_span_around_a_handshake_is_told_what_happened() {
    let log = NamedTempFile::new().unwrap();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(Mutex::new(log.reopen().unwrap()))
        .finish();
    let _shown = tracing::subscriber::set_default(subscriber);
    let (_, resumption) = &ways()[1];
    let acceptor = plain(resumption, server_config());
    let client = client(&TLS13);
    for outcome in ["not_offered", "resumed"] {
        let span = info_span!("tls", resumption.outcome = Empty);
        let meet = followed(&client, &acceptor, resumption);
        meet.instrument(span.clone()).await;
        span.in_scope(|| info!("{outcome}"));
    }
    let log = fs::read_to_string(log.path()).unwrap();
    for outcome in ["not_offered", "resumed"] {
        let told = format!(r#"tls{{resumption.outcome="{outcome}"}}"#);
        let line = log.lines().find(|line| line.ends_with(outcome)).unwrap();
        assert!(line.contains(&told), "{line}");
    }
}

#[test]
fn following_can_be_spawned_and_polled_by_hand() {
    fn sendable<F: Future + Send + 'static>(_: &F) {}

    let (_, resumption) = &ways()[0];
    let acceptor = plain(resumption, server_config());
    let accepting = resumption.follow(|| acceptor.accept(duplex(64).1));
    sendable(&accepting);
    assert_eq!(format!("{accepting:?}"), "Follow { .. }");
    let polled = pin!(accepting).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_ready(), "the other end is gone");
    assert_eq!(counted(resumption).failed, 1);
}

#[tokio::test]
async fn a_handshake_that_is_followed_twice_counts_once_and_tells_all() {
    let resumption = Resumption::stateful(1_000).unwrap();
    let mut config = server_config();
    config.max_early_data_size = 1_000;
    resumption.install(&mut config, "api");
    let acceptor = ResumptionAcceptor::from(Arc::new(config));
    let mut client = client_config(&TLS13);
    client.enable_early_data = true;
    let client = Arc::new(client);
    for (round, early) in [(0, false), (1, true)] {
        let (near, far) = duplex(1 << 18);
        let data: &[u8] = if early { b"early" } else { b"" };
        let server = async {
            // An acceptor of this crate, followed, and that followed.
            let accept = || resumption.follow(|| acceptor.accept(far));
            let ((stream, inner), outer) = resumption.follow(accept).await.unwrap();
            assert_eq!(inner, outer);
            (inner, met(stream).await)
        };
        let ((told, _), visited) = tokio::join!(server, visit(&client, near, data));
        visited.unwrap();
        assert_eq!(told.outcome.is_resumed(), early);
        assert_eq!(told.early_data, Some(early));
        let stats = counted(&resumption);
        assert_eq!((stats.full.total(), stats.resumed), (1, round));
    }

    // One that ends early counts once as well, whoever notices.
    let (mut near, far) = duplex(1 << 18);
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let failed = resumption.follow(|| acceptor.accept(far)).await;
    assert!(failed.is_err());
    assert_eq!(counted(&resumption).failed, 1);
    let (mut near, far) = duplex(1 << 18);
    near.write_all(&first_flight(&client, b"")).await.unwrap();
    let mut accept = Box::pin(resumption.follow(|| acceptor.accept(far)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(accept.as_mut().poll(&mut cx).is_pending());
    drop(accept);
    assert_eq!(counted(&resumption).failed, 2);
}
