//! What every remote store needs, whatever protocol its server speaks.
//!
//! ```text
//!  Remote   what the handles of a store share: the prefix of its keys, and its nodes
//!  Route    which node has which key: there is one node, or as many as a cluster has masters
//!  Driver   the tasks of one node, on the store's thread: they keep its connection and serve it
//!  Node     a handle on one server: queue of writes, look-ups in flight, circuit breaker
//!  Backend  the protocol: the only part that a new store brings itself
//! ```

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};

use super::{StoreError, StoreKey, StoreLookup};
use crate::error::Error;
use crate::stats::StoreHealth;

mod backend;
mod breaker;
mod driver;
mod node;
mod pauses;
mod queue;
mod route;
mod single;

pub(super) use backend::{Backend, Failure, FailureKind, Redirection};
pub(super) use driver::Driver;
pub(super) use node::{Common, Node};
pub(super) use pauses::Pauses;
pub(super) use queue::Write;
pub(super) use route::Route;

use node::Unanswered;
use single::Single;

/// What all handles of one store share.
#[derive(Clone)]
pub(super) struct Remote {
    prefix: Arc<str>,
    common: Arc<Common>,
    route: Arc<dyn Route>,
}

/// How many names may be looked up at once: one that hangs keeps its thread.
const MAX_NAMES: usize = 16;

impl Remote {
    /// A store of one server, on a thread of this name, which ends after the last handle is dropped
    /// and the queue is written. It connects when it is first used.
    pub(super) fn start(thread: &str, prefix: &str, backend: impl Backend) -> Result<Self, Error> {
        Self::start_with(thread, prefix, |common, _| Single::new(common, backend))
    }

    /// A store whose nodes are found and served by a future, on a thread of this name.
    pub(super) fn start_with<R: Route + 'static, D: Future<Output = ()> + Send + 'static>(
        thread: &str,
        prefix: &str,
        make: impl FnOnce(Arc<Common>, Handle) -> (Arc<R>, D),
    ) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_NAMES)
            .build()
            .map_err(Error::Thread)?;
        let prefix: Arc<str> = all_keys_begin_with(prefix);
        let common = Arc::new(Common::new(Arc::clone(&prefix)));
        let (route, driven) = make(Arc::clone(&common), runtime.handle().clone());
        let work = move || {
            runtime.block_on(driven);
            runtime.shutdown_background(); // a name that is still looked up is left to itself
        };
        let spawned: io::Result<_> = thread::Builder::new().name(thread.into()).spawn(work);
        spawned.map_err(Error::Thread)?;
        Ok(Self {
            prefix,
            common,
            route,
        })
    }

    pub(super) fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = all_keys_begin_with(prefix);
        self.common.set_prefix(Arc::clone(&self.prefix));
        self
    }

    /// What every key on the server begins with.
    pub(super) fn key_prefix(&self) -> &str {
        &self.prefix
    }

    /// Tells how long look-ups will have.
    pub(super) fn prepare(&self, deadline: Duration) {
        self.common.note_deadline(deadline);
        self.common.begin();
    }

    pub(super) fn fetch(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.look_up(key, deadline, false)
    }

    pub(super) fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.look_up(key, deadline, true)
    }

    fn look_up(&self, key: &StoreKey, deadline: Duration, claim: bool) -> StoreLookup {
        self.common.begin();
        let start = Instant::now();
        let key = self.key(key);
        let Some(node) = self.route.node(&key) else {
            return Box::pin(async { Err(StoreError::Unavailable) });
        };
        let lookup = node.look_up(key.clone(), deadline, claim, false);
        let route = Arc::clone(&self.route);
        Box::pin(async move {
            let to = match lookup.await {
                Ok(found) => return Ok(found),
                Err(Unanswered::Failed(error)) => return Err(error),
                Err(Unanswered::Redirected(to)) => to,
            };
            // Followed once: that proves that nothing was done.
            let Some(node) = route.redirected(&to) else {
                return Err(StoreError::Unavailable);
            };
            node.first_tried().await;
            let left = deadline.saturating_sub(start.elapsed());
            match node.look_up(key, left, claim, to.asking).await {
                Ok(found) => Ok(found),
                Err(Unanswered::Failed(error)) => Err(error),
                Err(Unanswered::Redirected(_)) => Err(StoreError::Unavailable),
            }
        })
    }

    pub(super) fn write(&self, key: &StoreKey, value: Vec<u8>, ttl: Duration) -> bool {
        self.common.begin();
        let key = self.key(key);
        let node = self.route.node(&key);
        node.is_some_and(|node| node.write(key, value, ttl))
    }

    pub(super) fn health(&self) -> StoreHealth {
        self.common.begin();
        let mut health = self.route.health();
        let is_well = !health.is_down && health.trouble.is_none();
        if let Some(trouble) = &mut health.last_trouble {
            trouble.is_over = is_well;
        }
        health
    }

    fn key(&self, key: &StoreKey) -> String {
        format!("{}{key}", self.prefix)
    }
}

fn all_keys_begin_with(prefix: &str) -> Arc<str> {
    format!("{prefix}:session:").into()
}

#[cfg(test)]
impl Remote {
    /// A store whose thread never runs.
    pub(super) fn idle(prefix: &str) -> Self {
        let prefix = all_keys_begin_with(prefix);
        let common = Arc::new(Common::new(Arc::clone(&prefix)));
        Self {
            prefix,
            common: Arc::clone(&common),
            route: Single::idle(common),
        }
    }
}

#[cfg(test)]
mod tests;
