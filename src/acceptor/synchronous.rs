//! rustls, which knows no futures, on streams that are polled.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::driver::Transport;

/// A stream of tokio's.
pub(super) struct Polled<'a, IO>(pub(super) &'a mut IO);

impl<IO: AsyncRead + AsyncWrite + Unpin> Transport for Polled<'_, IO> {
    const BLOCKS: bool = false;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(&mut dyn Read) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        or_pending(read(&mut Synchronous { io: self.0, cx }))
    }

    fn poll_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut dyn Write) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        or_pending(write(&mut Synchronous { io: self.0, cx }))
    }
}

/// What is not ready is an error to rustls, and the task is woken when it is.
struct Synchronous<'a, 'b, IO> {
    io: &'a mut IO,
    cx: &'a mut Context<'b>,
}

fn or_pending<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
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
