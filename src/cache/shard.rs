#![expect(
    clippy::arithmetic_side_effects,
    reason = "64-bit counters, and sums over what is held: nothing is subtracted that was not added"
)]

use std::collections::HashSet;

use super::certificates::{Certificates, Issuers};
use super::index::Index;
use super::key::{Key, KeyHasher};
use super::lru::Lru;
use super::slab::{Entry, NONE, Slab};
use super::value::{Leaving, Removed};
use crate::clock::Time;
use crate::lineage::Lineage;
use crate::session::Version;
use crate::stats::CacheStats;

/// A part of the cache, for one thread at a time: sessions in a [`Slab`], found by an [`Index`] and
/// evicted in the order of an [`Lru`].
///
/// Every operation takes constant time. What is removed is handed to the caller, who wipes it once
/// the shard is unlocked.
pub(crate) struct Shard {
    slab: Slab,
    certificates: Certificates,
    index: Index,
    lru: Lru,
    hasher: KeyHasher,
    /// Its even share of the cache's entries.
    share: usize,
    /// Entries this shard may hold now; the cache moves it within its budget.
    limit: usize,
    byte_limit: usize,
    bytes: usize,
    /// Where sweeping goes on.
    hand: u32,
    puts_until_sweep: u32,
    stats: CacheStats,
}

/// Sweeping looks at this many slots after this many stores: neighbours in memory, so cheaper at
/// once than one by one.
const SWEEP: u32 = 32;
const PUTS_PER_SWEEP: u32 = 64;

impl Shard {
    /// `share` is its even share of the cache's entries; `limit` is what it may hold now.
    pub(crate) fn new(
        hasher: KeyHasher,
        share: usize,
        limit: usize,
        byte_limit: usize,
        most_buckets: usize,
    ) -> Self {
        Self {
            slab: Slab::default(),
            certificates: Certificates::default(),
            index: Index::new(share, most_buckets),
            lru: Lru::default(),
            hasher,
            share,
            limit,
            byte_limit,
            bytes: 0,
            hand: 0,
            puts_until_sweep: PUTS_PER_SWEEP,
            stats: CacheStats::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lru.len()
    }

    /// How many slots sweeping goes through, the free ones among them.
    pub(crate) fn slots(&self) -> u32 {
        self.slab.end()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    #[cfg(test)]
    pub(crate) fn longest_chain(&self) -> usize {
        self.index.longest_chain(&self.slab)
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats {
            entries: self.len() as u64,
            bytes: self.bytes as u64,
            ..self.stats
        }
    }

    /// Stores a session. False if the shard has no room for it at all.
    #[inline]
    pub(crate) fn put(
        &mut self,
        key: Key<'_>,
        mut entry: Entry,
        now: Time,
        removed: &mut Removed,
    ) -> bool {
        let size = entry.value.len();
        let issuers = entry.issuers.take();
        let most = size.saturating_add(issuers.as_ref().map_or(0, Issuers::cost));
        if self.limit == 0 || most > self.byte_limit {
            self.stats.not_stored.no_room += 1;
            return false;
        }
        if let Some(index) = self.find(key) {
            self.stats.evictions.replaced += 1;
            removed.push(self.remove(index));
        }
        let is_cut = issuers.is_some();
        if let Some(issuers) = issuers {
            let (number, cost, issuers) = self.certificates.keep(issuers);
            self.bytes += cost;
            entry.value.set_issuers(number);
            removed.push(Leaving {
                issuers,
                ..Leaving::default()
            });
        }
        while self.len() >= self.limit {
            // It cannot grow, so it protects a part of what it may hold, not of what it hoped for.
            self.lru.demote_beyond(self.limit, &mut self.slab);
            self.stats.evictions.entries += u64::from(self.evict(now, removed));
        }
        while self.bytes + size > self.byte_limit {
            self.stats.evictions.bytes += u64::from(self.evict(now, removed));
        }
        self.bytes += size;
        self.stats.stored += 1;
        let is_renewal = entry.is_renewal;
        let index = self.slab.insert(key, entry, is_cut);
        self.index.insert(key.hash, index, &mut self.slab);
        let room = self.room();
        self.lru.insert(index, is_renewal, room, &mut self.slab);
        self.puts_until_sweep -= 1;
        if self.puts_until_sweep == 0 {
            self.puts_until_sweep = PUTS_PER_SWEEP;
            self.sweep(now, SWEEP, removed);
        }
        true
    }

    /// Reads a session into `out`, remembers that it was used, and returns its lineage.
    pub(crate) fn get(
        &mut self,
        key: Key<'_>,
        now: Time,
        out: &mut Vec<u8>,
        removed: &mut Removed,
    ) -> Option<Lineage> {
        let index = self.find_live(key, Version::Tls12, now, removed)?;
        let slot = self.slab.slot(index);
        match slot.issuers() {
            None => out.extend_from_slice(slot.value.bytes()),
            Some(number) => self
                .certificates
                .get(number)?
                .put_back(slot.value.bytes(), out),
        }
        let room = self.room();
        self.lru.touch(index, room, &mut self.slab);
        self.stats.hits += 1;
        Some(self.slab.lineage(index))
    }

    /// Counts a look-up that has no need to look.
    pub(crate) fn miss<T>(&mut self) -> Option<T> {
        self.stats.misses.unknown += 1;
        None
    }

    /// Whether a TLS 1.2 session could be read.
    pub(crate) fn holds(&self, key: Key<'_>, now: Time) -> bool {
        let slot = self.find(key).map(|index| self.slab.slot(index));
        slot.is_some_and(|slot| slot.expires() > now && slot.version() == Some(Version::Tls12))
    }

    /// Removes a session and returns it.
    #[inline]
    pub(crate) fn take(
        &mut self,
        key: Key<'_>,
        now: Time,
        removed: &mut Removed,
    ) -> Option<(Leaving, Lineage)> {
        let index = self.find_live(key, Version::Tls13, now, removed)?;
        self.stats.hits += 1;
        let lineage = self.slab.lineage(index);
        let number = self.slab.slot(index).issuers();
        let issuers = number.and_then(|number| self.certificates.get(number).cloned());
        let taken = Leaving {
            issuers,
            ..self.remove_hashed(index, key.hash)
        };
        Some((taken, lineage))
    }

    /// Drops the expired among the next `slots` slots. False at the end of the round.
    pub(crate) fn sweep(&mut self, now: Time, slots: u32, removed: &mut Removed) -> bool {
        for _ in 0..slots {
            self.hand += 1;
            if self.hand >= self.slab.end() {
                self.hand = NONE;
                return false;
            }
            let slot = self.slab.slot(self.hand);
            if slot.is_used() && slot.expires() <= now {
                self.stats.expired += 1;
                removed.push(self.remove(self.hand));
            }
        }
        true
    }

    /// Drops what is of these scopes among the slots `from..from + slots`. Returns whether there are
    /// more.
    pub(crate) fn forget(
        &mut self,
        scopes: Option<&HashSet<u32>>,
        from: u32,
        slots: u32,
        removed: &mut Removed,
    ) -> bool {
        for index in from..from.saturating_add(slots) {
            if index >= self.slab.end() {
                return false;
            }
            let slot = self.slab.slot(index);
            if slot.is_used() && scopes.is_none_or(|scopes| scopes.contains(&slot.scope)) {
                self.stats.evictions.forgotten += 1;
                removed.push(self.remove(index));
            }
        }
        true
    }

    /// Adds the scopes of what is in the slots `from..from + slots`. Returns whether there are
    /// more.
    pub(crate) fn add_scopes(&self, from: u32, slots: u32, scopes: &mut HashSet<u32>) -> bool {
        for index in from..from.saturating_add(slots) {
            if index >= self.slab.end() {
                return false;
            }
            let slot = self.slab.slot(index);
            if slot.is_used() {
                scopes.insert(slot.scope);
            }
        }
        true
    }

    #[inline]
    fn find(&self, key: Key<'_>) -> Option<u32> {
        self.index.find(key, &self.slab)
    }

    /// Finds a session that may be handed out to this TLS version. Counts what is not.
    #[inline]
    fn find_live(
        &mut self,
        key: Key<'_>,
        version: Version,
        now: Time,
        removed: &mut Removed,
    ) -> Option<u32> {
        let Some(index) = self.find(key) else {
            self.stats.misses.unknown += 1;
            return None;
        };
        let slot = self.slab.slot(index);
        if slot.expires() <= now {
            self.stats.misses.expired += 1;
            self.stats.expired += 1;
            removed.push(self.remove(index));
            return None;
        }
        if slot.version().is_some_and(|stored| stored != version) {
            self.stats.misses.other_version += 1;
            return None;
        }
        Some(index)
    }

    /// Removes the least valuable session. False if it had expired anyway.
    fn evict(&mut self, now: Time, removed: &mut Removed) -> bool {
        let index = self.lru.victim(&mut self.slab);
        let expired = self.slab.slot(index).expires() <= now;
        self.stats.expired += u64::from(expired);
        removed.push(self.remove(index));
        !expired
    }

    /// What the shard is on its way to hold at least, while the cache is filled.
    fn room(&self) -> usize {
        self.share.max(self.limit)
    }

    fn remove(&mut self, index: u32) -> Leaving {
        let slot = self.slab.slot(index);
        let hash = self.hasher.hash(slot.scope, &slot.id);
        self.remove_hashed(index, hash)
    }

    /// The same where the hash is known.
    #[inline]
    fn remove_hashed(&mut self, index: u32, hash: u64) -> Leaving {
        self.index.remove(hash, index, &mut self.slab);
        self.lru.remove(index, &mut self.slab);
        let number = self.slab.slot(index).issuers();
        let issuers = number.and_then(|number| self.certificates.release(number));
        let value = self.slab.remove(index);
        self.bytes -= value.len() + issuers.as_ref().map_or(0, Issuers::cost);
        Leaving { value, issuers }
    }
}

#[cfg(test)]
mod tests;
