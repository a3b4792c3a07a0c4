//! What an acceptor adds to handshakes, in memory.

use std::future::ready;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ResolvesServerCertUsingSni;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use rustls_resumption::stats::AcceptorStats;
use rustls_resumption::{FakeClock, Resumption, ResumptionAcceptor};
use test_support::acceptor::*;
use test_support::fleet::*;
use test_support::handshake::{
    FULL, RESUMED, VERSIONS, client, client_config, client_without_tickets, first_flight, provider,
    ring_provider, roots, server_config, server_config_with,
};
use test_support::{handshake, hello};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream, DuplexStream, ReadBuf, duplex,
};
use tokio_rustls::TlsAcceptor;

const HOUR: Duration = Duration::from_secs(60 * 60);
/// No PSK identities.
const NOBODY: [[u8; 32]; 0] = [];
const RETRIED: HandshakeKind = HandshakeKind::FullWithHelloRetryRequest;

fn counted(resumption: &Resumption) -> AcceptorStats {
    resumption.stats().acceptor
}

#[tokio::test]
async fn both_versions_resume_every_way_and_are_counted() {
    for (_, resumption) in ways() {
        let acceptor = acceptor(&resumption, server_config());
        for version in VERSIONS {
            let client = client(version);
            assert_eq!(kind(&client, &acceptor).await, FULL);
            for _ in 0..3 {
                let met = meet(&client, &acceptor).await;
                assert_eq!((met.kind, met.version), (RESUMED, version.version));
            }
        }
        let counts = counted(&resumption);
        assert_eq!(
            (counts.resumed, counts.full.total(), counts.failed),
            (6, 2, 0)
        );
        assert_eq!(counts.full.not_offered, 2);
        assert_eq!((counts.hello_retries, counts.early_data), (0, 0));
        assert_eq!(counts.early_data_refused, 0, "none was offered");
    }
}

#[tokio::test]
async fn the_client_hello_may_come_in_any_pieces() {
    for (_, resumption) in ways() {
        let acceptor = acceptor(&resumption, server_config());
        for version in VERSIONS {
            let mut client = client_config(version);
            client.max_fragment_size = Some(64); // records, not only packets
            let client = Arc::new(client);
            for expected in [FULL, RESUMED, RESUMED] {
                let (near, far) = duplex(1 << 18);
                let server = async { met(acceptor.accept(ByteByByte(far)).await.unwrap()).await };
                let (met, visited) = tokio::join!(server, visit(&client, near, b""));
                visited.unwrap();
                assert_eq!(met.kind, expected);
            }
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_client_hello_fail_as_without_an_acceptor() {
    let too_long = [22, 3, 1, 0x40, 0, 1, 1, 0, 0].to_vec();
    let cases = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0xff; 100],
        vec![0; 100],
        [&too_long[..], &[0; 70_000]].concat(),
        hello::records(&hello::message(1, &[3; 60_000])),
        hello::records(&hello::message(2, &[0; 50])),
        hello::offering(&NOBODY)[..40].to_vec(), // and then no more
        Vec::new(),
    ];
    for (_, resumption) in ways() {
        let acceptor = acceptor(&resumption, server_config());
        for (i, bytes) in cases.iter().enumerate() {
            let (ours, our_answer) = answered(bytes, |io| acceptor.accept(io)).await;
            let plain = TlsAcceptor::from(Arc::clone(acceptor.config()));
            let (theirs, their_answer) = answered(bytes, |io| plain.accept(io)).await;
            assert_eq!(ours.kind(), theirs.kind(), "case {i}: {ours} or {theirs}");
            assert_eq!(our_answer, their_answer, "case {i}");
        }
        assert_eq!(counted(&resumption), AcceptorStats::default());
    }
}

#[tokio::test]
async fn data_that_no_hello_announced_is_refused_as_without_an_acceptor() {
    let record = [&[23, 3, 3, 0, 32][..], &[7; 32]].concat();
    for (_, resumption) in ways() {
        let acceptor = acceptor(&resumption, server_config());
        let plain = TlsAcceptor::from(Arc::clone(acceptor.config()));
        let flight = [first_flight(&client(&TLS13), b""), record.clone()].concat();
        let (ours, our_answer) = answered(&flight, |io| acceptor.accept(io)).await;
        let (theirs, their_answer) = answered(&flight, |io| plain.accept(io)).await;
        assert_eq!(theirs.kind(), io::ErrorKind::InvalidData);
        assert_eq!(ours.kind(), theirs.kind(), "{ours}");
        assert_eq!(our_answer.is_empty(), their_answer.is_empty());
    }
}

/// A stream that was reset.
struct Reset;

impl AsyncRead for Reset {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

impl AsyncWrite for Reset {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_stream_that_fails_ends_the_handshake_with_its_error_at_once() {
    for (_, resumption) in ways() {
        let acceptor = acceptor(&resumption, server_config());
        let accepted = pin!(acceptor.accept(Reset)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Err(error)) = accepted.map_ok(drop) else {
            panic!("it waits, for nothing");
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

/// What a server makes of these bytes and the end of the stream, and what it says.
async fn answered<T: std::fmt::Debug, R: Future<Output = io::Result<T>>>(
    bytes: &[u8],
    accept: impl FnOnce(DuplexStream) -> R,
) -> (io::Error, Vec<u8>) {
    let (mut near, far) = duplex(1 << 18);
    near.write_all(bytes).await.unwrap();
    near.shutdown().await.unwrap();
    let error = accept(far).await.map(drop).unwrap_err();
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    (error, answer)
}

#[tokio::test]
async fn a_client_resumes_after_a_hello_retry_request() {
    for (_, resumption) in ways() {
        let acceptor = acceptor(&resumption, retrying_server());
        let client = never_learning(client_config(&TLS13));
        assert_eq!(kind(&client, &acceptor).await, RETRIED);
        assert_eq!(kind(&client, &acceptor).await, RESUMED);
        assert_eq!(kind(&client, &acceptor).await, RESUMED);
        let counts = counted(&resumption);
        assert_eq!((counts.hello_retries, counts.resumed), (3, 2));
        assert_eq!(counts.full.not_offered, 1);
        let store = resumption.stats().store;
        assert_eq!((store.unused, store.age_unknown), (0, 0));
    }
}

#[tokio::test]
async fn no_session_outlives_its_full_handshake_by_renewal() {
    let servers: [fn() -> ServerConfig; 2] = [server_config, retrying_server];
    for server in servers {
        for (time, resumption) in ways() {
            let acceptor = acceptor(&resumption, server());
            for version in VERSIONS {
                let client = never_learning(client_config(version));
                for _ in 0..2 {
                    assert_ne!(kind(&client, &acceptor).await, RESUMED);
                    for _ in 0..4 {
                        time.advance(5 * HOUR);
                        resumption.step();
                        assert_eq!(kind(&client, &acceptor).await, RESUMED);
                    }
                    time.advance(4 * HOUR); // 24 hours in all
                    resumption.step();
                }
            }
            let stats = resumption.stats();
            let unknown = [
                stats.cache.age_unknown,
                stats.tickets.age_unknown,
                stats.store.age_unknown,
            ];
            assert_eq!(unknown, [0; 3]);
        }
    }
}

#[tokio::test]
async fn sessions_accepted_by_a_plain_acceptor_have_no_known_age() {
    let (_, resumption) = &ways()[0];
    let acceptor = acceptor(resumption, server_config());
    let client = client(&TLS13);
    let plain = TlsAcceptor::from(Arc::clone(acceptor.config()));
    let (near, far) = duplex(1 << 18);
    let server = async { met(plain.accept(far).await.unwrap()).await };
    let (met, visited) = tokio::join!(server, visit(&client, near, b""));
    visited.unwrap();
    assert_eq!((met.kind, met.data), (FULL, None));
    assert_eq!(resumption.stats().tickets.age_unknown, 2);
    let met = meet(&client, &acceptor).await;
    assert_eq!((met.kind, met.data.as_deref()), (RESUMED, Some(&b""[..])));
    assert_eq!(
        resumption.stats().tickets.age_unknown,
        2,
        "known from here on"
    );
}

#[tokio::test]
async fn resumption_data_of_the_application_is_preserved() {
    let servers: [fn() -> ServerConfig; 2] = [server_config, retrying_server];
    for server in servers {
        for (_, resumption) in ways() {
            let acceptor = acceptor(&resumption, server());
            let client = never_learning(client_config(&TLS13));
            let mut before: Option<Vec<u8>> = None;
            for i in 0..5_u8 {
                let data = vec![i; usize::from(i)];
                let mut seen = None;
                let met = meet_with(&client, &acceptor, b"", |connection| {
                    connection.set_buffer_limit(Some(1 << 16));
                    connection.set_resumption_data(b"overwritten");
                    connection.set_resumption_data(&data);
                    seen = connection.received_resumption_data().map(<[u8]>::to_vec);
                })
                .await;
                assert_eq!((&seen, &met.data), (&before, &before), "{i}");
                before = Some(data);
            }
        }
    }
}

#[tokio::test]
async fn tls12_never_gives_application_data_back() {
    let (_, resumption) = &ways()[1];
    let acceptor = acceptor(resumption, server_config());
    let client = client(&TLS12);
    for expected in [FULL, RESUMED] {
        let met = meet_with(&client, &acceptor, b"", |connection| {
            connection.set_resumption_data(b"data");
        });
        let met = met.await;
        assert_eq!((met.kind, met.data), (expected, None));
    }
}

#[tokio::test]
async fn early_data_arrives_intact_where_sessions_are_stateful() {
    let [_, stateful, shared] = ways();
    for (_, resumption) in [stateful, shared] {
        let mut config = server_config();
        config.max_early_data_size = 16_384;
        let acceptor = acceptor(&resumption, config);
        let client = early_client();
        let early = vec![0xe7; 10_000];
        assert_eq!(kind(&client, &acceptor).await, FULL);
        for _ in 0..3 {
            let met = meet_with(&client, &acceptor, &early, |_| ()).await;
            assert_eq!((met.kind, &met.early), (RESUMED, &early));
        }
        assert_eq!(counted(&resumption).early_data, 3);
    }
}

#[tokio::test]
async fn early_data_before_a_second_hello_is_skipped() {
    for (_, resumption) in ways() {
        let mut config = retrying_server();
        config.max_early_data_size = 16_384;
        let acceptor = acceptor(&resumption, config);
        let mut client = client_config(&TLS13);
        client.enable_early_data = true;
        let client = never_learning(client);
        assert_eq!(kind(&client, &acceptor).await, RETRIED);
        let early: &[u8] = match resumption.stats().tickets.sealed {
            0 => &[0xe7; 10_000],
            _ => b"", // a ticket allows none
        };
        let met = meet_with(&client, &acceptor, early, |_| ()).await;
        assert_eq!((met.kind, met.early), (RESUMED, Vec::new()));
        assert_eq!(counted(&resumption).early_data, 0);
    }
}

fn early_client() -> Arc<ClientConfig> {
    let mut client = client_config(&TLS13);
    client.enable_early_data = true;
    Arc::new(client)
}

/// Nodes of one fleet, each with an acceptor.
fn nodes<const N: usize>(store: &Arc<MemoryStore>) -> [(Resumption, ResumptionAcceptor); N] {
    std::array::from_fn(|_| {
        let resumption = sharing(store).build().unwrap();
        let acceptor = acceptor(&resumption, server_config());
        (resumption, acceptor)
    })
}

#[tokio::test]
async fn clients_resume_on_any_node() {
    let store = Arc::new(MemoryStore::default());
    let nodes = nodes::<3>(&store);
    let clients = [client(&TLS12), client(&TLS13), client_without_tickets()];
    for client in &clients {
        assert_eq!(kind(client, &nodes[0].1).await, FULL);
        for i in 1..10 {
            assert_eq!(kind(client, &nodes[i % 3].1).await, RESUMED);
        }
    }
    let stats = nodes[1].0.stats();
    assert_eq!(stats.store.claimed, 3);
    assert_eq!(
        stats.store.fetched, 2,
        "each TLS 1.2 session once, then it is here"
    );
    assert_eq!(stats.cache.misses.not_claimed, 0);
}

#[tokio::test]
async fn in_ticket_mode_a_store_serves_tls12_clients_without_tickets() {
    let store = Arc::new(MemoryStore::default());
    let nodes = [(); 2].map(|()| {
        let builder = Resumption::builder().stek_source(shared_source());
        let resumption = builder.shared_store(Arc::clone(&store)).build().unwrap();
        acceptor(&resumption, server_config())
    });
    for client in [client(&TLS12), client(&TLS13), client_without_tickets()] {
        assert_eq!(kind(&client, &nodes[0]).await, FULL);
        assert_eq!(kind(&client, &nodes[1]).await, RESUMED);
    }
    assert_eq!(store.claims.load(Ordering::Relaxed), 0);
    assert_eq!(store.fetches.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn each_ticket_resumes_once_in_the_whole_fleet() {
    let store = Arc::new(MemoryStore::default());
    let nodes = nodes::<3>(&store);
    let client = client(&TLS13);
    for _ in 0..20 {
        // What the client has of sessions, it has three times.
        kind(&client, &nodes[0].1).await;
        let flight = first_flight(&client, b"");
        let mut resumed = 0;
        for (_, acceptor) in &nodes {
            resumed += u32::from(resumes(acceptor, &flight).await);
        }
        assert_eq!(resumed, 1);
    }
}

/// Whether an acceptor resumes for this first flight, as far as it comes.
async fn resumes(acceptor: &ResumptionAcceptor, flight: &[u8]) -> bool {
    let (mut near, far) = duplex(1 << 18);
    near.write_all(flight).await.unwrap();
    near.shutdown().await.unwrap();
    let mut resumes = false;
    let accepting = acceptor.accept_with(far, |connection| {
        resumes = connection.handshake_kind() == Some(RESUMED);
    });
    accepting.await.unwrap_err();
    resumes
}

#[tokio::test]
async fn without_an_acceptor_a_shared_store_means_full_handshakes_and_they_are_counted() {
    let store = Arc::new(MemoryStore::default());
    let [(resumption, acceptor)] = nodes(&store);
    let client = client(&TLS13);
    assert_eq!(handshake::kind(&client, acceptor.config()), FULL);
    assert_eq!(handshake::kind(&client, acceptor.config()), FULL);
    assert_eq!(resumption.stats().cache.misses.not_claimed, 1);
    assert_eq!(kind(&client, &acceptor).await, RESUMED);
    assert_eq!(resumption.stats().cache.misses.not_claimed, 1);
}

#[tokio::test]
async fn a_store_that_hangs_costs_the_deadline_and_a_full_handshake() {
    let store = Arc::new(MemoryStore::default());
    let builder = sharing(&store).store_deadline(Duration::from_millis(5));
    let resumption = builder.build().unwrap();
    let acceptor = acceptor(&resumption, server_config());
    let client = client(&TLS13);
    assert_eq!(kind(&client, &acceptor).await, FULL);
    store.hangs.store(true, Ordering::Relaxed);
    assert_eq!(kind(&client, &acceptor).await, FULL);
    assert_eq!(resumption.stats().store.misses.timed_out, 1);
    assert_eq!(counted(&resumption).full.store_unavailable, 1);
    // One that leaves meanwhile is counted too.
    let (mut near, far) = duplex(1 << 18);
    near.write_all(&first_flight(&client, b"")).await.unwrap();
    let mut accept = Box::pin(acceptor.accept(far));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(accept.as_mut().poll(&mut cx).is_pending());
    drop(accept);
    assert_eq!(counted(&resumption).failed, 1);
    store.hangs.store(false, Ordering::Relaxed);
    assert_eq!(kind(&client, &acceptor).await, RESUMED);
}

#[tokio::test]
async fn a_session_that_the_store_lacks_is_counted_once_in_each_version() {
    for version in [&TLS12, &TLS13] {
        let [(_, elsewhere)] = nodes(&Arc::default());
        let [(resumption, acceptor)] = nodes(&Arc::default());
        let client = client(version);
        assert_eq!(kind(&client, &elsewhere).await, FULL);
        assert_eq!(kind(&client, &acceptor).await, FULL);
        let stats = resumption.stats();
        assert_eq!(stats.store.misses.not_found, 1, "{version:?}");
        assert_eq!(stats.cache.misses.unknown, 0, "{version:?}");
        assert_eq!(counted(&resumption).full.not_found, 1, "{version:?}");
    }
}

#[tokio::test]
async fn a_session_claimed_for_a_client_that_left_is_wiped_and_counted() {
    let store = Arc::new(MemoryStore::default());
    let resumption = sharing(&store).build().unwrap();
    let acceptor = acceptor(&resumption, retrying_server());
    let client = never_learning(client_config(&TLS13));
    kind(&client, &acceptor).await;
    let (mut near, far) = duplex(1 << 18);
    near.write_all(&first_flight(&client, b"")).await.unwrap();
    let mut accepting = Box::pin(acceptor.accept(far));
    let mut retry_request = [0; 50];
    tokio::select! {
        _ = near.read_exact(&mut retry_request) => {}
        _ = &mut accepting => unreachable!("it waits for a second hello"),
    }
    let stats = resumption.stats();
    assert_eq!((stats.store.claimed, stats.store.unused), (1, 0));
    drop(accepting);
    let stats = resumption.stats();
    assert_eq!((stats.store.unused, stats.acceptor.failed), (1, 1));
}

#[tokio::test]
async fn a_wrong_binder_costs_the_session_it_claims_and_is_counted() {
    let store = Arc::new(MemoryStore::default());
    let resumption = sharing(&store).build().unwrap();
    let acceptor = acceptor(&resumption, server_config());
    let client = never_learning(client_config(&TLS13));
    assert_eq!(kind(&client, &acceptor).await, FULL);
    // The hello ends with it.
    let mut flight = first_flight(&client, b"");
    *flight.last_mut().unwrap() ^= 1;
    let (mut near, far) = duplex(1 << 18);
    near.write_all(&flight).await.unwrap();
    assert!(acceptor.accept(far).await.is_err());
    let stats = resumption.stats();
    assert_eq!((stats.store.claimed, stats.acceptor.failed), (1, 1));
}

#[tokio::test]
async fn a_hello_of_64_kib_with_1600_identities_costs_four_look_ups() {
    let store = Arc::new(MemoryStore::default());
    let [(resumption, acceptor)] = nodes(&store);
    let identities: Vec<[u8; 32]> = (0..1_600_u16)
        .map(|i| std::array::from_fn(|j| i.to_be_bytes()[j % 2]))
        .collect();
    let hello = hello::offering(&identities);
    assert!((64_000..65_536).contains(&hello.len()));
    assert!(!resumes(&acceptor, &hello).await);
    assert_eq!(store.claims.load(Ordering::Relaxed), 4);
    assert_eq!(resumption.stats().store.misses.not_found, 4);
}

#[tokio::test]
async fn a_session_is_claimed_where_the_configuration_speaks_tls13_with_either_provider() {
    let versions: [(&[_], _); 3] = [(&[&TLS12], 0), (&[&TLS13], 1), (&[&TLS12, &TLS13], 1)];
    for provider in [provider(), ring_provider()] {
        for (versions, claims) in versions {
            let config = ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(versions)
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
            let store = Arc::new(MemoryStore::default());
            let resumption = sharing(&store).build().unwrap();
            let acceptor = acceptor(&resumption, config);
            assert!(!resumes(&acceptor, &hello::offering(&[[7; 32]])).await);
            let claimed = store.claims.load(Ordering::Relaxed);
            assert_eq!(claimed, claims, "{versions:?}");
        }
    }
}

#[tokio::test]
async fn a_tls12_session_id_offered_as_a_psk_identity_consumes_nothing() {
    let store = Arc::new(MemoryStore::default());
    let [(_, acceptor), (_, other)] = nodes(&store);
    let client = client_without_tickets();
    assert_eq!(kind(&client, &acceptor).await, FULL);
    // TLS 1.2: record header, message header, version, random; then the session ID.
    let id: [u8; 32] = first_flight(&client, b"")[5 + 4 + 2 + 32 + 1..][..32]
        .try_into()
        .unwrap();
    let stored = store.count();
    assert!(!resumes(&acceptor, &hello::offering(&[id])).await);
    assert_eq!(store.claims.load(Ordering::Relaxed), 1);
    assert_eq!(store.count(), stored);
    assert_eq!(kind(&client, &acceptor).await, RESUMED);
    assert_eq!(kind(&client, &other).await, RESUMED);
}

#[tokio::test]
async fn a_stream_that_holds_back_what_is_not_flushed_is_flushed() {
    for config in [server_config(), retrying_server()] {
        let acceptor = acceptor(&Resumption::stateful(9).unwrap(), config);
        let (near, far) = duplex(1 << 18);
        let server = async {
            let stream = acceptor.accept(BufStream::new(far)).await.unwrap();
            met(stream).await
        };
        let client = never_learning(client_config(&TLS13));
        let (_, visited) = tokio::join!(server, visit(&client, near, b""));
        visited.unwrap();
    }
}

#[tokio::test]
async fn a_session_id_that_nobody_knows_was_offered_and_not_found() {
    let [one, other] = [(); 2].map(|()| Resumption::stateful(9).unwrap());
    let client = client_without_tickets();
    assert_eq!(kind(&client, &acceptor(&one, server_config())).await, FULL);
    assert_eq!(
        kind(&client, &acceptor(&other, server_config())).await,
        FULL
    );
    let (one, other) = (counted(&one).full, counted(&other).full);
    assert_eq!((one.not_offered, one.not_found), (1, 0));
    assert_eq!((other.not_offered, other.not_found), (0, 1));
}

#[tokio::test]
async fn debug_of_an_acceptor_shows_no_configuration() {
    let resumption = Resumption::stateful(9).unwrap();
    let acceptor = acceptor(&resumption, server_config());
    assert_eq!(
        format!("{acceptor:?}"),
        "ResumptionAcceptor { target: Target { session_storage: SessionCache { \
         scope: Scope(\"api\"), max_entries: 9, .. }, .. } }",
    );
}

#[tokio::test]
async fn where_tls13_resumes_by_ticket_no_identity_is_looked_up() {
    let store = Arc::new(MemoryStore::default());
    let resumption = sharing(&store).build().unwrap();
    let mut config = server_config();
    resumption.install(&mut config, "api");
    config.ticketer = Resumption::tickets().unwrap().ticketer("api");
    let acceptor = ResumptionAcceptor::new(Arc::new(config));
    assert!(!resumes(&acceptor, &hello::offering(&[[7; 32]])).await);
    assert_eq!(store.claims.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_tls12_server_resumes_clients_that_would_speak_tls13() {
    let store = Arc::new(MemoryStore::default());
    let tls12_server = || {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let both = server_config_with(Arc::clone(&provider), false);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&both.cert_resolver));
        config.max_fragment_size = both.max_fragment_size;
        config
    };
    let nodes = [(); 2].map(|()| {
        let resumption = sharing(&store).build().unwrap();
        acceptor(&resumption, tls12_server())
    });
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS12, &TLS13])
        .unwrap()
        .with_root_certificates(roots())
        .with_no_client_auth();
    let client = Arc::new(client);
    assert_eq!(kind(&client, &nodes[0]).await, FULL);
    let met = meet(&client, &nodes[1]).await;
    assert_eq!((met.kind, met.version), (RESUMED, ProtocolVersion::TLSv1_2));
}

#[tokio::test]
async fn a_session_that_rustls_declines_is_counted_as_declined() {
    let store = Arc::new(MemoryStore::default());
    let resumption = sharing(&store).build().unwrap();
    let client = client(&TLS13);
    let suites = |suite| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![suite],
            ..aws_lc_rs::default_provider()
        })
    };
    let one = suites(aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256);
    let other = suites(aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256);
    let one = acceptor(&resumption, tls13_server(one));
    let other = acceptor(&resumption, tls13_server(other));
    assert_eq!(kind(&client, &one).await, FULL);
    assert_eq!(kind(&client, &other).await, FULL);
    assert_eq!(counted(&resumption).full.declined, 1);
    assert_eq!(resumption.stats().store.unused, 0, "rustls took it");
}

fn tls13_server(provider: Arc<CryptoProvider>) -> ServerConfig {
    let both = server_config();
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&both.cert_resolver))
}

#[tokio::test]
async fn returning_clients_survive_a_flood_of_new_ones() {
    let time = FakeClock::new();
    let resumption = Resumption::builder()
        .stateful(64)
        .clock(time.clock())
        .build()
        .unwrap();
    let acceptor = acceptor(&resumption, server_config());
    let regular = client(&TLS13);
    assert_eq!(kind(&regular, &acceptor).await, FULL);
    assert_eq!(kind(&regular, &acceptor).await, RESUMED);
    for _ in 0..200 {
        assert_eq!(kind(&client(&TLS13), &acceptor).await, FULL);
    }
    assert_eq!(kind(&regular, &acceptor).await, RESUMED);
}

#[tokio::test]
async fn each_server_name_may_have_a_configuration_and_scope_of_its_own() {
    let store = Arc::new(MemoryStore::default());
    let resumption = sharing(&store).build().unwrap();
    let installed = |scope: &str| {
        let mut config = server_config();
        resumption.install(&mut config, scope);
        Arc::new(config)
    };
    let default = ResumptionAcceptor::from(installed("default"));
    let (a, b) = (installed("a"), installed("b"));
    let client = client(&TLS13);
    for (config, expected) in [
        (&a, FULL),
        (&a, RESUMED),
        (&b, FULL),
        (&b, RESUMED),
        (&a, FULL),
    ] {
        let (near, far) = duplex(1 << 18);
        let choose = |hello: rustls::server::ClientHello<'_>| {
            assert_eq!(hello.server_name(), Some("localhost"));
            ready(Ok(Arc::clone(config)))
        };
        let accepting = default.accept_with_config(far, choose, |connection| {
            connection.set_resumption_data(b"data");
        });
        let server = async { met(accepting.await.unwrap()).await };
        let (met, visited) = tokio::join!(server, visit(&client, near, b""));
        visited.unwrap();
        assert_eq!(met.kind, expected);
        let data = (expected == RESUMED).then(|| b"data".to_vec());
        assert_eq!(met.data, data);
    }
    let (mut near, far) = duplex(1 << 18);
    near.write_all(&first_flight(&client, b"")).await.unwrap();
    let unknown = |_: rustls::server::ClientHello<'_>| ready(Err(io::Error::other("who?")));
    let accepting = default.accept_with_config(far, unknown, |_| ());
    assert_eq!(accepting.await.unwrap_err().to_string(), "who?");
}

#[tokio::test]
async fn a_configuration_without_resumption_still_works() {
    let acceptor = ResumptionAcceptor::from(Arc::new(server_config()));
    let client = client(&TLS13);
    let met = meet_with(&client, &acceptor, b"", |connection| {
        connection.set_resumption_data(b"data");
    });
    assert_eq!(met.await.kind, FULL);
    let met = meet(&client, &acceptor).await;
    assert_eq!(
        (met.kind, met.data.as_deref()),
        (RESUMED, Some(&b"data"[..]))
    );
}

#[tokio::test]
async fn a_storage_wrapped_in_another_is_found() {
    #[derive(Debug)]
    struct Wrapped(Arc<dyn rustls::server::StoresServerSessions>);

    impl rustls::server::StoresServerSessions for Wrapped {
        fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
            self.0.put(key, value)
        }

        fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
            self.0.get(key)
        }

        fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
            self.0.take(key)
        }

        fn can_cache(&self) -> bool {
            self.0.can_cache()
        }
    }

    let (_, resumption) = &ways()[1];
    let mut config = server_config();
    resumption.install(&mut config, "api");
    config.session_storage = Arc::new(Wrapped(Arc::clone(&config.session_storage)));
    let acceptor = ResumptionAcceptor::from(Arc::new(config));
    assert_eq!(kind(&client(&TLS13), &acceptor).await, FULL);
    assert_eq!(counted(resumption).full.not_offered, 1);
}

#[test]
fn accepting_can_be_spawned_and_outlives_the_acceptor() {
    fn sendable<F: Future + Send + 'static>(_: F) {}

    let (_, resumption) = &ways()[2];
    let acceptor = acceptor(resumption, server_config());
    let io = || duplex(1).0;
    sendable(acceptor.accept(io()));
    sendable(acceptor.accept_with(io(), |_: &mut ServerConnection| ()));
    let config = Arc::clone(acceptor.config());
    sendable(acceptor.accept_with_config(io(), move |_| ready(Ok(config)), |_| ()));
}

/// A stream that takes so many bytes at a time.
#[derive(Debug)]
struct Sparing(DuplexStream, usize);

impl AsyncRead for Sparing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Sparing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let some = bytes.get(..self.1).unwrap_or(bytes);
        if some.is_empty() {
            return Poll::Ready(Ok(0));
        }
        Pin::new(&mut self.0).poll_write(cx, some)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn an_alert_is_sent_in_pieces_and_dropped_if_the_peer_takes_nothing() {
    let store = Arc::new(MemoryStore::default());
    // With a store the ClientHello is read before rustls has a connection, without one after.
    for builder in [sharing(&store), Resumption::builder()] {
        let resumption = builder.build().unwrap();
        let acceptor = acceptor(&resumption, server_config());
        for (at_a_time, answer_len) in [(3, 7), (0, 0)] {
            let (mut near, far) = duplex(1 << 10);
            near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            let error = acceptor.accept(Sparing(far, at_a_time)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let mut answer = Vec::new();
            near.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer.len(), answer_len);
        }
    }
}
#[tokio::test]
async fn axum_server_keeps_sessions_across_a_reload_and_hangs_up_on_the_slow() {
    use axum_server::accept::Accept;
    use axum_server::tls_rustls::RustlsConfig;
    use rustls_resumption::acceptor::AxumAcceptor;

    for (_, resumption) in ways() {
        let config = || {
            let mut config = server_config();
            resumption.install(&mut config, "api");
            Arc::new(config)
        };
        let tls = RustlsConfig::from_config(config());
        let acceptor = AxumAcceptor::new(tls.clone());
        let client = client(&TLS13);
        let kind = async || {
            let (near, far) = duplex(1 << 18);
            let server = async { met(acceptor.accept(far, ()).await.unwrap().0).await };
            let (met, visited) = tokio::join!(server, visit(&client, near, b""));
            visited.unwrap();
            met.kind
        };
        for expected in [FULL, RESUMED] {
            assert_eq!(kind().await, expected);
            tls.reload_from_config(config());
        }
        assert_eq!(counted(&resumption).resumed, 1);

        // What it is reloaded with is what serves.
        let other = Resumption::tickets().unwrap();
        let mut another = server_config();
        other.install(&mut another, "api");
        tls.reload_from_config(Arc::new(another));
        assert_eq!(kind().await, FULL);
        assert_eq!(
            (counted(&resumption).failed, counted(&other).full.total()),
            (0, 1)
        );

        let shown = format!("{acceptor:?}");
        assert_eq!(shown, "AxumAcceptor { handshake_timeout: 10s, .. }");
        let hasty = acceptor.clone().handshake_timeout(Duration::ZERO);
        let (_silent, far) = duplex(1 << 10);
        let error = hasty.accept(far, ()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
