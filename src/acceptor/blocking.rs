use std::io::{self, Read, Write};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustls::server::ClientHello;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::driver::{Transport, read_hello, send};
use super::{Accepting, Handshake, Target};
use crate::clock::instant_in;

/// Accepts TLS connections on a thread each: what [`ResumptionAcceptor`] is on tokio.
///
/// While a shared store is asked the calling thread waits, at most for
/// [`store_deadline`](crate::ResumptionBuilder::store_deadline).
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpListener;
/// use std::sync::Arc;
/// use std::thread;
/// use rustls_resumption::Resumption;
/// use rustls_resumption::acceptor::BlockingAcceptor;
/// # fn f(mut config: rustls::ServerConfig, listener: TcpListener) -> Result<(), Box<dyn std::error::Error>> {
///
/// let resumption = Resumption::stateful(100_000)?;
/// resumption.install(&mut config, "api.example.com");
/// let acceptor = BlockingAcceptor::from(Arc::new(config));
/// for tcp in listener.incoming() {
///     let (tcp, acceptor) = (tcp?, acceptor.clone());
///     thread::spawn(move || -> std::io::Result<()> {
///         let mut stream = acceptor.accept(tcp)?;
///         let mut request = [0; 4];
///         stream.read_exact(&mut request)?;
///         stream.write_all(&request)
///     });
/// }
/// # Ok(()) }
/// ```
///
/// # Timeouts
///
/// A client may send its part as slowly as it likes. Set timeouts on the socket.
///
/// [`ResumptionAcceptor`]:
/// https://docs.rs/rustls-resumption/latest/rustls_resumption/struct.ResumptionAcceptor.html
#[derive(Clone, Debug)]
pub struct BlockingAcceptor {
    target: Target,
}

impl From<Arc<ServerConfig>> for BlockingAcceptor {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self::new(config)
    }
}

impl BlockingAcceptor {
    /// An acceptor of connections for this configuration.
    ///
    /// Warns (in the log) if no [`Resumption`](crate::Resumption) is installed in it. Then rustls
    /// does all there is to do.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            target: Target::new(config).lasting(),
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

    /// Does the handshake with the client at the other end of `io`, which must block.
    ///
    /// # Errors
    ///
    /// What `io` fails with, [`io::ErrorKind::UnexpectedEof`] if it ends, and
    /// [`io::ErrorKind::InvalidData`] with a [`rustls::Error`] if the handshake fails; the client
    /// is sent an alert then. Never because of resumption.
    pub fn accept<IO>(&self, io: IO) -> io::Result<StreamOwned<ServerConnection, IO>>
    where
        IO: Read + Write,
    {
        self.accept_with(io, |_| ())
    }

    /// The same, and calls `f` once the ClientHello (after a HelloRetryRequest the second one) is
    /// processed: to set and get the application's resumption data, say.
    ///
    /// # Errors
    ///
    /// As [`accept`](BlockingAcceptor::accept).
    pub fn accept_with<IO, F>(&self, io: IO, f: F) -> io::Result<StreamOwned<ServerConnection, IO>>
    where
        IO: Read + Write,
        F: FnOnce(&mut ServerConnection),
    {
        accept(io, |_| Ok(self.target.clone()), f)
    }

    /// The same with a configuration chosen for each connection, by its server name, say. A
    /// [`Resumption`](crate::Resumption) must be installed in each; it may be the same one, in
    /// different scopes.
    ///
    /// # Errors
    ///
    /// As [`accept`](BlockingAcceptor::accept), and what `choose` returns; then the client is sent
    /// nothing.
    pub fn accept_with_config<IO, C, F>(
        &self,
        io: IO,
        choose: C,
        f: F,
    ) -> io::Result<StreamOwned<ServerConnection, IO>>
    where
        IO: Read + Write,
        C: FnOnce(ClientHello<'_>) -> io::Result<Arc<ServerConfig>>,
        F: FnOnce(&mut ServerConnection),
    {
        let choose = |hello: ClientHello<'_>| {
            let config = choose(hello)?;
            Ok(match Arc::ptr_eq(&config, &self.target.config) {
                true => self.target.clone(),
                false => self.target.with_config(config),
            })
        };
        accept(io, choose, f)
    }
}

fn accept<IO, C, F>(mut io: IO, choose: C, f: F) -> io::Result<StreamOwned<ServerConnection, IO>>
where
    IO: Read + Write,
    C: FnOnce(ClientHello<'_>) -> io::Result<Target>,
    F: FnOnce(&mut ServerConnection),
{
    let mut stream = Blocking(&mut io);
    let hello = at_once(read_hello(&mut stream))?;
    let target = choose(hello.client_hello())?;
    let mut accepting = Accepting::new(&target, &hello.offer);
    if let Some(look_up) = target.look_up(&hello) {
        let found = wait_for(look_up.run(), look_up.deadline());
        let found = found.unwrap_or_else(|| Err(look_up.timed_out()));
        accepting.following.looked_up(found);
    }
    let mut connection = at_once(accepting.drive(hello, &mut stream, Some(f)))?;
    accepting.following.during(|| {
        while connection.is_handshaking() {
            connection.complete_io(stream.0)?;
        }
        at_once(send(&mut stream, &mut connection))
    })?;
    accepting.end(&mut connection);
    Ok(StreamOwned::new(*connection, io))
}

/// A stream that blocks.
struct Blocking<'a, IO>(&'a mut IO);

impl<IO: Read + Write> Transport for Blocking<'_, IO> {
    const BLOCKS: bool = true;

    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        mut read: impl FnMut(&mut dyn Read) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(uninterrupted(|| read(self.0)))
    }

    fn poll_write<T>(
        &mut self,
        _: &mut Context<'_>,
        mut write: impl FnMut(&mut dyn Write) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        Poll::Ready(uninterrupted(|| write(self.0)))
    }
}

/// The outcome of a future that is never pending, because its stream blocks.
fn at_once<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Waits for a future on this thread. `None` at the deadline.
fn wait_for<T>(future: impl Future<Output = T>, deadline: Duration) -> Option<T> {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let until = instant_in(deadline);
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use super::*;

    #[test]
    fn a_call_is_repeated_when_it_was_interrupted_and_only_then() {
        for (kind, calls) in [
            (io::ErrorKind::Interrupted, 3),
            (io::ErrorKind::WouldBlock, 1),
        ] {
            let mut called = 0;
            let result = uninterrupted(|| {
                called += 1;
                if called < 3 { Err(kind.into()) } else { Ok(7) }
            });
            assert_eq!((called, result.ok()), (calls, (calls == 3).then_some(7)));
        }
    }

    #[test]
    fn a_future_is_waited_for_until_its_deadline() {
        // Ready at the second look, to which another thread wakes.
        let mut looked = false;
        let future = poll_fn(|context| {
            if looked {
                return Poll::Ready(7);
            }
            looked = true;
            let waker = context.waker().clone();
            thread::spawn(move || waker.wake());
            Poll::Pending
        });
        assert_eq!(wait_for(future, Duration::from_secs(3_600)), Some(7));
        assert_eq!(wait_for(pending::<()>(), Duration::from_millis(1)), None);
    }
}
