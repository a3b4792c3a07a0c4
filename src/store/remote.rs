//! What every remote store needs, whatever protocol its server speaks.
//!
//! ```text
//!  Remote   what the handles of a store share: the prefix of its keys, and its nodes
//!  Route    which node has which key: there is one node, or as many as a cluster has masters
//!  Node     a handle on one server: queue of writes, look-ups in flight, circuit breaker
//!  Lookup   a question on its way, which its caller takes straight to the connection
//!  Driver   what keeps the connection and writes the queue, on the store's thread
//!  Near     another connection, for look-ups alone, on the runtime that polls them, if it is named
//!  Backend  the protocol: the only part that a new store brings itself
//! ```

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{mem, thread};

use tokio::runtime::Handle;

use super::{StoreError, StoreKey, StoreLookup};
use crate::error::Error;
use crate::own_runtime::OwnRuntime;
use crate::process::Process;
use crate::stats::StoreHealth;

mod backend;
mod breaker;
mod driver;
mod in_flight;
mod lookup;
mod near;
mod node;
mod pauses;
mod queue;
mod route;
mod single;

pub(super) use backend::{Backend, Connection, Failure, FailureKind, Redirection};
pub(super) use driver::Driver;
pub(super) use node::{Common, Node};
pub(super) use pauses::Pauses;
pub(super) use queue::Write;
pub(super) use route::Route;

use lookup::Unanswered;
use single::Single;

/// What all handles of one store share.
#[derive(Clone)]
pub(super) struct Remote {
    prefix: Arc<str>,
    served: Arc<Served>,
    /// What takes its place in a process that was forked from that of `served`, if it could be
    /// started there.
    heir: Arc<OnceLock<Option<Self>>>,
}

/// A store as one process has it.
struct Served {
    common: Arc<Common>,
    route: Arc<dyn Route>,
    /// The process whose thread serves it.
    process: Process,
    start: Arc<Start>,
}

/// Starts the thread of a store with this prefix.
type Start = dyn Fn(Arc<str>) -> Result<(Arc<Common>, Arc<dyn Route>), Error> + Send + Sync;

/// How many names may be looked up at once.
const MAX_NAMES: usize = 16;

impl Remote {
    /// A store of one server, on a thread of this name, which ends after the last handle is dropped
    /// and the queue is written. It connects when it is first used; so it does, on a thread of its
    /// own, in a process that is forked later. `backend` is told the runtime of that thread.
    pub(super) fn start<B: Backend>(
        thread: &'static str,
        prefix: &str,
        backend: impl Fn(&Handle) -> B + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let make = move |common, runtime| Single::new(common, backend(&runtime), runtime);
        Self::start_with(thread, prefix, make)
    }

    /// A store whose nodes are found and served by a future, on a thread of this name.
    pub(super) fn start_with<R: Route + 'static, D: Future<Output = ()> + Send + 'static>(
        thread: &'static str,
        prefix: &str,
        make: impl Fn(Arc<Common>, Handle) -> (Arc<R>, D) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let start = move |prefix| {
            let runtime = OwnRuntime::new(MAX_NAMES).map_err(Error::Thread)?;
            let common = Arc::new(Common::new(prefix));
            let (route, driven) = make(Arc::clone(&common), runtime.handle().clone());
            let work = move || {
                runtime.block_on(driven);
            };
            let spawned = thread::Builder::new().name(thread.into()).spawn(work);
            spawned.map_err(Error::Thread)?;
            Ok((common, route as Arc<dyn Route>))
        };
        Self::starting(Arc::new(start), all_keys_begin_with(prefix))
    }

    fn starting(start: Arc<Start>, prefix: Arc<str>) -> Result<Self, Error> {
        let (common, route) = start(Arc::clone(&prefix))?;
        let served = Arc::new(Served {
            common,
            route,
            process: Process::current(),
            start,
        });
        Ok(Self {
            prefix,
            served,
            heir: Arc::default(),
        })
    }

    /// What was served by a thread that was not forked, on a connection of another process, is
    /// neither used nor dropped here: either might wait for a lock that is never released.
    fn make_heir(&self) -> Option<Self> {
        mem::forget(Arc::clone(&self.served));
        let heir = Self::starting(Arc::clone(&self.served.start), Arc::clone(&self.prefix)).ok()?;
        let deadline = self.served.common.deadline();
        heir.served.common.note_deadline(deadline);
        Some(heir)
    }

    /// The store as this process has it.
    fn served(&self) -> Option<&Served> {
        let mut remote = self;
        while !remote.served.process.is_current() {
            remote = remote.heir.get_or_init(|| remote.make_heir()).as_ref()?;
        }
        remote.served.common.begin();
        Some(&remote.served)
    }

    pub(super) fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = all_keys_begin_with(prefix);
        self.served.common.set_prefix(Arc::clone(&self.prefix));
        self
    }

    pub(super) fn with_lookup_runtime(self, runtime: Handle) -> Self {
        self.served.common.set_lookup_runtime(runtime);
        self
    }

    /// What every key on the server begins with.
    pub(super) fn key_prefix(&self) -> &str {
        &self.prefix
    }

    /// Tells how long look-ups will have.
    pub(super) fn prepare(&self, deadline: Duration) {
        if let Some(served) = self.served() {
            served.common.note_deadline(deadline);
        }
    }

    pub(super) fn fetch(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.look_up(key, deadline, false)
    }

    pub(super) fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.look_up(key, deadline, true)
    }

    fn look_up(&self, key: &StoreKey, deadline: Duration, claim: bool) -> StoreLookup {
        let start = Instant::now();
        let key = self.key(key);
        let route = self.served().map(|served| &served.route);
        let Some((route, node)) = route.and_then(|route| Some((route, route.node(&key)?))) else {
            return Box::pin(async { Err(StoreError::Unavailable) });
        };
        let lookup = node.look_up(key.clone(), deadline, claim, false);
        let route = Arc::clone(route); // until it is answered this keeps the store's thread
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
        let key = self.key(key);
        let node = self.served().and_then(|served| served.route.node(&key));
        node.is_some_and(|node| node.write(key, value, ttl))
    }

    pub(super) fn health(&self) -> StoreHealth {
        let Some(served) = self.served() else {
            return StoreHealth {
                is_down: true,
                ..StoreHealth::default()
            };
        };
        let mut health = served.route.health();
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
        let start = |prefix| {
            let common = Arc::new(Common::new(prefix));
            Ok((Arc::clone(&common), Single::idle(common) as Arc<dyn Route>))
        };
        Self::starting(Arc::new(start), prefix).unwrap()
    }
}

#[cfg(test)]
mod tests;
