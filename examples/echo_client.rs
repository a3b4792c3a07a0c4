//! A TLS client that counts resumed handshakes: it connects to an echo server repeatedly, checks
//! that what it sent comes back, and shows how many handshakes were full and how many resumed.
//!
//! ```text
//! cargo run --release --example echo_client -- --connect 127.0.0.1:8443 --ca ca.pem --count 1000
//! ```
//!
//! Exit status: 0 if every connection went well, 1 if one failed, 2 for a bad flag or an unreadable
//! file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use example_support::cli::{self, Tls};
use example_support::client;
use indicatif::{ProgressBar, ProgressStyle};
use rustls::pki_types::ServerName;

use client::{Client, ClientError, ClientOptions, EarlyData, Outcome};

/// Connects to an echo server repeatedly and counts the handshakes that resumed a session.
#[derive(Parser)]
#[command(name = "echo_client")]
struct Flags {
    /// Where to connect; several addresses are visited in turn
    #[arg(long, value_name = "ADDR", value_delimiter = ',', default_value = "127.0.0.1:8443", value_parser = cli::address)]
    connect: Vec<SocketAddr>,
    /// The certificate authorities to trust, a PEM file (the echo server prints where its own is)
    #[arg(long, value_name = "PEM")]
    ca: PathBuf,
    /// The name the server's certificate must have
    #[arg(long, value_name = "NAME", default_value = "localhost", value_parser = server_name)]
    servername: ServerName<'static>,
    /// How many connections to make in total
    #[arg(long, value_name = "N", default_value = "100", value_parser = cli::at_least_one)]
    count: usize,
    /// How many workers connect at the same time, each with sessions of its own
    #[arg(long, value_name = "C", default_value = "8", value_parser = cli::at_least_one)]
    concurrency: usize,
    /// The TLS version to offer
    #[arg(long, value_enum, default_value = "1.3")]
    tls: Tls,
    /// Never offer a session
    #[arg(long)]
    no_resume: bool,
    /// How many bytes to send as early data (0-RTT) when a session allows it; needs TLS 1.3
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    early_data: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags: Flags = match cli::parse() {
        Ok(flags) => flags,
        Err(status) => return status,
    };
    if flags.early_data > 0 && (flags.no_resume || flags.tls == Tls::V12) {
        return cli::refuse("--early-data needs a TLS 1.3 session: drop --no-resume and --tls 1.2");
    }
    let client = match client(&flags) {
        Ok(client) => client,
        Err(error) => return cli::refuse(error),
    };

    // Draws nothing unless standard error is a terminal.
    let bar = ProgressBar::new(flags.count as u64).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} connections, {per_sec}")
            .expect("a valid template"),
    );
    let begin = Instant::now();
    let results = client
        .run(flags.count, flags.concurrency, |_| bar.inc(1))
        .await;
    let elapsed = begin.elapsed();
    bar.finish_and_clear();

    let summary = Summary::new(results);
    cli::show(summary.table(elapsed, flags.early_data > 0));
    cli::show(summary.line());
    for (error, times) in &summary.failures {
        eprintln!("failed {times} times: {error}");
    }
    if summary.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn client(flags: &Flags) -> Result<Client, ClientError> {
    let roots = client::read_roots(&flags.ca)?;
    Client::new(ClientOptions {
        server_name: flags.servername.clone(),
        version: flags.tls.version(),
        resume: !flags.no_resume,
        early_data: flags.early_data,
        ..ClientOptions::new(flags.connect.clone(), roots)
    })
}

/// The outcome of all connections.
struct Summary {
    /// Sorted.
    full: Vec<Duration>,
    /// Sorted.
    resumed: Vec<Duration>,
    hello_retries: usize,
    early_data_accepted: usize,
    /// Each distinct error, and how often it occurred.
    failures: BTreeMap<String, usize>,
}

impl Summary {
    fn new(results: Vec<Result<Outcome, ClientError>>) -> Self {
        let mut summary = Self {
            full: Vec::new(),
            resumed: Vec::new(),
            hello_retries: 0,
            early_data_accepted: 0,
            failures: BTreeMap::new(),
        };
        for result in results {
            let handshake = match result {
                Ok(outcome) => outcome.handshake,
                Err(error) => {
                    *summary.failures.entry(error.to_string()).or_default() += 1;
                    continue;
                }
            };
            let latencies = match handshake.resumed {
                true => &mut summary.resumed,
                false => &mut summary.full,
            };
            latencies.push(handshake.latency);
            summary.hello_retries += usize::from(handshake.hello_retry);
            summary.early_data_accepted +=
                usize::from(matches!(handshake.early_data, EarlyData::Accepted { .. }));
        }
        summary.full.sort_unstable();
        summary.resumed.sort_unstable();
        summary
    }

    fn failed(&self) -> usize {
        self.failures.values().sum()
    }

    fn table(&self, elapsed: Duration, early_data: bool) -> Table {
        let succeeded = self.full.len() + self.resumed.len();
        let rate = succeeded as f64 / elapsed.as_secs_f64();
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["handshakes", "count", "p50", "p99"]);
        for (kind, latencies) in [("full", &self.full), ("resumed", &self.resumed)] {
            let count = latencies.len().to_string();
            let [p50, p99] = [50, 99].map(|p| micros(percentile(latencies, p)));
            table.add_row([kind, &count, &p50, &p99]);
        }
        table.add_row(["failed", &self.failed().to_string()]);
        if early_data {
            table.add_row(["early data accepted", &self.early_data_accepted.to_string()]);
        }
        if self.hello_retries > 0 {
            table.add_row(["with a HelloRetryRequest", &self.hello_retries.to_string()]);
        }
        table.add_row(["a second", &format!("{rate:.0}")]);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// The counts, for scripts.
    fn line(&self) -> String {
        format!(
            "full={} resumed={} failed={} early={}",
            self.full.len(),
            self.resumed.len(),
            self.failed(),
            self.early_data_accepted
        )
    }
}

/// The smallest of the sorted values that at least `percent` of them do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

fn micros(latency: Option<Duration>) -> String {
    latency.map_or_else(String::new, |latency| format!("{} µs", latency.as_micros()))
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| "not a DNS name or IP address, such as example.org".to_owned())
}
