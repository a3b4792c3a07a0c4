//! Session caches, each behind rustls's own trait, and their workloads.

use std::fmt;
use std::hint::black_box;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use lru::LruCache;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::Zipf;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use rustls_resumption::SessionCache;

/// A session ID as rustls generates it.
pub type SessionId = [u8; 32];

/// A cache to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Contender {
    /// [`SessionCache`].
    Ours,
    /// rustls's [`ServerSessionMemoryCache`].
    Rustls,
    /// `quick_cache` with its defaults.
    QuickCache,
    /// `moka`, evicting by LRU: its default policy rejects new sessions when the cache is full.
    Moka,
    /// `lru` in a [`Mutex`].
    Lru,
}

impl Contender {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Ours,
        Self::Rustls,
        Self::QuickCache,
        Self::Moka,
        Self::Lru,
    ];

    /// Its name in tables and plots.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "rustls-resumption",
            Self::Rustls => "rustls built-in",
            Self::QuickCache => "quick_cache",
            Self::Moka => "moka",
            Self::Lru => "Mutex<lru>",
        }
    }

    /// The contender of that name.
    pub fn named(name: &str) -> Result<Self, String> {
        let named = Self::ALL
            .into_iter()
            .find(|contender| contender.name() == name);
        named.ok_or_else(|| format!("no cache is called {name}"))
    }

    /// An empty cache of this kind.
    pub fn build(self, entries: usize) -> Arc<dyn StoresServerSessions> {
        match self {
            Self::Ours => Arc::new(SessionCache::new(entries)),
            Self::Rustls => ServerSessionMemoryCache::new(entries),
            Self::QuickCache => Arc::new(Behind {
                cache: quick_cache::sync::Cache::new(entries),
                put: |cache, id, session| cache.insert(id, session),
                get: |cache, id| cache.get(id),
                take: |cache, id| Some(cache.remove(id)?.1),
            }),
            Self::Moka => Arc::new(Behind {
                cache: moka::sync::Cache::builder()
                    .max_capacity(entries as u64)
                    .eviction_policy(moka::policy::EvictionPolicy::lru())
                    .build(),
                put: |cache, id, session| cache.insert(id, session),
                get: |cache, id| cache.get(id),
                take: |cache, id| cache.remove(id),
            }),
            Self::Lru => Arc::new(Behind {
                cache: Mutex::new(LruCache::new(
                    entries.try_into().expect("a cache of no entries"),
                )),
                put: |cache, id, session| drop(locked(cache).put(id, session)),
                get: |cache, id| locked(cache).get(id).cloned(),
                take: |cache, id| locked(cache).pop(id),
            }),
        }
    }
}

/// A full cache, the IDs that should live in it, and one thread's random walk over them.
pub struct Workload {
    cache: Arc<dyn StoresServerSessions>,
    live: Vec<SessionId>,
    session: Vec<u8>,
    rng: StdRng,
    taken: usize,
    gone: usize,
}

impl Workload {
    /// Fills a cache with as many copies of `session` as it holds.
    pub fn new(contender: Contender, entries: usize, session: &[u8]) -> Self {
        let mut workload = Self {
            cache: contender.build(entries),
            live: Vec::with_capacity(entries),
            session: session.to_vec(),
            rng: StdRng::seed_from_u64(entries as u64),
            taken: 0,
            gone: 0,
        };
        for _ in 0..entries {
            let id = workload.fresh_id();
            workload.cache.put(id.to_vec(), workload.session.clone());
            workload.live.push(id);
        }
        workload
    }

    /// Shares the cache between `threads`, each with its own part of the IDs.
    pub fn split(mut self, threads: usize) -> Vec<Self> {
        self.live.shuffle(&mut self.rng);
        let part = self.live.len() / threads;
        (0..threads)
            .map(|thread| Self {
                cache: self.cache.clone(),
                live: self.live[thread * part..][..part].to_vec(),
                session: self.session.clone(),
                rng: StdRng::seed_from_u64(self.rng.next_u64()),
                taken: 0,
                gone: 0,
            })
            .collect()
    }

    /// The work of a TLS 1.3 resumption, `operations` times: `take` a random live
    /// session, drop it, `put` one under a fresh ID.
    ///
    /// A sharded cache evicts a few sessions early. If more than a fifth are gone, this would be a
    /// different workload, and it panics.
    pub fn take_and_put(&mut self, operations: usize) -> Duration {
        let mut gone = 0;
        let lasted = in_batches(operations, |batch| {
            let exchanges = self.prepare(batch);
            let start = Instant::now();
            gone += self.exchange(&exchanges);
            start.elapsed()
        });
        self.taken += operations;
        self.gone += gone;
        assert!(
            self.gone <= 100 + self.taken / 5,
            "{} of {} gone",
            self.gone,
            self.taken
        );
        lasted
    }

    /// Chooses sessions to take, and fresh IDs for those to put.
    pub fn prepare(&mut self, exchanges: usize) -> Vec<(SessionId, SessionId)> {
        let exchange = |_| {
            let slot = self.rng.random_range(0..self.live.len());
            let fresh = self.fresh_id();
            (std::mem::replace(&mut self.live[slot], fresh), fresh)
        };
        (0..exchanges).map(exchange).collect()
    }

    /// Takes and puts what was prepared. Returns how many sessions were gone.
    pub fn exchange(&self, exchanges: &[(SessionId, SessionId)]) -> usize {
        let mut gone = 0;
        // As in a handshake, the session to put is made after the one taken was dropped.
        for (taken, fresh) in exchanges {
            gone += usize::from(self.cache.take(taken).is_none());
            self.cache.put(fresh.to_vec(), self.session.clone());
        }
        gone
    }

    /// `put`s sessions under fresh IDs, each of which evicts one, `operations` times.
    pub fn puts(&mut self, operations: usize) -> Duration {
        in_batches(operations, |batch| {
            let ids: Vec<_> = (0..batch).map(|_| self.fresh_id()).collect();
            let start = Instant::now();
            for id in ids {
                self.cache.put(id.to_vec(), self.session.clone());
            }
            start.elapsed()
        })
    }

    /// `get`s random live sessions, `operations` times.
    pub fn get_hits(&mut self, operations: usize) -> Duration {
        let ids: Vec<_> = (0..LOOKED_UP)
            .map(|_| self.live[self.rng.random_range(0..self.live.len())])
            .filter(|id| self.cache.get(id).is_some())
            .collect();
        self.get(&ids, operations)
    }

    /// `get`s IDs that were never stored, `operations` times.
    pub fn get_misses(&mut self, operations: usize) -> Duration {
        let ids: Vec<_> = (0..LOOKED_UP).map(|_| self.fresh_id()).collect();
        self.get(&ids, operations)
    }

    fn get(&self, ids: &[SessionId], operations: usize) -> Duration {
        let start = Instant::now();
        for id in ids.iter().cycle().take(operations) {
            black_box(self.cache.get(id));
        }
        start.elapsed()
    }

    fn fresh_id(&mut self) -> SessionId {
        let mut id = [0; 32];
        self.rng.fill_bytes(&mut id);
        id
    }
}

/// How many IDs a measurement of look-ups uses.
const LOOKED_UP: usize = 100_000;

/// Runs `operations` in batches, so that their prepared inputs stay small.
fn in_batches(operations: usize, work: impl FnMut(usize) -> Duration) -> Duration {
    const BATCH: usize = 1_000;
    let whole = (0..operations / BATCH).map(|_| BATCH);
    whole.chain([operations % BATCH]).map(work).sum()
}

/// TLS 1.2 clients that come back by session ID, some far more often than others.
pub struct ZipfMix {
    /// How many returning clients there are; the chance of the n-th most frequent is 1/n.
    pub clients: usize,
    /// The share of visits by clients that never come back.
    pub strangers: f64,
    /// How many visits there are.
    pub visits: usize,
}

impl ZipfMix {
    /// Serves the visits from one thread and returns the share of returning clients' visits that
    /// hit, first visits counted as misses, and how long all visits took.
    pub fn run(&self, cache: &dyn StoresServerSessions, session: &[u8]) -> (f64, Duration) {
        let mut rng = StdRng::seed_from_u64(1);
        let zipf = Zipf::new(self.clients as f64, 1.0).expect("a mix of no clients");
        let visits: Vec<_> = (0..self.visits)
            .map(|_| {
                let mut id = [0; 32];
                if rng.random_bool(self.strangers) {
                    rng.fill_bytes(&mut id);
                    return (id, false);
                }
                let client = rng.sample(zipf) as u64;
                StdRng::seed_from_u64(client).fill_bytes(&mut id);
                (id, true)
            })
            .collect();
        let (mut returning, mut hits) = (0u32, 0u32);
        let start = Instant::now();
        for (id, returns) in &visits {
            let hit = cache.get(id).is_some();
            if !hit {
                cache.put(id.to_vec(), session.to_vec());
            }
            returning += u32::from(*returns);
            hits += u32::from(*returns && hit);
        }
        let lasted = start.elapsed();
        (f64::from(hits) / f64::from(returning), lasted)
    }
}

/// Another crate's cache behind rustls's trait.
struct Behind<C> {
    cache: C,
    put: fn(&C, SessionId, Vec<u8>),
    get: fn(&C, &SessionId) -> Option<Vec<u8>>,
    take: fn(&C, &SessionId) -> Option<Vec<u8>>,
}

impl<C: Send + Sync> StoresServerSessions for Behind<C> {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let Ok(id) = SessionId::try_from(key) else {
            return false;
        };
        (self.put)(&self.cache, id, value);
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        (self.get)(&self.cache, key.try_into().ok()?)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        (self.take)(&self.cache, key.try_into().ok()?)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl<C> fmt::Debug for Behind<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behind").finish_non_exhaustive()
    }
}

fn locked(
    cache: &Mutex<LruCache<SessionId, Vec<u8>>>,
) -> MutexGuard<'_, LruCache<SessionId, Vec<u8>>> {
    cache
        .lock()
        .expect("a thread panicked with the cache locked")
}
