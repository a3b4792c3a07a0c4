use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::server::TlsStream;
use tracing::{trace, warn};

use super::resumption_acceptor::ResumptionAcceptor;
use crate::errands::{Errands, guarded};

/// The connections of a listener once their handshakes are done: a stream for servers that take one,
/// such as tonic's `serve_with_incoming`, or [`accept`](Incoming::accept) for a loop or trait of
/// one's own.
///
/// Each handshake has a task of its own, so a slow client holds nobody up. A handshake that fails, or
/// takes longer than [`DEFAULT_HANDSHAKE_TIMEOUT`](Incoming::DEFAULT_HANDSHAKE_TIMEOUT), is dropped
/// and logged at trace level; if the listener fails, as it does when the process has too
/// many files open, that is logged as a warning, and tried again after a second. So the stream never
/// ends and none of its items is an error. Dropping it closes the listener and ends the handshakes
/// under way.
///
/// ```
/// use rustls_resumption::acceptor::Incoming;
/// use rustls_resumption::{Resumption, ResumptionAcceptor};
/// use tokio::net::TcpListener;
/// use tokio::sync::watch;
///
/// # fn load() -> Result<rustls::ServerConfig, std::io::Error> { Err(std::io::ErrorKind::NotFound.into()) }
/// # async fn f() -> std::io::Result<()> {
/// fn acceptor() -> std::io::Result<ResumptionAcceptor> {
///     let mut config = load()?;
///     Resumption::process()?.install(&mut config, "api.example.com");
///     Ok(ResumptionAcceptor::new(config.into()))
/// }
///
/// let (reload, current) = watch::channel(acceptor()?);
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let incoming = Incoming::new(listener, move || current.borrow().clone());
/// // `Server::builder().add_service(service).serve_with_incoming(incoming)`;
/// // and when the certificate was renewed:
/// reload.send_replace(acceptor()?);
/// # Ok(()) }
/// ```
pub struct Incoming {
    listener: TcpListener,
    current: Box<dyn FnMut() -> ResumptionAcceptor + Send>,
    timeout: Duration,
    handshakes: JoinSet<io::Result<TlsStream<TcpStream>>>,
    /// Until the listener is tried again.
    pause: Option<Pin<Box<Sleep>>>,
    log: Errands,
}

/// How long until a listener that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

impl Incoming {
    /// How long a client may take for its handshake, by default: 10 seconds.
    pub const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

    /// Accepts what this listener accepts. Each connection is served by what `current` returns for
    /// it, so that another configuration takes effect with the next.
    pub fn new(
        listener: TcpListener,
        current: impl FnMut() -> ResumptionAcceptor + Send + 'static,
    ) -> Self {
        Self {
            listener,
            current: Box::new(current),
            timeout: Self::DEFAULT_HANDSHAKE_TIMEOUT,
            handshakes: JoinSet::new(),
            pause: None,
            log: Errands::new(true),
        }
    }

    /// How long a client may take for its handshake.
    ///
    /// Defaults to [`Incoming::DEFAULT_HANDSHAKE_TIMEOUT`].
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The next connection whose handshake is done, with `TCP_NODELAY` set. Needs a tokio runtime
    /// with time enabled. Cancelling it loses no connection.
    pub async fn accept(&mut self) -> TlsStream<TcpStream> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<TlsStream<TcpStream>> {
        loop {
            match self.handshakes.poll_join_next(context) {
                Poll::Ready(Some(Ok(Ok(stream)))) => return Poll::Ready(stream),
                Poll::Ready(Some(Ok(Err(error)))) => {
                    guarded(|| trace!(%error, "handshake failed")); // the next must be served
                    continue;
                }
                Poll::Ready(Some(Err(_panic))) => continue, // tokio has told of it
                Poll::Ready(None) | Poll::Pending => {}
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok((tcp, _)) => self.begin(tcp),
                Err(error) => self.pause = pause_after(error, &self.log),
            }
        }
    }

    fn begin(&mut self, tcp: TcpStream) {
        // Without it an answer waits for the client's acknowledgement of the tickets before it.
        let _ = tcp.set_nodelay(true);
        let handshake = timeout(self.timeout, (self.current)().accept(tcp));
        self.handshakes.spawn(async move { handshake.await? });
    }
}

/// What is waited for when nothing could be accepted; nothing if only the connection failed that was
/// to be.
fn pause_after(error: io::Error, log: &Errands) -> Option<Pin<Box<Sleep>>> {
    match error.kind() {
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset => None,
        _ => {
            log.tell(move || {
                warn!(%error, "no connection can be accepted; trying again in a second");
            });
            Some(Box::pin(sleep(PAUSE)))
        }
    }
}

impl Stream for Incoming {
    type Item = io::Result<TlsStream<TcpStream>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_accept(context).map(|stream| Some(Ok(stream)))
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("listener", &self.listener)
            .field("handshake_timeout", &self.timeout)
            .field("handshakes", &self.handshakes.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_hangs_up_delays_nobody_and_a_want_of_files_is_waited_out() {
        let hung_up = io::Error::from(io::ErrorKind::ConnectionAborted);
        assert!(pause_after(hung_up, &Errands::AT_ONCE).is_none());
        let too_many_files = io::Error::from_raw_os_error(24);
        assert!(pause_after(too_many_files, &Errands::AT_ONCE).is_some());
    }

    #[tokio::test]
    async fn the_stream_does_not_end_while_nobody_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut incoming = Incoming::new(listener, || unreachable!("nobody comes"));
        let next = poll_fn(|context| {
            let next = Pin::new(&mut incoming).poll_next(context);
            Poll::Ready(next.is_pending())
        });
        assert!(next.await);
        let shown = format!("{incoming:?}");
        assert!(
            shown.contains("handshake_timeout: 10s, handshakes: 0, .. }"),
            "{shown}"
        );
    }
}
