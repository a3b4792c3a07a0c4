//! Shows how long a seal takes with and without the STEKs rotating under it.
//!
//! ```text
//! cargo run --release -p benches --bin rotation
//! ```

use std::time::Duration;

use benches::handshakes::session;
use benches::marks::grouped;
use benches::rotation::{ROTATES_EVERY, seal_latencies};
use benches::timing::Effort;
use clap::Parser;
use rustls::version::TLS13;

/// Prints latency histograms of sealing a session of 130 bytes.
#[derive(Parser)]
struct Arguments {
    /// Only for a moment.
    #[arg(long)]
    quick: bool,
}

fn main() {
    let lasts = Effort::new(Arguments::parse().quick).operations(10_000);
    let lasts = Duration::from_millis(lasts as u64);
    let session = session(&TLS13, 130);
    let still = seal_latencies(&session, lasts, false);
    let rotating = seal_latencies(&session, lasts, true);
    println!(
        "nanoseconds to seal 130 bytes; rotating every {} ms",
        ROTATES_EVERY.as_millis()
    );
    println!("{:>12} {:>12} {:>12}", "percentile", "still", "rotating");
    for percentile in [50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 100.0] {
        let [still, rotating] = [&still, &rotating]
            .map(|latencies| grouped(latencies.value_at_percentile(percentile) as usize));
        println!("{percentile:>12} {still:>12} {rotating:>12}");
    }
    let [still, rotating] = [&still, &rotating].map(|latencies| grouped(latencies.len() as usize));
    println!("{:>12} {still:>12} {rotating:>12}", "seals");
}
