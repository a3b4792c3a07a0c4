//! Measures what a housekeeping step costs a ring of 50,000 STEKs, by the time of its thread, in
//! which other programs have no part.

use std::time::Duration;

use benches::marks::grouped;
use benches::timing::{Effort, each, turn_about};
use cpu_time::ThreadTime;
use rustls_resumption::source::DerivedSource;
use rustls_resumption::{FakeClock, Resumption, Rotation};

/// How many STEKs are known.
const KEYS: u64 = 50_000;

const INTERVAL: Duration = Duration::from_secs(1);

/// A ring that only this program steps.
struct Ring {
    time: FakeClock,
    resumption: Resumption,
}

impl Ring {
    fn derived(keys: u64) -> Self {
        Self::new(keys, true)
    }

    fn random(keys: u64) -> Self {
        let ring = Self::new(keys, false);
        for _ in 2..keys {
            ring.step_after(INTERVAL);
        }
        ring
    }

    fn new(keys: u64, is_derived: bool) -> Self {
        let time = FakeClock::new();
        // One seals, and its successor is published.
        let lifetime = INTERVAL * (keys as u32 - 2);
        let rotation = Rotation::new().interval(INTERVAL).ticket_lifetime(lifetime);
        let mut builder = Resumption::builder().clock(time.clock()).rotation(rotation);
        if is_derived {
            let secret: [u8; 32] = std::array::from_fn(|index| index as u8);
            let source = DerivedSource::new(&secret).expect("a good secret");
            builder = builder.stek_source(source);
        }
        let resumption = builder.build().expect("a schedule that can be kept");
        Self { time, resumption }
    }

    /// The time that a step takes, in nanoseconds, so long after the one before.
    fn step_after(&self, time: Duration) -> f64 {
        self.time.advance(time);
        let start = ThreadTime::now();
        self.resumption.step();
        each(start.elapsed(), 1)
    }
}

pub(crate) fn run(effort: Effort) {
    let keys = effort.operations(KEYS as usize) as u64;
    println!("time of a step, medians:");
    for (name, ring) in [
        ("random", Ring::random(keys)),
        ("derived", Ring::derived(keys)),
    ] {
        let known = ring.resumption.stats().steks.keys as usize;
        let contenders: [&mut dyn FnMut() -> f64; 2] =
            [&mut || ring.step_after(INTERVAL), &mut || {
                ring.step_after(Duration::ZERO)
            }];
        let [due, none] = turn_about(effort.rounds(501), contenders);
        println!(
            "{name:<8} {} STEKs known: one due {:8.1} µs, none due {:6.1} µs",
            grouped(known),
            due.median() / 1_000.0,
            none.median() / 1_000.0,
        );
    }
}
