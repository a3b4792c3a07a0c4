//! Measures the marks and prints a line for each. Exits with the number of misses.
//!
//! ```text
//! cargo run --release -p benches --bin marks
//! ```

use std::process::ExitCode;

use benches::marks::ALL;
use benches::memory::Weigh;
use benches::timing::Effort;
use clap::Parser;

/// Measures the marks M1 to M10 and prints a line for each; exits with the number of misses.
#[derive(Parser)]
struct Arguments {
    /// Only these marks, like `M4`; all of them by default.
    only: Vec<String>,
    /// Only see that everything runs: the figures mean nothing, and misses do not count.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    weigh: Weigh,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.weigh.done(|| 0) {
        return ExitCode::SUCCESS;
    }
    let effort = if arguments.quick {
        Effort::Quick
    } else {
        Effort::Full
    };
    let mut misses = 0;
    for (name, measure) in ALL {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|only| only == name) {
            continue;
        }
        let marks = measure(effort);
        let mut notes: Vec<_> = marks.iter().map(|mark| mark.note.as_str()).collect();
        notes.dedup();
        for mark in &marks {
            println!("{mark}");
            misses += u8::from(!mark.passed());
        }
        // Beside the lines of the marks, which programs may read.
        notes.iter().for_each(|note| eprintln!("    {note}"));
    }
    if arguments.quick {
        println!("quick run: these figures mean nothing");
        return ExitCode::SUCCESS;
    }
    misses.into()
}
