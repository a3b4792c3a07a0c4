use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::queue::Write;
use crate::caught::caught;
use crate::stats::StoreTrouble;

/// How one server is spoken with. It is displayed in logs, so it must not show a secret.
///
/// Connecting must end by itself. Nothing else needs a timeout: the node gives up on what
/// takes too long, by dropping the future.
pub(in crate::store) trait Backend: fmt::Display + Clone + Send + 'static {
    type Connection: Connection;

    fn connect(&mut self) -> impl Future<Output = Result<Self::Connection, Failure>> + Send;

    /// The key of no session with which this server may be tried out, given what all keys begin
    /// with.
    fn probe_key(&self, prefix: &str) -> String {
        format!("{prefix}probe")
    }

    /// How long a batch of writes may take.
    fn write_timeout(&self) -> Duration;
}

/// A connection that many tasks use at once. Its clones share it.
///
/// `asking` tells whether another server sent us here, and this one must be told so.
pub(in crate::store) trait Connection: Clone + Send + 'static {
    /// Does all that a store needs, once: a server that answers may be of no use all the same.
    fn try_out(&mut self, probe_key: &str) -> impl Future<Output = Result<(), Failure>> + Send;

    fn get(
        &mut self,
        key: &str,
        asking: bool,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, Failure>> + Send;

    /// Both in one step, on the server: of any number of callers at most one gets the value.
    fn get_and_delete(
        &mut self,
        key: &str,
        asking: bool,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, Failure>> + Send;

    /// Writes a batch, once: nothing of unknown outcome may be repeated. Returns the outcome of
    /// each write, or a failure if they are unknown.
    fn write(
        &mut self,
        batch: &[Write],
    ) -> impl Future<Output = Result<Vec<Result<(), Failure>>, Failure>> + Send;
}

/// Why a server did not do what it was asked.
pub(in crate::store) struct Failure {
    pub(in crate::store) kind: FailureKind,
    pub(in crate::store) cause: Box<dyn StdError + Send + Sync>,
}

/// What foreign code comes to. Its panic is a failure that costs the connection: whoever keeps that
/// makes another, as after any other.
pub(super) async fn unless_it_panics<T>(
    outcome: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    caught(outcome).await.unwrap_or_else(|panic| {
        Err(Failure {
            kind: FailureKind::Useless(StoreTrouble::Unreachable),
            cause: panic.into(),
        })
    })
}

/// What a failure says of the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::store) enum FailureKind {
    /// The connection is of no use any more, because it is lost or leads to the wrong server: the
    /// circuit breaker opens at once.
    Useless(StoreTrouble),
    /// The server has no room for a value, but serves what it has: no reason to open the breaker.
    Full,
    /// The server answered with an error: several in a row open the breaker.
    Refused(StoreTrouble),
    /// The server is well, and did nothing, because another has the key.
    Redirected(Redirection),
}

/// Another server of the same store, which has a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::store) struct Redirection {
    pub(in crate::store) address: String,
    /// Whether it must be told that it was redirected, because it is not yet known to have the key.
    pub(in crate::store) asking: bool,
}

impl FailureKind {
    pub(super) fn trouble(&self) -> Option<StoreTrouble> {
        match self {
            Self::Useless(trouble) | Self::Refused(trouble) => Some(*trouble),
            Self::Full => Some(StoreTrouble::Full),
            Self::Redirected(_) => None,
        }
    }
}
