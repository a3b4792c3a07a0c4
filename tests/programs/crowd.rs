//! Many clients of one `echo_server` at the same time.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use example_support::client::{self, Client, ClientOptions};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use test_support::echo_server::{EchoProcess, until};
use tokio::runtime::Runtime;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

#[test]
fn a_thousand_clients_at_once_are_served_by_one_thread_and_resume() {
    let server = EchoProcess::with_env(
        &[("TOKIO_WORKER_THREADS", "1")],
        &["--resumption", "stateful", "--handshake-timeout", "60s"],
    );
    let runtime = Runtime::new().unwrap();
    let resumed = runtime.block_on(visit_twice_together(&server, 1_000));
    assert_eq!(resumed, [0, 1_000]);
    let sums = server.stop();
    assert_eq!((sums.accepted, sums.failed), (2_000, 0));
    assert_eq!((sums.full, sums.resumed), (1_000, 1_000));
}

/// All come at the same time, and when all were served they come again. Returns how many resumed
/// in each round.
async fn visit_twice_together(server: &EchoProcess, clients: usize) -> [usize; 2] {
    let roots = client::read_roots(server.ca()).unwrap();
    let client = Client::new(ClientOptions {
        timeout: Duration::from_secs(60),
        ..ClientOptions::new(vec![server.address()], roots)
    })
    .unwrap();
    let barrier = Arc::new(Barrier::new(clients));
    let mut visits = JoinSet::new();
    for _ in 0..clients {
        let mut worker = client.worker();
        let barrier = Arc::clone(&barrier);
        visits.spawn(async move {
            let mut resumed = [0; 2];
            for resumed in &mut resumed {
                barrier.wait().await;
                let outcome = worker.echo().await.unwrap();
                *resumed = usize::from(outcome.handshake.resumed);
            }
            resumed
        });
    }
    let resumed = visits.join_all().await;
    [0, 1].map(|round| resumed.iter().map(|resumed| resumed[round]).sum())
}

#[test]
fn open_connections_may_finish_when_it_is_asked_to_stop() {
    let server = EchoProcess::start(&[]);
    let mut open = open_connections(100, server.address(), server.ca());
    server.signal("TERM");
    let address = server.address();
    until("nobody is let in any more", || {
        TcpStream::connect(address).is_err()
    });
    for stream in &mut open {
        echo(stream);
        close(stream);
    }
    let sums = server.sums();
    assert_eq!(sums.full + sums.resumed, 100);
    assert!(server.ended().0.success());
}

#[test]
fn connections_that_do_not_finish_are_ended() {
    let server = EchoProcess::start(&[]);
    let mut open = open_connections(100, server.address(), server.ca());
    server.signal("TERM");
    let sums = server.sums();
    assert_eq!(sums.full + sums.resumed, 100);
    assert!(server.ended().0.success());
    for stream in &mut open {
        // Cut off, or politely ended.
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let server = EchoProcess::start(&[]);
    let open = open_connections(1, server.address(), server.ca());
    server.signal("TERM");
    let address = server.address();
    until("nobody is let in any more", || {
        TcpStream::connect(address).is_err()
    });
    server.signal("INT");
    assert_eq!(server.sums().full, 1);
    assert!(server.ended().0.success());
    drop(open);
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Connections that were used once and are left open.
fn open_connections(count: usize, address: SocketAddr, ca: &Path) -> Vec<Stream> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(client::read_roots(ca).unwrap())
        .with_no_client_auth();
    let config = Arc::new(config);
    (0..count)
        .map(|_| {
            let name = "localhost".try_into().unwrap();
            let connection = ClientConnection::new(Arc::clone(&config), name).unwrap();
            let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
            echo(&mut stream);
            stream
        })
        .collect()
}

fn echo(stream: &mut Stream) {
    stream.write_all(b"still there?").unwrap();
    let mut echo = [0; 12];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"still there?");
}

fn close(stream: &mut Stream) {
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the server says goodbye");
}
