//! Measures the memory of full caches, one process each, and how long they take to drop:
//! `cargo bench -p benches --bench memory`.
//!
//! Not a subcommand of the program, because counting slows down every allocation.

use std::alloc::System;
use std::error::Error;

use benches::caches::Contender;
use benches::marks::grouped;
use benches::memory::{Footprint, SESSION_BYTES, Weigh};
use benches::timing::Effort;
use clap::{Parser, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Measures the memory of full caches of 1,000,000 sessions.
#[derive(Parser)]
struct Arguments {
    /// Only a tenth of the sessions.
    #[arg(long, alias = "test")]
    quick: bool,
    /// Passed by cargo to each benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    #[command(hide = true)]
    Weigh(Weigh),
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if let Some(Command::Weigh(weigh)) = &arguments.command {
        Footprint::print(weigh, allocated);
        return Ok(());
    }
    let entries = Effort::new(arguments.quick).operations(1_000_000);
    println!(
        "{} sessions of {SESSION_BYTES} bytes; bytes beyond those, per session:",
        grouped(entries)
    );
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["", "sessions", "allocated", "resident", "drop"]);
    for contender in Contender::ALL {
        let footprint = Footprint::in_child(contender, entries)?;
        table.add_row([
            contender.name().to_owned(),
            grouped(footprint.live),
            format!("{:.1}", footprint.beyond_session(footprint.allocated)),
            format!("{:.1}", footprint.beyond_session(footprint.resident)),
            format!("{} ms", footprint.drop.as_millis()),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    Ok(())
}

fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}
