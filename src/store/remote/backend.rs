use std::error::Error as StdError;
use std::fmt;

use super::queue::Write;

/// How one server is spoken with. It is displayed in logs, so it must not show a secret.
///
/// Nothing here needs a timeout: the node gives up on what takes too long, by dropping the future.
pub(in crate::store) trait Backend: fmt::Display + Send + 'static {
    /// A connection that many tasks use at once. Its clones share it.
    type Connection: Clone + Send + 'static;

    fn connect(&mut self) -> impl Future<Output = Result<Self::Connection, Failure>> + Send;

    fn ping(connection: &mut Self::Connection) -> impl Future<Output = Result<(), Failure>> + Send;

    fn get(
        connection: &mut Self::Connection,
        key: &str,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, Failure>> + Send;

    /// Both in one step, on the server: of any number of callers at most one gets the value.
    fn get_and_delete(
        connection: &mut Self::Connection,
        key: &str,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, Failure>> + Send;

    /// Writes a batch, once: nothing of unknown outcome may be repeated. Returns the outcome of
    /// each write, or a failure if they are unknown.
    fn write(
        connection: &mut Self::Connection,
        batch: &[Write],
    ) -> impl Future<Output = Result<Vec<Result<(), Failure>>, Failure>> + Send;
}

/// Why a server did not do what it was asked.
pub(in crate::store) struct Failure {
    pub(in crate::store) kind: FailureKind,
    pub(in crate::store) cause: Box<dyn StdError + Send + Sync>,
}

/// What a failure says of the server.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(in crate::store) enum FailureKind {
    /// The connection is of no use any more: the circuit breaker opens at once.
    ConnectionLost,
    /// The server has no room for a value, but serves what it has: no reason to open the breaker.
    Full,
    /// The server answered with an error: several in a row open the breaker.
    Refused,
}
