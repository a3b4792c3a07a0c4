//! The thread that speaks with Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, RedisResult};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::{info, warn};

use crate::redis::RedisClient;
use crate::store::StoreError;
use crate::store::redis::{Lookup, Shared, Write, millis};

/// How often Redis is asked for a sign of life when nothing else is asked of it.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait before the next attempt: doubled each time, within these bounds.
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// How many values are written at once, at most.
const BATCH: usize = 256;

/// How long a batch may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Ends when there are no more handles, and what they left is written.
pub(in crate::store) async fn run(
    shared: Arc<Shared>,
    client: RedisClient,
    lookups: UnboundedReceiver<Lookup>,
    writes: UnboundedReceiver<Write>,
) {
    let link = Arc::new(Link {
        shared,
        connection: Mutex::new(None),
        is_lost: Notify::new(),
        has_answered: AtomicBool::new(false),
    });
    let keeper = tokio::spawn(keep(Arc::clone(&link), client));
    let writer = tokio::spawn(write_all(Arc::clone(&link), writes));
    look_up_all(link, lookups).await;
    let _ = writer.await;
    keeper.abort();
}

/// The connection, and what is known of it.
struct Link {
    shared: Arc<Shared>,
    connection: Mutex<Option<MultiplexedConnection>>,
    is_lost: Notify,
    /// Whether Redis answered since the last heartbeat.
    has_answered: AtomicBool,
}

impl Link {
    fn connection(&self) -> Option<MultiplexedConnection> {
        self.connection.lock().clone()
    }

    fn answered(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
        self.shared.breaker.succeeded();
    }

    fn not_answered(&self) {
        if self.shared.breaker.failed() {
            self.is_lost.notify_one();
        }
    }

    fn failed(&self, error: &RedisError) {
        let lost = match error.is_unrecoverable_error() {
            true => self.shared.breaker.trip(),
            false => self.shared.breaker.failed(),
        };
        if lost {
            self.is_lost.notify_one();
        }
    }
}

/// Makes the connection, and makes it again when it is lost.
async fn keep(link: Arc<Link>, mut client: RedisClient) {
    let mut pause = MIN_PAUSE;
    let mut trouble = None;
    loop {
        match connect(&link, &mut client).await {
            Ok(connection) => {
                info!(redis = %client, "shared store is up");
                (pause, trouble) = (MIN_PAUSE, None);
                link.shared.connections.fetch_add(1, Ordering::Relaxed);
                *link.connection.lock() = Some(connection.clone());
                link.shared.breaker.recovered();
                watch(&link, connection).await;
                *link.connection.lock() = None;
                warn!(redis = %client, "shared store is down: full handshakes until it answers");
            }
            Err(error) => {
                if trouble.as_ref() != Some(&error) {
                    warn!(redis = %client, trouble = %error, "shared store cannot be reached");
                    trouble = Some(error);
                }
                pause = pause.saturating_mul(2).min(MAX_PAUSE);
            }
        }
        sleep(pause).await;
    }
}

/// A connection that answers in time, or what is wrong.
async fn connect(link: &Link, client: &mut RedisClient) -> Result<MultiplexedConnection, String> {
    let connected = timeout(CONNECT_TIMEOUT, client.connect_async()).await;
    let mut connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no connection within {CONNECT_TIMEOUT:?}")),
    };
    let deadline = link.shared.deadline();
    match timeout(deadline, ping(&mut connection)).await {
        Ok(Ok(())) => Ok(connection),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {deadline:?}")),
    }
}

/// Asks for signs of life until the connection is lost.
async fn watch(link: &Link, mut connection: MultiplexedConnection) {
    while !link.shared.breaker.is_down() {
        if timeout(HEARTBEAT, link.is_lost.notified()).await.is_ok() {
            continue; // or it was an earlier one that was lost
        }
        if link.has_answered.swap(false, Ordering::Relaxed) {
            continue;
        }
        match timeout(link.shared.deadline(), ping(&mut connection)).await {
            Ok(Ok(())) => link.answered(),
            Ok(Err(error)) => link.failed(&error),
            Err(_) => link.not_answered(),
        }
    }
}

async fn ping(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    Cmd::ping().query_async(connection).await
}

async fn look_up_all(link: Arc<Link>, mut lookups: UnboundedReceiver<Lookup>) {
    while let Some(lookup) = lookups.recv().await {
        tokio::spawn(look_up(Arc::clone(&link), lookup));
    }
}

async fn look_up(link: Arc<Link>, lookup: Lookup) {
    if lookup.reply.is_closed() {
        return; // whoever asked has left, and a claim would lose the session
    }
    let Some(mut connection) = link.connection() else {
        let _ = lookup.reply.send(Err(StoreError::Unavailable));
        return;
    };
    let command = match lookup.claim {
        true => Cmd::get_del(&lookup.key),
        false => Cmd::get(&lookup.key),
    };
    let answer = timeout_at(lookup.until.into(), command.query_async(&mut connection)).await;
    let result = match answer {
        Ok(Ok(found)) => {
            link.answered();
            Ok(found)
        }
        Ok(Err(error)) => {
            link.failed(&error);
            Err(StoreError::Failed(error.into()))
        }
        Err(_) => {
            link.not_answered();
            Err(StoreError::TimedOut)
        }
    };
    let _ = lookup.reply.send(result);
}

async fn write_all(link: Arc<Link>, mut writes: UnboundedReceiver<Write>) {
    let mut batch = Vec::with_capacity(BATCH);
    while writes.recv_many(&mut batch, BATCH).await > 0 {
        let size = batch.iter().map(Write::size).sum();
        write(&link, &batch).await;
        batch.clear();
        link.shared.backlog.remove(size);
    }
}

/// Writes a batch, once.
async fn write(link: &Link, batch: &[Write]) {
    let add = |counter: &AtomicU64, count: usize| {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    };
    let shared = &link.shared;
    let Some(mut connection) = link.connection() else {
        return add(&shared.dropped, batch.len());
    };
    let mut pipeline = Pipeline::with_capacity(batch.len());
    pipeline.ignore_errors(); // each has an outcome of its own
    for Write { key, value, ttl } in batch {
        let set = pipeline.cmd("SET").arg(key).arg(value.as_slice());
        set.arg("PX").arg(millis(*ttl).max(1));
    }
    let writing = pipeline.query_async::<Vec<RedisResult<()>>>(&mut connection);
    match timeout(WRITE_TIMEOUT, writing).await {
        Ok(Ok(outcomes)) => {
            let refused: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
            add(&shared.written, batch.len().saturating_sub(refused.len()));
            add(&shared.refused, refused.len());
            match refused.iter().find(|error| !is_full(error)) {
                Some(error) => link.failed(error),
                None => link.answered(),
            }
        }
        Ok(Err(error)) => {
            add(&shared.unknown, batch.len());
            link.failed(&error);
        }
        Err(_) => {
            add(&shared.unknown, batch.len());
            link.not_answered();
        }
    }
}

/// Whether Redis has no room, which is no reason to give it up.
fn is_full(error: &RedisError) -> bool {
    error.code() == Some("OOM")
}
