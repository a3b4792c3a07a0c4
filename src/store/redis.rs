use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, RedisResult};

use super::remote::{Backend, Failure, FailureKind, Node, Remote, Write};
use super::{SharedStore, StoreKey, StoreLookup};
use crate::error::Error;
use crate::redis::{DEFAULT_PREFIX, RedisClient};
use crate::stats::StoreHealth;

/// Sessions that a fleet shares through Redis. Needs the feature `redis`.
///
/// ```no_run
/// use rustls_resumption::{RedisSource, RedisStore, Resumption};
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
pub struct RedisStore(Remote);

impl RedisStore {
    /// What the keys in Redis begin with, by default.
    pub const DEFAULT_PREFIX: &str = DEFAULT_PREFIX;

    /// How many bytes of values may wait to be written: 16 MiB, some 50,000 sessions.
    pub const MAX_QUEUED: usize = Node::MAX_QUEUED;

    /// How many look-ups may be in flight: 1,024.
    pub const MAX_LOOKUPS: usize = Node::MAX_LOOKUPS;

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
    /// which are asked for the master before each connection attempt. A cluster is refused, because
    /// its client repeats commands of unknown outcome.
    ///
    /// # Errors
    ///
    /// As [`RedisStore::new`].
    pub fn with_client(client: impl Into<RedisClient>) -> Result<Self, Error> {
        let client = client.into();
        if client.is_cluster() {
            let why = "a cluster's client repeats writes of unknown outcome, which could bring a \
                       claimed session back: use one server, or Sentinels";
            return Err(Error::config("client", why));
        }
        let remote = Remote::start("resumption-redis", DEFAULT_PREFIX, client)?;
        Ok(Self(remote))
    }

    /// What the keys in Redis begin with, before `:session:`. Fleets that share a Redis server but
    /// no STEKs should differ in it.
    ///
    /// Defaults to [`RedisStore::DEFAULT_PREFIX`].
    #[must_use]
    pub fn prefix(self, prefix: &str) -> Self {
        Self(self.0.with_prefix(prefix))
    }
}

impl SharedStore for RedisStore {
    fn fetch(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.0.fetch(key, deadline)
    }

    fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.0.claim(key, deadline)
    }

    fn write(&self, key: StoreKey, value: Vec<u8>, ttl: Duration) -> bool {
        self.0.write(&key, value, ttl)
    }

    fn name(&self) -> &'static str {
        "redis"
    }

    fn health(&self) -> StoreHealth {
        self.0.health()
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("prefix", &self.0.key_prefix())
            .finish_non_exhaustive()
    }
}

impl Backend for RedisClient {
    type Connection = MultiplexedConnection;

    async fn connect(&mut self) -> Result<MultiplexedConnection, Failure> {
        Ok(self.connect_async().await?)
    }

    async fn ping(connection: &mut MultiplexedConnection) -> Result<(), Failure> {
        Ok(Cmd::ping().query_async(connection).await?)
    }

    async fn get(
        connection: &mut MultiplexedConnection,
        key: &str,
    ) -> Result<Option<Vec<u8>>, Failure> {
        Ok(Cmd::get(key).query_async(connection).await?)
    }

    async fn get_and_delete(
        connection: &mut MultiplexedConnection,
        key: &str,
    ) -> Result<Option<Vec<u8>>, Failure> {
        Ok(Cmd::get_del(key).query_async(connection).await?)
    }

    async fn write(
        connection: &mut MultiplexedConnection,
        batch: &[Write],
    ) -> Result<Vec<Result<(), Failure>>, Failure> {
        let mut pipeline = Pipeline::with_capacity(batch.len());
        pipeline.ignore_errors(); // each write has an outcome of its own
        for Write {
            key, value, ttl, ..
        } in batch
        {
            let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
            let set = pipeline.cmd("SET").arg(key).arg(value.as_slice());
            set.arg("PX").arg(ttl);
        }
        let outcomes: Vec<RedisResult<()>> = pipeline.query_async(connection).await?;
        let outcomes = outcomes.into_iter();
        Ok(outcomes.map(|outcome| Ok(outcome?)).collect())
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let kind = if error.is_unrecoverable_error() {
            FailureKind::ConnectionLost
        } else if error.code() == Some("OOM") {
            FailureKind::Full
        } else {
            FailureKind::Refused
        };
        Self {
            kind,
            cause: error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_by_its_prefix_alone() {
        let store = RedisStore(Remote::idle(DEFAULT_PREFIX));
        assert_eq!(store.name(), "redis");
        let shown = format!("{:?}", store.prefix("eu"));
        assert_eq!(shown, r#"RedisStore { prefix: "eu:session:", .. }"#);
    }
}
