//! What acceptors cost: their own work, and the round trip to Redis.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, Read as _};
use std::net::TcpListener;
use std::pin::{Pin, pin};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, HandshakeKind, ServerConfig};
use rustls_resumption::source::{SourceKey, StekSource, source_fn};
use rustls_resumption::store::{RedisStore, SharedStore};
use rustls_resumption::{Resumption, ResumptionAcceptor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::handshakes::{By, Client, ServerKey, Site, Way};
use crate::timing::{Costs, Effort, each, turn_about};

/// The server's time for a resumed handshake, through a `ResumptionAcceptor` without a store and
/// through a `TlsAcceptor`, over an in-memory transport.
pub fn costs(way: Way, effort: Effort) -> [Costs; 2] {
    let site = Site::new(way.version(), ServerKey::P256);
    let server = Arc::new(site.server(way, By::Ours, 10_000));
    let (ours, plain) = (
        ResumptionAcceptor::from(server.clone()),
        TlsAcceptor::from(server),
    );
    let clients = [site.client(), site.client()];
    turn_about(
        effort.rounds(10_000),
        [
            &mut || each(work(&clients[0], |io| ours.accept(io)), 1),
            &mut || each(work(&clients[1], |io| plain.accept(io)), 1),
        ] as [&mut dyn FnMut() -> f64; 2],
    )
}

/// Completes a handshake, tickets included. Returns how long the server's part took.
fn work<R>(client: &Client, accept: impl FnOnce(Memory) -> R) -> Duration
where
    R: Future<Output = io::Result<TlsStream<Memory>>>,
{
    let mut client = client.connection();
    let wires = Memory::default();
    let mut context = Context::from_waker(Waker::noop());
    wires.hear(&mut client);
    let start = Instant::now();
    let mut accepting = pin!(accept(wires.clone()));
    let mut worked = start.elapsed();
    loop {
        let start = Instant::now();
        let polled = accepting.as_mut().poll(&mut context);
        worked += start.elapsed();
        wires.tell(&mut client);
        wires.hear(&mut client);
        if let Poll::Ready(stream) = polled {
            let stream = stream.expect("the server refused the handshake");
            assert!(!client.is_handshaking() && stream.get_ref().1.handshake_kind().is_some());
            return worked;
        }
    }
}

/// An in-memory transport between a client and a server.
#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Wires>>);

#[derive(Default)]
struct Wires {
    to_server: VecDeque<u8>,
    to_client: Vec<u8>,
}

impl Memory {
    fn hear(&self, client: &mut ClientConnection) {
        let wires = &mut *self.0.borrow_mut();
        while client.wants_write() {
            client
                .write_tls(&mut wires.to_server)
                .expect("writing to memory failed");
        }
    }

    fn tell(&self, client: &mut ClientConnection) {
        let said = std::mem::take(&mut self.0.borrow_mut().to_client);
        let mut said = said.as_slice();
        while !said.is_empty() {
            client
                .read_tls(&mut said)
                .expect("reading from memory failed");
            client
                .process_new_packets()
                .expect("the client refused the handshake");
        }
    }
}

impl AsyncRead for Memory {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &mut self.0.borrow_mut().to_server;
        if wire.is_empty() {
            return Poll::Pending;
        }
        let len = wire.read(buffer.initialize_unfilled())?;
        buffer.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().to_client.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// How long resumed stateful TLS 1.3 handshakes take end to end, client included: with the sessions
/// in the server's cache, and in a Redis server (`program`) on loopback. Sorted.
pub fn through_redis(program: &str, effort: Effort) -> io::Result<[Vec<Duration>; 2]> {
    let redis = Redis::start(program)?;
    let store = RedisStore::new(&redis.url).map_err(io::Error::other)?;
    while store.health().is_down {
        thread::sleep(Duration::from_millis(1));
    }
    let shared = Resumption::builder()
        .stateful(20_000)
        .stek_source(shared_source())
        .shared_store(store)
        .build()
        .map_err(io::Error::other)?;
    let local = Resumption::stateful(10_000).map_err(io::Error::other)?;
    let site = Site::new(Way::Tls13Stateful.version(), ServerKey::P256);
    let contenders = [local, shared].map(|resumption| {
        let mut config: ServerConfig = site.default_server();
        resumption.install(&mut config, "benches");
        (ResumptionAcceptor::from(Arc::new(config)), site.client())
    });
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let mut times = [Vec::new(), Vec::new()];
    runtime.block_on(async {
        for (acceptor, client) in &contenders {
            visit(acceptor, client).await; // the first one cannot resume
        }
        for _ in 0..effort.operations(5_000) {
            for ((acceptor, client), times) in contenders.iter().zip(&mut times) {
                // The last handshake's sessions are written to the store after it has returned.
                tokio::time::sleep(Duration::from_millis(1)).await;
                let (kind, took) = visit(acceptor, client).await;
                if kind == HandshakeKind::Resumed {
                    times.push(took);
                }
            }
        }
    });
    times.iter_mut().for_each(|times| times.sort());
    Ok(times)
}

/// One STEK that all nodes have.
pub(crate) fn shared_source() -> impl StekSource + 'static {
    source_fn("benches", |query| {
        let secret: [u8; 32] = std::array::from_fn(|i| i as u8);
        Ok(vec![SourceKey::sealing(query.stek(&secret)?)])
    })
}

pub(crate) async fn visit(
    acceptor: &ResumptionAcceptor,
    client: &Client,
) -> (HandshakeKind, Duration) {
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let start = Instant::now();
    let server = async {
        let mut stream = acceptor.accept(far).await.expect("a refused handshake");
        let took = start.elapsed();
        stream.shutdown().await.expect("writing to memory failed");
        let kind = stream.get_ref().1.handshake_kind();
        (kind.expect("a handshake of some kind"), took)
    };
    let client = async {
        let mut client = client.connection();
        let mut buffer = vec![0; 8192];
        loop {
            let mut wire = Vec::new();
            while client.wants_write() {
                client
                    .write_tls(&mut wire)
                    .expect("writing to memory failed");
            }
            near.write_all(&wire)
                .await
                .expect("writing to memory failed");
            let len = near.read(&mut buffer).await.expect("reading memory failed");
            if len == 0 {
                break;
            }
            let mut wire = &buffer[..len];
            while !wire.is_empty() {
                client.read_tls(&mut wire).expect("reading memory failed");
                client.process_new_packets().expect("a refused handshake");
            }
        }
    };
    tokio::join!(server, client).0
}

/// A Redis server that is killed when this value is dropped.
pub(crate) struct Redis {
    child: Child,
    pub(crate) url: String,
    pub(crate) address: String,
}

impl Redis {
    pub(crate) fn start(program: &str) -> io::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(program)
            .args([
                "--save",
                "",
                "--bind",
                "127.0.0.1",
                "--port",
                &port.to_string(),
            ])
            .stdout(Stdio::null())
            .spawn()?;
        let address = format!("127.0.0.1:{port}");
        let url = format!("redis://{address}");
        Ok(Self {
            child,
            url,
            address,
        })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
