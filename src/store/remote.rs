//! What every remote store needs, whatever protocol its server speaks.
//!
//! ```text
//!  Remote   what the handles of a store share: the prefix of its keys, and its nodes
//!  Node     one server: its connection, queue of writes, look-ups in flight and circuit breaker
//!  Driver   the node's tasks, on the store's thread
//!  Backend  the protocol: the only part that a new store brings itself
//! ```
//!
//! A store has one node so far. One of several would route each key to its node; all of them can
//! share one thread, because a node comes with a future that drives it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;

use super::{StoreKey, StoreLookup};
use crate::error::Error;
use crate::stats::StoreHealth;

mod breaker;
mod driver;
mod node;
mod queue;

pub(super) use node::Node;
pub(super) use queue::Write;

/// How one server is spoken with. It is displayed in logs, so it must not show a secret.
///
/// Nothing here needs a timeout: the node gives up on what takes too long, by dropping the future.
pub(super) trait Backend: fmt::Display + Send + 'static {
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
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) cause: Box<dyn StdError + Send + Sync>,
}

/// What a failure says of the server.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum FailureKind {
    /// The connection is of no use any more: the circuit breaker opens at once.
    ConnectionLost,
    /// The server has no room for a value, but serves what it has: no reason to open the breaker.
    Full,
    /// The server answered with an error: several in a row open the breaker.
    Refused,
}

/// What all handles of one store share.
#[derive(Clone)]
pub(super) struct Remote {
    prefix: Arc<str>,
    node: Node,
}

impl Remote {
    /// Connects in the background, on a thread of this name, which ends after the last handle is
    /// dropped and the queue is written.
    pub(super) fn start(thread: &str, prefix: &str, backend: impl Backend) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let (node, driven) = Node::new(backend);
        thread::Builder::new()
            .name(thread.into())
            .spawn(move || runtime.block_on(driven))
            .map_err(Error::Thread)?;
        Ok(Self::over(node, prefix))
    }

    fn over(node: Node, prefix: &str) -> Self {
        Self {
            prefix: format!("{prefix}:session:").into(),
            node,
        }
    }

    pub(super) fn with_prefix(self, prefix: &str) -> Self {
        Self::over(self.node, prefix)
    }

    /// What every key on the server begins with.
    pub(super) fn key_prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn fetch(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.node.look_up(self.key(key), deadline, false)
    }

    pub(super) fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.node.look_up(self.key(key), deadline, true)
    }

    pub(super) fn write(&self, key: &StoreKey, value: Vec<u8>, ttl: Duration) -> bool {
        self.node.write(self.key(key), value, ttl)
    }

    pub(super) fn health(&self) -> StoreHealth {
        self.node.health()
    }

    fn key(&self, key: &StoreKey) -> String {
        format!("{}{key}", self.prefix)
    }
}

#[cfg(test)]
impl Remote {
    /// A store whose thread never runs.
    pub(super) fn idle(prefix: &str) -> Self {
        Self::over(Node::idle().0, prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_begin_with_the_prefix() {
        let key = StoreKey([0xab; StoreKey::LEN]);
        let remote = Remote::idle("rustls-resumption");
        assert_eq!(
            remote.key(&key),
            format!("rustls-resumption:session:{}", "ab".repeat(32))
        );
        let remote = remote.with_prefix("eu");
        assert!(remote.key(&key).starts_with("eu:session:abab"));
    }
}
