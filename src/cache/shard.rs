#![expect(
    clippy::arithmetic_side_effects,
    reason = "64-bit counters, and sums over what is held: nothing is subtracted that was not added"
)]

use zeroize::{Zeroize, Zeroizing};

use super::index::Index;
use super::key::{Key, Seed};
use super::slab::{Link, NONE, Slab};
use crate::clock::Time;
use crate::session::Version;
use crate::stats::CacheStats;

/// A part of the cache: a segmented LRU, for one thread at a time.
///
/// A session enters on *probation*. One that is read moves to the *protected* segment, which holds
/// at most four fifths of the shard; what it pushes out goes back on probation. Eviction takes the
/// least recently used on probation. So sessions that are stored and never asked for again, however
/// many, push out only each other.
///
/// A protected session that is read again is only marked, which touches none of its neighbours, and
/// moves to the front when it would be
/// pushed out: one at a time.
///
/// Every operation takes constant time. What leaves is handed to the caller, who wipes it once the
/// shard is unlocked.
pub(crate) struct Shard {
    slab: Slab,
    index: Index,
    seed: Seed,
    probation: List,
    protected: List,
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

/// A session as the cache keeps it: exactly as large as it must be, wiped when dropped.
pub(crate) type Value = Zeroizing<Box<[u8]>>;

/// What is to be stored.
pub(crate) struct Entry {
    pub(crate) value: Value,
    /// `None` for bytes that are not a session of rustls as we know it.
    pub(crate) version: Option<Version>,
    pub(crate) expires: Time,
    /// Whether its client is known to come back, so that it enters the protected segment.
    pub(crate) is_renewal: bool,
}

/// Values that left a shard, to be wiped outside its lock. Few leave at once; what does not fit is
/// wiped at once.
#[derive(Default)]
pub(crate) struct Leaving {
    values: [Value; 4],
    count: usize,
}

impl Leaving {
    fn push(&mut self, value: Value) {
        if let Some(place) = self.values.get_mut(self.count) {
            *place = value;
            self.count += 1;
        }
    }
}

#[derive(Clone, Copy, Default)]
struct List {
    head: u32,
    tail: u32,
    len: usize,
}

/// Sweeping looks at this many slots after this many stores: neighbours in memory, so cheaper at
/// once than one by one.
const SWEEP: u32 = 32;
const PUTS_PER_SWEEP: u32 = 64;

impl Shard {
    /// `share` is its even share of the cache's entries; `limit` is what it may hold now.
    pub(crate) fn new(seed: Seed, share: usize, limit: usize, byte_limit: usize) -> Self {
        Self {
            slab: Slab::default(),
            index: Index::new(share),
            seed,
            probation: List::default(),
            protected: List::default(),
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
        self.probation.len + self.protected.len
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
    pub(crate) fn put(
        &mut self,
        key: Key<'_>,
        entry: Entry,
        now: Time,
        leaving: &mut Leaving,
    ) -> bool {
        let size = entry.value.len();
        if self.limit == 0 || size > self.byte_limit {
            self.stats.refused.no_room += 1;
            return false;
        }
        if let Some(index) = self.find(key) {
            self.stats.evictions.replaced += 1;
            leaving.push(self.remove(index));
        }
        while self.len() >= self.limit {
            // It cannot grow, so it protects a part of what it may hold, not of what it hoped for.
            if self.protected.len > protected_of(self.limit) {
                self.demote();
            }
            self.stats.evictions.entries += u64::from(self.evict(now, leaving));
        }
        while self.bytes + size > self.byte_limit {
            self.stats.evictions.bytes += u64::from(self.evict(now, leaving));
        }
        self.bytes += size;
        self.stats.stored += 1;
        let is_renewal = entry.is_renewal;
        let index = self.slab.insert(key, entry);
        self.index.insert(key.hash, index, &mut self.slab);
        match is_renewal {
            true => self.protect(index),
            false => self.probation.push_front(index, &mut self.slab),
        }
        self.puts_until_sweep -= 1;
        if self.puts_until_sweep == 0 {
            self.puts_until_sweep = PUTS_PER_SWEEP;
            self.sweep(now, SWEEP, leaving);
        }
        true
    }

    /// Reads a session into `out`, remembers that it was used, and says when it expires.
    pub(crate) fn get(
        &mut self,
        key: Key<'_>,
        now: Time,
        out: &mut Vec<u8>,
        leaving: &mut Leaving,
    ) -> Option<Time> {
        let index = self.find_live(key, Version::Tls12, now, leaving)?;
        let slot = self.slab.slot(index);
        let expires = slot.expires();
        out.extend_from_slice(&slot.value);
        if slot.is_protected() {
            self.slab.slot_mut(index).set_read_again(true);
        } else {
            self.probation.unlink(index, &mut self.slab);
            self.protect(index);
        }
        self.stats.hits += 1;
        Some(expires)
    }

    /// Whether a TLS 1.2 session could be read.
    pub(crate) fn holds(&self, key: Key<'_>, now: Time) -> bool {
        let slot = self.find(key).map(|index| self.slab.slot(index));
        slot.is_some_and(|slot| slot.expires() > now && slot.version() == Some(Version::Tls12))
    }

    /// Removes a session and returns it.
    pub(crate) fn take(&mut self, key: Key<'_>, now: Time, leaving: &mut Leaving) -> Option<Value> {
        let index = self.find_live(key, Version::Tls13, now, leaving)?;
        self.stats.hits += 1;
        Some(self.remove_hashed(index, key.hash))
    }

    /// Drops the expired among the next `slots` slots. False at the end of the round.
    pub(crate) fn sweep(&mut self, now: Time, slots: u32, leaving: &mut Leaving) -> bool {
        for _ in 0..slots {
            self.hand += 1;
            if self.hand >= self.slab.end() {
                self.hand = NONE;
                return false;
            }
            let slot = self.slab.slot(self.hand);
            if slot.is_used() && slot.expires() <= now {
                self.stats.expired += 1;
                leaving.push(self.remove(self.hand));
            }
        }
        true
    }

    /// Drops what is of this scope among the slots `from..from + slots`. Returns whether there are
    /// more.
    pub(crate) fn forget(&mut self, scope: Option<u32>, from: u32, slots: u32) -> bool {
        for index in from..from.saturating_add(slots) {
            if index >= self.slab.end() {
                return false;
            }
            let slot = self.slab.slot(index);
            if slot.is_used() && scope.is_none_or(|scope| slot.scope == scope) {
                self.stats.evictions.forgotten += 1;
                drop(self.remove(index));
            }
        }
        true
    }

    fn find(&self, key: Key<'_>) -> Option<u32> {
        self.index.find(key, &self.slab)
    }

    /// Finds a session that may be handed out to this TLS version. Counts what is not.
    fn find_live(
        &mut self,
        key: Key<'_>,
        version: Version,
        now: Time,
        leaving: &mut Leaving,
    ) -> Option<u32> {
        let Some(index) = self.find(key) else {
            self.stats.misses.unknown += 1;
            return None;
        };
        let slot = self.slab.slot(index);
        if slot.expires() <= now {
            self.stats.misses.expired += 1;
            self.stats.expired += 1;
            leaving.push(self.remove(index));
            return None;
        }
        if slot.version().is_some_and(|stored| stored != version) {
            self.stats.misses.other_version += 1;
            return None;
        }
        Some(index)
    }

    /// Removes the least valuable session. False if it had expired anyway.
    fn evict(&mut self, now: Time, leaving: &mut Leaving) -> bool {
        let index = match self.probation.tail {
            NONE => {
                self.spare_the_read();
                self.protected.tail
            }
            tail => tail,
        };
        let expired = self.slab.slot(index).expires() <= now;
        self.stats.expired += u64::from(expired);
        leaving.push(self.remove(index));
        !expired
    }

    /// Puts an unlinked session at the front of the protected segment.
    fn protect(&mut self, index: u32) {
        self.slab.slot_mut(index).set_protected(true);
        self.protected.push_front(index, &mut self.slab);
        // While it is filled it is on its way to its share at least.
        if self.protected.len > protected_of(self.share.max(self.limit)) {
            self.demote();
        }
    }

    /// Puts the last of the protected segment back on probation.
    fn demote(&mut self) {
        self.spare_the_read();
        let demoted = self.protected.tail;
        self.protected.unlink(demoted, &mut self.slab);
        self.slab.slot_mut(demoted).set_protected(false);
        self.probation.push_front(demoted, &mut self.slab);
    }

    /// Moves a session that was read again from the end of the protected segment to its front.
    fn spare_the_read(&mut self) {
        let tail = self.protected.tail;
        if self.slab.slot(tail).was_read_again() {
            self.slab.slot_mut(tail).set_read_again(false);
            self.protected.unlink(tail, &mut self.slab);
            self.protected.push_front(tail, &mut self.slab);
        }
    }

    fn remove(&mut self, index: u32) -> Value {
        let slot = self.slab.slot(index);
        let hash = self.seed.hash(slot.scope, &slot.id);
        self.remove_hashed(index, hash)
    }

    /// The same where the hash is known.
    fn remove_hashed(&mut self, index: u32, hash: u64) -> Value {
        self.index.remove(hash, index, &mut self.slab);
        match self.slab.slot(index).is_protected() {
            true => self.protected.unlink(index, &mut self.slab),
            false => self.probation.unlink(index, &mut self.slab),
        }
        let value = self.slab.remove(index);
        self.bytes -= value.len();
        value
    }
}

impl List {
    fn push_front(&mut self, index: u32, slab: &mut Slab) {
        let head = self.head;
        *slab.link_mut(index) = Link {
            previous: NONE,
            next: head,
        };
        match head {
            NONE => self.tail = index,
            head => slab.link_mut(head).previous = index,
        }
        self.head = index;
        self.len += 1;
    }

    fn unlink(&mut self, index: u32, slab: &mut Slab) {
        let Link { previous, next } = slab.link(index);
        match previous {
            NONE => self.head = next,
            previous => slab.link_mut(previous).next = next,
        }
        match next {
            NONE => self.tail = previous,
            next => slab.link_mut(next).previous = previous,
        }
        self.len -= 1;
    }
}

/// How many sessions may be protected where there is room for so many.
fn protected_of(entries: usize) -> usize {
    (entries.saturating_mul(4) / 5).max(1)
}

/// Makes a value of exactly its size, and wipes the buffer it came in, spare capacity included.
pub(crate) fn value_of(mut buffer: Vec<u8>) -> Value {
    if buffer.len() == buffer.capacity() {
        return Zeroizing::new(buffer.into_boxed_slice());
    }
    let exact: Box<[u8]> = buffer.as_slice().into();
    buffer.zeroize();
    Zeroizing::new(exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Time = Time(1_000);

    /// Of one shard, with room for so many.
    fn shard(limit: usize) -> Shard {
        Shard::new(Seed::random(), limit, limit, usize::MAX)
    }

    fn put(shard: &mut Shard, number: u8, expires: Time, now: Time) {
        let entry = Entry {
            value: value_of(vec![number; 4]),
            version: None,
            expires,
            is_renewal: false,
        };
        let key = [number; 32];
        let key = shard.seed.key(1, &key);
        assert!(shard.put(key, entry, now, &mut Leaving::default()));
    }

    #[test]
    fn the_first_few_that_leave_are_kept_for_the_caller_to_wipe() {
        let mut leaving = Leaving::default();
        for number in 0..6 {
            leaving.push(value_of(vec![number; 4]));
        }
        let kept = leaving.values.iter().map(|value| value[0]);
        assert_eq!(kept.collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn storing_sweeps_the_expired_out_now_and_then() {
        let mut shard = shard(1_000);
        for number in 0..20 {
            put(&mut shard, number, LATER, Time(0));
        }
        for number in 20..PUTS_PER_SWEEP as u8 - 1 {
            put(&mut shard, number, Time(2_000), LATER);
        }
        assert_eq!(shard.stats().expired, 0, "not yet");
        put(&mut shard, 200, Time(2_000), LATER);
        assert_eq!(shard.stats().expired, 20);
        assert_eq!(shard.stats().entries, u64::from(PUTS_PER_SWEEP) - 20);
        for number in 0..20 {
            put(&mut shard, number, LATER, Time(0));
        }
        for _ in 0..4 * PUTS_PER_SWEEP {
            put(&mut shard, 200, Time(2_000), LATER);
        }
        assert_eq!(shard.stats().expired, 40, "round after round");
    }

    #[test]
    fn evicting_what_has_expired_anyway_counts_as_that() {
        let mut shard = shard(2);
        put(&mut shard, 0, LATER, Time(0));
        put(&mut shard, 1, Time(2_000), Time(0));
        put(&mut shard, 2, Time(2_000), LATER);
        put(&mut shard, 3, Time(2_000), LATER);
        let stats = shard.stats();
        assert_eq!((stats.expired, stats.evictions.entries), (1, 1));
    }

    #[test]
    fn a_shard_of_less_than_its_share_keeps_a_fifth_of_it_for_the_new() {
        let mut shard = shard(100);
        for number in 0..100 {
            put(&mut shard, number, LATER, Time(0));
            let id = [number; 32];
            let key = shard.seed.key(1, &id);
            let found = shard.get(key, Time(0), &mut Vec::new(), &mut Leaving::default());
            assert!(found.is_some());
        }
        assert_eq!((shard.protected.len, shard.probation.len), (80, 20));
        shard.set_limit(60);
        for number in 100..200 {
            put(&mut shard, number, LATER, Time(0));
        }
        assert_eq!((shard.protected.len, shard.probation.len), (48, 12));
    }

    #[test]
    fn only_a_live_session_of_tls12_is_held_for_tls12() {
        let mut shard = shard(10);
        for (number, version) in [
            (2, Some(Version::Tls12)),
            (3, Some(Version::Tls13)),
            (4, None),
        ] {
            let entry = Entry {
                value: value_of(vec![number; 4]),
                version,
                expires: LATER,
                is_renewal: false,
            };
            let id = [number; 32];
            let key = shard.seed.key(1, &id);
            assert!(shard.put(key, entry, Time(0), &mut Leaving::default()));
            let is_held = version == Some(Version::Tls12);
            assert_eq!(shard.holds(key, Time(999)), is_held);
            assert!(!shard.holds(key, LATER));
        }
    }
}
