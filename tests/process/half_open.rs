//! Clients that start a handshake and send nothing more: they last until the caller's timeout, and
//! leave nothing behind (Linux).
#![cfg(target_os = "linux")]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::version::TLS13;
use rustls_resumption::{Resumption, ResumptionAcceptor};
use test_support::acceptor::acceptor;
use test_support::alone::alone;
use test_support::fleet::{MemoryStore, never_learning, retrying_server, sharing};
use test_support::handshake::{RESUMED, client_config, first_flight, server_config};
use test_support::hello;
use test_support::process::resident;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

const CONNECTIONS: usize = 10_000;

/// The caller's. Time is paused: it passes when everybody waits.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs a test alone, in paused time.
fn alone_and_paused(test: impl Future<Output = ()>) {
    alone(|| {
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(test);
    });
}

/// Clients who wait.
#[derive(Default)]
struct Waiting {
    clients: Vec<DuplexStream>,
    servers: JoinSet<Result<io::Result<()>, Elapsed>>,
}

impl Waiting {
    /// So many more, who have said this much. Returns the bytes that each costs.
    async fn add<F>(
        &mut self,
        count: usize,
        said: &[u8],
        accept: impl Fn(DuplexStream) -> F,
    ) -> usize
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let before = resident();
        for _ in 0..count {
            let (mut near, far) = duplex(1 << 20);
            near.write_all(said).await.unwrap();
            self.clients.push(near);
            self.servers.spawn(timeout(TIMEOUT, accept(far)));
        }
        // Passes when everybody waits.
        sleep(Duration::from_millis(1)).await;
        let ended = self.servers.try_join_next();
        assert!(ended.is_none(), "none has ended: {ended:?}");
        resident().saturating_sub(before) / count
    }

    /// Until all are given up by the caller. Returns how many those were.
    async fn end(self) -> usize {
        let ended = self.servers.join_all().await;
        assert!(ended.iter().all(Result::is_err));
        ended.len()
    }
}

fn accepting(
    acceptor: &ResumptionAcceptor,
    io: DuplexStream,
) -> impl Future<Output = io::Result<()>> + use<> {
    let accepted = acceptor.accept(io);
    async move { accepted.await.map(drop) }
}

fn ways() -> [(&'static str, Resumption); 3] {
    let store = Arc::new(MemoryStore::default());
    [
        ("tickets", Resumption::tickets().unwrap()),
        ("stateful", Resumption::stateful(1_000).unwrap()),
        ("shared", sharing(&store).build().unwrap()),
    ]
}

#[test]
fn ten_thousand_half_open_connections_end_when_the_caller_ends_them() {
    alone_and_paused(async {
        let hello = first_flight(&Arc::new(client_config(&TLS13)), b"");
        let stages = [
            ("silent", &b""[..], false),
            ("half a hello", &hello[..hello.len() / 2], false),
            ("a whole hello", &hello[..], false),
            ("asked for another hello", &hello[..], true),
        ];
        let mut most = 0;
        let (mut resumptions, mut acceptors) = (Vec::new(), Vec::new());
        // All at once, so that each measurement finds what the ones before it have left: nothing.
        let mut waiting = Waiting::default();
        for (way, resumption) in ways() {
            let counts = || resumption.stats().acceptor;
            for (stage, said, with_retry) in stages {
                let config = match with_retry {
                    true => retrying_server(),
                    false => server_config(),
                };
                let acceptor = acceptor(&resumption, config);
                let held = Arc::strong_count(acceptor.config());
                let accept = |io| accepting(&acceptor, io);
                let each = waiting.add(CONNECTIONS / stages.len(), said, accept).await;
                println!("{way:>10}, {stage:24} {each:6} bytes each");
                most = most.max(each);
                acceptors.push((acceptor, held));
            }
            assert_eq!(counts().failed, 0);
            resumptions.push(resumption);
        }
        for (stage, said, with_retry) in stages {
            let config = match with_retry {
                true => retrying_server(),
                false => server_config(),
            };
            let plain = TlsAcceptor::from(Arc::new(config));
            let accept = |io| {
                let accepted = plain.accept(io);
                async move { accepted.await.map(drop) }
            };
            let each = waiting.add(CONNECTIONS / stages.len(), said, accept).await;
            println!("{:>10}, {stage:24} {each:6} bytes each", "no such");
        }
        assert_eq!(waiting.end().await, 4 * CONNECTIONS);
        for (acceptor, held) in &acceptors {
            assert_eq!(Arc::strong_count(acceptor.config()), *held, "all are gone");
        }
        for resumption in &resumptions {
            // Those whose hello was complete.
            let failed = resumption.stats().acceptor.failed;
            assert_eq!(failed, CONNECTIONS as u64 / 2);
        }
        println!("figure: {most} bytes at most for one that waits");
        assert!(most < 48 * 1024, "{most}");

        // What they held is used again by those who come next.
        let before = resident();
        for (acceptor, _) in &acceptors {
            let mut waiting = Waiting::default();
            let accept = |io| accepting(acceptor, io);
            waiting.add(CONNECTIONS / 4, stages[1].1, accept).await;
            waiting.end().await;
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < 4 << 20, "{grown} bytes more");
    });
}

/// A hello of so many bytes, in records of so many each, but for its last byte.
fn endless(len: usize, piece: usize) -> Vec<u8> {
    let message = hello::message(1, &vec![3; len - 4]);
    let pieces = message[..len - 1].chunks(piece);
    let record = |piece: &[u8]| {
        let len = (piece.len() as u16).to_be_bytes();
        [&[22, 3, 1][..], &len, piece].concat()
    };
    pieces.flat_map(record).collect()
}

#[test]
fn a_hello_that_never_ends_is_bounded_however_it_comes() {
    alone_and_paused(async {
        for (way, resumption) in ways() {
            let acceptor = acceptor(&resumption, server_config());
            for (len, piece) in [(60_000, 64), (60_000, 16_384)] {
                let said = endless(len, piece);
                let mut waiting = Waiting::default();
                let accept = |io| accepting(&acceptor, io);
                let each = waiting.add(200, &said, accept).await;
                let heard = said.len();
                println!("{way:>10}, {heard} bytes in pieces of {piece}: {each} bytes each");
                assert!(each < 1 << 20, "{each}");
                assert_eq!(waiting.end().await, 200);
            }
            for (len, piece) in [(60_000, 1), (65_536, 16_384), (1 << 20, 16_384)] {
                let (mut near, far) = duplex(1 << 21);
                near.write_all(&endless(len, piece)).await.unwrap();
                let refused = acceptor.accept(far).await.unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{refused}");
            }
        }
    });
}

#[test]
fn a_hello_that_something_else_breaks_off_is_refused_at_once() {
    alone_and_paused(async {
        for (way, resumption) in ways() {
            let acceptor = acceptor(&resumption, server_config());
            // Alerts and application data, more of it than a hello may have.
            for kind in [21, 23] {
                let record = [&[kind, 3, 3, 0x40, 0][..], &[7; 0x4000]].concat();
                let said = [endless(1_000, 100), record.repeat(40)].concat();
                let (mut near, far) = duplex(1 << 21);
                near.write_all(&said).await.unwrap();
                let accepted = timeout(TIMEOUT, acceptor.accept(far)).await;
                let refused = accepted.expect("an answer").unwrap_err();
                assert_eq!(
                    refused.kind(),
                    io::ErrorKind::InvalidData,
                    "{way}: {refused}"
                );
            }
        }
    });
}

#[test]
fn sessions_claimed_for_clients_that_left_are_wiped_and_others_still_resume() {
    alone_and_paused(async {
        let store = Arc::new(MemoryStore::default());
        let resumption = sharing(&store).build().unwrap();
        let acceptor = acceptor(&resumption, retrying_server());
        let clients: Vec<_> = (0..100)
            .map(|_| never_learning(client_config(&TLS13)))
            .collect();
        for client in &clients {
            test_support::acceptor::kind(client, &acceptor).await;
        }
        let stored = store.count();
        let (left, stayed) = clients.split_at(50);
        for client in left {
            let mut waiting = Waiting::default();
            let accept = |io| accepting(&acceptor, io);
            waiting.add(1, &first_flight(client, b""), accept).await;
            assert_eq!(waiting.end().await, 1);
        }
        let stats = resumption.stats().store;
        assert_eq!((stats.claimed, stats.unused), (50, 50));
        assert_eq!(store.count(), stored - 50);
        for client in stayed {
            assert_eq!(
                test_support::acceptor::kind(client, &acceptor).await,
                RESUMED
            );
        }
    });
}
