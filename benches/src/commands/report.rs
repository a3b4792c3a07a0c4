//! What resumption buys on this machine: the same returning clients visit four servers over
//! loopback TCP, with rustls's defaults, with rustls's `Ticketer`, and with rustls-resumption by
//! tickets and stateful. Prints a table and draws a plot.

use std::error::Error;
use std::sync::Arc;

use benches::bars;
use benches::handshakes::ServerKey;
use benches::timing::Effort;
use example_support::cli::Tls;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Runtime;

use crowd::Crowd;
use outcome::Outcome;
use server::Server;
use site::Site;

pub(crate) use server::Kind;

mod crowd;
mod outcome;
mod server;
mod site;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many clients there are; a few return often, many rarely (Zipf).
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// How many connections each server gets; beyond 25,000 most systems run out of ports.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// The TLS version.
    #[arg(long, value_enum, default_value_t = Tls::V13)]
    tls: Tls,
    /// The key of the servers' certificate: ECDSA with P-256, or RSA with 2048 bits.
    #[arg(long, value_enum, default_value_t = ServerKey::P256)]
    key: ServerKey,
    /// Pads the servers' certificate by this many KiB, to stand for a long chain.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=60))]
    chain_kib: u16,
    /// The seed of the order in which the clients connect.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// In how many rounds the servers take turns, so that other load on the machine affects all of them
/// alike.
const ROUNDS: usize = 8;

/// A quick run makes a tenth of the connections.
pub(crate) fn run(arguments: &Arguments, effort: Effort) -> Result<(), Box<dyn Error>> {
    let connections = effort.operations(arguments.connections as usize);
    Runtime::new()?.block_on(report(arguments, connections))
}

/// Runs a server of the report.
pub(crate) fn serve(kind: Kind) -> Result<(), Box<dyn Error>> {
    Runtime::new()?.block_on(server::serve(kind))
}

async fn report(arguments: &Arguments, connections: usize) -> Result<(), Box<dyn Error>> {
    let site = Site::new(arguments.key, arguments.chain_kib)?;
    let visits = crowd::visits(arguments.clients, connections, arguments.seed)?;
    let mut tests = Vec::new();
    for kind in Kind::ALL {
        let server = Server::start(kind, &site)?;
        let version = arguments.tls.version();
        let crowd = Crowd::new(&site, version, server.address, arguments.clients)?;
        tests.push((kind, server, Arc::new(crowd), Outcome::default()));
    }

    let style = "{bar:40} {percent:>3} %  {msg}  (about {eta} left)";
    let progress = ProgressBar::new((tests.len() * connections) as u64)
        .with_style(ProgressStyle::with_template(style)?);
    let mut from = 0;
    for round in 1..=ROUNDS {
        let to = connections * round / ROUNDS;
        for (kind, server, crowd, outcome) in &mut tests {
            progress.set_message(kind.name());
            let before = server.usage()?;
            outcome.add_visits(crowd.receive(&visits[from..to], &progress).await?)?;
            outcome.add_usage(before, server.usage()?);
        }
        from = to;
    }
    progress.finish_and_clear();

    let outcomes: Vec<_> = tests
        .into_iter()
        .map(|(kind, _, _, outcome)| (kind, outcome))
        .collect();
    println!("{}", outcome::table(&outcomes));
    println!("Servers and clients shared this machine. Only returning clients can resume.");
    if arguments.tls == Tls::V13 {
        println!(
            "TLS 1.3 exchanges keys on resumption as well: with a P-256 certificate it saves bytes and"
        );
        println!(
            "the clients' work, but hardly the server's. Compare --key rsa, --chain-kib 8, --tls 1.2."
        );
    }
    let plot = bars::folder()?.join("adoption.svg");
    bars::draw(
        &plot,
        "What resumption buys on this machine",
        &outcome::panels(&outcomes),
    )?;
    println!("wrote {}", plot.display());
    Ok(())
}
