//! What every remote store needs, whatever protocol its server speaks.
//!
//! ```text
//!  Remote   what the handles of a store share: the prefix of its keys, and its nodes
//!  Driver   the tasks of one node, on the store's thread: they keep its connection and serve it
//!  Node     a handle on one server: queue of writes, look-ups in flight, circuit breaker
//!  Backend  the protocol: the only part that a new store brings itself
//! ```
//!
//! A store has one node so far. One with several would route each key to its node, and run all of
//! their drivers on one thread.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;

use super::{StoreKey, StoreLookup};
use crate::error::Error;
use crate::stats::StoreHealth;

mod backend;
mod breaker;
mod driver;
mod node;
mod queue;

pub(super) use backend::{Backend, Failure, FailureKind};
pub(super) use node::Node;
pub(super) use queue::Write;

use driver::Driver;

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
        let (node, requests) = Node::new();
        let driven = Driver::run(backend, requests);
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
        Self::over(Node::new().0, prefix)
    }
}

#[cfg(test)]
mod tests;
