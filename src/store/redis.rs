use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, RedisResult};

use super::remote::{Backend, Failure, FailureKind, Node, Remote, Write};
use super::{SharedStore, StoreKey, StoreLookup};
use crate::error::Error;
use crate::redis::{DEFAULT_PREFIX, RedisClient};
use crate::stats::StoreHealth;

/// Sessions shared by a fleet through Redis. Needs the feature `redis`.
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
/// An [acceptor](SharedStore) looks sessions up. Without one, TLS 1.3 clients get full handshakes,
/// and TLS 1.2 clients resume only on the node that they met before.
///
/// All commands go over one connection, on a thread of its own, so the store works with any async
/// runtime, or none. A handle is cheap to clone. The thread ends once the last handle is dropped
/// and the queue is written.
///
/// # What is in Redis
///
/// One value per session, with an expiry. Its key is `rustls-resumption:session:` (or another
/// [prefix](RedisStore::prefix)) and a hash of 64 hexadecimal digits. A value is 63 bytes longer
/// than the session, which is about 150 bytes and the client's certificate chain, if there is one.
/// Redis sees no secret and no session ID.
///
/// Each handshake writes one value for each TLS 1.3 ticket that rustls sends (2 by default). One
/// that offers a session also reads one.
///
/// # Failures
///
/// | event | effect |
/// | --- | --- |
/// | Redis fails to answer 3 times in a row, or the connection is lost | the circuit breaker opens: nobody waits for Redis, and TLS 1.3 clients get no tickets. The store reconnects by itself, and the breaker closes once Redis answers within the deadline. An idle connection is checked four times a second |
/// | the outcome of a write is unknown | it is not repeated: the session may have been claimed meanwhile, and could then be claimed again |
/// | a look-up takes longer than the deadline | a full handshake; if the claim reaches Redis all the same, the session is lost |
/// | writes come faster than Redis takes them | up to [`RedisStore::MAX_QUEUED`] bytes wait; further writes are dropped |
/// | Redis is full (`noeviction`) | its refusals are counted; it goes on serving what it has |
/// | a failover, or an old dump is restored | a *delete* may be lost, and then a session can be claimed twice: see the page [`choosing`](crate::docs::choosing) |
///
/// # Requirements
///
/// Redis 6.2 or later, for `GETDEL`. The rights it needs, as an ACL:
/// `+getdel +get +set +ping ~rustls-resumption:session:*`. Turn persistence off (`save ""`,
/// `appendonly no`) unless this Redis holds other data too: sessions are not worth saving, and a
/// restored dump brings claimed ones back. Set `maxmemory-policy` to `volatile-ttl` or
/// `noeviction`.
#[derive(Clone)]
pub struct RedisStore(Remote);

impl RedisStore {
    /// The default prefix of the keys in Redis.
    pub const DEFAULT_PREFIX: &str = DEFAULT_PREFIX;

    /// How many bytes of values may wait to be written: 16 MiB, some 50,000 sessions.
    pub const MAX_QUEUED: usize = Node::MAX_QUEUED;

    /// How many look-ups may be in flight: 1,024.
    pub const MAX_LOOKUPS: usize = Node::MAX_LOOKUPS;

    /// One Redis server, by a URL as the `redis` crate reads it
    /// (`redis://[user][:password@]host[:port][/database]`; `rediss` for TLS, which trusts the
    /// system's certificates and uses the process's default crypto provider). It is connected to in
    /// the background; nothing waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the URL cannot be used, [`Error::Thread`] if the system gives no thread.
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::with_client(RedisClient::open(url)?)
    }

    /// The same with a client of the `redis` crate: for your own certificates, or for Sentinels,
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

    /// The prefix of the keys in Redis, before `:session:`. Fleets that share a Redis server but
    /// not their STEKs need different ones.
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
