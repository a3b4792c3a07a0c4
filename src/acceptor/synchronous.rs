//! rustls, which knows no futures, on streams that are polled.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Refused;

pub(super) async fn refuse<IO>(io: &mut IO, refused: Refused) -> io::Error
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut alert = refused.alert.as_slice();
    while !alert.is_empty() {
        match poll_fn(|cx| Pin::new(&mut *io).poll_write(cx, alert)).await {
            Ok(len) if len > 0 => alert = alert.get(len..).unwrap_or_default(),
            _ => return refused.error,
        }
    }
    let _ = flush(io).await;
    refused.error
}

/// Sends the alert for what rustls refused. Its error says more than what may go wrong meanwhile.
pub(super) async fn or_alert<IO, T>(
    io: &mut IO,
    connection: &mut ServerConnection,
    heard: io::Result<T>,
) -> io::Result<T>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    if heard.is_err() {
        let _ = send(io, connection).await;
    }
    heard
}

/// Sends what rustls has to say.
pub(super) async fn send<IO>(io: &mut IO, connection: &mut ServerConnection) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    while connection.wants_write() {
        let write = poll_fn(|cx| Synchronous { io, cx }.poll(|io| connection.write_tls(io)));
        if write.await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    flush(io).await
}

async fn flush<IO: AsyncWrite + Unpin>(io: &mut IO) -> io::Result<()> {
    poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await
}

pub(super) async fn read<IO>(
    io: &mut IO,
    mut read: impl FnMut(&mut dyn Read) -> io::Result<usize>,
) -> io::Result<usize>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| Synchronous { io, cx }.poll(|io| read(io))).await
}

/// Lets rustls, which knows no futures, read from and write to a stream that does: what is not
/// ready is an error to rustls, and the task is woken when it is.
pub(super) struct Synchronous<'a, 'b, IO> {
    pub(super) io: &'a mut IO,
    pub(super) cx: &'a mut Context<'b>,
}

impl<IO> Synchronous<'_, '_, IO> {
    pub(super) fn poll<T>(
        &mut self,
        call: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        match call(self) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        }
    }
}

fn unless_pending<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<IO: AsyncRead + Unpin> Read for Synchronous<'_, '_, IO> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        unless_pending(Pin::new(&mut *self.io).poll_read(self.cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl<IO: AsyncWrite + Unpin> Write for Synchronous<'_, '_, IO> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        unless_pending(Pin::new(&mut *self.io).poll_write(self.cx, buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_pending(Pin::new(&mut *self.io).poll_flush(self.cx))
    }
}
