//! Clients that try to escape the maximum age of their session: however they come back, it ends a
//! day after its full handshake.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::client::{
    ClientSessionStore, Resumption as ClientResumption, Tls12ClientSessionValue, Tls12Resumption,
    Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ServerConfig};
use rustls_resumption::{FakeClock, Resumption, ResumptionAcceptor};
use test_support::acceptor::*;
use test_support::fleet::{never_learning, retrying_server, ways};
use test_support::handshake::{FULL, RESUMED, client_config, server_config};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Of TLS 1.2: the client keeps both the session ID of its full handshake and the last ticket, and
/// offers whichever it likes.
#[derive(Debug, Default)]
struct Choosy(Mutex<Chosen>);

#[derive(Debug, Default)]
struct Chosen {
    by_id: Option<Tls12ClientSessionValue>,
    last: Option<Tls12ClientSessionValue>,
    offer_id: bool,
}

impl ClientSessionStore for Choosy {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        let mut chosen = self.0.lock().unwrap();
        chosen.by_id.get_or_insert_with(|| value.clone());
        chosen.last = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let chosen = self.0.lock().unwrap();
        match chosen.offer_id {
            true => chosen.by_id.clone(),
            false => chosen.last.clone(),
        }
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {}

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

#[tokio::test]
async fn from_session_id_to_ticket_and_back_sessions_keep_their_age() {
    let time = FakeClock::new();
    let builder = Resumption::builder().clock(time.clock());
    let resumption = builder.build().unwrap();
    let acceptor = acceptor(&resumption, server_config());
    let choosy = Arc::new(Choosy::default());
    let base = client_config(&TLS12);
    let client = |how| {
        let mut client = base.clone();
        client.resumption = ClientResumption::store(choosy.clone()).tls12_resumption(how);
        Arc::new(client)
    };
    let with_tickets = client(Tls12Resumption::SessionIdOrTickets);
    let without = client(Tls12Resumption::SessionIdOnly);
    assert_eq!(kind(&without, &acceptor).await, FULL);
    let before = resumption.stats();
    for hour in 1..24 {
        time.advance(HOUR);
        resumption.step();
        // By session ID alone; by session ID, for a ticket in exchange; by that ticket, for
        // another.
        choosy.0.lock().unwrap().offer_id = true;
        assert_eq!(kind(&without, &acceptor).await, RESUMED, "hour {hour}");
        assert_eq!(kind(&with_tickets, &acceptor).await, RESUMED, "hour {hour}");
        choosy.0.lock().unwrap().offer_id = false;
        assert_eq!(kind(&with_tickets, &acceptor).await, RESUMED, "hour {hour}");
    }
    let stats = resumption.stats();
    assert_eq!(stats.cache.hits - before.cache.hits, 2 * 23);
    assert_eq!(stats.tickets.opened, 23);
    time.advance(HOUR);
    resumption.step();
    choosy.0.lock().unwrap().offer_id = false;
    assert_eq!(kind(&with_tickets, &acceptor).await, FULL, "by ticket");
    assert_eq!(resumption.stats().tickets.refused.too_old, 1);
    choosy.0.lock().unwrap().offer_id = true;
    assert_eq!(kind(&without, &acceptor).await, FULL, "by session ID");
}

/// A stream that gives a byte at a time, and lets others have their turn after each.
struct InTurns(DuplexStream, bool);

impl AsyncRead for InTurns {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.1 = !self.1;
        if self.1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut one))?;
        buffer.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for InTurns {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Two handshakes at once on one thread, in turns of a byte.
async fn meet_together(
    clients: [&Arc<ClientConfig>; 2],
    acceptor: &ResumptionAcceptor,
) -> [HandshakeKind; 2] {
    let one = |client| async move {
        let (near, far) = duplex(1 << 18);
        let server = async { met(acceptor.accept(InTurns(far, false)).await.unwrap()).await };
        let (met, visited) = tokio::join!(server, visit(client, near, b""));
        visited.unwrap();
        met.kind
    };
    let (first, second) = tokio::join!(one(clients[0]), one(clients[1]));
    [first, second]
}

#[tokio::test]
async fn connections_interleaved_on_one_thread_keep_their_own_ages() {
    let servers: [fn() -> ServerConfig; 2] = [server_config, retrying_server];
    for server in servers {
        for (time, resumption) in ways() {
            let acceptor = acceptor(&resumption, server());
            for version in [&TLS12, &TLS13] {
                let new = || never_learning(client_config(version));
                let old = new();
                assert_ne!(kind(&old, &acceptor).await, RESUMED);
                for hour in 1..24 {
                    time.advance(HOUR);
                    resumption.step();
                    // A young session is made while the old one is renewed, and both are renewed.
                    let young = new();
                    let [renewed, made] = meet_together([&old, &young], &acceptor).await;
                    assert_eq!(renewed, RESUMED, "{version:?}, hour {hour}");
                    assert_ne!(made, RESUMED);
                    let both = meet_together([&young, &old], &acceptor).await;
                    assert_eq!(both, [RESUMED; 2], "{version:?}, hour {hour}");
                }
                let young = new();
                kind(&young, &acceptor).await;
                time.advance(HOUR);
                resumption.step();
                let [ended, goes_on] = meet_together([&old, &young], &acceptor).await;
                assert_ne!(ended, RESUMED, "{version:?}: a day old");
                assert_eq!(goes_on, RESUMED, "{version:?}: an hour old");
            }
        }
    }
}
