use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project_lite::pin_project;
use tracing::Span;
use tracing::level_filters::LevelFilter;

use crate::context::{self, Claimed, Context, Given, NO_TICKETS};
use crate::counters::Counters;
use crate::handshake::{Handshake, Outcome, ResumedBy};
use crate::resumption::{Followed, Resumption};
use crate::stats::{AcceptorStats, HandshakeCount};
use crate::store::Miss;

impl Resumption {
    /// Follows one handshake: knows from its beginning to its end which session was resumed and
    /// which are made.
    ///
    /// So [`max_session_age`](crate::ResumptionBuilder::max_session_age) bounds TLS 1.3 sessions
    /// too, [`AcceptorStats`](crate::stats::AcceptorStats) counts the handshake, and the
    /// [`Handshake`] that comes back beside the stream says what happened.
    ///
    /// `accept` makes any future that performs a handshake, and nothing more, with a configuration
    /// that this `Resumption` is [installed](Resumption::install) in: what `TlsAcceptor::accept` or
    /// `StartHandshake::into_stream` of tokio-rustls return, or an acceptor of a framework. It is a
    /// closure because some of them, `into_stream` among them, let rustls process the ClientHello
    /// before there is a future: **call them within it.** Of what they were given before nobody knows: a
    /// session made then passes for one of a full handshake that begins now. The acceptors of
    /// [this module](crate::acceptor) do the same themselves, and know more.
    ///
    /// ```
    /// # use rustls_resumption::Resumption;
    /// # use tokio::net::TcpStream;
    /// # async fn f(resumption: Resumption, acceptor: tokio_rustls::TlsAcceptor, tcp: TcpStream) -> std::io::Result<()> {
    /// let (stream, handshake) = resumption.follow(|| acceptor.accept(tcp)).await?;
    /// println!("{:?}", handshake.outcome);
    /// # Ok(()) }
    /// ```
    ///
    /// Whatever else shares the thread or the task, other handshakes included, is not mixed up with
    /// this one: it is known here only while `accept` is called and its future is polled.
    ///
    /// The fields `resumption.outcome`, `resumption.by`, `resumption.age` (in seconds),
    /// `resumption.key_name` and `resumption.why` of the current `tracing` span are recorded, where
    /// the span has them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the one in it. The handshake then counts as failed, as one does
    /// that ends in an error.
    pub fn follow<F>(&self, accept: impl FnOnce() -> F) -> Follow<F> {
        let mut following = self.following();
        Follow {
            accepting: following.during(accept),
            following,
        }
    }

    /// The same for a handshake in one blocking call.
    ///
    /// ```
    /// # use std::io;
    /// # use rustls::ServerConnection;
    /// # use rustls_resumption::Resumption;
    /// # fn f(resumption: Resumption, mut connection: ServerConnection, mut tcp: std::net::TcpStream) -> io::Result<()> {
    /// let ((), handshake) = resumption.follow_blocking(|| {
    ///     while connection.is_handshaking() {
    ///         connection.complete_io(&mut tcp)?;
    ///     }
    ///     io::Result::Ok(())
    /// })?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// What the call returns.
    pub fn follow_blocking<T, E>(
        &self,
        accept: impl FnOnce() -> Result<T, E>,
    ) -> Result<(T, Handshake), E> {
        let mut following = self.following();
        let accepted = following.during(accept)?;
        Ok((accepted, following.end(Seen::default())))
    }

    pub(super) fn following(&self) -> Following {
        Following::new(self.followed())
    }
}

pin_project! {
    /// A future that follows a handshake: see [`Resumption::follow`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Follow<F> {
        #[pin]
        accepting: F,
        following: Following,
    }
}

impl<F, T, E> Future for Follow<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<(T, Handshake), E>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (accepting, following) = (this.accepting, this.following);
        let accepted = ready!(following.during(|| accepting.poll(cx)));
        // An error is counted when this is dropped.
        Poll::Ready(accepted.map(|accepted| (accepted, following.end(Seen::default()))))
    }
}

impl<F> std::fmt::Debug for Follow<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").finish_non_exhaustive()
    }
}

/// What rustls says of a connection when its handshake is over, as far as it can be asked.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) is_resumed: Option<bool>,
    pub(super) early_data: Option<bool>,
    /// Whether early data was offered and refused.
    pub(super) early_data_refused: bool,
    pub(super) hello_retry: Option<bool>,
    /// Whether rustls makes TLS 1.3 sessions for every client that can resume them.
    pub(super) makes_tls13: bool,
}

/// The context of a handshake outside its calls. Dropped before the end, once begun, it counts as a
/// failure.
pub(crate) struct Following {
    /// `None` once it has ended, and where there is nothing to follow.
    context: Option<Box<Context>>,
    counts: Option<Arc<Counters<AcceptorStats>>>,
    makes_tickets: bool,
    has_begun: bool,
    store_unavailable: bool,
}

impl Following {
    #[inline(always)]
    pub(super) fn new(followed: Followed) -> Self {
        let mut context = Context::new(followed.now);
        if followed.keeps_tags {
            context.keep_tags();
        }
        Self {
            context: Some(context),
            counts: Some(followed.counts),
            makes_tickets: followed.makes_tickets,
            has_begun: false,
            store_unavailable: false,
        }
    }

    /// Follows nothing.
    pub(super) fn nothing() -> Self {
        Self {
            context: None,
            counts: None,
            makes_tickets: false,
            has_begun: false,
            store_unavailable: false,
        }
    }

    /// Makes a call that is a part of the handshake.
    pub(super) fn during<R>(&mut self, call: impl FnOnce() -> R) -> R {
        self.has_begun = true;
        match self.context {
            Some(_) => context::within(&mut self.context, call),
            None => call(),
        }
    }

    /// Only what is claimed is found in this handshake.
    pub(super) fn looks_up(&mut self) {
        self.has_begun = true; // who leaves while the store is asked leaves after the ClientHello
        if let Some(context) = &mut self.context {
            context.looked_up(None);
        }
    }

    /// What came of the look-up: a claimed session, or one that was put into the cache.
    pub(super) fn looked_up(&mut self, found: Result<Option<Claimed>, Miss>) {
        let Some(context) = &mut self.context else {
            return;
        };
        match found {
            Ok(Some(claimed)) => context.looked_up(Some(claimed)),
            Ok(None) => context.fetched(),
            Err(miss) => {
                context.not_in_store();
                self.store_unavailable |= matches!(miss, Miss::Unavailable);
            }
        }
    }

    /// Counts what happened, and tells.
    pub(super) fn end(&mut self, seen: Seen) -> Handshake {
        let context = self.context.take();
        if let Some(told) = context.as_deref().and_then(Context::told) {
            context::tell_outer(told);
            return *told;
        }
        let outcome = self.outcome(context.as_deref(), seen.is_resumed);
        // Somebody may rely on lineage and verification, so they need more than a guess.
        let is_seen = seen.is_resumed.is_some();
        let shows = || context.as_deref().is_some_and(Context::shows_resumption);
        let is_resumed = || outcome.is_resumed() && (is_seen || shows());
        let lineage = context
            .as_deref()
            .and_then(|context| context.session_lineage(is_resumed));
        let verified = context.as_deref().and_then(Context::verified_ago);
        let handshake = Handshake {
            outcome,
            client_verified: verified.filter(|_| is_resumed()),
            early_data: seen.early_data.map(|early| early && outcome.is_resumed()),
            hello_retry: seen.hello_retry,
            lineage,
        };
        let cannot = context
            .as_deref()
            .and_then(|context| self.cannot(context, outcome, seen));
        if let Some(context) = context {
            context.retire();
        }
        if let Some(counts) = &self.counts {
            handshake.count(counts);
            if seen.early_data_refused {
                counts.add(HandshakeCount::EarlyDataRefused);
            }
            if let Some(why) = cannot {
                counts.add(why);
            }
            if LevelFilter::current() > LevelFilter::OFF {
                handshake.record(&Span::current());
            }
            context::tell_outer(&handshake);
        }
        handshake
    }

    /// It ends before its end.
    #[cold]
    fn give_up(&self, context: &Context) {
        // A handshake that is followed once more within is counted there.
        if !self.has_begun || context.has_inner() {
            return;
        }
        if let Some(counts) = &self.counts {
            counts.add(HandshakeCount::Failed);
        }
    }

    fn outcome(&self, context: Option<&Context>, is_resumed: Option<bool>) -> Outcome {
        let given = context.and_then(Context::given);
        let was_declined = context.is_some_and(Context::was_declined);
        let is_resumed = is_resumed.unwrap_or_else(|| given.is_some() && !was_declined);
        if is_resumed {
            return Outcome::Resumed {
                by: given.map_or(ResumedBy::Other, |given| given.by),
                age: given.and_then(Given::age),
                key_name: given.and_then(|given| given.key_name),
            };
        }
        if given.is_some() || was_declined {
            return Outcome::Declined;
        }
        match context.and_then(Context::missed) {
            _ if self.store_unavailable => Outcome::StoreUnavailable,
            Some(why) => Outcome::NotFound { why },
            None => Outcome::NotOffered,
        }
    }

    /// Why the client of a full handshake will not resume the next time either, if that shows.
    fn cannot(&self, context: &Context, outcome: Outcome, seen: Seen) -> Option<HandshakeCount> {
        match outcome {
            Outcome::Resumed { .. } => None,
            _ if seen.makes_tls13 && !context.was_handed_one() => Some(HandshakeCount::NoPskDheKe),
            Outcome::NotFound { why: NO_TICKETS } => Some(HandshakeCount::TicketWhenStateful),
            Outcome::NotOffered if context.made_tls12() && !self.makes_tickets => {
                Some(HandshakeCount::NoSessionId)
            }
            _ => None,
        }
    }
}

impl Drop for Following {
    #[inline]
    fn drop(&mut self) {
        // Taken, so that nothing is to be dropped any more where there was none.
        if let Some(context) = self.context.take() {
            self.give_up(&context);
        }
    }
}
