//! Three servers that share their STEKs and sessions through Redis, behind a plain TCP round-robin,
//! in good and bad times.
//!
//! ```text
//! cargo run --release -p fleet
//! cargo run --release -p fleet -- --redis cluster --chaos
//! cargo run --release -p fleet -- --incident
//! ```
//!
//! Starts everything itself; needs `redis-server` (Debian's package of that name; of version 7 for
//! a Cluster). The exit status is 0 if no handshake failed and no early data was accepted twice, 1
//! otherwise, and 2 if something has to be corrected first.
//!
//! With `--chaos` a Redis server is killed, stopped, demoted, cut off and filled, one after the
//! other, and the exit status is 0 only if everything recovered by itself each time.
//!
//! With `--incident` it rehearses what to do after a STEK has leaked: one node revokes all, with
//! clients connecting all the time. Then the exit status is 0 only if no earlier session resumed
//! once the other nodes had had time to follow.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use example_support::certificate::{Authority, Identity};
use example_support::{cli, client};
use indicatif::{ProgressBar, ProgressStyle};
use rcgen::KeyPair;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, sleep_until};

use balancer::{Balancer, Treatment};
use clients::Clients;
use nodes::{Launch, Nodes};
use recovery::Recovery;
use redis::{Redis, Topology};
use steps::Event;
use tables::{Row, state, summary};
use verdict::{after_chaos, after_incident, as_ever};

mod balancer;
mod clients;
mod node;
mod nodes;
mod recovery;
mod redis;
mod steps;
mod tables;
mod verdict;

/// Shows three servers that share their sessions through Redis, in good and bad times.
#[derive(Parser)]
#[command(name = "fleet")]
struct Flags {
    /// The Redis server's program
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    redis_server: PathBuf,
    /// What Redis consists of
    #[arg(long, value_name = "TOPOLOGY", default_value = "alone")]
    redis: Topology,
    /// Kill, stop, demote, cut off and fill a Redis server
    #[arg(long)]
    chaos: bool,
    /// Rehearse an incident: no earlier session may resume afterwards
    #[arg(long, conflicts_with = "chaos")]
    incident: bool,
    /// Be a node that uses the Redis at this address
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
    if let (Some(redis), Some(directory)) = (&flags.node, &flags.directory) {
        return match node::run(redis, directory).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => cli::refuse(error),
        };
    }
    let steps = match (flags.chaos, flags.incident) {
        (true, _) => Steps::Chaos,
        (_, true) => Steps::Incident,
        _ => Steps::Usual,
    };
    match show(&flags.redis_server, flags.redis, steps).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => cli::refuse(reason),
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Steps {
    Usual,
    Chaos,
    Incident,
}

/// Runs all steps. Returns whether every outcome was the expected one.
async fn show(redis_server: &Path, topology: Topology, steps: Steps) -> Result<bool, String> {
    let all = match steps {
        Steps::Usual => steps::USUAL,
        Steps::Chaos => steps::CHAOS,
        Steps::Incident => steps::INCIDENT,
    };
    let directory = TempDir::new().map_err(|error| format!("no directory: {error}"))?;
    let ca =
        write_certificates(directory.path()).map_err(|error| format!("no certificate: {error}"))?;
    let mut redis = Redis::start(topology, redis_server).await?;
    let balancer = Arc::<Balancer>::default();
    let launch = Launch {
        program: std::env::current_exe().map_err(|error| format!("no program: {error}"))?,
        redis: redis.address(),
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
    if steps == Steps::Incident {
        let left = clients.leave(address, &ca);
        left.map_err(|error| error.to_string())?;
    }

    let live = ProgressBar::new_spinner();
    live.set_style(ProgressStyle::with_template("{msg}").expect("a good template"));
    let mut rows = Vec::new();
    for &(name, event, seconds) in all {
        let before = clients.seen();
        match event {
            Event::Nothing => {}
            Event::Harm(harm) => redis.harm(harm).await?,
            Event::Heal(harm) => redis.heal(harm).await?,
            Event::NodeRestarts => nodes.restart(0).await?,
            Event::NodeRevokesAll => {
                clients.note_incident();
                nodes.revoke_all(0).await?;
            }
            Event::AwayReturn => clients.come_back(),
        }
        let mut recovery = Recovery::begin(match event {
            Event::Harm(harm) => redis.replaces(harm),
            _ => false,
        });
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            recovery.look(&nodes.told());
            if recovery.awaits_failover() && redis.has_replaced().await {
                recovery.note_failover();
            }
            live.set_message(format!("{name}\n{}", state(&nodes)));
            sleep_until(end.min(Instant::now() + Duration::from_millis(50))).await;
        }
        let seen = clients.seen().since(before);
        let matters = matches!(event, Event::Harm(_) | Event::Heal(_));
        rows.push(Row {
            name,
            seen,
            recovery: matters.then_some(recovery),
        });
    }
    clients.stop().await;
    // The last reports of the nodes are still on their way.
    sleep(Duration::from_secs(1)).await;
    live.finish_and_clear();

    println!("{}\n{}", state(&nodes), summary(&rows));
    let as_ever = as_ever(&clients, &nodes, &balancer);
    Ok(as_ever
        && match steps {
            Steps::Usual => true,
            Steps::Chaos => after_chaos(&rows),
            Steps::Incident => after_incident(&rows, &nodes),
        })
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
