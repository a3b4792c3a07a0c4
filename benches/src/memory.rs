//! What sessions cost in memory. Each measurement needs a process of its own, because memory that
//! one cache frees is there for the next.

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

/// What a full cache took.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// How many sessions it held in the end.
    pub live: usize,
    /// By how many bytes the process's resident memory grew, the allocator's own included.
    pub resident: usize,
    /// How many bytes it had asked the allocator for and not given back, where they are counted.
    pub allocated: usize,
    /// How long it took to drop.
    pub drop: Duration,
}

impl Footprint {
    /// Fills a cache with real sessions of [`SESSION_BYTES`] and weighs it. `allocated` says how
    /// many bytes are allocated at the moment.
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

    /// What is left of `bytes` for a session beyond its own.
    pub fn beyond_session(&self, bytes: usize) -> f64 {
        bytes as f64 / self.live as f64 - SESSION_BYTES as f64
    }

    /// Measures in another process, which runs this very program with [`Weigh`]'s options.
    pub fn in_child(contender: Contender, entries: usize) -> Result<Self, Box<dyn Error>> {
        let output = Command::new(env::current_exe()?)
            .args([
                "--weigh",
                contender.name(),
                "--entries",
                &entries.to_string(),
            ])
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

/// Options of a program that uses [`Footprint::in_child`].
#[derive(clap::Args)]
pub struct Weigh {
    /// Weigh one cache, print the bare figures and end.
    #[arg(long, hide = true, value_parser = Contender::named)]
    weigh: Option<Contender>,
    #[arg(long, hide = true, default_value_t = 0)]
    entries: usize,
}

impl Weigh {
    /// Whether the program was started to weigh, which is then done. `allocated` says how many
    /// bytes are allocated at the moment.
    pub fn done(&self, allocated: impl Fn() -> usize) -> bool {
        let Some(contender) = self.weigh else {
            return false;
        };
        let Footprint {
            live,
            resident,
            allocated,
            drop,
        } = Footprint::measure(contender, self.entries, allocated);
        println!("{live} {resident} {allocated} {}", drop.as_nanos());
        true
    }
}

fn resident() -> usize {
    memory_stats::memory_stats()
        .expect("no word of this process's memory")
        .physical_mem
}
