//! Shows how long a seal takes with and without the STEKs rotating under it.

use std::time::Duration;

use benches::handshakes::session;
use benches::marks::grouped;
use benches::rotation::{ROTATES_EVERY, seal_latencies};
use benches::timing::Effort;
use comfy_table::{CellAlignment, Table, presets};
use rustls::version::TLS13;

/// Prints latency histograms of sealing a session of 130 bytes.
pub(crate) fn run(effort: Effort) {
    let lasts = effort.operations(10_000);
    let lasts = Duration::from_millis(lasts as u64);
    let session = session(&TLS13, 130);
    let still = seal_latencies(&session, lasts, false);
    let rotating = seal_latencies(&session, lasts, true);
    println!(
        "nanoseconds to seal 130 bytes; rotating every {} ms",
        ROTATES_EVERY.as_millis()
    );
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["percentile", "not rotating", "rotating"]);
    for percentile in [50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 100.0] {
        let [still, rotating] = [&still, &rotating]
            .map(|latencies| grouped(latencies.value_at_percentile(percentile) as usize));
        table.add_row([percentile.to_string(), still, rotating]);
    }
    let [still, rotating] = [&still, &rotating].map(|latencies| grouped(latencies.len() as usize));
    table.add_row(["seals".to_owned(), still, rotating]);
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}
