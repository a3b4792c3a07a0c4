//! Looks at any TLS server as TLS 1.2 and 1.3 clients do, and reports how it lets them resume:
//! session IDs, tickets, their number, lifetime and size, whether one can be used twice, early
//! data, and whether sessions last across nodes, a wait and server names.
//!
//! ```text
//! tls-resumption-probe example.org:443
//! tls-resumption-probe 127.0.0.1:8443 --ca ca.pem --servername localhost
//! ```
//!
//! It makes about a dozen connections, one after the other. In some it sends a `HEAD` request,
//! because some servers send their tickets only once they have something to answer.
//!
//! Exit status: 0 after a report, 1 if the server cannot be reached or every handshake fails, 2 for
//! a bad flag or an unreadable file. With `--fail-on bad`: 1 as well if a line of the report is
//! graded `bad`. With `--expect-refused`: 0 if sessions that resumed before are refused on every
//! node, by each mechanism by which any resumed, and no connection failed, else 1.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use indicatif::ProgressBar;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use tokio::net::lookup_host;

use connect::Place;
use report::Grade;
use survey::Plan;
use visit::Visitor;

mod cli;
mod connect;
mod refused;
mod report;
mod session;
mod survey;
mod tickets;
mod trust;
mod verdict;
mod visit;
mod wire;

/// Reports how a TLS server lets its clients resume sessions.
#[derive(Parser)]
#[command(name = "tls-resumption-probe", version)]
struct Flags {
    /// The server to look at; port 443 unless given
    #[arg(value_name = "HOST:PORT")]
    target: String,
    /// The certificate authorities to trust, a PEM file, instead of the system's
    #[arg(long, value_name = "PEM", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Accept any certificate
    #[arg(long)]
    insecure: bool,
    /// The server name to send, instead of HOST
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    servername: Option<ServerName<'static>>,
    /// Also offer sessions under this other name
    #[arg(long, value_name = "OTHER", value_parser = server_name)]
    other_name: Option<ServerName<'static>>,
    /// Also offer sessions to these nodes, HOST[:PORT], and theirs to HOST
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    nodes: Vec<String>,
    /// Also offer sessions after this time, such as 30s or 2h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// Hold sessions until a line arrives on standard input, then expect every node to refuse them
    #[arg(long, conflicts_with_all = ["other_name", "wait"])]
    expect_refused: bool,
    /// Exit with status 1 if a finding has this grade
    #[arg(long, value_name = "GRADE")]
    fail_on: Option<FailOn>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// The grade for `--fail-on`.
#[derive(Clone, Copy, ValueEnum)]
enum FailOn {
    Bad,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let flags: Flags = match cli::parse() {
        Ok(flags) => flags,
        Err(status) => return status,
    };
    let (visitor, plan) = match prepare(&flags).await {
        Ok(prepared) => prepared,
        Err(what) => return cli::refuse(what),
    };

    // Draws nothing unless standard error is a terminal.
    let progress = ProgressBar::new_spinner();
    progress.enable_steady_tick(Duration::from_millis(100));
    let findings = match flags.expect_refused {
        true => {
            let until = || progress.suspend(wait_for_line);
            refused::examine(&visitor, &plan, &flags.target, until).await
        }
        false => survey::survey(&visitor, &plan, &progress).await,
    };
    progress.finish_and_clear();

    let findings = match findings {
        Ok(findings) => findings,
        Err(error) => {
            let hint = error.advice(flags.ca.is_some());
            eprintln!("error: {error}{hint}");
            return ExitCode::FAILURE;
        }
    };
    if findings.is_empty() {
        eprintln!("error: the server issues no session, so there is none that it could refuse");
        return ExitCode::FAILURE;
    }
    let name = plan.place.server_name.to_str();
    if flags.json {
        cli::show(format_args!(
            "{:#}",
            report::json(&flags.target, &name, &findings)
        ));
    } else {
        cli::show(format_args!("{} as {name}", flags.target));
        cli::show(report::table(&findings));
    }
    let still_accepted = flags.expect_refused && !refused::all(&findings);
    let any_bad = findings.iter().any(|finding| finding.grade == Grade::Bad);
    match still_accepted || (flags.fail_on.is_some() && any_bad) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// The end of standard input counts as a line.
fn wait_for_line() {
    eprintln!("holding sessions: revoke them on the servers, then press Enter");
    let _ = std::io::stdin().lines().next();
}

/// Prepares the survey from the flags, or returns a sentence about what is wrong with them.
async fn prepare(flags: &Flags) -> Result<(Visitor, Plan), String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = trust::verifier(&provider, flags.ca.as_deref(), flags.insecure)?;
    let visitor =
        Visitor::new(provider, verifier, VISIT_LIMIT).map_err(|error| error.to_string())?;

    let (host, port) = split_port(&flags.target, HTTPS)?;
    let server_name = match &flags.servername {
        Some(name) => name.clone(),
        None => server_name(host)?,
    };
    let mut nodes = Vec::new();
    for node in &flags.nodes {
        let (host, port) = split_port(node, port)?;
        nodes.push((node.clone(), resolve(host, port).await?));
    }
    let plan = Plan {
        place: Place {
            address: resolve(host, port).await?,
            server_name,
        },
        nodes,
        wait: flags.wait,
        other_name: flags.other_name.clone(),
    };
    Ok((visitor, plan))
}

/// Splits `HOST:PORT`, or `HOST` alone. An IPv6 address is in brackets.
fn split_port(target: &str, default: u16) -> Result<(&str, u16), String> {
    let (host, port) = match target.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (target, Some(default)),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match (bare, port) {
        (Some(address), Some(port)) => Ok((address, port)),
        (None, Some(port)) if !host.is_empty() && !host.contains(':') => Ok((host, port)),
        _ => Err(format!(
            "{target} is not HOST:PORT, such as example.org:443 or [::1]:443"
        )),
    }
}

async fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    lookup_host((host, port))
        .await
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| format!("{host} has no address; check the name, or give an IP address"))
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| format!("{name} is not a DNS name or IP address, such as example.org"))
}

/// How long one connection may take.
const VISIT_LIMIT: Duration = Duration::from_secs(15);

const HTTPS: u16 = 443;
