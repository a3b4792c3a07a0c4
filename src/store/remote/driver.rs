use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::{info, warn};

use super::backend::{Backend, Failure, FailureKind};
use super::node::{Lookup, Requests, State};
use super::queue::Write;
use crate::store::StoreError;

/// How often the server is pinged when nothing else is asked of it.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait before connecting again: doubled each time, within these bounds.
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// The most values that are written at once.
const BATCH: usize = 256;

/// How long a batch may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// A node's connection, and the tasks that use it.
pub(super) struct Driver<B: Backend> {
    state: Arc<State>,
    connection: Mutex<Option<B::Connection>>,
    is_lost: Notify,
    /// Whether the server answered since the last heartbeat.
    has_answered: AtomicBool,
}

impl<B: Backend> Driver<B> {
    /// Serves a node until its last handle is dropped and its queue is written.
    pub(super) async fn run(backend: B, requests: Requests) {
        let Requests {
            state,
            lookups,
            writes,
        } = requests;
        let driver = Arc::new(Self {
            state,
            connection: Mutex::new(None),
            is_lost: Notify::new(),
            has_answered: AtomicBool::new(false),
        });
        let connecting = tokio::spawn(Arc::clone(&driver).stay_connected(backend));
        let writing = tokio::spawn(Arc::clone(&driver).write_all(writes));
        driver.look_up_all(lookups).await;
        let _ = writing.await;
        connecting.abort();
    }

    /// Connects, and connects again whenever the connection is lost.
    async fn stay_connected(self: Arc<Self>, mut backend: B) {
        let mut pause = MIN_PAUSE;
        let mut last_error = None;
        loop {
            match self.connect(&mut backend).await {
                Ok(connection) => {
                    info!(server = %backend, "shared store is up");
                    (pause, last_error) = (MIN_PAUSE, None);
                    self.state.connections.fetch_add(1, Ordering::Relaxed);
                    *self.connection.lock() = Some(connection.clone());
                    self.state.breaker.close();
                    self.watch(connection).await;
                    *self.connection.lock() = None;
                    warn!(
                        server = %backend,
                        "shared store is down: full handshakes until it answers"
                    );
                }
                Err(error) => {
                    if last_error.as_ref() != Some(&error) {
                        warn!(server = %backend, error, "cannot connect to the shared store");
                        last_error = Some(error);
                    }
                    pause = pause.saturating_mul(2).min(MAX_PAUSE);
                }
            }
            sleep(pause).await;
        }
    }

    /// A connection on which the server answers within the deadline, or what is wrong.
    async fn connect(&self, backend: &mut B) -> Result<B::Connection, String> {
        let mut connection = match timeout(CONNECT_TIMEOUT, backend.connect()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(failure)) => return Err(failure.cause.to_string()),
            Err(_) => return Err(format!("no connection within {CONNECT_TIMEOUT:?}")),
        };
        let deadline = self.state.deadline();
        match timeout(deadline, B::ping(&mut connection)).await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(failure)) => Err(failure.cause.to_string()),
            Err(_) => Err(format!("no answer within {deadline:?}")),
        }
    }

    /// Pings an idle server, until the connection is lost.
    async fn watch(&self, mut connection: B::Connection) {
        while !self.state.breaker.is_open() {
            if timeout(HEARTBEAT, self.is_lost.notified()).await.is_ok() {
                continue; // the breaker tells whether it was this connection or an earlier one
            }
            if self.has_answered.swap(false, Ordering::Relaxed) {
                continue;
            }
            match timeout(self.state.deadline(), B::ping(&mut connection)).await {
                Ok(Ok(())) => self.answered(),
                Ok(Err(failure)) => self.failed(&failure),
                Err(_) => self.timed_out(),
            }
        }
    }

    fn connection(&self) -> Option<B::Connection> {
        self.connection.lock().clone()
    }

    fn answered(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
        self.state.breaker.succeeded();
    }

    fn timed_out(&self) {
        if self.state.breaker.failed() {
            self.is_lost.notify_one();
        }
    }

    fn failed(&self, failure: &Failure) {
        let opened = match failure.kind {
            FailureKind::ConnectionLost => self.state.breaker.open(),
            FailureKind::Full | FailureKind::Refused => self.state.breaker.failed(),
        };
        if opened {
            self.is_lost.notify_one();
        }
    }

    async fn look_up_all(self: Arc<Self>, mut lookups: UnboundedReceiver<Lookup>) {
        while let Some(lookup) = lookups.recv().await {
            tokio::spawn(Arc::clone(&self).look_up(lookup));
        }
    }

    async fn look_up(self: Arc<Self>, lookup: Lookup) {
        if lookup.reply.is_closed() {
            return; // the caller has given up, and a claim would lose the session
        }
        let Some(mut connection) = self.connection() else {
            let _ = lookup.reply.send(Err(StoreError::Unavailable));
            return;
        };
        let answer = async {
            match lookup.claim {
                true => B::get_and_delete(&mut connection, &lookup.key).await,
                false => B::get(&mut connection, &lookup.key).await,
            }
        };
        let result = match timeout_at(lookup.until.into(), answer).await {
            Ok(Ok(found)) => {
                self.answered();
                Ok(found)
            }
            Ok(Err(failure)) => {
                self.failed(&failure);
                Err(StoreError::Failed(failure.cause))
            }
            Err(_) => {
                self.timed_out();
                Err(StoreError::TimedOut)
            }
        };
        let _ = lookup.reply.send(result);
    }

    async fn write_all(self: Arc<Self>, mut writes: UnboundedReceiver<Write>) {
        let mut batch = Vec::with_capacity(BATCH);
        while writes.recv_many(&mut batch, BATCH).await > 0 {
            self.write(&batch).await;
            batch.clear(); // gives back its room in the queue
        }
    }

    /// Writes a batch, once.
    async fn write(&self, batch: &[Write]) {
        let add = |counter: &AtomicU64, count: usize| {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        };
        let Some(mut connection) = self.connection() else {
            return add(&self.state.dropped, batch.len());
        };
        match timeout(WRITE_TIMEOUT, B::write(&mut connection, batch)).await {
            Ok(Ok(outcomes)) => {
                let refused: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
                let written = batch.len().saturating_sub(refused.len());
                add(&self.state.written, written);
                add(&self.state.refused, refused.len());
                let is_serious = |failure: &&Failure| failure.kind != FailureKind::Full;
                match refused.iter().find(is_serious) {
                    Some(failure) => self.failed(failure),
                    None => self.answered(),
                }
            }
            Ok(Err(failure)) => {
                add(&self.state.unknown, batch.len());
                self.failed(&failure);
            }
            Err(_) => {
                add(&self.state.unknown, batch.len());
                self.timed_out();
            }
        }
    }
}
