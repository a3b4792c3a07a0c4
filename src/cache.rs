use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tracing::trace;
use zeroize::{Zeroize, Zeroizing};

use crate::clock::{Basis, Clock, Now, Time};
use crate::context::{self, Given, ResumedBy};
use crate::counters::{Counted, Counters, cores};
use crate::housekeeper::Housekeeper;
use crate::lineage::Lineage;
use crate::scope::{Scope, ScopeState, Scopes};
use crate::session::{Session, Version};
use crate::stats::{CacheCount, CacheStats};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::terms::DEFAULT_MAX_SESSION_AGE;

#[cfg(test)]
mod crowding;
mod index;
#[cfg(all(test, rustls_resumption_shuttle))]
mod interleavings;
mod key;
mod lru;
mod shard;
mod slab;
#[cfg(test)]
mod tests;
mod value;

use key::KeyHasher;
use shard::Shard;
use slab::Entry;
use value::{Removed, Value};

/// Stateful resumption: the server remembers sessions.
///
/// Implements [`rustls::server::StoresServerSessions`] over shards of a segmented LRU. `get`, `take`
/// and `put` take constant time under one shard's lock. It never holds more than its budget, never
/// returns what has expired, and wipes each session when it leaves. A TLS 1.2 session is never
/// `take`n and a TLS 1.3 session never `get`.
///
/// A session costs its value's bytes and at most 100 more: 1,000,000 sessions of 200 bytes, 300 MB.
/// TLS 1.3 stores two per handshake, so provide for twice the clients.
///
/// A handle is cheap to clone, and [`SessionCache::scoped`] gives one for another [`Scope`]:
/// sessions are found only in the scope that stored them. **Configurations that authenticate
/// clients differently must not share a scope.**
///
/// ```
/// use std::sync::Arc;
/// use rustls_resumption::SessionCache;
/// # fn f(mut config: rustls::ServerConfig) {
/// config.session_storage = Arc::new(SessionCache::new(100_000));
/// # }
/// ```
///
/// Used alone it sweeps expired sessions out in small steps as others are stored; within a
/// [`Resumption`](crate::Resumption) its timer does so without traffic too, within about a minute.
#[derive(Clone)]
pub struct SessionCache {
    inner: Arc<Inner>,
    scope: Arc<ScopeState>,
    /// Kept alive by every handle.
    timer: Option<Arc<Housekeeper>>,
}

impl SessionCache {
    /// How many sessions the cache of a [`Resumption`](crate::Resumption) holds, by default: 20,000.
    pub const DEFAULT_ENTRIES: usize = 20_000;

    /// How long a session is kept, by default: 24 hours.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 60 * 60);

    /// A cache of so many sessions, all else at its default, in the default scope. With 0 it stores
    /// nothing, and rustls tells clients so.
    pub fn new(entries: usize) -> Self {
        let settings = CacheSettings {
            entries,
            ..CacheSettings::default()
        };
        Self::build(settings, Arc::default())
    }

    pub(crate) fn build(settings: CacheSettings, scopes: Arc<Scopes>) -> Self {
        let scope = scopes.state(Scope::default());
        Self {
            inner: Arc::new(Inner::new(settings, scopes)),
            scope,
            timer: None,
        }
    }

    pub(crate) fn with_timer(mut self, timer: Arc<Housekeeper>) -> Self {
        self.timer = Some(timer);
        self
    }

    /// What the timer's job holds: it must not keep the timer alive.
    pub(crate) fn sweeper(&self) -> Sweeper {
        Sweeper {
            cache: Arc::clone(&self.inner),
            swept: None,
        }
    }

    /// The same cache in another scope.
    #[must_use]
    pub fn scoped(&self, scope: impl Into<Scope>) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            scope: self.inner.scopes.state(scope.into()),
            timer: self.timer.clone(),
        }
    }

    /// Drops and wipes what this scope stored up to now; no handshake finds it any more. Takes time
    /// in proportion to the cache, in small steps between which handshakes go on.
    pub fn forget(&self, scope: impl Into<Scope>) {
        let now = self.inner.settings.now();
        let number = self.inner.scopes.forget(&scope.into(), now);
        if let Some(number) = number {
            self.inner.drop_all(Some(number));
        }
    }

    /// The same for every scope.
    pub fn clear(&self) {
        self.inner.scopes.forget_all(self.inner.settings.now());
        self.inner.drop_all(None);
    }

    /// Drops and wipes everything for good: nothing is stored any more.
    pub(crate) fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.spare.store(0, Ordering::Release);
        for shard in &self.inner.shards {
            shard.lock().set_limit(0);
        }
        self.clear();
    }

    /// Counters of the cache.
    pub fn stats(&self) -> CacheStats {
        self.inner.stats()
    }

    pub(crate) fn store(&self, id: Vec<u8>, value: Vec<u8>) -> bool {
        self.inner.store(&self.scope, id, value)
    }

    pub(crate) fn fetch(&self, id: &[u8]) -> Option<Vec<u8>> {
        let found = self.inner.fetch(&self.scope, id);
        trace!(hit = found.is_some(), "session looked up");
        if found.is_none() {
            context::miss(NOT_FOUND);
        }
        found
    }

    pub(crate) fn claim(&self, id: &[u8]) -> Option<Vec<u8>> {
        let found = self.inner.claim(&self.scope, id);
        trace!(hit = found.is_some(), "session taken");
        if found.is_none() {
            context::miss(NOT_FOUND);
        }
        found
    }

    pub(crate) fn scope(&self) -> &Arc<ScopeState> {
        &self.scope
    }

    /// Whether a TLS 1.2 session of this ID is here.
    pub(crate) fn holds(&self, id: &[u8; 32]) -> bool {
        self.inner.holds(&self.scope, id)
    }

    /// Keeps a TLS 1.2 session that another process stored, because its client is here.
    pub(crate) fn keep(&self, id: &[u8; 32], value: Vec<u8>, lineage: Lineage, expires: Time) {
        let now = self.inner.settings.clock.now();
        let time = now.on(self.inner.settings.basis);
        let stay = self.inner.stay(lineage, time).min(expires.since(time));
        let entry = Entry {
            value: Value::new(value, lineage),
            version: Some(Version::Tls12),
            expires: now.steady.plus(stay),
            is_renewal: true,
        };
        self.inner.insert(&self.scope, id, entry, now.steady);
    }

    /// Counts a TLS 1.3 session that rustls asked for although nobody had claimed it.
    pub(crate) fn count_not_claimed(&self) {
        self.inner.counters.add(CacheCount::NotClaimed);
    }

    /// The time on the clock that births go by.
    pub(crate) fn now(&self) -> Time {
        let settings = &self.inner.settings;
        settings.clock.now().on(settings.basis)
    }

    pub(crate) fn has_room(&self) -> bool {
        let CacheSettings { entries, bytes, .. } = self.inner.settings;
        entries > 0 && bytes != Some(0) && !self.inner.closed.load(Ordering::Acquire)
    }
}

impl fmt::Debug for SessionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCache")
            .field("scope", &self.scope.scope)
            .field("max_entries", &self.inner.settings.entries)
            .finish_non_exhaustive()
    }
}

/// Why rustls is given nothing, in the context of its handshake.
pub(crate) const NOT_FOUND: &str = "not_found";

/// How a cache is to work.
#[derive(Clone, Debug)]
pub(crate) struct CacheSettings {
    pub(crate) entries: usize,
    pub(crate) bytes: Option<usize>,
    pub(crate) ttl: Duration,
    pub(crate) max_session_age: Duration,
    pub(crate) shards: Option<usize>,
    pub(crate) clock: Clock,
    /// Which clock the births that others wrote go by.
    pub(crate) basis: Basis,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            entries: SessionCache::DEFAULT_ENTRIES,
            bytes: None,
            ttl: SessionCache::DEFAULT_TTL,
            max_session_age: DEFAULT_MAX_SESSION_AGE,
            shards: None,
            clock: Clock::system(),
            basis: Basis::Steady,
        }
    }
}

impl CacheSettings {
    fn now(&self) -> Time {
        self.clock.now().on(self.basis)
    }

    /// Four times the cores, so that threads seldom meet; fewer for a small cache, so that each
    /// shard is large enough for its LRU to mean something and for a large session to fit.
    fn shard_count(&self) -> usize {
        let wanted = self.shards.unwrap_or_else(|| cores().saturating_mul(4));
        let by_entries = self.entries / MIN_SHARD_ENTRIES;
        let by_bytes = self
            .bytes
            .map_or(usize::MAX, |bytes| bytes / MIN_SHARD_BYTES);
        let most = by_entries.min(by_bytes).clamp(1, MAX_SHARDS);
        // Rounded up where that is allowed, else down.
        let wanted = wanted.clamp(1, MAX_SHARDS).next_power_of_two();
        wanted.min(1 << most.ilog2())
    }
}

const MIN_SHARD_ENTRIES: usize = 64;
const MIN_SHARD_BYTES: usize = 64 * 1024;
const MAX_SHARDS: usize = 1 << 12;

/// What the timer may hold.
pub(crate) struct Sweeper {
    cache: Arc<Inner>,
    swept: Option<Duration>,
}

/// How often a part of the cache is swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Into how many parts the cache is divided for that.
const SWEEP_PARTS: u32 = 60;

impl Sweeper {
    /// Sweeps the next part of the cache, if the last one is long enough ago.
    pub(crate) fn step(&mut self) {
        let now = self.cache.settings.clock.monotonic();
        let is_due = |swept| now.saturating_sub(swept) >= SWEEP_INTERVAL;
        if self.swept.is_none_or(is_due) {
            self.swept = Some(now);
            self.cache.sweep();
        }
    }
}

struct Inner {
    /// A power of two of them.
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    hasher: KeyHasher,
    /// Entries of the budget that no shard has. Each shard has half its share for good; the other
    /// half goes where it is needed, so that the cache as a whole is full before a shard evicts.
    spare: AtomicUsize,
    closed: AtomicBool,
    settings: CacheSettings,
    scopes: Arc<Scopes>,
    /// What is counted without a shard.
    counters: Counters<CacheStats>,
}

/// A shard gives spare room back when it has more than this.
const IDLE_ROOM: usize = 8;

impl Inner {
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "there is a shard at least, and all shares together are the budget at most"
    )]
    fn new(settings: CacheSettings, scopes: Arc<Scopes>) -> Self {
        let count = settings.shard_count();
        // Slots are numbered by `u32`.
        let entries = settings.entries.min((u32::MAX / 2) as usize);
        let own = entries / count / 2;
        let own = if count == 1 { entries } else { own };
        let byte_limit = settings.bytes.map_or(usize::MAX, |bytes| bytes / count);
        let hasher = KeyHasher::random();
        let shard = |_| {
            CachePadded::new(Mutex::new(Shard::new(
                hasher,
                entries / count,
                own,
                byte_limit,
            )))
        };
        Self {
            shards: (0..count).map(shard).collect(),
            hasher,
            spare: AtomicUsize::new(entries - own * count),
            closed: AtomicBool::new(false),
            settings,
            scopes,
            counters: Counters::new(),
        }
    }

    fn store(&self, scope: &ScopeState, mut id: Vec<u8>, value: Vec<u8>) -> bool {
        let mut value = Zeroizing::new(value);
        let Ok(fixed) = <&[u8; 32]>::try_from(id.as_slice()) else {
            id.zeroize();
            self.counters.add(CacheCount::MalformedStore);
            return false;
        };
        let now = self.settings.clock.now();
        let session = Session::parse(&value);
        let time = now.on(self.settings.basis);
        let lineage = context::lineage(session.as_ref(), time);
        let version = session.map(|session| session.version);
        if version == Some(Version::Tls13) && lineage.begins_unknown() {
            self.counters.add(CacheCount::AgeUnknown);
        }
        let entry = Entry {
            version,
            expires: now.steady.plus(self.stay(lineage, time)),
            is_renewal: lineage.is_renewal,
            value: Value::new(std::mem::take(&mut *value), lineage),
        };
        let stored = self.insert(scope, fixed, entry, now.steady);
        id.zeroize();
        stored
    }

    fn insert(&self, scope: &ScopeState, id: &[u8; 32], entry: Entry, now: Time) -> bool {
        if entry.expires <= now {
            self.counters.add(CacheCount::TooOld);
            return false;
        }
        let mut removed = Removed::default();
        loop {
            let key = self.hasher.key(scope.number(), id);
            let mut shard = self.shard(key.hash).lock();
            // If the scope was forgotten meanwhile, the shard may have been looked through already:
            // under the old number nobody would find the session, nor wipe it.
            if scope.number() != key.scope {
                continue;
            }
            self.make_room(&mut shard);
            let stored = shard.put(key, entry, now, &mut removed);
            drop(shard);
            drop(removed); // wiped outside the lock
            return stored;
        }
    }

    fn holds(&self, scope: &ScopeState, id: &[u8; 32]) -> bool {
        let key = self.hasher.key(scope.number(), id);
        let now = self.settings.clock.now().steady;
        self.shard(key.hash).lock().holds(key, now)
    }

    fn fetch(&self, scope: &ScopeState, id: &[u8]) -> Option<Vec<u8>> {
        let id = self.well_formed(id)?;
        let now = self.settings.clock.now();
        let key = self.hasher.key(scope.number(), id);
        let mut value = Vec::with_capacity(USUAL_LEN);
        let mut removed = Removed::default();
        let lineage = {
            let mut shard = self.shard(key.hash).lock();
            shard.get(key, now.steady, &mut value, &mut removed)
        }?;
        self.give(&value, lineage, now);
        Some(value)
    }

    fn claim(&self, scope: &ScopeState, id: &[u8]) -> Option<Vec<u8>> {
        let id = self.well_formed(id)?;
        let now = self.settings.clock.now();
        let key = self.hasher.key(scope.number(), id);
        let mut removed = Removed::default();
        let value = {
            let mut shard = self.shard(key.hash).lock();
            let value = shard.take(key, now.steady, &mut removed);
            self.give_back_room(&mut shard);
            value
        }?;
        let (session, lineage) = value.into_parts()?;
        self.give(&session, lineage, now);
        Some(session)
    }

    /// Notes what rustls is given, in the context of its handshake.
    fn give(&self, session: &[u8], lineage: Lineage, now: Now) {
        let given = Given {
            by: ResumedBy::Cache,
            lineage,
            age: now.on(self.settings.basis).since(lineage.birth),
            key_name: None,
        };
        context::give(session, given);
    }

    /// How long a session may stay that is stored now.
    fn stay(&self, lineage: Lineage, now: Time) -> Duration {
        let CacheSettings {
            ttl,
            max_session_age,
            ..
        } = self.settings;
        ttl.min(max_session_age.saturating_sub(now.since(lineage.birth)))
    }

    fn well_formed<'a>(&self, id: &'a [u8]) -> Option<&'a [u8; 32]> {
        let id = id.try_into().ok();
        if id.is_none() {
            self.counters.add(CacheCount::MalformedLookup);
        }
        id
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "masked by the number of shards, a power of two"
    )]
    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        // The low bits choose the bucket within the shard.
        let index = (hash >> 48) as usize & self.shards.len().wrapping_sub(1);
        &self.shards[index]
    }

    /// Takes an entry of the spare budget if the shard is full and there is one.
    fn make_room(&self, shard: &mut Shard) {
        if shard.len() < shard.limit() || self.spare.load(Ordering::Relaxed) == 0 {
            return;
        }
        // A shard that was still being closed may have given back an entry since.
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let less_one = |spare: usize| spare.checked_sub(1);
        let taken = self
            .spare
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, less_one);
        if taken.is_ok() {
            shard.set_limit(shard.limit().saturating_add(1));
        }
    }

    /// Gives one back if the shard has idle room beyond what is its own.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "there is a shard at least, and a limit above another is above 0"
    )]
    fn give_back_room(&self, shard: &mut Shard) {
        let own = self.settings.entries / self.shards.len() / 2;
        if self.shards.len() > 1 && shard.limit() > own.max(shard.len() + IDLE_ROOM) {
            shard.set_limit(shard.limit() - 1);
            self.spare.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn sweep(&self) {
        let now = self.settings.clock.now().steady;
        for shard in &self.shards {
            // Those that are free count too: what is left may stand behind them.
            let slots = (shard.lock().slots() / SWEEP_PARTS).saturating_add(SWEEP_STEP);
            for _ in 0..slots.div_ceil(SWEEP_STEP) {
                let mut removed = Removed::default();
                let mut shard = shard.lock();
                let more = shard.sweep(now, SWEEP_STEP, &mut removed);
                self.give_back_room(&mut shard);
                drop(shard);
                if !more {
                    break;
                }
            }
        }
    }

    fn drop_all(&self, scope: Option<u32>) {
        for shard in &self.shards {
            let mut from = 0;
            while shard.lock().forget(scope, from, SWEEP_STEP) {
                from = from.saturating_add(SWEEP_STEP);
            }
        }
    }

    fn stats(&self) -> CacheStats {
        let mut stats = CacheStats {
            max_entries: self.settings.entries as u64,
            ..self.counters.read()
        };
        for shard in &self.shards {
            let shard = shard.lock().stats();
            stats.entries = stats.entries.saturating_add(shard.entries);
            stats.bytes = stats.bytes.saturating_add(shard.bytes);
            stats.add(&shard);
        }
        stats
    }
}

/// Looked at under one lock, at most.
const SWEEP_STEP: u32 = 256;

/// Room made for a session before the lock is taken; most are shorter.
const USUAL_LEN: usize = 256;
