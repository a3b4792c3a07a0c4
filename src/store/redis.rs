use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

use super::{DEFAULT_STORE_DEADLINE, SharedStore, StoreError, StoreKey, StoreLookup};
use crate::clock::instant_in;
use crate::error::Error;
use crate::redis::{DEFAULT_PREFIX, RedisClient};
use crate::stats::StoreHealth;

use super::remote::breaker::Breaker;
use super::remote::node as worker;
use super::remote::queue::Backlog;

/// Sessions that a fleet shares through Redis. Needs the feature `redis`.
///
/// ```no_run
/// use rustls_resumption::Resumption;
/// use rustls_resumption::source::RedisSource;
/// use rustls_resumption::store::RedisStore;
/// # let kek = [0; 32];
///
/// let url = "rediss://user:password@redis.internal";
/// let resumption = Resumption::builder()
///     .stateful()
///     .stek_source(RedisSource::new(url, &kek)?)
///     .shared_store(RedisStore::new(url)?)
///     .build()?;
/// # Ok::<(), rustls_resumption::Error>(())
/// ```
///
/// All that is asked of Redis goes over one connection, on a thread of its own, so it serves
/// acceptors on any runtime and on none. A handle is cheap to clone; the thread ends with the last
/// one, after what is queued was written.
///
/// # What is in Redis
///
/// A value per session, under `rustls-resumption:session:` (or another
/// [prefix](RedisStore::prefix)) and a hash of 64 digits, with an expiry. A value is 68 bytes longer
/// than the session, which is some 150 bytes and a client's certificate chain if there is one.
/// Redis sees no secret and no session ID.
///
/// A handshake writes as many values as rustls makes TLS 1.3 tickets (2 by default), and one that
/// may resume reads one.
///
/// # Trouble
///
/// | what happens | what becomes of sessions |
/// | --- | --- |
/// | Redis does not answer 3 times running, or the connection is lost | it is given up: nobody waits for it, TLS 1.3 clients get no tickets. The connection is made again by itself, and Redis is used again once it answers within the deadline. It is tried four times a second even if there are no clients |
/// | a write's outcome is unknown | it is not repeated: the session may have been claimed meanwhile, and would come to life again |
/// | a look-up is under way for longer than the deadline | a full handshake; if the claim reaches Redis all the same, the session is lost |
/// | writes come faster than Redis takes them | up to [`RedisStore::MAX_QUEUED`] wait; what comes then is dropped |
/// | Redis is full (`noeviction`) | its refusals are counted; it goes on serving what it has |
/// | a failover, or an old dump restored | a *delete* may be lost, and then a session could be claimed twice: see the page [`choosing`](crate::docs::choosing) |
///
/// # What Redis must be, and may do
///
/// Version 6.2 or later, for `GETDEL`. For an ACL:
/// `+getdel +get +set +ping ~rustls-resumption:session:*`. Let it not save to disk (`save ""`,
/// `appendonly no`) unless it keeps other things as well: sessions are not worth it, and a restored
/// dump brings claimed ones back. As `maxmemory-policy` choose `volatile-ttl` or `noeviction`.
#[derive(Clone)]
pub struct RedisStore {
    prefix: Arc<str>,
    shared: Arc<Shared>,
    lookups: mpsc::UnboundedSender<Lookup>,
    writes: mpsc::UnboundedSender<Write>,
}

impl RedisStore {
    /// What the keys in Redis begin with, by default.
    pub const DEFAULT_PREFIX: &str = DEFAULT_PREFIX;

    /// How many bytes of values may wait to be written: 16 MiB, some 50,000 sessions.
    pub const MAX_QUEUED: usize = 16 * 1024 * 1024;

    /// How many look-ups may be under way: 1,024.
    pub const MAX_LOOKUPS: usize = 1024;

    /// One Redis server, by a URL as the `redis` crate reads it
    /// (`redis://[user][:password@]host[:port][/database]`; `rediss` for TLS, which trusts the
    /// system's certificates and uses the process's default crypto provider). It is connected in the
    /// background; nothing waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the URL cannot be used, [`Error::Thread`] if the system gives no thread.
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::with_client(RedisClient::open(url)?)
    }

    /// The same with a client of the `redis` crate: for certificates of one's own, or Sentinels,
    /// which are asked for the master each time that a connection is made. A cluster is refused: its
    /// client repeats what has an unknown outcome.
    ///
    /// # Errors
    ///
    /// As [`RedisStore::new`].
    pub fn with_client(client: impl Into<RedisClient>) -> Result<Self, Error> {
        let client = client.into();
        if client.is_cluster() {
            let why = "a cluster's client repeats writes of which the outcome is unknown, so that \
                       a claimed session may come to life again: use one server, or Sentinels";
            return Err(Error::config("client", why));
        }
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let shared = Arc::new(Shared::default());
        let (lookups, asked) = mpsc::unbounded_channel();
        let (writes, written) = mpsc::unbounded_channel();
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("resumption-redis".into())
            .spawn(move || runtime.block_on(worker::run(theirs, client, asked, written)))
            .map_err(Error::Thread)?;
        Ok(Self {
            prefix: prefix_of(DEFAULT_PREFIX),
            shared,
            lookups,
            writes,
        })
    }

    /// What the keys in Redis begin with, before `:session:`. Fleets that share a Redis server but
    /// no STEKs should differ in it.
    ///
    /// Defaults to [`RedisStore::DEFAULT_PREFIX`].
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix_of(prefix);
        self
    }

    fn look_up(&self, key: &StoreKey, deadline: Duration, claim: bool) -> StoreLookup {
        self.shared.note_deadline(deadline);
        if self.shared.breaker.is_down() {
            return Box::pin(ready(Err(StoreError::Unavailable)));
        }
        let Some(pending) = Pending::new(&self.shared) else {
            return Box::pin(ready(Err(StoreError::Busy)));
        };
        let (reply, answer) = oneshot::channel();
        let lookup = Lookup {
            key: self.key(key),
            claim,
            // A little before, so that whoever waits hears of it, and the breaker first.
            until: instant_in(deadline.mul_f64(0.9)),
            reply,
            _pending: pending,
        };
        let lookups = self.lookups.clone();
        Box::pin(async move {
            // Only now: a claim that nobody waits for would lose the session.
            lookups.send(lookup).map_err(|_| StoreError::Unavailable)?;
            answer.await.unwrap_or(Err(StoreError::Unavailable))
        })
    }

    fn key(&self, key: &StoreKey) -> String {
        format!("{}{key}", self.prefix)
    }
}

fn prefix_of(prefix: &str) -> Arc<str> {
    format!("{prefix}:session:").into()
}

impl SharedStore for RedisStore {
    fn fetch(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.look_up(key, deadline, false)
    }

    fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.look_up(key, deadline, true)
    }

    fn write(&self, key: StoreKey, value: Vec<u8>, ttl: Duration) -> bool {
        if self.shared.breaker.is_down() {
            return false;
        }
        let write = Write {
            key: self.key(&key),
            value,
            ttl,
        };
        let size = write.size();
        if !self.shared.backlog.add(size) {
            return false;
        }
        let sent = self.writes.send(write).is_ok();
        if !sent {
            self.shared.backlog.remove(size);
        }
        sent
    }

    fn name(&self) -> &'static str {
        "redis"
    }

    fn health(&self) -> StoreHealth {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &*self.shared;
        StoreHealth {
            written: count(&shared.written),
            dropped: count(&shared.dropped),
            refused: count(&shared.refused),
            unknown: count(&shared.unknown),
            connections: count(&shared.connections),
            outages: shared.breaker.outages(),
            is_down: shared.breaker.is_down(),
        }
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// What the handles and the thread have in common.
pub(super) struct Shared {
    pub(super) breaker: Breaker,
    /// The deadline of the last look-up, in milliseconds: Redis is up if it answers by then.
    pub(super) deadline: AtomicU64,
    pub(super) lookups: AtomicUsize,
    pub(super) backlog: Backlog,
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) connections: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            breaker: Breaker::default(),
            deadline: AtomicU64::new(millis(DEFAULT_STORE_DEADLINE)),
            lookups: AtomicUsize::new(0),
            backlog: Backlog::new(RedisStore::MAX_QUEUED),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }
}

impl Shared {
    fn note_deadline(&self, deadline: Duration) {
        self.deadline.store(millis(deadline), Ordering::Relaxed);
    }

    pub(super) fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline.load(Ordering::Relaxed))
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A look-up on its way to the thread.
pub(super) struct Lookup {
    pub(super) key: String,
    pub(super) claim: bool,
    pub(super) until: Instant,
    pub(super) reply: oneshot::Sender<Result<Option<Vec<u8>>, StoreError>>,
    _pending: Pending,
}

/// A value on its way to the thread.
pub(super) struct Write {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    pub(super) ttl: Duration,
}

impl Write {
    /// What it takes of the queue.
    pub(super) fn size(&self) -> usize {
        let len = self.key.len().saturating_add(self.value.len());
        len.saturating_add(size_of::<Self>())
    }
}

/// One of the look-ups under way.
struct Pending(Arc<Shared>);

impl Pending {
    fn new(shared: &Arc<Shared>) -> Option<Self> {
        let pending = Self(Arc::clone(shared));
        let others = shared.lookups.fetch_add(1, Ordering::AcqRel);
        (others < RedisStore::MAX_LOOKUPS).then_some(pending)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.lookups.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store whose thread does nothing yet, and what would reach it.
    fn idle() -> (RedisStore, mpsc::UnboundedReceiver<Write>) {
        let (writes, written) = mpsc::unbounded_channel();
        let store = RedisStore {
            prefix: prefix_of(DEFAULT_PREFIX),
            shared: Arc::default(),
            lookups: mpsc::unbounded_channel().0,
            writes,
        };
        (store, written)
    }

    const KEY: StoreKey = StoreKey([0xab; StoreKey::LEN]);

    #[test]
    fn what_waits_to_be_written_stays_within_its_bound() {
        let (store, mut written) = idle();
        let write = |len| store.write(KEY, vec![7; len], DEFAULT_STORE_DEADLINE);
        assert!(!write(1), "before there is a connection");
        store.shared.breaker.recovered();
        let rest = store.key(&KEY).len() + size_of::<Write>();
        let room = 16 * 1024 * 1024;
        assert!(!write(room - rest + 1));
        assert!(write(1_000));
        assert!(
            write(room - 1_000 - rest - rest),
            "what was refused took none"
        );
        assert!(!write(0));
        let first = written.try_recv().unwrap();
        assert_eq!(first.key, format!("rustls-resumption:session:{KEY}"));
        assert_eq!(first.size(), 1_000 + rest);
        drop(written);
        store.shared.backlog.remove(room);
        assert!(!write(1), "after its thread has ended");
        assert!(store.shared.backlog.add(room), "it left no trace");
    }

    #[test]
    fn so_many_look_ups_are_under_way_and_no_more() {
        let (store, _written) = idle();
        let pending: Vec<_> = (0..RedisStore::MAX_LOOKUPS)
            .map(|_| Pending::new(&store.shared).unwrap())
            .collect();
        assert!(Pending::new(&store.shared).is_none());
        drop(pending);
        assert!(Pending::new(&store.shared).is_some());
        assert_eq!(RedisStore::MAX_LOOKUPS, 1024);
    }

    #[test]
    fn the_last_deadline_is_noted_to_the_millisecond() {
        let (store, _written) = idle();
        store.shared.note_deadline(Duration::from_millis(70));
        assert_eq!(store.shared.deadline(), Duration::from_millis(70));
        assert_eq!(millis(Duration::MAX), u64::MAX);
    }

    #[test]
    fn a_deadline_beyond_all_time_is_only_a_long_one() {
        let (store, _written) = idle();
        drop(store.fetch(&StoreKey([0; StoreKey::LEN]), Duration::MAX));
        assert_eq!(store.shared.deadline(), Duration::from_millis(u64::MAX));
    }

    #[test]
    fn it_is_shown_by_its_prefix_alone() {
        let (store, _written) = idle();
        assert_eq!(store.name(), "redis");
        let shown = format!("{:?}", store.prefix("eu"));
        assert_eq!(shown, r#"RedisStore { prefix: "eu:session:", .. }"#);
    }
}
