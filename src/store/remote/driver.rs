use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use crate::sync::lock::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::{info, warn};

use super::backend::{Backend, Connection, Failure, FailureKind, unless_it_panics};
use super::breaker::{Breaker, Function, Generation, MAX_FAILURES};
use super::lookup::{Answer, Lookup, Question, Unanswered};
use super::near::Near;
use super::node::{Common, Node, Server};
use super::pauses::Pauses;
use super::queue::{Queue, Write};
use super::route::Route;
use crate::stats::StoreTrouble;
use crate::store::StoreError;

mod write;

/// How often a server is tried when nothing else is asked of it.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// What serves a node.
pub(in crate::store) struct Driver<B: Backend> {
    line: Arc<Line<B::Connection>>,
    backend: B,
    writes: UnboundedReceiver<Write>,
}

/// A node's connection, as long as there is one, and who uses it.
struct Line<C> {
    common: Arc<Common>,
    /// For the log.
    server: Arc<str>,
    breaker: Arc<Breaker>,
    link: Mutex<Option<Link<C>>>,
    is_lost: Notify,
    /// Whether the server answered since the last heartbeat.
    has_answered: AtomicBool,
    write_timeout: Duration,
    /// What last went wrong, for the log.
    cause: Mutex<String>,
    /// Of the store's thread, which keeps the time of look-ups.
    runtime: Handle,
    /// What is asked in its place while it serves.
    near: OnceLock<Arc<Self>>,
    is_near: bool,
}

#[derive(Clone)]
struct Link<C> {
    connection: C,
    generation: Generation,
}

impl<B: Backend> Driver<B> {
    /// A node, and what serves it on this runtime.
    pub(in crate::store) fn new(backend: B, common: Arc<Common>, runtime: Handle) -> (Node, Self) {
        let (queue, writes) = Queue::new(Node::MAX_QUEUED);
        let line = Arc::new(Line::new(&backend, common, runtime, false));
        let breaker = Arc::clone(&line.breaker);
        let node = Node::new(breaker, Arc::clone(&line) as Arc<dyn Server>, queue);
        let driver = Self {
            line,
            backend,
            writes,
        };
        (node, driver)
    }

    /// Serves the node until its last handle is dropped and its queue is written. Writes that its
    /// server did not do, because another has the key, go there by this route.
    pub(in crate::store) async fn run(self, route: Weak<dyn Route>) {
        let Self {
            line,
            backend,
            writes,
        } = self;
        let mut connecting = JoinSet::new(); // aborted at the end
        connecting.spawn(Arc::clone(&line).stay_near(backend.clone()));
        connecting.spawn(Arc::clone(&line).stay_connected(backend));
        line.write_all(writes, &route).await;
    }
}

impl<C: Connection> Line<C> {
    fn new(
        backend: &impl Backend<Connection = C>,
        common: Arc<Common>,
        runtime: Handle,
        is_near: bool,
    ) -> Self {
        Self {
            common,
            server: backend.to_string().into(),
            breaker: Arc::default(),
            link: Mutex::new(None),
            is_lost: Notify::new(),
            has_answered: AtomicBool::new(false),
            write_timeout: backend.write_timeout(),
            cause: Mutex::default(),
            runtime,
            near: OnceLock::new(),
            is_near,
        }
    }

    /// Has look-ups served by the runtime that they are polled on, if it is known.
    async fn stay_near(self: Arc<Self>, backend: impl Backend<Connection = C>) {
        self.common.begun().await;
        let runtime = self.common.lookup_runtime();
        if runtime.is_none() {
            return;
        }
        let backend = Near { backend, runtime };
        let (common, runtime) = (Arc::clone(&self.common), self.runtime.clone());
        let near = Arc::new(Self::new(&backend, common, runtime, true));
        let near = Arc::clone(self.near.get_or_init(|| near));
        near.stay_connected(backend).await;
    }

    /// Connects, and connects again whenever the connection is lost or of no use.
    async fn stay_connected<B: Backend<Connection = C>>(self: Arc<Self>, mut backend: B) {
        self.common.begun().await;
        let mut pauses = Pauses::new();
        let mut last_error = None;
        loop {
            let probe_key = backend.probe_key(&self.common.prefix());
            match self.connect(&mut backend, &probe_key).await {
                Ok((connection, trouble)) => {
                    self.tell(|server| info!(server, "shared store is up"));
                    last_error = None;
                    self.common.connections.fetch_add(1, Ordering::Relaxed);
                    let since = Instant::now();
                    let link = self.serve_with(connection, trouble);
                    self.watch(link, &probe_key).await;
                    *self.link.lock() = None;
                    let cause = std::mem::take(&mut *self.cause.lock());
                    self.warn_of_loss(cause);
                    pauses.after(since.elapsed());
                }
                Err((trouble, error)) => {
                    // First: whoever sees that there is trouble wants to know which.
                    self.note_trouble(&error);
                    self.breaker.note(trouble);
                    if last_error.as_ref() != Some(&error) {
                        last_error = Some(error.clone());
                        self.tell(move |server| {
                            warn!(server, error, "the shared store cannot be used");
                        });
                    }
                }
            }
            sleep(pauses.next()).await;
        }
    }

    /// A connection on which the server does, within the deadline, all that is needed; or what is
    /// wrong. It may miss the deadline as often as later: one late answer is not worth a pause and
    /// another connection.
    async fn connect(
        &self,
        backend: &mut impl Backend<Connection = C>,
        probe_key: &str,
    ) -> Result<(C, Option<StoreTrouble>), (StoreTrouble, String)> {
        let why = |failure: Failure| {
            let trouble = failure.kind.trouble().unwrap_or(StoreTrouble::Misplaced);
            (trouble, failure.cause.to_string())
        };
        let connected = unless_it_panics(backend.connect()).await;
        let mut connection = connected.map_err(why)?;
        let deadline = self.common.deadline();
        for _ in 0..MAX_FAILURES {
            let trying = unless_it_panics(connection.try_out(probe_key));
            let Ok(tried) = timeout(deadline, trying).await else {
                continue;
            };
            let Err(failure) = tried else {
                return Ok((connection, None));
            };
            return match failure.kind {
                FailureKind::Full => {
                    self.warn_of_full(&failure);
                    Ok((connection, Some(StoreTrouble::Full)))
                }
                FailureKind::Redirected(_) => Ok((connection, None)),
                FailureKind::Useless(_) | FailureKind::Refused(_) => Err(why(failure)),
            };
        }
        let error = format!("no answer within {deadline:?}");
        Err((StoreTrouble::TimedOut, error))
    }

    /// Tries out an idle server, until the connection is lost or of no use.
    async fn watch(&self, mut link: Link<C>, probe_key: &str) {
        while !self.breaker.is_open() {
            if timeout(HEARTBEAT, self.is_lost.notified()).await.is_ok() {
                continue; // the breaker tells whether it was this connection or an earlier one
            }
            if self.has_answered.swap(false, Ordering::Relaxed) {
                continue;
            }
            // A claim is what a server refuses that may not write.
            let claim = unless_it_panics(link.connection.get_and_delete(probe_key, false));
            match timeout(self.common.deadline(), claim).await {
                Ok(Ok(_)) => self.answered(link.generation, Function::Claim),
                Ok(Err(failure)) => self.failed(link.generation, Function::Claim, &failure),
                Err(_) => self.timed_out(link.generation),
            }
        }
    }

    /// Whoever sees that the breaker is closed, or waited for that, finds the connection.
    fn serve_with(&self, connection: C, trouble: Option<StoreTrouble>) -> Link<C> {
        let mut serving = self.link.lock();
        let link = Link {
            connection,
            generation: self.breaker.close(trouble),
        };
        *serving = Some(link.clone());
        link
    }

    fn link(&self) -> Option<Link<C>> {
        self.link.lock().clone()
    }

    fn answered(&self, generation: Generation, function: Function) {
        self.has_answered.store(true, Ordering::Relaxed);
        if self.breaker.succeeded(generation, function) {
            self.tell(|server| info!(server, "shared store has room again"));
        }
    }

    fn timed_out(&self, generation: Generation) {
        if self.breaker.timed_out(generation) {
            self.opened("no answer in time".into());
        }
    }

    fn failed(&self, generation: Generation, function: Function, failure: &Failure) {
        let breaker = &self.breaker;
        let opened = match failure.kind {
            FailureKind::Useless(trouble) => breaker.useless(generation, trouble),
            FailureKind::Refused(trouble) => breaker.refused(generation, function, trouble),
            FailureKind::Full => {
                self.note_trouble(&failure.cause.to_string());
                if breaker.full(generation) {
                    self.warn_of_full(failure);
                }
                false
            }
            FailureKind::Redirected(_) => {
                breaker.succeeded(generation, function);
                false
            }
        };
        if opened {
            self.opened(failure.cause.to_string());
        }
    }

    fn warn_of_full(&self, failure: &Failure) {
        let cause = failure.cause.to_string();
        self.tell(move |server| {
            warn!(
                server,
                cause, "shared store is full: new sessions are not kept until it has room"
            );
        });
    }

    fn warn_of_loss(&self, cause: String) {
        let is_near = self.is_near;
        self.tell(move |server| match is_near {
            true => warn!(
                server,
                cause,
                "shared store is looked up by its own thread: the look-up runtime does not serve"
            ),
            false => warn!(
                server,
                cause, "shared store is down: full handshakes until it serves again"
            ),
        });
    }

    /// Has a line about this server logged.
    fn tell(&self, line: impl FnOnce(&str) + Send + 'static) {
        let server = Arc::clone(&self.server);
        self.common.log.tell(move || line(&server));
    }

    fn note_trouble(&self, cause: &str) {
        self.common
            .note_trouble(&format!("{}: {cause}", self.server));
    }

    fn opened(&self, cause: String) {
        if self.is_near {
            add(&self.common.lookup_runtime_outages, 1);
        }
        self.note_trouble(&cause);
        *self.cause.lock() = cause;
        self.is_lost.notify_one();
        self.common.wake.notify_one();
    }

    async fn ask(self: Arc<Self>, question: Question) -> Answer {
        let unavailable = || Unanswered::Failed(StoreError::Unavailable);
        // A caller that comes too late would lose the session, and the server be blamed for it.
        if Instant::now() >= question.until {
            return Err(Unanswered::Failed(StoreError::TimedOut));
        }
        let mut link = self.link().ok_or_else(unavailable)?;
        let generation = link.generation;
        let function = match question.claim {
            true => Function::Claim,
            false => Function::Fetch,
        };
        let (key, asking) = (&question.key, question.asking);
        let answer = unless_it_panics(async {
            match question.claim {
                true => link.connection.get_and_delete(key, asking).await,
                false => link.connection.get(key, asking).await,
            }
        });
        let answer = {
            let _timed_by = self.runtime.enter(); // the caller may have no runtime, or no timers
            timeout_at(question.until.into(), answer)
        };
        match answer.await {
            Ok(Ok(found)) => {
                self.answered(generation, function);
                Ok(found)
            }
            Ok(Err(failure)) => {
                self.failed(generation, function, &failure);
                Err(match failure.kind {
                    FailureKind::Redirected(to) => Unanswered::Redirected(to),
                    _ => Unanswered::Failed(StoreError::Failed(failure.cause)),
                })
            }
            Err(_) => {
                self.timed_out(generation);
                Err(Unanswered::Failed(StoreError::TimedOut))
            }
        }
    }
}

impl<C: Connection> Server for Line<C> {
    fn look_up(self: Arc<Self>, question: Question) -> Lookup {
        let runtime = self.runtime.clone();
        let near = self.near.get().filter(|near| !near.breaker.is_open());
        let line = near.map_or_else(|| Arc::clone(&self), Arc::clone);
        Lookup::new(line.ask(question), runtime)
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod model;
