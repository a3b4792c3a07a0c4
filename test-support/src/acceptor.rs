//! Handshakes between rustls's client and an acceptor, over memory.

use std::future::poll_fn;
use std::io::{self, Read as _, Write as _};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection,
};
use rustls_resumption::{Resumption, ResumptionAcceptor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio_rustls::server::TlsStream;

/// What came of a handshake, as the server sees it.
#[derive(Debug)]
pub struct Met {
    pub kind: HandshakeKind,
    pub version: ProtocolVersion,
    /// Early data, as far as the server accepted it.
    pub early: Vec<u8>,
    /// The application's data in the session that was resumed.
    pub data: Option<Vec<u8>>,
}

/// A handshake and an exchange after it, in which the client gets its tickets.
pub async fn meet(client: &Arc<ClientConfig>, acceptor: &ResumptionAcceptor) -> Met {
    meet_with(client, acceptor, b"", |_| ()).await
}

pub async fn kind(client: &Arc<ClientConfig>, acceptor: &ResumptionAcceptor) -> HandshakeKind {
    meet(client, acceptor).await.kind
}

pub async fn meet_with(
    client: &Arc<ClientConfig>,
    acceptor: &ResumptionAcceptor,
    early: &[u8],
    f: impl FnOnce(&mut ServerConnection),
) -> Met {
    let (near, far) = tokio::io::duplex(1 << 18);
    let server = async { met(acceptor.accept_with(far, f).await.unwrap()).await };
    let (met, ()) = tokio::join!(server, async { visit(client, near, early).await.unwrap() });
    met
}

/// A handshake with a server that does its part by `serve`, in the middle of which something happens:
/// once the server has answered what the client said first, and waits for more.
pub async fn kind_while(
    client: &Arc<ClientConfig>,
    serve: impl AsyncFnOnce(DuplexStream) -> HandshakeKind,
    happens: impl FnOnce(),
) -> HandshakeKind {
    let (near, far) = tokio::io::duplex(1 << 18);
    let mut client = pin!(visit(client, near, b""));
    let mut server = pin!(serve(far));
    assert!(is_pending(&mut client).await && is_pending(&mut server).await);
    happens();
    let (kind, visited) = tokio::join!(server, client);
    visited.unwrap();
    kind
}

/// Polls once.
async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await
}

/// The server's side after the handshake.
pub async fn met<IO: AsyncRead + AsyncWrite + Unpin>(mut stream: TlsStream<IO>) -> Met {
    let connection = stream.get_mut().1;
    let mut early = Vec::new();
    if let Some(mut data) = connection.early_data() {
        data.read_to_end(&mut early).unwrap();
    }
    let met = Met {
        kind: connection.handshake_kind().unwrap(),
        version: connection.protocol_version().unwrap(),
        data: connection.received_resumption_data().map(<[u8]>::to_vec),
        early,
    };
    stream.write_all(b"pong").await.unwrap();
    stream.shutdown().await.unwrap();
    met
}

/// The client's side of it all.
pub async fn visit<IO: AsyncRead + AsyncWrite + Unpin>(
    client: &Arc<ClientConfig>,
    mut io: IO,
    early: &[u8],
) -> io::Result<()> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(client.clone(), name).unwrap();
    if !early.is_empty() {
        let mut data = connection.early_data().expect("a ticket that allows it");
        data.write_all(early)?;
    }
    let mut buffer = [0; 4096];
    let mut pong = Vec::new();
    while pong.len() < 4 {
        let mut wire = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut wire)?;
        }
        io.write_all(&wire).await?;
        let len = io.read(&mut buffer).await?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut wire = &buffer[..len];
        while !wire.is_empty() {
            connection.read_tls(&mut wire)?;
            let state = connection.process_new_packets().map_err(io::Error::other)?;
            let read = pong.len() + state.plaintext_bytes_to_read();
            let from = pong.len();
            pong.resize(read, 0);
            connection.reader().read_exact(&mut pong[from..])?;
        }
    }
    assert_eq!(pong, b"pong");
    Ok(())
}

pub fn acceptor(resumption: &Resumption, mut config: ServerConfig) -> ResumptionAcceptor {
    resumption.install(&mut config, "api");
    ResumptionAcceptor::from(Arc::new(config))
}

/// A stream that gives a byte at a time.
pub struct ByteByByte(pub DuplexStream);

impl AsyncRead for ByteByByte {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        std::task::ready!(Pin::new(&mut self.0).poll_read(cx, &mut one))?;
        buffer.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteByByte {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // It takes a few at a time, too.
        let some = bytes.get(..7).unwrap_or(bytes);
        Pin::new(&mut self.0).poll_write(cx, some)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
