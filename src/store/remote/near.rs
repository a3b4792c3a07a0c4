use std::fmt;
use std::future::pending;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::backend::{Backend, Failure, FailureKind};
use crate::stats::StoreTrouble;

/// How a server is spoken with by the runtime of those who look up: an answer then wakes them, and
/// no other thread.
#[derive(Clone)]
pub(super) struct Near<B> {
    pub(super) backend: B,
    /// None once it has turned out to be of no use.
    pub(super) runtime: Option<Handle>,
}

impl<B: Backend> Backend for Near<B> {
    type Connection = B::Connection;

    /// A connection belongs to the runtime on which it is made, and so does the task that serves
    /// it. Never ends once that runtime has ended, or cannot connect.
    async fn connect(&mut self) -> Result<B::Connection, Failure> {
        let Some(runtime) = &self.runtime else {
            return pending().await;
        };
        let mut backend = self.backend.clone();
        let mut connecting = JoinSet::new(); // aborted if this future is dropped
        connecting.spawn_on(async move { backend.connect().await }, runtime);
        let cause = match connecting.join_next().await {
            Some(Ok(connected)) => return connected,
            // tokio panics where I/O or time is not enabled, and says so.
            Some(Err(error)) if error.is_panic() => error.to_string(),
            _ => "the runtime has ended".into(),
        };
        self.runtime = None;
        Err(Failure {
            kind: FailureKind::Useless(StoreTrouble::Unreachable),
            cause: cause.into(),
        })
    }

    fn probe_key(&self, prefix: &str) -> String {
        self.backend.probe_key(prefix)
    }

    fn write_timeout(&self) -> Duration {
        self.backend.write_timeout()
    }
}

impl<B: fmt::Display> fmt::Display for Near<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, by the look-up runtime", self.backend)
    }
}
