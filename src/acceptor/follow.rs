use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tracing::level_filters::LevelFilter;
use tracing::{Span, trace};

use crate::clock::Time;
use crate::context::{self, Claimed, Context, ResumedBy};
use crate::counters::Counters;
use crate::resumption::Resumption;
use crate::stats::{AcceptorStats, HandshakeCount};
use crate::stek::KeyName;
use crate::store::Miss;

impl Resumption {
    /// Follows one handshake: knows from its beginning to its end which session was resumed and which
    /// are made.
    ///
    /// So [`max_session_age`](crate::ResumptionBuilder::max_session_age) bounds TLS 1.3 sessions too,
    /// [`AcceptorStats`](crate::stats::AcceptorStats) counts the handshake, and the [`Handshake`] that
    /// comes back beside the stream says what happened.
    ///
    /// `accept` makes any future that performs a handshake, and nothing more, with a configuration
    /// that this `Resumption` is [installed](Resumption::install) in: what `TlsAcceptor::accept` or
    /// `StartHandshake::into_stream` of tokio-rustls return, or an acceptor of a framework. It is a
    /// closure because some of them, `into_stream` among them, let rustls process the ClientHello
    /// before there is a future: **call them within it.** The acceptors of
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
    /// Dropping the future drops the one in it. The handshake then counts as failed, as one does that
    /// ends in an error.
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
        Ok((accepted, following.end(None)))
    }

    pub(super) fn following(&self) -> Following {
        Following::new(self.now(), Arc::clone(self.handshakes()))
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
        Poll::Ready(accepted.map(|accepted| (accepted, following.end(None))))
    }
}

impl<F> std::fmt::Debug for Follow<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").finish_non_exhaustive()
    }
}

/// What happened in a handshake, as far as resumption goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Handshake {
    /// What came of it.
    pub outcome: Outcome,
    /// Whether early data was accepted. `None` where the connection is out of sight: known to the
    /// acceptors of this crate.
    pub early_data: Option<bool>,
    /// Whether the client had to say hello twice. `None` as above.
    pub hello_retry: Option<bool>,
}

/// What came of a handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// A full handshake: the client offered a session, and rustls did not resume it, because of
    /// another server name or cipher suite, say.
    Declined,
    /// A full handshake: of what the client offered nothing was there, or could be opened.
    NotFound {
        /// Why, by the name that the metrics have for it: `unknown_key_name`, `not_found`, ….
        why: &'static str,
    },
    /// A full handshake: the client offered no session.
    NotOffered,
    /// The session was resumed.
    Resumed {
        /// How it was kept until then.
        by: ResumedBy,
        /// How long its full handshake is ago. `None` if some handshake since then was not followed.
        age: Option<Duration>,
        /// The STEK that had sealed it, if one had.
        key_name: Option<KeyName>,
    },
    /// A full handshake: the shared store gave no answer.
    StoreUnavailable,
}

impl Outcome {
    /// Whether a session was resumed.
    pub fn is_resumed(&self) -> bool {
        matches!(self, Self::Resumed { .. })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Declined => "declined",
            Self::NotFound { .. } => "not_found",
            Self::NotOffered => "not_offered",
            Self::Resumed { .. } => "resumed",
            Self::StoreUnavailable => "store_unavailable",
        }
    }
}

/// What rustls says of a connection when its handshake is over.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) is_resumed: bool,
    pub(super) early_data: bool,
    pub(super) hello_retry: bool,
}

/// The context of a handshake outside its calls. Dropped before the end, once begun, it counts as a
/// failure.
pub(crate) struct Following {
    /// `None` once it has ended, and where there is nothing to follow.
    context: Option<Box<Context>>,
    counts: Option<Arc<Counters<AcceptorStats>>>,
    has_begun: bool,
    store_unavailable: bool,
}

impl Following {
    pub(super) fn new(now: Time, counts: Arc<Counters<AcceptorStats>>) -> Self {
        Self {
            context: Some(Context::new(now)),
            counts: Some(counts),
            has_begun: false,
            store_unavailable: false,
        }
    }

    /// Follows nothing.
    pub(super) fn nothing() -> Self {
        Self {
            context: None,
            counts: None,
            has_begun: false,
            store_unavailable: false,
        }
    }

    /// Makes a call that is a part of the handshake.
    pub(super) fn during<R>(&mut self, call: impl FnOnce() -> R) -> R {
        self.has_begun = true;
        context::within(&mut self.context, call)
    }

    /// Only what is claimed is found in this handshake.
    pub(super) fn looks_up(&mut self) {
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
            Err(Miss::NotFound) => {}
            Err(Miss::Unavailable) => self.store_unavailable = true,
        }
    }

    /// Counts what happened, and tells. `seen` is what rustls says of it, where it can be asked.
    pub(super) fn end(&mut self, seen: Option<Seen>) -> Handshake {
        let context = self.context.take();
        let handshake = Handshake {
            outcome: self.outcome(context.as_deref(), seen.map(|seen| seen.is_resumed)),
            early_data: seen.map(|seen| seen.is_resumed && seen.early_data),
            hello_retry: seen.map(|seen| seen.hello_retry),
        };
        context.into_iter().for_each(Context::retire);
        if let Some(counts) = &self.counts {
            handshake.count(counts);
            if LevelFilter::current() > LevelFilter::OFF {
                handshake.record(&Span::current());
            }
        }
        handshake
    }

    fn outcome(&self, context: Option<&Context>, is_resumed: Option<bool>) -> Outcome {
        let given = context.and_then(Context::given);
        let was_declined = context.is_some_and(Context::was_declined);
        let is_resumed = is_resumed.unwrap_or_else(|| given.is_some() && !was_declined);
        if is_resumed {
            return Outcome::Resumed {
                by: given.map_or(ResumedBy::Other, |given| given.by),
                age: given.and_then(|given| given.lineage.is_known.then_some(given.age)),
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
}

impl Drop for Following {
    fn drop(&mut self) {
        if self.has_begun
            && self.context.is_some()
            && let Some(counts) = &self.counts
        {
            counts.add(HandshakeCount::Failed);
        }
    }
}

impl Handshake {
    fn count(&self, counts: &Counters<AcceptorStats>) {
        trace!(outcome = self.outcome.name(), retry = ?self.hello_retry, "accepted");
        counts.add(match self.outcome {
            Outcome::Declined => HandshakeCount::Declined,
            Outcome::NotFound { .. } => HandshakeCount::NotFound,
            Outcome::NotOffered => HandshakeCount::NotOffered,
            Outcome::Resumed { .. } => HandshakeCount::Resumed,
            Outcome::StoreUnavailable => HandshakeCount::StoreUnavailable,
        });
        if self.early_data == Some(true) {
            counts.add(HandshakeCount::EarlyData);
        }
        if self.hello_retry == Some(true) {
            counts.add(HandshakeCount::HelloRetry);
        }
    }

    /// Fills the fields in that a span has for it.
    fn record(&self, span: &Span) {
        if span.is_disabled() {
            return;
        }
        span.record("resumption.outcome", self.outcome.name());
        match self.outcome {
            Outcome::Resumed { by, age, key_name } => {
                span.record("resumption.by", by.name());
                if let Some(age) = age {
                    span.record("resumption.age", age.as_secs());
                }
                if let Some(name) = key_name {
                    span.record("resumption.key_name", tracing::field::display(name));
                }
            }
            Outcome::NotFound { why } => {
                span.record("resumption.why", why);
            }
            Outcome::Declined | Outcome::NotOffered | Outcome::StoreUnavailable => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use parking_lot::Mutex;
    use tracing::field::{Empty, Field, Visit};
    use tracing::{Event, Metadata, Subscriber, info_span, span};

    use super::*;

    /// Keeps the fields that spans are given.
    #[derive(Clone, Default)]
    struct Fields(Arc<Mutex<Vec<String>>>);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0.lock().push(format!("{field}={value:?}"));
        }
    }

    impl Subscriber for Fields {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, values: &span::Record<'_>) {
            values.record(&mut self.clone());
        }

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, _: &Event<'_>) {}

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn a_span_is_told_what_happened() {
        let fields = Fields::default();
        tracing::subscriber::with_default(fields.clone(), || {
            let span = info_span!(
                "handshake",
                resumption.outcome = Empty,
                resumption.by = Empty,
                resumption.age = Empty,
                resumption.key_name = Empty,
                resumption.why = Empty,
            );
            for outcome in [
                Outcome::NotFound { why: "forged" },
                Outcome::Resumed {
                    by: ResumedBy::Ticket,
                    age: Some(Duration::from_secs(60)),
                    key_name: Some(KeyName::from_bytes([0xab; 16])),
                },
                Outcome::Resumed {
                    by: ResumedBy::Cache,
                    age: None,
                    key_name: None,
                },
            ] {
                let handshake = Handshake {
                    outcome,
                    early_data: None,
                    hello_retry: None,
                };
                handshake.record(&span);
            }
        });
        assert_eq!(
            *fields.0.lock(),
            [
                r#"resumption.outcome="not_found""#,
                r#"resumption.why="forged""#,
                r#"resumption.outcome="resumed""#,
                r#"resumption.by="ticket""#,
                "resumption.age=60",
                "resumption.key_name=abababababababababababababababab",
                r#"resumption.outcome="resumed""#,
                r#"resumption.by="cache""#,
            ]
        );
    }
}
