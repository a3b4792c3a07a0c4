//! A listener's connections as a stream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, HandshakeKind};
use rustls_resumption::acceptor::Incoming;
use rustls_resumption::{Resumption, ResumptionAcceptor};
use test_support::acceptor::{acceptor, met, visit};
use test_support::handshake::{FULL, RESUMED, VERSIONS, client, server_config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// Long enough on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// How the server met a client that visits it.
async fn kind(
    client: &Arc<ClientConfig>,
    incoming: &mut Incoming,
    address: SocketAddr,
) -> HandshakeKind {
    let visited = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        visit(client, tcp, b"").await.unwrap();
    };
    let served = async { met(incoming.accept().await).await.kind };
    let both = async { tokio::join!(served, visited).0 };
    timeout(PATIENCE, both).await.unwrap()
}

#[tokio::test]
async fn connections_resume_and_the_next_one_is_of_the_configuration_that_was_reloaded() {
    let resumption = Resumption::tickets().unwrap();
    let load = || acceptor(&resumption, server_config());
    let (reload, current) = watch::channel(load());
    let (listener, address) = listen().await;
    let mut incoming = Incoming::new(listener, move || current.borrow().clone());
    for version in VERSIONS {
        let client = client(version);
        for expected in [FULL, RESUMED, RESUMED] {
            assert_eq!(kind(&client, &mut incoming, address).await, expected);
            reload.send_replace(load());
        }
    }
    let refusing = {
        let mut config = server_config();
        Resumption::refuse(&mut config);
        ResumptionAcceptor::new(config.into())
    };
    let client = client(VERSIONS[0]);
    reload.send_replace(refusing);
    for _ in 0..2 {
        assert_eq!(kind(&client, &mut incoming, address).await, FULL);
    }
}

#[tokio::test]
async fn clients_that_say_nothing_or_nonsense_hold_nobody_up() {
    let acceptor = acceptor(&Resumption::tickets().unwrap(), server_config());
    let (listener, address) = listen().await;
    let mut incoming = Incoming::new(listener, move || acceptor.clone());
    let silent = TcpStream::connect(address).await.unwrap();
    let mut talking = TcpStream::connect(address).await.unwrap();
    talking.write_all(&[0; 100]).await.unwrap();
    let client = client(VERSIONS[0]);
    for expected in [FULL, RESUMED] {
        assert_eq!(kind(&client, &mut incoming, address).await, expected);
    }
    drop(silent);
}

#[tokio::test]
async fn a_client_that_takes_too_long_is_hung_up_on() {
    let acceptor = acceptor(&Resumption::tickets().unwrap(), server_config());
    let (listener, address) = listen().await;
    let incoming = Incoming::new(listener, move || acceptor.clone());
    let mut incoming = incoming.handshake_timeout(Duration::from_millis(1));
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut byte = [0];
    let ended = async {
        tokio::select! {
            _ = incoming.accept() => panic!("it has said nothing"),
            read = silent.read(&mut byte) => read.unwrap(),
        }
    };
    assert_eq!(timeout(PATIENCE, ended).await.unwrap(), 0);
}
