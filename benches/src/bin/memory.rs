//! Weighs full caches, a process each, and times how long they take to drop.
//!
//! ```text
//! cargo run --release -p benches --bin memory
//! ```

use std::alloc::System;
use std::error::Error;

use benches::caches::Contender;
use benches::marks::grouped;
use benches::memory::{Footprint, SESSION_BYTES, Weigh};
use benches::timing::Effort;
use clap::Parser;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Weighs full caches of 1,000,000 sessions.
#[derive(Parser)]
struct Arguments {
    /// Only a tenth of the sessions.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    weigh: Weigh,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if arguments.weigh.done(allocated) {
        return Ok(());
    }
    let entries = Effort::new(arguments.quick).operations(1_000_000);
    println!(
        "{} sessions of {SESSION_BYTES} bytes; bytes beyond those, each:",
        grouped(entries)
    );
    println!(
        "{:20} {:>9} {:>9} {:>9} {:>9}",
        "", "sessions", "allocated", "resident", "drop"
    );
    for contender in Contender::ALL {
        let footprint = Footprint::in_child(contender, entries)?;
        println!(
            "{:20} {:>9} {:>9.1} {:>9.1} {:>6} ms",
            contender.name(),
            grouped(footprint.live),
            footprint.beyond_session(footprint.allocated),
            footprint.beyond_session(footprint.resident),
            footprint.drop.as_millis(),
        );
    }
    Ok(())
}

fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}
