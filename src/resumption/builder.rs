use std::fmt;
use std::time::Duration;

use super::Resumption;
use crate::aead::Sealing;
use crate::cache::{CacheSettings, MAX_ENTRIES};
use crate::client_auth::DEFAULT_INTERVAL;
use crate::clock::Clock;
use crate::error::Error;
use crate::ring::{DEFAULT_SOURCE_DEADLINE, RingSettings};
use crate::rotation::Rotation;
use crate::source::StekSource;
use crate::stats::metrics::Publisher;
use crate::store::{DEFAULT_FIRST_TTL, DEFAULT_STORE_DEADLINE, SharedStore};
use crate::terms::{
    DEFAULT_INCIDENT_WINDOW, DEFAULT_MAX_SESSION_AGE, DEFAULT_MAX_SESSION_LEN, Terms,
};
use crate::ticket::DEFAULT_MAX_TICKET_LEN;

mod build;
#[cfg(test)]
mod tests;

impl Resumption {
    /// Stateless tickets for TLS 1.3 and 1.2, and a cache of
    /// [`SessionCache::DEFAULT_ENTRIES`](crate::SessionCache::DEFAULT_ENTRIES) for TLS 1.2 clients
    /// without ticket support; every default. 0-RTT is given up: rustls allows it only for
    /// single-use sessions.
    ///
    /// # Errors
    ///
    /// [`Error::Random`] or [`Error::Thread`] if the system gives no random bytes or no thread.
    pub fn tickets() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// No tickets: a cache of so many sessions for TLS 1.3 and 1.2; every other default. TLS 1.3
    /// stores two per handshake, so provide for twice the clients.
    ///
    /// # Errors
    ///
    /// [`Error::Thread`] if the system gives no thread.
    pub fn stateful(entries: usize) -> Result<Self, Error> {
        Self::builder().stateful(entries).build()
    }

    #[doc = include_str!("builder.md")]
    pub fn builder() -> ResumptionBuilder {
        ResumptionBuilder::new()
    }
}

/// Sets up a [`Resumption`]. Setters never fail; [`build`](ResumptionBuilder::build) checks.
///
/// ```
/// use std::time::Duration;
/// use rustls_resumption::Resumption;
///
/// let error = Resumption::builder()
///     .max_session_age(Duration::from_secs(30 * 24 * 3600))
///     .build()
///     .unwrap_err();
/// assert!(error.to_string().starts_with("max_session_age = 2592000s: "));
/// ```
#[must_use]
pub struct ResumptionBuilder {
    stateful: bool,
    manual: bool,
    terms: Terms,
    cache: CacheSettings,
    ring: RingSettings,
    rotation: Option<Rotation>,
    sealing: Option<Sealing>,
    source: Option<Box<dyn StekSource>>,
    store: Option<Box<dyn SharedStore>>,
    store_deadline: Duration,
    recheck_interval: Duration,
    unverified_client_certificates: bool,
    session_lineage: bool,
    first_ttl: Duration,
    publisher: Publisher,
}

impl ResumptionBuilder {
    /// How long a verdict on a client's certificates holds, by default: 60 seconds.
    pub const DEFAULT_RECHECK_INTERVAL: Duration = DEFAULT_INTERVAL;

    /// The longest that a session resumes after its full handshake, by default: 24 hours.
    pub const DEFAULT_MAX_SESSION_AGE: Duration = DEFAULT_MAX_SESSION_AGE;

    /// The longest ticket that is made or opened, in bytes, by default: 16 KiB.
    pub const DEFAULT_MAX_TICKET_LEN: usize = DEFAULT_MAX_TICKET_LEN;

    /// How long set-up waits for a STEK source that does not answer, by default: 5 seconds.
    pub const DEFAULT_SOURCE_DEADLINE: Duration = DEFAULT_SOURCE_DEADLINE;

    /// How long you promise that a handshake takes, at most, by default: 60 seconds.
    pub const DEFAULT_INCIDENT_WINDOW: Duration = DEFAULT_INCIDENT_WINDOW;

    /// The longest session that is kept, by default: 16 KiB.
    pub const DEFAULT_MAX_SESSION_LEN: usize = DEFAULT_MAX_SESSION_LEN;

    /// How long a handshake waits for a shared store, at most and in all, by default: 50
    /// milliseconds.
    pub const DEFAULT_STORE_DEADLINE: Duration = DEFAULT_STORE_DEADLINE;

    /// How long the session of a client that has not come back yet stays in a shared store, by
    /// default: 1 hour.
    pub const DEFAULT_FIRST_TTL: Duration = DEFAULT_FIRST_TTL;

    pub(crate) fn new() -> Self {
        Self {
            stateful: false,
            manual: false,
            terms: Terms::default(),
            cache: CacheSettings::default(),
            ring: RingSettings::default(),
            rotation: None,
            sealing: None,
            source: None,
            store: None,
            store_deadline: DEFAULT_STORE_DEADLINE,
            recheck_interval: DEFAULT_INTERVAL,
            unverified_client_certificates: false,
            session_lineage: false,
            first_ttl: DEFAULT_FIRST_TTL,
            publisher: Publisher::default(),
        }
    }

    /// Sessions live only in a cache of this many entries; no tickets are issued. TLS 1.3 stores
    /// two per handshake, so provide for twice the clients.
    ///
    /// Defaults to tickets.
    pub fn stateful(mut self, entries: usize) -> Self {
        self.stateful = true;
        self.cache_entries(entries)
    }

    /// How long a handshake takes, at most: a promise of yours, which nothing here enforces, for
    /// rustls has no timeout. A session whose handshake was not followed from its beginning is not
    /// made for so long after [`revoke_all`](crate::Resumption::revoke_all) or
    /// [`forget`](crate::Resumption::forget), since that may have begun before; where the source of
    /// STEKs is shared with other processes but cannot tell them of the call
    /// ([`Reach::Each`](crate::Reach::Each)), for 5 seconds more and the time by which their clocks
    /// may differ: 5 minutes, or `publish_ahead` if that is longer. Where handshakes are [followed](crate::Resumption::follow) it does
    /// not matter. At most an hour.
    ///
    /// Defaults to [`ResumptionBuilder::DEFAULT_INCIDENT_WINDOW`].
    pub fn incident_window(mut self, window: Duration) -> Self {
        self.terms.incident_window = window;
        self
    }

    /// How many sessions the cache holds; 0 turns it off. More than 2,147,483,647 count as that.
    ///
    /// Defaults to [`SessionCache::DEFAULT_ENTRIES`](crate::SessionCache::DEFAULT_ENTRIES).
    pub fn cache_entries(mut self, entries: usize) -> Self {
        self.cache.entries = entries.min(MAX_ENTRIES);
        self
    }

    /// How many bytes the values in the cache may have in all. Each costs at most 100 bytes more,
    /// which the number of entries bounds. Divided evenly among the shards; a session larger than a
    /// shard's share is not stored.
    ///
    /// What many clients' certificate chains have in common, the issuers' certificates, counts once
    /// a shard. If the bytes are used up first, the cache holds fewer sessions than
    /// [`cache_entries`](ResumptionBuilder::cache_entries) allows, which
    /// [`Evictions::bytes`](crate::stats::Evictions::bytes) shows.
    ///
    /// Defaults to [`DEFAULT_BYTES_PER_ENTRY`](crate::SessionCache::DEFAULT_BYTES_PER_ENTRY) for
    /// each of the entries, and at least 64 KiB.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache.bytes = Some(bytes);
        self
    }

    /// Into how many shards the cache is divided, at least 1, rounded up to a power of two. Fewer are
    /// made where a shard would hold less than 64 sessions or 64 KiB, and no more than 4,096.
    ///
    /// Defaults to four times the cores.
    pub fn cache_shards(mut self, shards: usize) -> Self {
        self.cache.shards = Some(shards);
        self
    }

    /// The longest session that is kept, in the cache or in a shared store, in bytes of rustls's
    /// encoding. Nearly all of a long one are the client's certificates, to which a client may add
    /// what it likes. From 1 KiB to 63 KiB; tickets have a limit of their own,
    /// [`max_ticket_len`](ResumptionBuilder::max_ticket_len).
    ///
    /// Defaults to [`ResumptionBuilder::DEFAULT_MAX_SESSION_LEN`].
    pub fn max_session_len(mut self, len: usize) -> Self {
        self.terms.max_session_len = len;
        self
    }

    /// How long a session stays in the cache. From 1 millisecond to 7 days.
    ///
    /// Defaults to [`SessionCache::DEFAULT_TTL`](crate::SessionCache::DEFAULT_TTL).
    pub fn session_ttl(mut self, ttl: Duration) -> Self {
        self.cache.ttl = ttl;
        self
    }

    /// Bounds how long after its full handshake a session resumes, however often it was renewed:
    /// TLS 1.2 in every server, TLS 1.3 only where handshakes are
    /// [followed](Resumption::follow), as acceptors of this crate do. Elsewhere a TLS 1.3 session's
    /// age counts from its last renewal, and [`Stats`](crate::Stats) counts those as `age_unknown`.
    ///
    /// From 1 second to 7 days. Defaults to
    /// [`ResumptionBuilder::DEFAULT_MAX_SESSION_AGE`].
    pub fn max_session_age(mut self, age: Duration) -> Self {
        self.terms.max_session_age = age;
        self
    }

    /// The schedule of STEKs. A ticket lifetime beyond
    /// [`max_session_age`](ResumptionBuilder::max_session_age) is cut to that: no session would
    /// resume later.
    ///
    /// Defaults to [`Rotation::new`]; in stateful mode with a ticket lifetime of
    /// [`SessionCache::DEFAULT_TTL`](crate::SessionCache::DEFAULT_TTL), because no session in a
    /// shared store outlives the STEK that sealed it.
    pub fn rotation(mut self, rotation: Rotation) -> Self {
        self.rotation = Some(rotation);
        self
    }

    /// Where STEKs come from. Defaults to random ones of this process alone.
    pub fn stek_source(mut self, source: impl StekSource + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Shares sessions with the other nodes of a fleet, so that a client resumes on any of them.
    /// Needs a shared [`stek_source`](ResumptionBuilder::stek_source), whose STEKs seal what is
    /// stored, and an acceptor (`ResumptionAcceptor` or `BlockingAcceptor`), without which TLS 1.3
    /// clients get full handshakes.
    ///
    /// Meant for stateful mode. There TLS 1.3 sessions live in the store alone; TLS 1.2 sessions
    /// live in the store and in the cache, and none are made where that has no room for any. In
    /// ticket mode only the sessions of TLS 1.2 clients are stored, also of those that use tickets:
    /// rarely worth a store.
    ///
    /// Defaults to none.
    pub fn shared_store(mut self, store: impl SharedStore + 'static) -> Self {
        self.store = Some(Box::new(store));
        self
    }

    /// How long a handshake waits for the shared store, at most and in all. From 1 millisecond to
    /// 10 seconds.
    ///
    /// Defaults to [`ResumptionBuilder::DEFAULT_STORE_DEADLINE`].
    pub fn store_deadline(mut self, deadline: Duration) -> Self {
        self.store_deadline = deadline;
        self
    }

    /// How long a verdict on a client's certificates holds before the verifier of
    /// [`install_with_client_verifier`](Resumption::install_with_client_verifier) is asked again:
    /// a revoked certificate may resume for that long, in which time a suspended machine counts. With 0
    /// it is asked each time. At most a day.
    ///
    /// Defaults to
    /// [`DEFAULT_RECHECK_INTERVAL`](ResumptionBuilder::DEFAULT_RECHECK_INTERVAL).
    pub fn recheck_interval(mut self, interval: Duration) -> Self {
        self.recheck_interval = interval;
        self
    }

    /// Lets sessions with client certificates resume although no verifier was given, as rustls by
    /// itself would. **A client whose certificate has expired or was revoked can still resume, for
    /// up to [`max_session_age`](ResumptionBuilder::max_session_age)**, and without limit where its
    /// age is not known. Give the verifier instead, with
    /// [`install_with_client_verifier`](Resumption::install_with_client_verifier).
    ///
    /// Defaults to not keeping such sessions.
    pub fn resume_unverified_client_certificates(mut self) -> Self {
        self.unverified_client_certificates = true;
        self
    }

    /// Tells which connections are of one session: the
    /// [`SessionLineage`](crate::acceptor::SessionLineage) of each handshake that is
    /// [followed](Resumption::follow). For protocols such as FTPS, where a data connection must
    /// resume the session of its control connection. Costs 16 bytes in each TLS 1.3 session and some
    /// 1.3 µs in a TLS 1.2 handshake.
    ///
    /// Defaults to not telling.
    pub fn session_lineage(mut self) -> Self {
        self.session_lineage = true;
        self
    }

    /// How long a session that a full handshake made stays in the shared store. Once its client
    /// comes back, the next stays for the [`session_ttl`](ResumptionBuilder::session_ttl), which
    /// also bounds this; but resuming a TLS 1.2 session makes no next one. So clients that never
    /// return cannot fill the store for long, and a store that evicts what expires first, as Redis
    /// does with `volatile-ttl`, evicts their sessions. From 1 millisecond to 7 days.
    ///
    /// Defaults to [`ResumptionBuilder::DEFAULT_FIRST_TTL`].
    pub fn first_ttl(mut self, ttl: Duration) -> Self {
        self.first_ttl = ttl;
        self
    }

    /// How long [`build`](ResumptionBuilder::build) waits for a STEK source that does not answer,
    /// before it starts with local random STEKs. A source that does not even tell its
    /// [name](crate::source::StekSource::name) within 5 seconds is an error.
    ///
    /// Defaults to [`ResumptionBuilder::DEFAULT_SOURCE_DEADLINE`].
    pub fn source_deadline(mut self, deadline: Duration) -> Self {
        self.ring.source_deadline = deadline;
        self
    }

    /// The AEAD that seals tickets. With the feature `fips` only an approved one is accepted.
    ///
    /// Defaults to [`Sealing::default`].
    pub fn sealing(mut self, sealing: Sealing) -> Self {
        self.sealing = Some(sealing);
        self
    }

    /// The longest ticket that is made or opened, in bytes. From 1 KiB to 65,535, which is what TLS
    /// can carry. The nodes of a fleet should agree.
    ///
    /// Defaults to [`ResumptionBuilder::DEFAULT_MAX_TICKET_LEN`].
    pub fn max_ticket_len(mut self, len: usize) -> Self {
        self.ring.max_ticket_len = len;
        self
    }

    /// Where the time comes from. With a [`FakeClock`](crate::FakeClock) no housekeeping thread is
    /// started.
    ///
    /// Defaults to [`Clock::system`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.terms.clock = clock;
        self
    }

    /// Starts no housekeeping thread: the caller calls [`Resumption::step`] often, say every
    /// second. STEKs keep to their windows even if it does not, but are wiped late, no tickets are
    /// issued once the last one has retired, and calls of other processes are not heard of.
    pub fn manual_stepping(mut self) -> Self {
        self.manual = true;
        self
    }

    /// A label for every metric that is published, say `("service", "api")`, for a process with
    /// several [`Resumption`]s: without one they would count under the same names. May be called
    /// again for another label.
    ///
    /// Defaults to none.
    #[cfg(feature = "metrics")]
    pub fn metrics_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.publisher.add_label(key.into(), value.into());
        self
    }
}

impl fmt::Debug for ResumptionBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumptionBuilder")
            .field("stateful", &self.stateful)
            .field("terms", &self.terms)
            .field("cache", &self.cache)
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}
