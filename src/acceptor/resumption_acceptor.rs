use std::future::{Future, poll_fn, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use rustls::server::{Accepted, ClientHello};
use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, StartHandshake, TlsAcceptor};

use super::driver::read_hello;
use super::synchronous::Polled;
use super::{Accepting, Handshake, Hello, Target, asks_again};

/// Accepts TLS connections on tokio, where tokio-rustls's `TlsAcceptor` stood.
///
/// It does what a plain acceptor cannot, because rustls asks for sessions within a call that must
/// not wait:
///
/// * With a [`SharedStore`](crate::store::SharedStore) it fetches or claims the client's session
///   before rustls asks for it, and waits for the store no longer than
///   [`store_deadline`](crate::ResumptionBuilder::store_deadline), in all. At most 4 sessions are
///   claimed for a ClientHello, in the client's order, up to the first that there is.
/// * It [follows](crate::Resumption::follow) each handshake, through a HelloRetryRequest too, so
///   that [`max_session_age`](crate::ResumptionBuilder::max_session_age) bounds TLS 1.3, and what
///   rustls did is counted: [`AcceptorStats`](crate::stats::AcceptorStats).
///
/// Everything it needs it finds in the configuration, in which a
/// [`Resumption`](crate::Resumption) must be installed.
///
/// ```
/// use std::sync::Arc;
/// use rustls_resumption::{Resumption, ResumptionAcceptor};
/// # use tokio::net::TcpListener;
/// # async fn f(mut config: rustls::ServerConfig, listener: TcpListener) -> Result<(), Box<dyn std::error::Error>> {
/// let resumption = Resumption::stateful(100_000)?;
/// resumption.install(&mut config, "api.example.com");
/// let acceptor = ResumptionAcceptor::from(Arc::new(config));
/// loop {
///     let (tcp, _) = listener.accept().await?;
///     let handshake = acceptor.accept(tcp);
///     tokio::spawn(async move {
///         let stream = handshake.await?;
///         // a `tokio_rustls::server::TlsStream<TcpStream>`
/// #       drop(stream); std::io::Result::Ok(())
///     });
/// }
/// # }
/// ```
///
/// # Timeouts
///
/// A client may send its part as slowly as it likes. As with tokio-rustls, wrap the future in
/// [`tokio::time::timeout`].
///
/// # Cancel safety
///
/// Dropping the future drops the connection. A session that was claimed for it is wiped and lost,
/// which costs its client a full handshake; it is counted
/// ([`StoreStats::unused`](crate::stats::StoreStats::unused)).
///
/// # Cost
///
/// Without a store next to nothing. [`accept_with`](ResumptionAcceptor::accept_with) and
/// [`accept_with_config`](ResumptionAcceptor::accept_with_config) make one more `ServerConnection`
/// for each connection, some microseconds.
#[derive(Clone, Debug)]
pub struct ResumptionAcceptor {
    target: Target,
}

impl From<Arc<ServerConfig>> for ResumptionAcceptor {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self::new(config)
    }
}

impl ResumptionAcceptor {
    /// An acceptor of connections for this configuration.
    ///
    /// Warns (in the log) if no [`Resumption`](crate::Resumption) is installed in it. Then it does
    /// what a plain acceptor does.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            target: Target::new(config).lasting(),
        }
    }

    /// The same with another configuration.
    #[cfg(feature = "axum-server")]
    pub(super) fn with_config(&self, config: Arc<ServerConfig>) -> Self {
        Self {
            target: self.target.with_config(config).lasting(),
        }
    }

    /// Calls this at the end of each handshake, with what happened in it: for an access log, say.
    #[must_use]
    pub fn on_handshake(mut self, report: impl Fn(&Handshake) + Send + Sync + 'static) -> Self {
        self.target.report = Some(Arc::new(report));
        self
    }

    /// The configuration.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.target.config
    }

    /// Does the handshake with the client at the other end of `io`.
    ///
    /// Needs a tokio runtime with time enabled if there is a shared store.
    ///
    /// # Errors
    ///
    /// As tokio-rustls's: what `io` fails with, [`io::ErrorKind::UnexpectedEof`] if it ends, and
    /// [`io::ErrorKind::InvalidData`] with a [`rustls::Error`] if the handshake fails; the client
    /// is sent an alert then. Never because of resumption.
    pub fn accept<IO>(&self, io: IO) -> impl Future<Output = io::Result<TlsStream<IO>>> + use<IO>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let target = self.target.clone();
        accept(io, |_| ready(Ok(target)), NO_SAY)
    }

    /// The same, and calls `f` once the ClientHello (after a HelloRetryRequest the second one) is
    /// processed: to set and get the application's resumption data, say.
    ///
    /// Unlike with tokio-rustls's `accept_with` it is known by then whether the client resumes and
    /// whether early data is accepted, so it is too late to reject early data: leave
    /// `max_early_data_size` at 0 for that.
    ///
    /// # Errors
    ///
    /// As [`accept`](ResumptionAcceptor::accept).
    pub fn accept_with<IO, F>(
        &self,
        io: IO,
        f: F,
    ) -> impl Future<Output = io::Result<TlsStream<IO>>> + use<IO, F>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
        F: FnOnce(&mut ServerConnection),
    {
        let target = self.target.clone();
        accept(io, |_| ready(Ok(target)), Some(f))
    }

    /// The same with a configuration chosen for each connection, by its server name, say: where
    /// tokio-rustls's `LazyConfigAcceptor` stood. A [`Resumption`](crate::Resumption) must be
    /// installed in each configuration; it may be the same one, in different scopes.
    ///
    /// `choose` may take its time, but what it returns must not borrow the ClientHello.
    ///
    /// ```
    /// # use std::io;
    /// # use std::sync::Arc;
    /// # use rustls::ServerConfig;
    /// # use rustls_resumption::ResumptionAcceptor;
    /// # async fn load(name: Option<String>) -> io::Result<Arc<ServerConfig>> { Err(io::ErrorKind::NotFound.into()) }
    /// # async fn f(acceptor: ResumptionAcceptor, tcp: tokio::net::TcpStream) -> io::Result<()> {
    /// let stream = acceptor
    ///     .accept_with_config(tcp, |hello| load(hello.server_name().map(str::to_owned)), |_| ())
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`accept`](ResumptionAcceptor::accept), and what `choose` returns; then the client is
    /// sent nothing.
    pub fn accept_with_config<IO, C, T, F>(
        &self,
        io: IO,
        choose: C,
        f: F,
    ) -> impl Future<Output = io::Result<TlsStream<IO>>> + use<IO, C, T, F>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
        C: FnOnce(ClientHello<'_>) -> T,
        T: Future<Output = io::Result<Arc<ServerConfig>>>,
        F: FnOnce(&mut ServerConnection),
    {
        let own = self.target.clone();
        let choose = |hello: ClientHello<'_>| {
            let chosen = choose(hello);
            async move {
                let config = chosen.await?;
                Ok(match Arc::ptr_eq(&config, &own.config) {
                    true => own,
                    false => own.with_config(config),
                })
            }
        };
        accept(io, choose, Some(f))
    }
}

const NO_SAY: Option<fn(&mut ServerConnection)> = None;

async fn accept<IO, C, T, F>(mut io: IO, choose: C, f: Option<F>) -> io::Result<TlsStream<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    C: FnOnce(ClientHello<'_>) -> T,
    T: Future<Output = io::Result<Target>>,
    F: FnOnce(&mut ServerConnection),
{
    let hello = read_hello(&mut Polled(&mut io)).await?;
    let target = choose(hello.client_hello()).await?;
    let mut accepting = Accepting::new(&target, &hello.offer);
    if let Some(look_up) = target.look_up(&hello) {
        let found = timeout(look_up.deadline(), look_up.run()).await;
        let found = found.unwrap_or_else(|_| Err(look_up.timed_out()));
        accepting.following.looked_up(found);
    }
    let mut accept = match f {
        None if hello.is_all() => accepting.start(hello.accepted, io),
        // Boxed, so that others do not pay for its size.
        f => Box::pin(accepting.start_with(hello, io, f)).await?,
    };
    let mut stream = poll_fn(|cx| {
        let accept = Pin::new(&mut accept);
        accepting.following.during(|| accept.poll(cx))
    })
    .await?;
    accepting.end(stream.get_mut().1);
    Ok(stream)
}

impl Accepting {
    fn start<IO>(&mut self, accepted: Accepted, io: IO) -> Accept<IO>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.config);
        let hello_retry = &mut self.hello_retry;
        let start = StartHandshake::from_parts(accepted, io);
        let hear = |connection: &mut ServerConnection| *hello_retry = asks_again(connection);
        self.following
            .during(|| start.into_stream_with(config, hear))
    }

    /// The same where the client has sent more, or may have, or the application has its say once the
    /// ClientHello that counts is processed.
    async fn start_with<IO, F>(
        &mut self,
        hello: Hello,
        mut io: IO,
        say: Option<F>,
    ) -> io::Result<Accept<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
        F: FnOnce(&mut ServerConnection),
    {
        let connection = self.drive(hello, &mut Polled(&mut io), say).await?;
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        Ok(acceptor.accept_with(io, move |fresh| *fresh = *connection))
    }
}
