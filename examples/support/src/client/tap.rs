//! A stream that keeps a copy of the first bytes that arrive through it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Keeps a copy of the first bytes that arrive through `IO`.
pub struct Tap<IO> {
    io: IO,
    kept: Vec<u8>,
    limit: usize,
}

impl<IO> Tap<IO> {
    pub fn new(io: IO, limit: usize) -> Self {
        Self {
            io,
            kept: Vec::new(),
            limit,
        }
    }

    /// What arrived so far, up to the limit.
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Tap<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
        let arrived = &buffer.filled()[before..];
        let room = this.limit - this.kept.len();
        this.kept
            .extend_from_slice(&arrived[..arrived.len().min(room)]);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Tap<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
