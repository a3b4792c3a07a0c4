//! What sessions cost in memory. Each measurement runs in its own process, because memory that one
//! cache freed is reused by the next.

use std::env;
use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustls::version::TLS12;

use crate::caches::Contender;
use crate::handshakes::session;

/// How long each session is.
pub const SESSION_BYTES: usize = 200;

/// What a full cache used.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// How many sessions it held in the end.
    pub live: usize,
    /// By how many bytes the resident memory of the process grew, allocator overhead included.
    pub resident: usize,
    /// How many bytes it had allocated and not freed, if these are counted.
    pub allocated: usize,
    /// How long it took to drop.
    pub drop: Duration,
}

impl Footprint {
    /// Fills a cache with real sessions of [`SESSION_BYTES`] and measures it. `allocated` returns
    /// how many bytes are allocated now.
    fn measure(contender: Contender, entries: usize, allocated: impl Fn() -> usize) -> Self {
        let session = session(&TLS12, SESSION_BYTES);
        let ids = || {
            let mut rng = StdRng::seed_from_u64(6);
            (0..2 * entries).map(move |_| {
                let mut id = [0; 32];
                rng.fill_bytes(&mut id);
                id
            })
        };
        let (resident_before, allocated_before) = (resident(), allocated());
        let cache = contender.build(entries);
        for id in ids() {
            cache.put(id.to_vec(), session.clone());
        }
        let (resident, allocated) = (resident() - resident_before, allocated() - allocated_before);
        let live = ids().filter(|id| cache.get(id).is_some()).count();
        let start = Instant::now();
        drop(cache);
        Self {
            live,
            resident,
            allocated,
            drop: start.elapsed(),
        }
    }

    /// Measures, and prints the bare figures. `allocated` returns how many bytes are allocated now.
    pub fn print(weigh: &Weigh, allocated: impl Fn() -> usize) {
        let Self {
            live,
            resident,
            allocated,
            drop,
        } = Self::measure(weigh.contender, weigh.entries, allocated);
        println!("{live} {resident} {allocated} {}", drop.as_nanos());
    }

    /// The overhead per session, if the cache uses `bytes`.
    pub fn beyond_session(&self, bytes: usize) -> f64 {
        bytes as f64 / self.live as f64 - SESSION_BYTES as f64
    }

    /// Measures in another process: the running program with the arguments `weigh`, the cache's
    /// name and the number of entries, to which it answers by [`Footprint::print`].
    pub fn in_child(contender: Contender, entries: usize) -> Result<Self, Box<dyn Error>> {
        let output = Command::new(env::current_exe()?)
            .args(["weigh", contender.name(), &entries.to_string()])
            .output()?;
        let stdout = String::from_utf8(output.stdout)?;
        let figures = stdout
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<Vec<u64>, _>>()?;
        let [live, resident, allocated, drop] = figures[..] else {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        };
        Ok(Self {
            live: live.try_into()?,
            resident: resident.try_into()?,
            allocated: allocated.try_into()?,
            drop: Duration::from_nanos(drop),
        })
    }
}

/// The arguments of a process that [`Footprint::in_child`] starts.
#[derive(clap::Args)]
pub struct Weigh {
    /// The cache.
    #[arg(value_parser = Contender::named)]
    contender: Contender,
    /// How many entries it has.
    entries: usize,
}

/// The resident memory of this process, in bytes.
pub fn resident() -> usize {
    memory_stats::memory_stats()
        .expect("the memory use of this process is unknown")
        .physical_mem
}
