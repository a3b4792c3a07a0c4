use std::fmt;
use std::time::Duration;

use tracing::{info, warn};

use super::Share;
use super::kek::{self, Keks};
use super::record::{FORMAT, MAX_LEN, Record};
use crate::clock::{Time, instant_in};
use crate::error::Error;
use crate::redis::{DEFAULT_PREFIX, RedisClient};
use crate::source::{SourceError, SourceKey, SourceQuery, StekSource};

mod exchange;

use exchange::Exchange;

/// STEKs that a fleet shares through Redis, sealed under a key-encryption key (KEK) that Redis never
/// sees. Needs the feature `redis`.
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
/// One value, `rustls-resumption:steks:1` unless the [prefix](RedisSource::prefix) says otherwise:
/// the secrets, their windows, the schedule and a version, sealed with AES-256-GCM-SIV and bound to
/// the key's name. Each node reads it every
/// [`SourceQuery::DEFAULT_INTERVAL`], one command each time. Whichever comes first when a rotation is due makes it: a script compares and sets, so that one wins and the
/// others take what it made. The value expires with the last of its keys.
///
/// Whoever has a KEK and any copy of the value, be it in a dump, a backup or on the wire, has the
/// STEKs of its time. So the KEK is worth as much as they are, for as long as copies are kept: keep
/// it as such, and replace it now and then (see [`also_kek`](RedisSource::also_kek)).
///
/// # Time
///
/// Redis's clock decides when to rotate, so that a node whose clock is wrong does not rotate for
/// all. When a STEK may be used, each node judges by its own clock, against windows that Redis
/// cannot alter: nobody who has Redis alone can make a key seal or open for longer. The clocks of
/// all may differ by [`publish_ahead`](crate::Rotation::publish_ahead); a node whose clock is further
/// from that of Redis says so.
///
/// # Trouble
///
/// Each question to Redis is given up after a second; connections are made again by themselves.
///
/// | what happens | what the fleet does |
/// | --- | --- |
/// | Redis is down, paused, full, read-only, or refuses the password | the nodes keep the keys they have; without a successor, local random ones seal when those retire, and the fleet's again when Redis is back |
/// | the value is gone | a node that still holds keys writes them again; of several, the one with the newest version wins in the end, also over a newcomer's |
/// | an old dump was restored | its version is lower than what was seen: it is refused, and written over with the newest. A node that starts before that takes it for a moment, but what has expired is not used. If *no* node remembers anything newer, a key revoked since the dump is back: revoke it again |
/// | the value does not open | it is an error, and nobody writes over it: either a node has the wrong KEK, or, if all say so, it is damaged and to be deleted |
/// | nodes have different schedules | each key keeps its window, whoever made it; who did not write last reports [`fleet_agrees`](crate::stats::StekStats::fleet_agrees) `= Some(false)` |
///
/// # Revocation and rotation by hand
///
/// [`revoke`](crate::Resumption::revoke) and [`revoke_all`](crate::Resumption::revoke_all) take the
/// keys out of the value too: the other nodes drop them when they next look, and
/// [`rotate_now`](crate::Resumption::rotate_now) rotates for all. Until a node has looked, the
/// tickets of a key that was made so are full handshakes there.
///
/// # What it may do in Redis
///
/// `EVAL`, and in it `TIME`, `GET`, `GETRANGE` and `SET` on the one key: for an ACL,
/// `+eval +time +get +getrange +set ~rustls-resumption:steks:*`.
pub struct RedisSource {
    address: String,
    key: String,
    exchange: Exchange,
    keks: Keks,
    share: Share,
    clock_differs: bool,
}

/// How long everything may take that is asked of Redis in one go.
const BUDGET: Duration = Duration::from_secs(1);

/// How often another node may be faster before this one gives up until it is asked again.
const ROUNDS: usize = 5;

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

    /// The same with a client of the `redis` crate: for certificates of one's own, Sentinels or a
    /// cluster.
    ///
    /// ```no_run
    /// # let kek = [0; 32];
    /// let nodes = ["rediss://10.0.0.1", "rediss://10.0.0.2", "rediss://10.0.0.3"];
    /// let client = redis::cluster::ClusterClient::new(nodes)?;
    /// let source = rustls_resumption::source::RedisSource::with_client(client, &kek)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::WeakKey`] if the KEK is too weak.
    pub fn with_client(client: impl Into<RedisClient>, kek: &[u8]) -> Result<Self, Error> {
        let client = client.into();
        let source = Self {
            address: client.to_string(),
            key: String::new(),
            exchange: Exchange::new(client),
            keks: Keks::new(kek)?,
            share: Share::new(String::new()),
            clock_differs: false,
        };
        Ok(source.prefix(Self::DEFAULT_PREFIX))
    }

    /// Another KEK, which opens what it sealed, while the first goes on sealing. To replace a KEK,
    /// give the next one to every node as another; then make it the first on every node, and the
    /// old one the other; then rotate, and take the old one away. See the page
    /// [`operating`](crate::docs::operating).
    ///
    /// # Errors
    ///
    /// [`Error::WeakKey`] if it is too weak, [`Error::Config`] if it was given before.
    pub fn also_kek(mut self, kek: &[u8]) -> Result<Self, Error> {
        self.keks.add(kek)?;
        Ok(self)
    }

    /// What the key in Redis begins with: one for each fleet that shares a Redis.
    ///
    /// Defaults to [`RedisSource::DEFAULT_PREFIX`].
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        // Another format is another key: nodes of two releases do not get in each other's way.
        self.key = format!("{prefix}:steks:{FORMAT}");
        self.share = Share::new(format!("{} at Redis {}", self.key, self.address));
        self
    }

    fn open(&self, sealed: &[u8], query: &SourceQuery<'_>) -> Result<Record, SourceError> {
        let opened = self.keks.open(sealed, &self.key).and_then(|bytes| {
            let decoded = self.share.decode(&bytes, query.sealing);
            decoded.map_err(|why| format!("damaged: {why}"))
        });
        opened.map_err(|why| {
            let key = &self.key;
            self.trouble(&format!(
                "the value of {key}: {why}; if no node can read it, run `DEL {key}`, and one that \
                 still holds keys writes them again"
            ))
        })
    }

    fn trouble(&self, why: &str) -> SourceError {
        format!("Redis {}: {why}", self.address).into()
    }

    /// Says when this host's clock leaves what the schedule allows for, and when it is back.
    fn compare_clocks(&mut self, theirs: Time, query: &SourceQuery<'_>) {
        let ours = query.now;
        let difference = ours.since(theirs).max(theirs.since(ours));
        let allowed = query.rotation.ahead();
        let differs = difference > allowed;
        if differs && !self.clock_differs {
            warn!(
                redis = %self.address, ?difference, ?allowed,
                "this host's clock and that of Redis differ by more than STEKs are published \
                 ahead: set right whichever is wrong"
            );
        }
        if !differs && self.clock_differs {
            info!(redis = %self.address, "this host's clock and that of Redis agree again");
        }
        self.clock_differs = differs;
    }
}

impl StekSource for RedisSource {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        self.share.forget(query);
        let deadline = instant_in(BUDGET);
        for _ in 0..ROUNDS {
            let found = self
                .exchange
                .read(&self.key, kek::sealed_len(MAX_LEN), deadline)
                .map_err(|why| self.trouble(&why))?;
            self.compare_clocks(found.time, query);
            let record = match found.value.as_slice() {
                [] => None,
                sealed => Some(self.open(sealed, query)?),
            };
            let settled = self.share.settle(record, found.time, query)?;
            if !settled.write {
                return Ok(self.share.keep(settled, query));
            }
            let sealed = self.keks.seal(&settled.record.encode(), &self.key)?;
            let lifetime = settled.record.expires().since(found.time);
            let written = self
                .exchange
                .swap(&self.key, found.value, sealed, lifetime, deadline)
                .map_err(|why| self.trouble(&why))?;
            if written {
                return Ok(self.share.keep(settled, query));
            }
            // Another node was faster, which may have done all that there was to do.
        }
        Err(self.trouble("other nodes change the STEKs all the time"))
    }

    fn name(&self) -> &'static str {
        "redis"
    }

    fn fleet_agrees(&self) -> Option<bool> {
        self.share.fleet_agrees()
    }
}

impl fmt::Debug for RedisSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSource")
            .field("address", &self.address)
            .field("key", &self.key)
            .field("keks", &self.keks)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
    use std::sync::mpsc::{Sender, channel};
    use std::thread;

    use test_support::log::Log;
    use test_support::redis::RedisServer;

    use super::super::record::tests::{query, secrets};
    use super::*;
    use crate::rotation::Rotation;

    const NOW: Time = Time(1_800_000_000_000);

    fn kek() -> Vec<u8> {
        (100..150).collect()
    }

    /// Passes connections on to a port, and tells of every byte.
    fn tapped(port: u16, tap: Sender<Vec<u8>>) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let tapped = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                for (mut from, mut to) in [(client, server), back] {
                    let tap = tap.clone();
                    thread::spawn(move || {
                        let mut bytes = [0; 4096];
                        while let Ok(len @ 1..) = from.read(&mut bytes) {
                            tap.send(bytes[..len].to_vec()).unwrap();
                            to.write_all(&bytes[..len]).unwrap();
                        }
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        tapped
    }

    #[test]
    fn nothing_secret_goes_to_redis_or_into_its_dump() {
        let server = RedisServer::with_flags(&["--rdbcompression", "no"]);
        let (tap, seen) = channel();
        let port = tapped(server.port(), tap);
        let url = format!("redis://127.0.0.1:{port}");
        let mut source = RedisSource::new(&url, &kek()).unwrap();
        let rotation = Rotation::new();
        let rotate = query(NOW, &rotation, true, &[]);
        for _ in 0..3 {
            source.load(&rotate).unwrap();
        }

        let mut get = redis::cmd("GET");
        let client = redis::Client::open(server.url()).unwrap();
        let value: Vec<u8> = get
            .arg(&source.key)
            .query(&mut client.get_connection().unwrap())
            .unwrap();
        let record = source.open(&value, &rotate).unwrap();
        let mut needles = secrets(&record);
        assert_eq!(needles.len(), 3);
        needles.push(kek());
        let dump = server.save();
        drop(source); // so that its connection ends, and with it what is seen
        let wire: Vec<u8> = seen.try_iter().flatten().collect();
        let is_in = |needle: &[u8], hay: &[u8]| hay.windows(needle.len()).any(|w| w == needle);
        assert!(is_in(&value, &wire), "the wire was seen");
        assert!(is_in(b"rustls-resumption:steks:1", &dump));
        for needle in &needles {
            for part in needle.chunks_exact(8) {
                assert!(!is_in(part, &wire) && !is_in(part, &dump));
            }
        }
    }

    #[test]
    fn it_is_shown_by_what_everybody_may_know() {
        let source = RedisSource::new("redis://user:hunter2@localhost", &kek()).unwrap();
        let keks = format!("{:?}", source.keks);
        assert_eq!(
            format!("{:?}", source.prefix("fleet")),
            format!(
                "RedisSource {{ address: \"localhost:6379\", key: \"fleet:steks:1\", \
                 keks: {keks}, .. }}"
            )
        );
    }

    #[test]
    fn a_clock_that_is_off_is_noticed_until_it_is_right_again() {
        let mut source = RedisSource::new("redis://localhost", &kek()).unwrap();
        let rotation = Rotation::new();
        let ours = query(NOW, &rotation, false, &[]);
        let ahead = rotation.ahead();
        let second = Duration::from_secs(1);
        for (theirs, differs) in [
            (NOW, false),
            (NOW.plus(ahead), false),
            (NOW.plus(ahead + second), true),
            (NOW.minus(ahead), false),
            (NOW.minus(ahead + second), true),
        ] {
            source.compare_clocks(theirs, &ours);
            assert_eq!(source.clock_differs, differs);
        }
    }

    #[test]
    fn a_clock_is_warned_of_when_it_leaves_what_is_allowed_and_told_of_when_it_is_back() {
        let mut source = RedisSource::new("redis://localhost", &kek()).unwrap();
        let rotation = Rotation::new();
        let ours = query(NOW, &rotation, false, &[]);
        let behind = NOW.minus(2 * rotation.ahead());
        let mut logged = |theirs| Log::of(|| source.compare_clocks(theirs, &ours)).0.lines();
        for _ in 0..2 {
            let warning = "WARN message=this host's clock and that of Redis differ by more than \
                           STEKs are published ahead: set right whichever is wrong \
                           redis=localhost:6379 difference=600s allowed=300s";
            let info = "INFO message=this host's clock and that of Redis agree again \
                        redis=localhost:6379";
            let nothing: [&str; 0] = [];
            assert_eq!(logged(NOW), nothing);
            assert_eq!(logged(behind), [warning]);
            assert_eq!(logged(behind), nothing);
            assert_eq!(logged(NOW), [info]);
        }
    }
}
