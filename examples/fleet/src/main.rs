//! Three servers that share their STEKs and sessions through Redis, behind a plain TCP round-robin,
//! in good and bad times.
//!
//! ```text
//! cargo run --release -p fleet
//! cargo run --release -p fleet -- --incident
//! ```
//!
//! Starts everything itself; needs `redis-server` (Debian's package of that name). The exit status
//! is 0 if no handshake failed and no early data was accepted twice, 1 otherwise, and 2 if
//! something has to be corrected first.
//!
//! With `--incident` it rehearses what to do after a STEK has leaked: one node revokes all, with
//! clients connecting all the time. Then the exit status is 0 only if no session of before resumed
//! once the other nodes had had time to follow.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use example_support::certificate::{Authority, Identity};
use example_support::{cli, client};
use indicatif::{ProgressBar, ProgressStyle};
use rcgen::KeyPair;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, sleep_until};

use balancer::{Balancer, Treatment};
use clients::{Clients, Seen};
use nodes::{Launch, Nodes};
use redis::Redis;

mod balancer;
mod clients;
mod node;
mod nodes;
mod redis;

/// Shows three servers that share their sessions through Redis, in good and bad times.
#[derive(Parser)]
#[command(name = "fleet")]
struct Flags {
    /// The Redis server's program
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    redis_server: PathBuf,
    /// Rehearse an incident: no session of before may resume afterwards
    #[arg(long)]
    incident: bool,
    /// Be a node that uses the Redis server at this URL
    #[arg(long, hide = true, requires = "directory")]
    node: Option<String>,
    /// Where the node's certificate is
    #[arg(long, hide = true)]
    directory: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags: Flags = match cli::parse() {
        Ok(flags) => flags,
        Err(status) => return status,
    };
    if let (Some(redis), Some(directory)) = (flags.node, flags.directory) {
        return match node::run(&redis, &directory).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => cli::refuse(error),
        };
    }
    match show(flags.redis_server, flags.incident).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => cli::refuse(reason),
    }
}

/// What happens at the beginning of a step.
#[derive(Clone, Copy)]
enum Event {
    Nothing,
    RedisEnds,
    RedisReturns,
    NodeRestarts,
    NodeRevokesAll,
    AwayReturn,
}

/// The steps: what happens, and for how many seconds clients connect after that.
const STEPS: [(&str, Event, u64); 6] = [
    ("clients come for the first time", Event::Nothing, 2),
    ("all is well, STEKs rotate", Event::Nothing, 10),
    ("Redis is killed", Event::RedisEnds, 4),
    ("Redis is started again, empty", Event::RedisReturns, 4),
    ("a node is restarted", Event::NodeRestarts, 5),
    ("all is well, STEKs rotate", Event::Nothing, 8),
];

/// The steps with `--incident`. Other nodes are told within 2 seconds.
const INCIDENT: [(&str, Event, u64); 5] = [
    ("clients come for the first time", Event::Nothing, 3),
    ("all is well, some are away", Event::Nothing, 5),
    (
        "one node revokes all, the others follow",
        Event::NodeRevokesAll,
        6,
    ),
    ("those that were away return", Event::AwayReturn, 4),
    ("all is well, STEKs rotate", Event::Nothing, 8),
];

/// The first step in which no session of before may resume.
const AFTER_INCIDENT: usize = 3;

/// Runs all steps. Returns whether every outcome was the expected one.
async fn show(redis_server: PathBuf, incident: bool) -> Result<bool, String> {
    let steps: &[_] = if incident { &INCIDENT } else { &STEPS };
    let directory = TempDir::new().map_err(|error| format!("no directory: {error}"))?;
    let ca =
        write_certificates(directory.path()).map_err(|error| format!("no certificate: {error}"))?;
    let mut redis = Redis::start(redis_server).await?;
    let balancer = Arc::<Balancer>::default();
    let launch = Launch {
        program: std::env::current_exe().map_err(|error| format!("no program: {error}"))?,
        redis: redis.url(),
        directory: directory.path().to_owned(),
        kek: KeyPair::generate()
            // Without the newline at its end, which a secret may not have.
            .map(|key| key.serialize_pem().trim_end().to_owned())
            .map_err(|error| format!("no key: {error}"))?,
    };
    let mut nodes = Nodes::start(launch, Arc::clone(&balancer)).await?;
    let listen = async |treatment| balancer.listen(treatment).await.map_err(|e| e.to_string());
    let address = listen(Treatment::PassedOn).await?;
    let replayed = listen(Treatment::Replayed).await?;
    let mut clients = Clients::start(address, replayed, &ca).map_err(|error| error.to_string())?;
    if incident {
        let left = clients.leave(address, &ca);
        left.map_err(|error| error.to_string())?;
    }

    let live = ProgressBar::new_spinner();
    live.set_style(ProgressStyle::with_template("{msg}").expect("a good template"));
    let mut rows = Vec::new();
    for &(name, event, seconds) in steps {
        let before = clients.seen();
        match event {
            Event::Nothing => {}
            Event::RedisEnds => redis.kill().await?,
            Event::RedisReturns => redis.restart().await?,
            Event::NodeRestarts => nodes.restart(0).await?,
            Event::NodeRevokesAll => {
                clients.note_incident();
                nodes.revoke_all(0).await?;
            }
            Event::AwayReturn => clients.come_back(),
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            live.set_message(format!("{name}\n{}", state(&nodes)));
            sleep_until(end.min(Instant::now() + Duration::from_millis(250))).await;
        }
        rows.push((name, clients.seen().since(before)));
    }
    clients.stop().await;
    // The last reports of the nodes are still on their way.
    sleep(Duration::from_secs(1)).await;
    live.finish_and_clear();

    println!("{}\n{}", state(&nodes), summary(&rows));
    let as_ever = verdict(&clients, &nodes, &balancer);
    Ok(as_ever && (!incident || incident_verdict(&rows, &nodes)))
}

/// Writes a CA certificate, and one that it issued for the nodes. Returns the former's path.
fn write_certificates(directory: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let authority = Authority::new("fleet example CA")?;
    let Identity { chain, key } = authority.issue(&["localhost".to_owned()])?;
    let ca = directory.join("ca.pem");
    std::fs::write(&ca, authority.pem())?;
    std::fs::write(directory.join("certificate.der"), &chain[0])?;
    std::fs::write(directory.join("key.der"), key.secret_der())?;
    Ok(ca)
}

/// The nodes according to their last reports.
fn state(nodes: &Nodes) -> Table {
    let header = [
        "node",
        "full",
        "resumed",
        "claimed",
        "early data",
        "STEK",
        "keys",
        "rotations",
        "store",
    ];
    let mut table = new_table(&header, 1..5);
    for (number, report) in nodes.told().reports.iter().enumerate() {
        table.add_row([
            number.to_string(),
            report.full.to_string(),
            report.resumed.to_string(),
            report.claimed.to_string(),
            report.early.to_string(),
            match report.fallen_back {
                true => format!("{} (fallback)", report.active),
                false => report.active.clone(),
            },
            report.keys.to_string(),
            report.rotations.to_string(),
            match report.store_is_down {
                true => "down".to_owned(),
                false => "up".to_owned(),
            },
        ]);
    }
    table
}

fn summary(rows: &[(&str, Seen)]) -> Table {
    let header = [
        "step",
        "connections",
        "returned",
        "resumed",
        "share",
        "of before",
        "early data",
        "failed",
    ];
    let mut table = new_table(&header, 1..8);
    for (name, seen) in rows {
        table.add_row([
            (*name).to_owned(),
            seen.connections.to_string(),
            seen.returned.to_string(),
            seen.resumed.to_string(),
            seen.share()
                .map_or_else(|| "-".to_owned(), |share| format!("{share:.2} %")),
            seen.of_before.to_string(),
            seen.early.to_string(),
            seen.failed.to_string(),
        ]);
    }
    table
}

fn new_table(header: &[&str], numbers: std::ops::Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header);
    for index in numbers {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Prints what must hold, and returns whether it did.
fn verdict(clients: &Clients, nodes: &Nodes, balancer: &Balancer) -> bool {
    let seen = clients.seen();
    let told = nodes.told();
    let accepted: u64 = told.early.values().sum();
    let twice = told.early.values().filter(|times| **times > 1).count();
    let replays = balancer.replays.load(Ordering::Relaxed);
    let rotations = told.reports.iter().map(|report| report.rotations).max();
    let rotations = rotations.unwrap_or(0);
    println!("handshake failures: {}", seen.failed);
    if let Some(failure) = clients.first_failure() {
        println!("  the first: {failure}");
    }
    println!(
        "early data accepted twice: {twice} (accepted {accepted} times; {replays} first flights \
         replayed at other nodes)"
    );
    println!("rotations: {rotations}");
    // Otherwise nothing was demonstrated.
    let was_tried = seen.resumed > 0 && accepted > 0 && replays > 0 && rotations > 1;
    if !was_tried {
        println!("too little happened to judge: is this machine very busy?");
    }
    seen.failed == 0 && twice == 0 && was_tried
}

/// Prints what must hold after the incident, and returns whether it did.
fn incident_verdict(rows: &[(&str, Seen)], nodes: &Nodes) -> bool {
    let (until, after) = rows.split_at(AFTER_INCIDENT);
    let of_before: u64 = after.iter().map(|(_, seen)| seen.of_before).sum();
    if let Some(withdrawn) = &nodes.told().withdrawn {
        println!("revoke_all: {withdrawn}");
    }
    println!("sessions of before that resumed after: {of_before}");
    // Otherwise there was nothing to revoke, or resumption did not go on.
    let was_tried = until[AFTER_INCIDENT - 2].1.resumed > 0
        && after.first().is_some_and(|(_, seen)| seen.returned > 0)
        && after.last().is_some_and(|(_, seen)| seen.resumed > 0);
    if !was_tried {
        println!("too little happened to judge the incident: is this machine very busy?");
    }
    of_before == 0 && was_tried
}
