//! Early data that is refused ends no connection.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;

use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsConfig;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_resumption::acceptor::{AxumAcceptor, BlockingAcceptor};
use rustls_resumption::{Resumption, ResumptionAcceptor};
use test_support::acceptor::{ByteByByte, Met, met, visit};
use test_support::fleet::{never_learning, retrying_server};
use test_support::handshake::{
    FULL, RESUMED, client_config, first_flight, handshake, server_config, try_handshake,
};
use test_support::log::Log;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

/// A server with these limits, and a client with a ticket of it from when it had others.
fn visited(then: u32, now: u32) -> (Resumption, Arc<ClientConfig>, Arc<ServerConfig>) {
    visited_of(server_config, then, now)
}

fn visited_of(
    server: fn() -> ServerConfig,
    then: u32,
    now: u32,
) -> (Resumption, Arc<ClientConfig>, Arc<ServerConfig>) {
    let resumption = Resumption::stateful(1_000).unwrap();
    let with_limit = |limit| {
        let mut config = server();
        config.max_early_data_size = limit;
        resumption.install(&mut config, "api");
        Arc::new(config)
    };
    let mut client = client_config(&TLS13);
    client.enable_early_data = true;
    let client = never_learning(client);
    handshake(&client, &with_limit(then));
    let server = with_limit(now);
    (resumption, client, server)
}

/// Early data of this many bytes, refused because nothing resumes.
async fn refused(len: usize, then: u32, now: u32, says: bool) {
    let (resumption, client, server) = visited(then, now);
    let _ = resumption.revoke_all();
    let acceptor = ResumptionAcceptor::from(server);
    let (near, far) = duplex(1 << 18);
    let accept = async {
        let mut heard = None;
        let stream = match says {
            true => {
                let say = |connection: &mut ServerConnection| {
                    connection.set_resumption_data(b"data");
                    heard = Some(connection.is_handshaking());
                };
                acceptor.accept_with(far, say).await
            }
            false => acceptor.accept(far).await,
        };
        let met = met(stream.unwrap()).await;
        assert_eq!(heard, says.then_some(true));
        met
    };
    let early = vec![0xe7; len];
    let (met, visited) = tokio::join!(accept, visit(&client, near, &early));
    visited.unwrap();
    assert_eq!((met.kind, met.early), (FULL, Vec::new()), "{len} bytes");
    let counts = resumption.stats().acceptor;
    assert_eq!((counts.early_data, counts.early_data_refused), (0, 1));
    assert_eq!((counts.full.not_found, counts.failed), (1, 0));
    let met = again(&client, &acceptor).await;
    let data = if says { b"data".to_vec() } else { Vec::new() };
    assert_eq!((met.kind, met.data), (RESUMED, Some(data)));
}

async fn again(client: &Arc<ClientConfig>, acceptor: &ResumptionAcceptor) -> Met {
    let (near, far) = duplex(1 << 18);
    let accept = async { met(acceptor.accept(far).await.unwrap()).await };
    let (met, visited) = tokio::join!(accept, visit(client, near, b""));
    visited.unwrap();
    met
}

#[tokio::test]
async fn as_much_refused_early_data_as_a_ticket_allows_ends_no_connection() {
    for says in [false, true] {
        for len in [1, 8_175, 8_176, 16_384] {
            refused(len, 16_384, 16_384, says).await;
        }
        refused(40_000, 40_000, 40_000, says).await;
    }
}

#[tokio::test]
async fn a_lower_limit_ends_no_connection_with_an_older_ticket() {
    for now in [0, 100, 1_000] {
        refused(16_384, 16_384, now, false).await;
    }
}

#[test]
fn install_warns_of_limits_that_may_end_connections() {
    let resumption = Resumption::stateful(10).unwrap();
    for (limit, expected) in [(0, 0), (8_175, 0), (8_176, 1), (16_384, 1), (u32::MAX, 0)] {
        let mut config = server_config();
        config.max_early_data_size = limit;
        let (log, ()) = Log::of(|| resumption.install(&mut config, "limits"));
        let warnings = log.warnings();
        assert_eq!(warnings.len(), expected, "{limit}: {warnings:?}");
        assert!(warnings.iter().all(|line| line.contains("early data")));
    }
}

/// What the acceptors mend. Once it is mended in rustls they can do without.
#[test]
fn rustls_alone_ends_a_connection_with_more_than_half_of_it() {
    for (len, passes) in [(8_175, true), (8_176, false)] {
        let (resumption, client, server) = visited(16_384, 16_384);
        let _ = resumption.revoke_all();
        let outcome = try_handshake(&client, &server, &vec![0xe7; len]);
        assert_eq!(outcome.is_ok(), passes, "{len}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_client_whose_bytes_come_one_by_one_keeps_its_connection() {
    let (resumption, client, server) = visited(16_384, 16_384);
    let _ = resumption.revoke_all();
    let acceptor = ResumptionAcceptor::from(server);
    let (near, far) = duplex(1 << 18);
    let accept = async {
        let stream = acceptor.accept(ByteByByte(far)).await;
        met(stream.unwrap()).await
    };
    let (met, visited) = tokio::join!(accept, visit(&client, near, &[0xe7; 500]));
    visited.unwrap();
    assert_eq!(met.kind, FULL);
}

/// A stream on which what comes behind the hello comes late, when that is answered, and in pieces.
struct Late {
    io: DuplexStream,
    /// How much of the hello is to come.
    hello: usize,
    is_answered: bool,
}

impl AsyncRead for Late {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        const PIECE: usize = 50;
        let most = if self.hello > 0 { self.hello } else { PIECE };
        if self.hello == 0 && !self.is_answered {
            return Poll::Pending; // until it is written to
        }
        let mut piece = buffer.take(most);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut piece))?;
        let len = piece.filled().len();
        self.hello = self.hello.saturating_sub(len);
        buffer.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Late {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_answered = true;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn early_data_that_comes_when_the_hello_is_answered_ends_no_connection() {
    let (resumption, client, server) = visited(16_384, 16_384);
    let _ = resumption.revoke_all();
    let mut client = Arc::unwrap_or_clone(client);
    client.max_fragment_size = Some(1_024);
    let client = Arc::new(client);
    let flight = first_flight(&client, b"early");
    let hello = 5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]));
    let acceptor = ResumptionAcceptor::from(server);
    let (near, io) = duplex(1 << 18);
    let late = Late {
        io,
        hello,
        is_answered: false,
    };
    let accept = async { met(acceptor.accept(late).await.unwrap()).await };
    let (met, visited) = tokio::join!(accept, visit(&client, near, &[0xe7; 4_000]));
    visited.unwrap();
    assert_eq!(met.kind, FULL);
    assert_eq!(resumption.stats().acceptor.early_data_refused, 1);
}

#[tokio::test]
async fn early_data_with_a_hello_retry_request_is_skipped() {
    for says in [false, true] {
        let (resumption, client, server) = visited_of(retrying_server, 16_384, 16_384);
        let acceptor = ResumptionAcceptor::from(server);
        let (near, far) = duplex(1 << 18);
        let accept = async {
            match says {
                true => acceptor.accept_with(far, |_| ()).await,
                false => acceptor.accept(far).await,
            }
        };
        let client = async {
            // Its first hello, with early data behind it in the same write.
            visit(&client, near, &[0xe7; 1_000]).await
        };
        let serve = async { met(accept.await.unwrap()).await };
        let (met, visited) = tokio::join!(serve, client);
        visited.unwrap();
        assert!(met.early.is_empty());
        assert_eq!(resumption.stats().acceptor.early_data_refused, 1);
    }
}

#[test]
fn on_a_thread_what_comes_with_the_hello_ends_no_connection() {
    for len in [1, 8_175, 8_176, 16_384] {
        let (resumption, client, server) = visited(16_384, 16_384);
        let _ = resumption.revoke_all();
        let acceptor = BlockingAcceptor::from(server);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let client = thread::spawn(move || exchange(&client, near, len));
        let mut stream = acceptor.accept(far).unwrap();
        stream.write_all(b"pong").unwrap();
        stream.flush().unwrap();
        client.join().unwrap().unwrap();
        assert_eq!(resumption.stats().acceptor.early_data_refused, 1, "{len}");
    }
}

/// Sends all at once what it says before it is answered.
fn exchange(client: &Arc<ClientConfig>, mut tcp: TcpStream, early: usize) -> io::Result<()> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut data = connection.early_data().expect("a ticket that allows it");
    data.write_all(&vec![0xe7; early])?;
    let mut wire = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut wire)?;
    }
    tcp.write_all(&wire)?;
    let mut pong = [0; 4];
    rustls::Stream::new(&mut connection, &mut tcp).read_exact(&mut pong)?;
    assert_eq!(&pong, b"pong");
    Ok(())
}

#[tokio::test]
async fn behind_axum_server_it_is_refused_since_nobody_would_read_it() {
    let (resumption, client, server) = visited(1_000, 1_000);
    let (log, acceptor) = Log::of(|| AxumAcceptor::new(RustlsConfig::from_config(server)));
    let warned = |line: &String| line.contains("axum-server reads no early data");
    assert!(log.warnings().iter().any(warned));
    let (near, far) = duplex(1 << 18);
    let accept = async { met(acceptor.accept(far, ()).await.unwrap().0).await };
    let (met, visited) = tokio::join!(accept, visit(&client, near, b"early"));
    visited.unwrap();
    assert_eq!((met.kind, met.early), (RESUMED, Vec::new()));
    assert_eq!(resumption.stats().acceptor.early_data_refused, 1);
}
