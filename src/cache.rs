use std::time::Duration;

use crossbeam_utils::CachePadded;
use tracing::trace;
use zeroize::{Zeroize, Zeroizing};

use crate::clock::{Now, Time};
use crate::context::{self, Given};
use crate::counters::{Counted, Counters};
use crate::handshake::ResumedBy;
use crate::installation::Installation;
use crate::lineage::Lineage;
use crate::process::Process;
use crate::scope::{ScopeState, times_forgotten};
use crate::session::{Session, Version};
use crate::stats::{CacheCount, CacheStats};
use crate::stek::KeyName;
use crate::sync::{Mutex, MutexGuard};
use crate::terms::Terms;

mod certificates;
pub(crate) mod copies;
#[cfg(test)]
mod crowding;
mod index;
#[cfg(all(test, rustls_resumption_shuttle))]
mod interleavings;
mod key;
mod lru;
mod settings;
mod shard;
mod slab;
mod spare;
#[cfg(test)]
mod tests;
mod upkeep;
mod value;

use certificates::Issuers;
use key::{Key, KeyHasher};
pub(crate) use settings::{
    CacheSettings, DEFAULT_BYTES_PER_ENTRY, DEFAULT_ENTRIES, DEFAULT_TTL, MAX_ENTRIES,
};
use shard::Shard;
use slab::Entry;
use spare::Spare;
use value::{Removed, Value};

/// Sessions in memory, found by scope and ID. The handles on it are
/// [`SessionCache`](crate::SessionCache) and what is installed in a configuration.
///
/// A session is in the shard that its hash chooses, under that shard's lock; what can be done
/// outside the lock, hashing and wiping among it, is.
pub(crate) struct Cache {
    /// A power of two of them.
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    hasher: KeyHasher,
    spare: Spare,
    settings: CacheSettings,
    process: Process,
    /// What is counted without a shard.
    counters: Counters<CacheStats>,
}

/// A TLS 1.2 session that another process made.
pub(crate) struct Fetched {
    pub(crate) value: Zeroizing<Vec<u8>>,
    pub(crate) lineage: Lineage,
    pub(crate) expires: Time,
    /// What stood for the scope before it was asked for: another does once it was forgotten.
    pub(crate) scope_number: u32,
}

/// Why rustls is given nothing, in the context of its handshake.
pub(crate) const NOT_FOUND: &str = "not_found";

/// How many buckets all shards may have together: with more entries than half of that, chains grow
/// longer instead. (512 MiB of address space; memory is used as it is touched.)
const MOST_BUCKETS: usize = 1 << 27;

/// Room made for a session before the lock is taken; most are shorter.
const USUAL_LEN: usize = 256;

/// Whether the scope still has the number that a key was made with: what is found under another may
/// be another scope's.
fn is_current(scope: &ScopeState, key: Key<'_>) -> bool {
    scope.number() == key.scope
}

impl Cache {
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "there is a shard at least, and all shares together are the budget at most"
    )]
    pub(crate) fn new(settings: CacheSettings) -> Self {
        let count = settings.shard_count();
        let entries = settings.entries;
        let (own, spare) = match count {
            1 => (entries, Spare::new(0, None)),
            _ => {
                let own = entries / count / 2;
                (own, Spare::new(entries - own * count, Some(own)))
            }
        };
        let byte_limit = settings.byte_budget() / count;
        let hasher = KeyHasher::random();
        let shard = |_| {
            let shard = Shard::new(
                hasher,
                entries / count,
                own,
                byte_limit,
                MOST_BUCKETS / count,
            );
            CachePadded::new(Mutex::new(shard))
        };
        Self {
            shards: (0..count).map(shard).collect(),
            hasher,
            spare,
            settings,
            process: Process::current(),
            counters: Counters::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn pretend_fork(&self) -> impl Sized {
        self.process.pretend_fork();
        Vec::from_iter(self.shards.iter().map(|shard| shard.lock()))
    }

    pub(crate) fn max_entries(&self) -> usize {
        self.settings.entries
    }

    /// Whether it can hold anything at all.
    pub(crate) fn has_room(&self) -> bool {
        let settings = &self.settings;
        settings.entries > 0 && settings.byte_budget() > 0 && !self.spare.is_closed()
    }

    /// Stores a session. False if there is no room for it, or it could never be found.
    pub(crate) fn put(
        &self,
        terms: &Terms,
        at: &Installation,
        mut id: Vec<u8>,
        value: Vec<u8>,
    ) -> bool {
        let mut value = Zeroizing::new(value);
        let Ok(fixed) = <&[u8; 32]>::try_from(id.as_slice()) else {
            id.zeroize();
            self.counters.add(CacheCount::MalformedStore);
            return false;
        };
        let bytes = self.session(&value);
        if bytes.len() > terms.max_session_len {
            id.zeroize();
            self.counters.add(CacheCount::TooLong);
            return false;
        }
        let number = at.scope.number(); // before anything that may be forgotten meanwhile
        let now = terms.read();
        let session = Session::parse(bytes);
        let time = now.on(terms.basis);
        let (lineage, _) = context::lineage(session.as_ref(), &at.scope, time);
        let lineage = at.mark(lineage);
        if terms.withholds(&at.scope, lineage, time) {
            id.zeroize();
            self.counters.add(CacheCount::RevokedStore);
            return false;
        }
        if !at.keeps(terms, session.as_ref()) {
            id.zeroize();
            self.counters.add(CacheCount::ClientAuthStore);
            return false;
        }
        let version = session.map(|session| session.version);
        if version == Some(Version::Tls13) && lineage.begins_unknown() {
            self.counters.add(CacheCount::AgeUnknown);
        }
        let cut = Issuers::cut(&value, session.as_ref());
        let (value, issuers) = Value::of(std::mem::take(&mut *value), cut);
        let entry = Entry {
            version,
            expires: now.steady.plus(self.stay(terms, lineage, time)),
            is_renewal: lineage.is_renewal(),
            value,
            issuers,
            lineage,
        };
        let stored = self.insert(&at.scope, number, fixed, entry, now);
        id.zeroize();
        stored
    }

    /// Stores a TLS 1.2 session that another process made, because its client is here.
    pub(crate) fn put_fetched(
        &self,
        terms: &Terms,
        scope: &ScopeState,
        id: &[u8; 32],
        fetched: Fetched,
    ) {
        let Fetched {
            mut value,
            lineage,
            expires,
            scope_number,
        } = fetched;
        let now = terms.read();
        let time = now.on(terms.basis);
        let stay = self.stay(terms, lineage, time).min(expires.since(time));
        let bytes = self.session(&value);
        if bytes.len() > terms.max_session_len {
            self.counters.add(CacheCount::TooLong);
            return;
        }
        let cut = Issuers::cut(&value, Session::parse(bytes).as_ref());
        let (value, issuers) = Value::of(std::mem::take(&mut *value), cut);
        let entry = Entry {
            value,
            issuers,
            lineage,
            version: Some(Version::Tls12),
            expires: now.steady.plus(stay),
            is_renewal: true,
        };
        self.insert(scope, scope_number, id, entry, now);
    }

    /// Stores it if this number still stands for the scope, or else it was forgotten meanwhile.
    fn insert(
        &self,
        scope: &ScopeState,
        number: u32,
        id: &[u8; 32],
        entry: Entry,
        now: Now,
    ) -> bool {
        if entry.expires <= now.steady {
            self.counters.add(CacheCount::TooOld);
            return false;
        }
        let mut removed = Removed::default();
        let key = self.hasher.key(number, id);
        let Some(mut shard) = self.lock(key) else {
            return false;
        };
        // The shard may have been looked through already, and nobody would find nor wipe the session.
        // Under 0 nobody finds it either: numbers are being given out anew.
        if !is_current(scope, key) || number == 0 {
            self.counters.add(CacheCount::RevokedStore);
            return false;
        }
        scope.note_stored();
        self.spare.make_room(&mut shard);
        let stored = shard.put(key, entry, now.steady, &mut removed);
        drop(shard);
        drop(removed); // wiped outside the lock
        stored
    }

    /// Whether a TLS 1.2 session of this ID is here.
    pub(crate) fn holds(&self, terms: &Terms, scope: &ScopeState, id: &[u8; 32]) -> bool {
        let key = self.hasher.key(scope.number(), id);
        let now = terms.read().steady;
        self.lock(key).is_some_and(|shard| shard.holds(key, now))
    }

    /// Reads a TLS 1.2 session, unless a STEK sealed it in a shared store that does not open.
    pub(crate) fn get(
        &self,
        terms: &Terms,
        at: &Installation,
        id: &[u8],
        opens: impl FnOnce(&KeyName) -> bool,
    ) -> Option<Vec<u8>> {
        let found = self.find(terms, at, id, opens);
        trace!(hit = found.is_some(), "session looked up");
        found
    }

    fn find(
        &self,
        terms: &Terms,
        at: &Installation,
        id: &[u8],
        opens: impl FnOnce(&KeyName) -> bool,
    ) -> Option<Vec<u8>> {
        context::miss(NOT_FOUND);
        let id = self.well_formed(id)?;
        let (after, now) = (times_forgotten(), terms.read());
        let key = self.hasher.key(at.scope.number(), id);
        let mut value = Zeroizing::new(Vec::with_capacity(USUAL_LEN));
        let mut removed = Removed::default();
        let lineage = {
            let mut shard = self.lock(key)?;
            match is_current(&at.scope, key) {
                true => shard.get(key, now.steady, &mut value, &mut removed),
                false => shard.miss(),
            }
        }?;
        let sealed_by = match self.settings.keeps_copies {
            true => copies::take_name(&mut value),
            false => None,
        };
        if sealed_by.is_some_and(|name| !opens(&name)) {
            return None;
        }
        self.give(terms, at, value, lineage, sealed_by, (after, now))
    }

    /// Removes a TLS 1.3 session and returns it.
    pub(crate) fn take(&self, terms: &Terms, at: &Installation, id: &[u8]) -> Option<Vec<u8>> {
        let found = self.remove(terms, at, id);
        trace!(hit = found.is_some(), "session taken");
        found
    }

    fn remove(&self, terms: &Terms, at: &Installation, id: &[u8]) -> Option<Vec<u8>> {
        context::miss(NOT_FOUND);
        let id = self.well_formed(id)?;
        let (after, now) = (times_forgotten(), terms.read());
        let key = self.hasher.key(at.scope.number(), id);
        let mut removed = Removed::default();
        let (value, lineage) = {
            let mut shard = self.lock(key)?;
            let taken = match is_current(&at.scope, key) {
                true => shard.take(key, now.steady, &mut removed),
                false => shard.miss(),
            };
            self.spare.take_back_room(&mut shard);
            taken
        }?;
        let value = value.into_session();
        self.give(terms, at, value, lineage, None, (after, now))
    }

    /// Counts a TLS 1.3 session that rustls asked for although nobody had claimed it.
    pub(crate) fn count_not_claimed(&self) {
        self.counters.add(CacheCount::NotClaimed);
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let mut stats = CacheStats {
            max_entries: self.settings.entries as u64,
            max_bytes: self.settings.byte_budget() as u64,
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

    /// How long a session may stay that is stored now.
    fn stay(&self, terms: &Terms, lineage: Lineage, now: Time) -> Duration {
        let left = terms
            .max_session_age
            .saturating_sub(now.since(lineage.birth));
        self.settings.ttl.min(left)
    }

    /// The session in what is put.
    fn session<'a>(&self, value: &'a [u8]) -> &'a [u8] {
        match self.settings.keeps_copies {
            true => copies::session(value),
            false => value,
        }
    }

    /// What rustls is given, noted in the context of its handshake: the session, if the full
    /// handshake would admit its client.
    #[inline(always)] // each caller has its own kind of session
    fn give(
        &self,
        terms: &Terms,
        at: &Installation,
        mut session: Zeroizing<Vec<u8>>,
        lineage: Lineage,
        key_name: Option<KeyName>,
        (after, now): (u64, Now),
    ) -> Option<Vec<u8>> {
        let parsed = Session::parse(&session);
        if !at.admits(terms, parsed.as_ref(), lineage) {
            self.counters.add(CacheCount::ClientAuth);
            return None;
        }
        let given = Given {
            by: match parsed.as_ref().map(|session| session.version) {
                Some(Version::Tls12) => ResumedBy::SessionId,
                _ => ResumedBy::Cache,
            },
            lineage,
            at: now.on(terms.basis),
            key_name,
            after,
        };
        context::give(parsed.as_ref(), given);
        let tag = parsed.and_then(|session| session.tag);
        Session::untag(tag, &mut session);
        Some(std::mem::take(&mut *session))
    }

    fn well_formed<'a>(&self, id: &'a [u8]) -> Option<&'a [u8; 32]> {
        let id = id.try_into().ok();
        if id.is_none() {
            self.counters.add(CacheCount::MalformedLookup);
        }
        id
    }

    /// Locks a shard for a handshake.
    fn lock(&self, key: Key<'_>) -> Option<MutexGuard<'_, Shard>> {
        let shard = self.shard(key.hash);
        shard.try_lock().or_else(|| self.wait_for(shard))
    }

    /// In a process that was just forked a thread that is not there may hold the lock for ever: then
    /// there is no session to be had. In any other its holder is waited for, however long it gets
    /// no processor.
    #[cold]
    fn wait_for<'a>(&self, shard: &'a Mutex<Shard>) -> Option<MutexGuard<'a, Shard>> {
        const LONG: Duration = Duration::from_millis(100);
        loop {
            let locked = shard.try_lock_for(LONG);
            if locked.is_some() || !self.process.is_current() {
                return locked;
            }
        }
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
}
