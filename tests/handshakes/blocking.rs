//! The acceptor of servers with a thread per connection, over loopback.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, StreamOwned};
use rustls_resumption::acceptor::BlockingAcceptor;
use rustls_resumption::stats::AcceptorStats;
use rustls_resumption::{FakeClock, Resumption};
use test_support::fleet::{MemoryStore, never_learning, retrying_server, sharing};
use test_support::handshake::{FULL, RESUMED, VERSIONS, client, client_config, server_config};
use test_support::hello;

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

fn installed(resumption: &Resumption, mut config: ServerConfig) -> Arc<ServerConfig> {
    resumption.install(&mut config, "api");
    Arc::new(config)
}

fn acceptor(resumption: &Resumption, config: ServerConfig) -> BlockingAcceptor {
    BlockingAcceptor::from(installed(resumption, config))
}

type Served = (HandshakeKind, Vec<u8>, Option<Vec<u8>>);

/// A handshake and an exchange after it: its kind, early data, and the application's data.
fn meet(client: &Arc<ClientConfig>, acceptor: &BlockingAcceptor, early: &[u8]) -> Served {
    let (near, far) = connected();
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let accepted = acceptor.accept_with(far, |connection| {
                connection.set_resumption_data(b"data");
            });
            let mut stream = accepted.unwrap();
            let mut early = Vec::new();
            if let Some(mut data) = stream.conn.early_data() {
                data.read_to_end(&mut early).unwrap();
            }
            stream.write_all(b"pong").unwrap();
            stream.flush().unwrap();
            let data = stream.conn.received_resumption_data();
            let data = data.map(<[u8]>::to_vec);
            (stream.conn.handshake_kind().unwrap(), early, data)
        });
        let name = ServerName::try_from("localhost").unwrap();
        let mut connection = ClientConnection::new(Arc::clone(client), name).unwrap();
        if !early.is_empty() {
            let mut data = connection.early_data().expect("a ticket that allows it");
            data.write_all(early).unwrap();
        }
        let mut pong = [0; 4];
        let mut stream = StreamOwned::new(connection, near);
        stream.read_exact(&mut pong).unwrap();
        assert_eq!(&pong, b"pong");
        server.join().unwrap()
    })
}

fn kind(client: &Arc<ClientConfig>, acceptor: &BlockingAcceptor) -> HandshakeKind {
    meet(client, acceptor, b"").0
}

#[test]
fn both_versions_resume_every_way_and_are_counted() {
    let store = Arc::new(MemoryStore::default());
    let ways = [
        Resumption::builder(),
        Resumption::builder().stateful(20_000),
        sharing(&store),
    ];
    for builder in ways {
        let resumption = builder.build().unwrap();
        let acceptor = acceptor(&resumption, server_config());
        for version in VERSIONS {
            let client = client(version);
            assert_eq!(kind(&client, &acceptor), FULL);
            let (kind, _, data) = meet(&client, &acceptor, b"");
            assert_eq!(kind, RESUMED);
            let expected = (version == &TLS13).then(|| b"data".to_vec());
            assert_eq!(data, expected);
        }
        let counts = resumption.stats().acceptor;
        assert_eq!((counts.resumed, counts.full.not_offered), (2, 2));
    }
}

#[test]
fn hello_retry_requests_and_ages_are_handled() {
    let hour = Duration::from_secs(60 * 60);
    let time = FakeClock::new();
    let builder = Resumption::builder().stateful(20_000).clock(time.clock());
    let resumption = builder.build().unwrap();
    let acceptor = acceptor(&resumption, retrying_server());
    let client = never_learning(client_config(&TLS13));
    for expected in [false, true, true, false, true] {
        assert_eq!(kind(&client, &acceptor) == RESUMED, expected);
        time.advance(9 * hour);
    }
    assert_eq!(resumption.stats().acceptor.hello_retries, 5);
}

#[test]
fn early_data_is_accepted_on_another_node_once() {
    let store = Arc::new(MemoryStore::default());
    let nodes = [(); 2].map(|()| {
        let mut config = server_config();
        config.max_early_data_size = 16_384;
        let resumption = sharing(&store).build().unwrap();
        acceptor(&resumption, config)
    });
    let mut client = client_config(&TLS13);
    client.enable_early_data = true;
    let client = Arc::new(client);
    assert_eq!(kind(&client, &nodes[0]), FULL);
    let (kind, early, _) = meet(&client, &nodes[1], b"early");
    assert_eq!((kind, early), (RESUMED, b"early".to_vec()));
}

#[test]
fn a_store_that_hangs_costs_the_deadline_and_a_full_handshake() {
    let store = Arc::new(MemoryStore::default());
    let builder = sharing(&store).store_deadline(Duration::from_millis(5));
    let resumption = builder.build().unwrap();
    let acceptor = acceptor(&resumption, server_config());
    let client = client(&TLS13);
    assert_eq!(kind(&client, &acceptor), FULL);
    store.hangs.store(true, Ordering::Relaxed);
    assert_eq!(kind(&client, &acceptor), FULL);
    assert_eq!(resumption.stats().store.misses.timed_out, 1);
    store.hangs.store(false, Ordering::Relaxed);
    assert_eq!(kind(&client, &acceptor), RESUMED);
}

#[test]
fn each_server_name_may_have_a_configuration_of_its_own() {
    let resumption = Resumption::stateful(100).unwrap();
    let acceptor = acceptor(&resumption, server_config());
    let (mut near, far) = connected();
    near.write_all(&hello::offering(&[[7; 32]])).unwrap();
    let mut asked = None;
    let refuse = |hello: rustls::server::ClientHello<'_>| {
        asked = hello.server_name().map(str::to_owned);
        Err(io::Error::other("who?"))
    };
    let error = acceptor
        .accept_with_config(far, refuse, |_| ())
        .unwrap_err();
    assert_eq!(error.to_string(), "who?");
    assert_eq!(asked.as_deref(), Some("localhost"));
}

#[test]
fn bytes_that_are_no_client_hello_are_an_error_and_an_alert() {
    let resumption = Resumption::stateful(100).unwrap();
    let acceptor = acceptor(&resumption, server_config());
    for (bytes, kind, answer_len) in [
        (
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            io::ErrorKind::InvalidData,
            7,
        ),
        (&[][..], io::ErrorKind::UnexpectedEof, 0),
    ] {
        let (mut near, far) = connected();
        near.write_all(bytes).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(acceptor.accept(far).unwrap_err().kind(), kind);
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).unwrap();
        assert_eq!(answer.len(), answer_len);
    }
    assert_eq!(resumption.stats().acceptor, AcceptorStats::default());
}
