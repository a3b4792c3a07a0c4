//! What client certificates cost: the memory of sessions that carry them, the server's time, and
//! finding out whether a configuration asks for any.

use std::env;
use std::error::Error;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::handshakes::{By, Crowd, ServerKey, Site, Way};
use benches::memory::resident;
use benches::timing::{Effort, each, turn_about};
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use rustls::SupportedProtocolVersion;
use rustls::version::TLS13;
use rustls_resumption::Resumption;

/// Whose sessions are weighed, each kind in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Chains {
    /// A leaf of 1 KiB and two issuers of 1 KiB that all clients have in common.
    Common,
    /// The same, but stored whole, as all that does not parse.
    Whole,
    /// Three certificates of 20 kB, each client's its own.
    Long,
    /// A leaf of 1 KiB and 14 kB that no other session has.
    Distinct,
}

#[derive(clap::Args)]
pub(crate) struct Weigh {
    chains: Chains,
    clients: usize,
}

const CLIENTS: usize = 100_000;

/// Of a server with the default budget of bytes.
const LARGE_BUDGET: usize = 2 << 30;

pub(crate) fn run(effort: Effort) -> Result<(), Box<dyn Error>> {
    weigh_all(effort)?;
    time_handshakes(
        effort,
        "with a client's certificate and two issuers",
        Site::mutual,
    );
    time_handshakes(effort, "with a client that has no certificate", Site::new);
    time_installing(effort)
}

fn weigh_all(effort: Effort) -> Result<(), Box<dyn Error>> {
    let clients = effort.operations(CLIENTS);
    println!("two sessions of each of {clients} clients:");
    let mut table = table(["chains", "sessions kept", "resident", "a session"]);
    let mut weights = Vec::new();
    for chains in Chains::value_variants() {
        let (kept, bytes) = in_child(*chains, clients)?;
        table.add_row([
            chains.name().to_owned(),
            kept.to_string(),
            format!("{:.1} MB", bytes as f64 / 1e6),
            match kept {
                0 => "none".to_owned(),
                _ => format!("{:.0} bytes", bytes as f64 / kept as f64),
            },
        ]);
        weights.push(bytes as f64);
    }
    println!("{table}");
    let share = weights[Chains::Common as usize] / weights[Chains::Whole as usize];
    println!("common issuers against whole sessions: {share:.3}");
    Ok(())
}

impl Chains {
    fn name(self) -> &'static str {
        match self {
            Self::Common => "leaf and two common issuers, 1 KiB each",
            Self::Whole => "the same, stored whole",
            Self::Long => "3 x 20 kB of junk",
            Self::Distinct => "leaf of 1 KiB, 14 kB of distinct junk",
        }
    }

    /// A session of a client. No two are alike.
    fn session(self, plain: &[u8], client: usize, number: usize) -> Vec<u8> {
        let leaf = certificate(client, 1_024);
        let mut session = match self {
            Self::Common | Self::Whole => {
                let issuer = |number| certificate(usize::MAX - number, 1_024);
                with_chain(plain, &[leaf, issuer(1), issuer(2)])
            }
            Self::Long => with_chain(plain, &[1, 2, 3].map(|_| certificate(number, 20_000))),
            Self::Distinct => with_chain(plain, &[leaf, certificate(number, 14_000)]),
        };
        if self == Self::Whole {
            session.push(0);
        }
        session
    }
}

impl Weigh {
    /// Prints how many sessions are kept, and by how much resident memory grew.
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        let Self { chains, clients } = *self;
        let mut builder = Resumption::builder()
            .stateful(2 * clients)
            .resume_unverified_client_certificates();
        if matches!(chains, Chains::Common | Chains::Whole) {
            builder = builder.cache_bytes(LARGE_BUDGET);
        }
        let resumption = builder.build()?;
        let site = Site::new(&TLS13, ServerKey::P256);
        let (mut config, plain) = (site.default_server(), site.session(0));
        resumption.install(&mut config, "benches");
        let before = resident();
        for number in 0..2 * clients {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let session = chains.session(&plain, number / 2, number);
            config.session_storage.put(id.to_vec(), session);
        }
        let grown = resident().saturating_sub(before);
        println!("{} {grown}", resumption.stats().cache.entries);
        Ok(())
    }
}

fn in_child(chains: Chains, clients: usize) -> Result<(usize, usize), Box<dyn Error>> {
    let name = chains.to_possible_value().ok_or("chains without a name")?;
    let output = Command::new(env::current_exe()?)
        .args(["weigh-clients", name.get_name(), &clients.to_string()])
        .output()?;
    let stdout = String::from_utf8(output.stdout)?;
    let figures = stdout.trim().split_once(' ');
    let (kept, grown) = figures.ok_or_else(|| String::from_utf8_lossy(&output.stderr))?;
    Ok((kept.parse()?, grown.parse()?))
}

/// A certificate as far as a cache is concerned, after its length.
fn certificate(number: usize, len: usize) -> Vec<u8> {
    let mut certificate = (len as u32).to_be_bytes()[1..].to_vec();
    certificate.extend_from_slice(&number.to_be_bytes());
    certificate.resize(3 + len, 0xa5);
    certificate
}

/// What follows the client's certificates in a session without ALPN and application data, that
/// there are none included.
const TAIL: usize = 16;

/// A session whose client showed these certificates.
fn with_chain(plain: &[u8], certificates: &[Vec<u8>]) -> Vec<u8> {
    let (head, tail) = plain.split_at(plain.len() - TAIL);
    let chain = certificates.concat();
    let len = (chain.len() as u32).to_be_bytes();
    [head, &[1], &len[1..], &chain, &tail[1..]].concat()
}

fn time_handshakes(
    effort: Effort,
    with: &str,
    site: fn(&'static SupportedProtocolVersion, ServerKey) -> Site,
) {
    println!("server time of a handshake {with}:");
    let mut table = table(["keys", "way", "full", "resumed", "full over resumed"]);
    for key in ServerKey::ALL {
        for way in Way::ALL {
            let site = site(way.version(), key);
            let server = Arc::new(site.server(way, By::Ours, 20_000));
            let crowd = || Crowd::new(&site, server.clone(), 64, 1);
            let (mut strangers, mut returning) = (crowd(), crowd());
            let visits = effort.operations(20);
            returning.meet(visits);
            let contenders: [&mut dyn FnMut() -> f64; 2] =
                [&mut || each(strangers.meet(visits), visits), &mut || {
                    each(returning.come_back(visits), visits)
                }];
            let [full, resumed] = turn_about(effort.rounds(31), contenders);
            table.add_row([
                key.name().to_owned(),
                way.name().to_owned(),
                format!("{:.0} µs", full.median() / 1e3),
                format!("{:.0} µs", resumed.median() / 1e3),
                format!("{:.2}x", full.over(&resumed).median()),
            ]);
        }
    }
    println!("{table}");
}

fn time_installing(effort: Effort) -> Result<(), Box<dyn Error>> {
    let resumption = Resumption::tickets()?;
    let site = Site::mutual(&TLS13, ServerKey::P256);
    let mut config = site.default_server();
    let learnt = slowest(effort, || resumption.install(&mut config, "benches"));
    let told = slowest(effort, || site.install(&resumption, &mut config));
    println!(
        "install: {:.2} ms at most, {:.4} ms with the verifier",
        learnt.as_secs_f64() * 1e3,
        told.as_secs_f64() * 1e3
    );
    Ok(())
}

/// But for the first time, which warms up.
fn slowest(effort: Effort, mut work: impl FnMut()) -> Duration {
    work();
    let mut timed = || {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    let times = (0..effort.operations(100)).map(|_| timed());
    times.max().unwrap_or_default()
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
