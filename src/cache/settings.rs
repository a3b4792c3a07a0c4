use std::time::Duration;

use crate::counters::cores;

/// How many sessions the cache holds, by default.
pub(crate) const DEFAULT_ENTRIES: usize = 20_000;

/// How long a session is kept, by default.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Slots are numbered by `u32`.
pub(crate) const MAX_ENTRIES: usize = (u32::MAX / 2) as usize;

/// How many bytes the sessions have, by default, for each that the cache may hold.
pub(crate) const DEFAULT_BYTES_PER_ENTRY: usize = 1024;

const MIN_SHARD_ENTRIES: usize = 64;
const MIN_SHARD_BYTES: usize = 64 * 1024;
const MAX_SHARDS: usize = 1 << 12;

/// How a cache is to work.
#[derive(Clone, Debug)]
pub(crate) struct CacheSettings {
    pub(crate) entries: usize,
    pub(crate) bytes: Option<usize>,
    pub(crate) ttl: Duration,
    pub(crate) shards: Option<usize>,
    /// Whether what it is given are copies of what is in a shared store, [with the names of
    /// STEKs](super::copies).
    pub(crate) keeps_copies: bool,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            entries: DEFAULT_ENTRIES,
            bytes: None,
            ttl: DEFAULT_TTL,
            shards: None,
            keeps_copies: false,
        }
    }
}

impl CacheSettings {
    /// Of so many sessions, all else at its default.
    pub(crate) fn of(entries: usize) -> Self {
        Self {
            entries: entries.min(MAX_ENTRIES),
            ..Self::default()
        }
    }

    /// How many bytes the sessions may have in all. However few a cache is to hold, there is room for
    /// long ones.
    pub(crate) fn byte_budget(&self) -> usize {
        let default = || {
            let bytes = self.entries.saturating_mul(DEFAULT_BYTES_PER_ENTRY);
            bytes.max(MIN_SHARD_BYTES)
        };
        self.bytes.unwrap_or_else(default)
    }

    /// Four times the cores, so that threads seldom meet; fewer for a small cache, so that each
    /// shard is large enough for its LRU to mean something and for a large session to fit.
    pub(crate) fn shard_count(&self) -> usize {
        let wanted = self.shards.unwrap_or_else(|| cores().saturating_mul(4));
        let by_entries = self.entries / MIN_SHARD_ENTRIES;
        let by_bytes = self.byte_budget() / MIN_SHARD_BYTES;
        let most = by_entries.min(by_bytes).clamp(1, MAX_SHARDS);
        // Rounded up where that is allowed, else down.
        let wanted = wanted.clamp(1, MAX_SHARDS).next_power_of_two();
        wanted.min(1 << most.ilog2())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn defaults_are_what_they_say() {
        let settings = CacheSettings::default();
        assert_eq!(settings.entries, 20_000);
        assert_eq!(settings.ttl, Duration::from_secs(24 * 60 * 60));
        assert_eq!(settings.byte_budget(), 20_000 * 1_024);
        assert_eq!(CacheSettings::of(3).byte_budget(), 65_536);
    }

    #[test]
    fn shards_are_a_power_of_two_of_them_each_large_enough() {
        let count = |entries, bytes, shards| {
            let settings = CacheSettings {
                entries,
                bytes,
                shards,
                ..CacheSettings::default()
            };
            settings.shard_count()
        };
        let much = 1 << 30;
        assert_eq!(count(much, None, Some(3)), 4);
        assert_eq!(count(much, None, Some(0)), 1);
        assert_eq!(count(much, None, Some(usize::MAX)), MAX_SHARDS);
        assert_eq!(count(0, None, Some(8)), 1);
        assert_eq!(count(2 * 64 - 1, None, Some(8)), 1);
        assert_eq!(count(2 * 64 - 1, Some(much), Some(8)), 1);
        assert_eq!(count(2 * 64, None, Some(8)), 2);
        assert_eq!(count(7 * 64, None, Some(8)), 4);
        assert_eq!(count(much, Some(2 * 64 * 1024 - 1), Some(8)), 1);
        assert_eq!(count(much, Some(2 * 64 * 1024), Some(8)), 2);
        assert_eq!(count(much, Some(much), Some(8)), 8);
        let cores = thread::available_parallelism().unwrap().get();
        assert_eq!(count(much, None, None), (4 * cores).next_power_of_two());
    }
}
