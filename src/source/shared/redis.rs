use std::fmt;
use std::time::{Duration, Instant};

use tracing::{info, warn};
use zeroize::Zeroizing;

use super::kek::{self, Keks};
use super::record::encoding::{FORMAT, MAX_LEN};
use super::{Backend, Next, Reading, Shared};
use crate::clock::Time;
use crate::error::Error;
use crate::redis::{DEFAULT_PREFIX, RedisClient};
use crate::source::{SourceError, SourceKey, SourceQuery, StekSource};

mod exchange;

use exchange::{Exchange, Found};

/// STEKs that a fleet shares through Redis, sealed under a key-encryption key
/// ([KEK](crate::docs::glossary)) that Redis never sees. Needs the feature `redis`.
///
/// ```no_run
/// use rustls_resumption::Resumption;
/// use rustls_resumption::source::RedisSource;
/// # let kek = [0; 32];
///
/// // The same 32 random bytes on every node, from where its other secrets come from.
/// let source = RedisSource::new("rediss://user:password@redis.internal", &kek)?;
/// let resumption = Resumption::builder().stek_source(source).build()?;
/// # Ok::<(), rustls_resumption::Error>(())
/// ```
///
/// # What is in Redis
///
/// One value, `rustls-resumption:steks:2` unless the [prefix](RedisSource::prefix) says otherwise:
/// the secrets, their windows, the schedule and a version, sealed with AES-256-GCM-SIV and bound to
/// the key's name. Each node reads it every [`SourceQuery::DEFAULT_INTERVAL`], with one command.
/// The first to do so when a rotation is due makes it: a script compares and sets, so that one node
/// wins and the others take over its keys. What was revoked stands there too, until no node can
/// hold it any longer. The value expires when nothing in it matters any longer.
///
/// Anyone with a KEK and any copy of the value, be it from a dump, a backup or the wire, has the
/// STEKs of its time. Protect the KEK accordingly for as long as copies are kept, and replace it
/// now and then (see [`also_kek`](RedisSource::also_kek)).
///
/// # Time
///
/// Redis's clock decides when to rotate, so that a node whose clock is wrong does not rotate for
/// all. Whether a STEK may be used, each node decides by its own clock, against windows that Redis
/// cannot alter: control of Redis alone does not make a key seal or open for longer. All clocks may
/// differ by up to [`publish_ahead`](crate::Rotation::publish_ahead); a node whose clock differs
/// from that of Redis by more logs a warning. As long as it does, it rotates by its own if the
/// shared STEKs are for that time, else not at all. A STEK is dropped from Redis only once it has
/// expired by both clocks. Should both jump ahead at once, the monotonic clock has a say as well:
/// the jump must first last for as long as a STEK lives. Each node drops its own copy by its own
/// clock alone.
///
/// # Trouble
///
/// Each step has a limit of its own, which suits a Redis on another continent (see [`RedisClient`]):
/// resolving the name, connecting, reading, writing.
///
/// | what happens | what the fleet does |
/// | --- | --- |
/// | Redis is down, paused, full, read-only, or refuses the password | the nodes keep their current keys; when those retire without a successor, each seals with local random keys until Redis is back |
/// | the value is missing | nodes that still hold keys write them again: in the end it has the keys of all |
/// | an old dump was restored | nodes add what it lacks and drop what was revoked since. A node that starts before that uses it for a moment, but no key that has expired. If *no* node remembers that a key was revoked since the dump, it is back: revoke it again |
/// | the value does not open | it is an error, and no node overwrites it: either a node has the wrong KEK, or, if all say so, it is damaged and must be deleted |
/// | nodes have different schedules | each key keeps its window, whichever node made it; a node that was not the last to write reports [`fleet_agrees`](crate::stats::StekStats::fleet_agrees) `= Some(false)` |
///
/// # Revocation and rotation by hand
///
/// [`revoke`](crate::Resumption::revoke) and [`revoke_all`](crate::Resumption::revoke_all) also
/// remove the keys from Redis, and the other nodes drop them when they next read it.
/// [`rotate_now`](crate::Resumption::rotate_now) rotates for all; a node that has not yet read the
/// new key answers its tickets with full handshakes.
///
/// # Permissions in Redis
///
/// `EVAL`, and in it `TIME`, `GET`, `GETRANGE` and `SET` on the one key. The page
/// [`operating`](crate::docs::operating#rights-in-redis) lists the rights.
pub struct RedisSource(Shared<RedisValue>);

impl RedisSource {
    /// What the key in Redis begins with, by default.
    pub const DEFAULT_PREFIX: &str = DEFAULT_PREFIX;

    /// One Redis server, by a URL as the `redis` crate reads it
    /// (`redis://[user][:password@]host[:port][/database]`; `rediss` for TLS, which trusts the
    /// system's certificates and uses the process's default crypto provider), and the KEK: at least
    /// 32 random bytes, which are the caller's to wipe. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the URL cannot be used, [`Error::WeakKey`] if the KEK is too weak.
    pub fn new(url: &str, kek: &[u8]) -> Result<Self, Error> {
        Self::with_client(RedisClient::open(url)?, kek)
    }

    /// The same for whatever else a [`RedisClient`] can reach: the master behind Sentinels, a
    /// Cluster, or a server with certificates of your own.
    ///
    /// ```no_run
    /// use rustls_resumption::source::RedisSource;
    /// use rustls_resumption::store::RedisClient;
    /// # let kek = [0; 32];
    ///
    /// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
    /// let source = RedisSource::with_client(RedisClient::cluster(nodes)?, &kek)?;
    /// # Ok::<(), rustls_resumption::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it uses TLS and no default crypto provider is installed,
    /// [`Error::WeakKey`] if the KEK is too weak.
    pub fn with_client(client: impl Into<RedisClient>, kek: &[u8]) -> Result<Self, Error> {
        let client = client.into().checked()?;
        let value = RedisValue {
            address: client.to_string(),
            key: String::new(),
            exchange: Exchange::new(client),
            keks: Keks::new(kek)?,
            clock_differs: false,
        };
        Ok(Self(Shared::new(value)).prefix(Self::DEFAULT_PREFIX))
    }

    /// Another KEK, which opens what it sealed, while the first continues to seal. To replace a
    /// KEK, add the new one to every node; then make the new one the first on every node, and the
    /// old one the other; then rotate, and remove the old one. See the page
    /// [`operating`](crate::docs::operating).
    ///
    /// # Errors
    ///
    /// [`Error::WeakKey`] if it is too weak, [`Error::Config`] if it was given before.
    pub fn also_kek(mut self, kek: &[u8]) -> Result<Self, Error> {
        self.0.backend.keks.add(kek)?;
        Ok(self)
    }

    /// What the key in Redis begins with: one for each fleet that shares a Redis.
    ///
    /// Defaults to [`RedisSource::DEFAULT_PREFIX`].
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        // Each format has a key of its own: nodes of two releases do not get in each other's way.
        self.0.backend.key = format!("{prefix}:steks:{FORMAT}");
        self
    }
}

impl StekSource for RedisSource {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        self.0.load(query)
    }

    fn name(&self) -> &'static str {
        "redis"
    }

    fn fleet_agrees(&self) -> Option<bool> {
        self.0.fleet_agrees()
    }
}

impl fmt::Debug for RedisSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = &self.0.backend;
        f.debug_struct("RedisSource")
            .field("address", &value.address)
            .field("key", &value.key)
            .field("keks", &value.keks)
            .finish_non_exhaustive()
    }
}

/// By how much the value outlives the last of its keys.
const OUTLIVES_SESSIONS: Duration = Duration::from_secs(60 * 60);

/// A record in a value of Redis, sealed under a KEK and replaced by compare and set.
struct RedisValue {
    address: String,
    key: String,
    exchange: Exchange,
    keks: Keks,
    clock_differs: bool,
}

impl Backend for RedisValue {
    type Basis = Found;

    const HAS_CLOCK: bool = true;

    fn limit(&self) -> Duration {
        self.exchange.limit()
    }

    fn place(&self) -> String {
        format!("{} at Redis {}", self.key, self.address)
    }

    fn read(
        &mut self,
        query: &SourceQuery<'_>,
        _attempt: usize,
        deadline: Instant,
    ) -> Result<Reading<Found>, SourceError> {
        let found = self
            .exchange
            .read(&self.key, kek::sealed_len(MAX_LEN), deadline)
            .map_err(|why| self.trouble(&why))?;
        self.compare_clocks(found.time, query);
        let record = match found.value.as_slice() {
            [] => None,
            sealed => Some(self.open(sealed)?),
        };
        Ok(Reading {
            record,
            now: found.time,
            basis: found,
        })
    }

    fn replace(
        &mut self,
        found: Found,
        next: &Next,
        deadline: Instant,
    ) -> Result<bool, SourceError> {
        let sealed = self.keks.seal(&next.record.encode(), &self.key)?;
        // Longer than any session's, which ends with its STEK: a Redis that evicts what expires
        // first evicts sessions.
        let lifetime = next.lifetime.saturating_add(OUTLIVES_SESSIONS);
        self.exchange
            .swap(&self.key, found.value, sealed, lifetime, deadline)
            .map_err(|why| self.trouble(&why))
    }

    fn damaged(&self, why: &str) -> SourceError {
        self.unreadable(&format!("damaged: {why}"))
    }
}

impl RedisValue {
    fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SourceError> {
        let opened = self.keks.open(sealed, &self.key);
        opened.map_err(|why| self.unreadable(&why))
    }

    fn unreadable(&self, why: &str) -> SourceError {
        let key = &self.key;
        self.trouble(&format!(
            "the value of {key}: {why}; if no node can read it, run `DEL {key}`, and a node that \
             still holds keys writes them again"
        ))
    }

    fn trouble(&self, why: &str) -> SourceError {
        format!("Redis {}: {why}", self.address).into()
    }

    /// Logs when this host's clock and that of Redis begin to differ by more than the schedule
    /// allows for, and when they agree again.
    fn compare_clocks(&mut self, theirs: Time, query: &SourceQuery<'_>) {
        let ours = query.now;
        let difference = ours.since(theirs).max(theirs.since(ours));
        let allowed = query.rotation.ahead();
        let differs = difference > allowed;
        if std::mem::replace(&mut self.clock_differs, differs) == differs {
            return;
        }
        let redis = self.address.clone();
        query.log.tell(move || match differs {
            true => warn!(
                %redis, ?difference, ?allowed,
                "this host's clock and that of Redis differ by more than STEKs are published \
                 ahead: correct whichever is wrong"
            ),
            false => info!(%redis, "this host's clock and that of Redis agree again"),
        });
    }
}

#[cfg(all(test, unix))]
mod tests;
