use std::fmt;
use std::time::Duration;

use tokio::runtime::Handle;

use super::remote::{Backend, Failure, Node, Remote};
use super::{SharedStore, StoreKey, StoreLookup};
use crate::error::Error;
use crate::redis::{DEFAULT_PREFIX, RedisClient};
use crate::stats::StoreHealth;

mod cluster;
mod connection;
#[cfg(all(test, unix))]
mod hostile;

use cluster::Masters;
use connection::Connection;

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
///     .stateful(100_000)
///     .stek_source(RedisSource::new(url, &kek)?)
///     .shared_store(RedisStore::new(url)?)
///     .build()?;
/// # Ok::<(), rustls_resumption::Error>(())
/// ```
///
/// An [acceptor](SharedStore) looks sessions up. Without one, TLS 1.3 clients get full handshakes,
/// and TLS 1.2 clients resume only on the node that they met before.
///
/// All commands go over one connection (to each master of a Cluster), on a thread of its own, so
/// the store works with any async runtime, or none; look-ups may go over
/// [another](RedisStore::lookup_runtime). It connects once the
/// [`Resumption`](crate::Resumption) is built, or the store is used otherwise. A handle is cheap to
/// clone. The thread ends once the last handle is dropped and the queue is written. A process that
/// is forked later has a thread and a connection of its own from its first use on; what its parent
/// had queued, the parent writes.
///
/// # What is in Redis
///
/// One value per session, with an expiry. Its key is `rustls-resumption:session:` (or another
/// [prefix](RedisStore::prefix)) and a hash of 64 hexadecimal digits. A value is 57 bytes longer
/// than the session, which is 60 to 100 bytes and the client's certificate chain, if there is one.
/// Redis sees no secret and no session ID.
///
/// Each handshake writes one value for each TLS 1.3 ticket that rustls sends (2 by default). One
/// that offers a session also reads one.
///
/// # Failures
///
/// | event | effect |
/// | --- | --- |
/// | Redis fails to answer 3 times in a row, or to do what is asked of it; it is demoted to a replica; the connection is lost | the circuit breaker opens: nobody waits for Redis, and TLS 1.3 clients get no tickets. The store reconnects by itself, in growing pauses of up to a second, and the breaker closes once Redis answers a write, a read and a claim within the deadline, none with an error other than that it is full. An idle connection is tried four times a second. [`StoreHealth::trouble`] says what is wrong |
/// | a master of a Cluster fails | the same for its slots alone; other nodes are asked who has them now |
/// | a master says that another has a key | it is asked once, within the deadline: a redirection proves that nothing was done |
/// | the outcome of a write is unknown | it is not repeated: the session may have been claimed meanwhile, and could then be claimed again |
/// | a look-up takes longer than the deadline | a full handshake; if the claim reaches Redis all the same, the session is lost |
/// | writes come faster than Redis takes them | up to [`RedisStore::MAX_QUEUED`] bytes wait; further writes are dropped |
/// | Redis is full (`noeviction`) | its refusals are counted; it goes on serving what it has |
/// | a failover, or an old dump is restored | a *delete* may be lost, and then a session can be claimed twice: see the page [`choosing`](crate::docs::choosing) |
///
/// # Requirements
///
/// Redis 6.2 or later, for `GETDEL`. The page [`operating`](crate::docs::operating#rights-in-redis)
/// lists the rights it needs. Turn persistence off (`save ""`, `appendonly no`) unless this Redis
/// holds other data too: sessions are not worth saving, and a restored dump brings claimed ones
/// back. Set `maxmemory-policy` to `volatile-ttl`, with which strangers evict neither those who
/// come back nor STEKs.
#[derive(Clone)]
pub struct RedisStore(Remote);

impl RedisStore {
    /// The default prefix of the keys in Redis.
    pub const DEFAULT_PREFIX: &str = DEFAULT_PREFIX;

    /// How many bytes of values may wait to be written, for each server: 16 MiB, some 50,000
    /// sessions.
    pub const MAX_QUEUED: usize = Node::MAX_QUEUED;

    /// How many look-ups may be in flight, for each server: 1,024.
    pub const MAX_LOOKUPS: usize = Node::MAX_LOOKUPS;

    /// One Redis server, by a URL as the `redis` crate reads it
    /// (`redis://[user][:password@]host[:port][/database]`; `rediss` for TLS, which trusts the
    /// system's certificates and uses the process's default crypto provider). It is connected to in
    /// the background; nothing waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the URL cannot be used, [`Error::Thread`] if the system gives no
    /// thread.
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::with_client(RedisClient::open(url)?)
    }

    /// The same for whatever else a [`RedisClient`] can reach: the master behind Sentinels, a
    /// Cluster, or a server with certificates of your own.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it uses TLS and no default crypto provider is installed,
    /// [`Error::Thread`] if the system gives no thread.
    pub fn with_client(client: impl Into<RedisClient>) -> Result<Self, Error> {
        let client = client.into().checked()?;
        let thread = "resumption-redis";
        let remote = match client.as_cluster() {
            Some(cluster) => Remote::start_with(thread, DEFAULT_PREFIX, move |common, runtime| {
                Masters::new(cluster.clone(), common, runtime)
            })?,
            None => Remote::start(thread, DEFAULT_PREFIX, move |runtime| Server {
                client: client.clone().resolved_by(runtime),
            })?,
        };
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

    /// The tokio runtime that polls the look-ups, on which their connection is then served too:
    /// a look-up neither wakes the store's thread nor waits to be woken by it. This costs another
    /// connection to each server. Set it before the store is used.
    ///
    /// I/O and time must be enabled on this runtime. Nothing depends on it but look-ups, and they
    /// go back to the store's own thread while it is late three times in a row or its connection is
    /// lost, and for good once it has ended. Those under way then are full handshakes at worst, and
    /// no claim is sent twice. That is logged, and counted in
    /// [`StoreHealth::lookup_runtime_outages`]. While the runtime is busy, answers wait for it.
    ///
    /// A runtime without I/O or time is not used, and the log says so; but tokio tells it by a
    /// panic, so with `panic = "abort"` the process ends when the store is first used. A process
    /// that is forked later looks up by the store's thread.
    ///
    /// Defaults to none: look-ups are served by the store's thread, and need no runtime.
    #[must_use]
    pub fn lookup_runtime(self, runtime: Handle) -> Self {
        Self(self.0.with_lookup_runtime(runtime))
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

    fn prepare(&self, deadline: Duration) {
        self.0.prepare(deadline);
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

/// A server of Redis, for the machinery that all remote stores share.
#[derive(Clone)]
struct Server {
    client: RedisClient,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(f)
    }
}

impl Backend for Server {
    type Connection = Connection;

    async fn connect(&mut self) -> Result<Connection, Failure> {
        let connected = self.client.connect().await;
        Connection::new(connected, false)
    }

    fn write_timeout(&self) -> Duration {
        self.client.dialer().command_timeout
    }
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use std::sync::{Arc, OnceLock};

    #[cfg(unix)]
    use test_support::fake_redis;
    #[cfg(unix)]
    use test_support::redis::{RedisServer, as_user};
    #[cfg(unix)]
    use tokio::runtime::Builder;

    #[cfg(unix)]
    use super::hostile::{PATIENT, until};
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_slow_to_resolve_is_resolved() {
        let server = RedisServer::start();
        let url = format!("redis://redis.test:{}", server.port());
        let client = RedisClient::open(url).unwrap().with_slow_names();
        let store = RedisStore::with_client(client).unwrap();
        until(&store, |health| !health.is_down);
    }

    #[cfg(unix)]
    #[test]
    fn names_are_resolved_by_the_store_s_own_thread_whichever_runtime_connects() {
        let server = RedisServer::start();
        // It does not know its own address, so it has the name that it was reached by.
        let own_port = Arc::new(OnceLock::new());
        let port = Arc::clone(&own_port);
        let node = fake_redis::start(move |command| {
            let slots = || {
                format!(
                    "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$-1\r\n:{}\r\n",
                    port.get().unwrap()
                )
            };
            (command == "CLUSTER").then(|| slots().into_bytes())
        });
        own_port.set(node).unwrap();
        let at = |port: u16| format!("redis://redis.test:{port}");
        for client in [
            RedisClient::open(at(server.port())).unwrap(),
            RedisClient::cluster([at(node)]).unwrap(),
        ] {
            let mut runtime = Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
            let store = RedisStore::with_client(client.with_names_by_one_thread()).unwrap();
            let store = store.lookup_runtime(runtime.handle().clone());
            store.prepare(PATIENT);
            until(&store, |health| health.connections == 2);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_panic_of_redis_while_it_connects_is_told_in_its_words() {
        let port = fake_redis::start(|_| None);
        // Nobody checks that there is a crypto provider.
        let client = redis::Client::open(format!("rediss://127.0.0.1:{port}")).unwrap();
        let client: RedisClient = client.into();
        let server = move |_: &Handle| Server {
            client: client.clone(),
        };
        let store = RedisStore(Remote::start("test", DEFAULT_PREFIX, server).unwrap());
        until(&store, |health| health.last_trouble.is_some());
        let what = store.health().last_trouble.unwrap().what;
        assert!(
            what.contains("panicked: ") && what.contains("CryptoProvider"),
            "{what}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn one_prefix_in_redis_is_all_that_either_connection_needs_rights_to() {
        let server = RedisServer::start();
        server.ask("ACL SETUSER user on >p +get +set +getdel ~eu:session:*");
        let store = RedisStore::new(&as_user(&server.url())).unwrap();
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let store = store.prefix("eu").lookup_runtime(runtime.handle().clone());
        store.prepare(PATIENT);
        until(&store, |health| health.connections == 2);
        let health = store.health();
        assert!(
            !health.is_down && health.last_trouble.is_none(),
            "{health:?}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_look_up_runtime_that_cannot_connect_is_told_with_the_reason() {
        let server = RedisServer::start();
        let told = |runtime: &Handle| {
            let store = RedisStore::new(&server.url()).unwrap();
            let store = store.lookup_runtime(runtime.clone());
            store.prepare(PATIENT);
            until(&store, |health| health.last_trouble.is_some());
            store.health().last_trouble.unwrap().what
        };
        let mut builder = Builder::new_multi_thread();
        let without_io = builder.worker_threads(1).build().unwrap();
        let who = format!("127.0.0.1:{}, by the look-up runtime: ", server.port());
        let what = told(without_io.handle());
        assert!(
            what.starts_with(&who) && what.contains("disabled"),
            "{what}"
        );
        let ended = builder.build().unwrap();
        let handle = ended.handle().clone();
        ended.shutdown_background();
        assert_eq!(&*told(&handle), format!("{who}the runtime has ended"));
    }

    #[test]
    fn debug_shows_its_prefix_alone() {
        let store = RedisStore(Remote::idle(DEFAULT_PREFIX));
        assert_eq!(store.name(), "redis");
        let shown = format!("{:?}", store.prefix("eu"));
        assert_eq!(shown, r#"RedisStore { prefix: "eu:session:", .. }"#);
    }
}
