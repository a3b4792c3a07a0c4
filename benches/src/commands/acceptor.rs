//! Measures what accepting through a `ResumptionAcceptor` costs, and what Redis adds.

use std::error::Error;
use std::time::Duration;

use benches::acceptors::{costs, through_redis};
use benches::handshakes::Way;
use benches::timing::Effort;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The Redis server to start.
    #[arg(long, default_value = "redis-server")]
    redis_server: String,
}

pub(crate) fn run(arguments: &Arguments, effort: Effort) -> Result<(), Box<dyn Error>> {
    println!("server time of a resumed handshake, medians:");
    for way in [Way::Tls12Ticket, Way::Tls13Ticket, Way::Tls13Stateful] {
        let [ours, plain] = costs(way, effort);
        println!(
            "{:<18} ResumptionAcceptor {:6.1} µs, TlsAcceptor {:6.1} µs, ratio {:.3}",
            way.name(),
            ours.median() / 1_000.0,
            plain.median() / 1_000.0,
            ours.median() / plain.median(),
        );
    }
    let [local, shared] = through_redis(&arguments.redis_server, effort)?;
    println!("\na resumed TLS 1.3 handshake, client included, sessions in");
    for (place, times) in [("the cache", &local), ("Redis", &shared)] {
        let (p50, p99) = (percentile(times, 50), percentile(times, 99));
        let resumed = times.len();
        println!("{place:<10} p50 {p50:>9.1?}, p99 {p99:>9.1?}, {resumed} resumed");
    }
    let added = percentile(&shared, 50).saturating_sub(percentile(&local, 50));
    println!("Redis adds {added:.1?} at p50");
    Ok(())
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted
        .get(sorted.len() * percent / 100)
        .copied()
        .unwrap_or_default()
}
