//! How long sealing a ticket takes while the STEKs rotate.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustls_resumption::StekRing;

use crate::tickets::{Workload, ring};

/// How often the ring rotates, if it does.
pub const ROTATES_EVERY: Duration = Duration::from_millis(10);

/// Does `work` while another thread rotates the ring.
pub fn rotating<R>(ring: &StekRing, work: impl FnOnce() -> R) -> R {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                thread::sleep(ROTATES_EVERY);
                ring.rotate_now()
                    .expect("a random source that does not rotate");
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
}

/// Seals `session` again and again for `lasts`, with a new ring that rotates if `rotate`. Returns
/// the latencies in nanoseconds.
pub fn seal_latencies(session: &[u8], lasts: Duration, rotate: bool) -> Histogram<u64> {
    let ring = ring();
    let workload = Workload::with(ring.clone(), session);
    let work = || {
        let mut latencies =
            Histogram::new_with_max(60_000_000_000, 3).expect("three digits are allowed");
        let end = Instant::now() + lasts;
        let mut before = Instant::now();
        while before < end {
            black_box(workload.seal());
            let after = Instant::now();
            latencies.saturating_record((after - before).as_nanos() as u64);
            before = after;
        }
        latencies
    };
    if rotate {
        rotating(&ring, work)
    } else {
        work()
    }
}
