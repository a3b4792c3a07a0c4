//! Measures rustls-resumption: `cargo run --release -p benches -- --help` lists what there is.
//!
//! What each command prints, and what it printed on one machine, is in `benches/README.md`.

use std::error::Error;
use std::process::ExitCode;

use benches::memory::Footprint;
use benches::timing::Effort;
use clap::{Parser, Subcommand};

mod commands;

/// Measures rustls-resumption beside rustls's built-ins and other Rust caches.
#[derive(Parser)]
#[command(name = "benches")]
struct Arguments {
    /// A short trial run, whose figures mean nothing.
    #[arg(long, global = true)]
    quick: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The timed marks, M2 to M10 and M14, a line each; the exit status is the number of misses (2 minutes).
    Marks(commands::marks::Arguments),
    /// All tables and plots of benches/README.md, into target/report (10 minutes).
    Figures,
    /// Returning clients against four servers over loopback TCP: what resumption buys (1 minute).
    Report(commands::report::Arguments),
    /// The latency of sealing tickets with and without the STEKs rotating.
    Rotation,
    /// What a housekeeping step costs a ring of 50,000 STEKs.
    Steps,
    /// What a junk ticket costs a server.
    Junk,
    /// What accepting through a ResumptionAcceptor costs, and what Redis adds.
    Acceptor(commands::acceptor::Arguments),
    /// Instructions and simulated cache misses, counted by callgrind: the same on any load.
    Counts(commands::counts::Arguments),
    /// Server time of handshakes, and what client certificates cost: memory, installation (1 minute).
    Clients,
    /// Do what callgrind counts.
    #[command(hide = true)]
    Count { row: commands::counts::Row },
    /// Fill a cache with clients' sessions and print its bare footprint.
    #[command(hide = true)]
    WeighClients(commands::clients::Weigh),
    /// Fill one cache and print its bare footprint.
    #[command(hide = true)]
    Weigh(benches::memory::Weigh),
    /// Run a server of the report, with its certificate from standard input.
    #[command(hide = true)]
    Serve { kind: commands::report::Kind },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let effort = Effort::new(arguments.quick);
    match arguments.command {
        Command::Acceptor(arguments) => commands::acceptor::run(&arguments, effort)?,
        Command::Clients => commands::clients::run(effort)?,
        Command::Count { row } => row.work(),
        Command::Counts(arguments) => commands::counts::run(&arguments)?,
        Command::Figures => commands::figures::run(effort)?,
        Command::Junk => commands::junk::run(effort),
        Command::Marks(arguments) => return commands::marks::run(&arguments, effort),
        Command::Report(arguments) => commands::report::run(&arguments, effort)?,
        Command::Rotation => commands::rotation::run(effort),
        Command::Steps => commands::steps::run(effort),
        Command::Serve { kind } => commands::report::serve(kind)?,
        Command::WeighClients(weigh) => weigh.run()?,
        Command::Weigh(weigh) => Footprint::print(&weigh, || 0),
    }
    Ok(ExitCode::SUCCESS)
}
