//! A TLS echo server for TLS 1.2 and 1.3 whose clients resume, and that reports for each connection
//! whether it was resumed.
//!
//! ```text
//! cargo run --release --example echo_server -- --demo
//! cargo run --release --example echo_server
//! cargo run --release --example echo_server -- --resumption stateful --early-data 16384 --log line
//! SECRET=$(openssl rand -hex 32) cargo run --release --example echo_server -- --stek derived:SECRET
//! ```
//!
//! It prints `metrics URL` if it serves metrics, `ca FILE` if it made its certificate itself,
//! `listening ADDR` for each listener, `ready`, and then a line for each connection. SIGHUP reloads
//! certificate, key and client CAs and keeps every session, SIGUSR1 rotates the STEK, SIGUSR2
//! revokes everything; each then prints a line `stats ...` with totals, and
//! [`Stats`](rustls_resumption::Stats). SIGINT and SIGTERM let connections finish for some seconds,
//! print the same and end the server.
//!
//! The exit status is 0, or 2 if a flag or a file has to be corrected.

use std::future::pending;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use example_support::{cli, client};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use flags::{Flags, LogStyle};
use log::Log;
use output::Output;
use serve::Server;
use setup::Setup;
use signals::{Request, Signals};

mod certificate;
mod demo;
mod flags;
mod hints;
mod log;
mod metrics;
mod output;
mod serve;
mod setup;
mod signals;
mod steks;
mod storage;
mod witness;

/// How long open connections may continue once the server is asked to stop.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait at the end for standard output to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let flags: Flags = match cli::parse() {
        Ok(flags) => flags,
        Err(status) => return status,
    };
    // For TLS to Redis.
    #[cfg(feature = "redis")]
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = flags
        .check()
        .and_then(|()| runtime(flags.threads))
        .and_then(|runtime| match flags.demo {
            true => runtime.block_on(demo::run()),
            false => {
                let outcome = runtime.block_on(run(flags));
                // Does not wait for connections that outlived their grace.
                runtime.shutdown_background();
                outcome.map(|()| ExitCode::SUCCESS)
            }
        });
    outcome.unwrap_or_else(cli::refuse)
}

fn runtime(threads: Option<u16>) -> Result<Runtime, String> {
    let mut builder = match threads {
        Some(1) => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if let Some(threads) = threads {
        builder.worker_threads(threads.into());
    }
    builder
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}; try fewer --threads"))
}

/// Serves until a signal says to stop.
async fn run(flags: Flags) -> Result<(), String> {
    let metrics = match flags.metrics {
        Some(address) => Some(metrics::serve(address).await?),
        None => None,
    };
    let setup = Arc::new(Setup::new(flags.clone())?);
    let config = setup.server_config()?;
    let listeners = serve::bind(&flags.listen).await?;
    let mut signals = Signals::new().map_err(|error| format!("no signals: {error}"))?;
    let output = Output::new().map_err(|error| format!("no thread for output: {error}"))?;
    let log = Log::new(output, flags.log, flags.quiet);
    let server = Server::new(config, flags.handshake_timeout, log);
    let server = Arc::new(match flags.store {
        Some(_) => server.with_store(),
        None => server,
    });
    if let Some(address) = metrics {
        server
            .log
            .say(format_args!("metrics http://{address}/metrics"));
    }
    announce(&server.log, &flags, &setup, &listeners);

    // The receiver ends when the last connection does.
    let (open, mut connections) = mpsc::channel(1);
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(Arc::clone(&server).accept(listener, open.clone()));
    }
    drop(open);

    loop {
        let request = tokio::select! {
            () = until_due(flags.stats_every) => None,
            request = signals.next() => Some(request),
        };
        match request {
            Some(Request::Stop) => break,
            Some(request) => obey(request, &setup, &server).await,
            None => {}
        }
        server.log.stats(setup.storage.stats());
    }

    accepting.shutdown().await;
    tokio::select! {
        // A second signal ends the wait.
        () = until_stop(&mut signals) => {}
        _ = timeout(GRACE, connections.recv()) => {}
    }
    server.log.stats(setup.storage.stats());
    server.log.flush(LAST_WORDS);
    Ok(())
}

/// Waits that long, or forever.
async fn until_due(every: Option<Duration>) {
    match every {
        Some(every) => sleep(every).await,
        None => pending().await,
    }
}

async fn until_stop(signals: &mut Signals) {
    while signals.next().await != Request::Stop {}
}

fn announce(log: &Log, flags: &Flags, setup: &Setup, listeners: &[TcpListener]) {
    let ca = setup.ca();
    if let Some(ca) = &ca {
        log.say(format_args!("ca {}", ca.display()));
    }
    let addresses: Vec<_> = listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .collect();
    for address in &addresses {
        log.say(format_args!("listening {address}"));
    }
    log.say("ready");
    if flags.log == LogStyle::Text && !flags.quiet {
        log.say(hints::hints(flags, &addresses, ca.as_deref()));
    }
}

/// Does what a signal asks for, and logs the outcome.
async fn obey(request: Request, setup: &Arc<Setup>, server: &Arc<Server>) {
    let (what, done) = {
        let setup = Arc::clone(setup);
        let server = Arc::clone(server);
        // Reading files, or a slow STEK source, must not hold up handshakes.
        match request {
            Request::Reload => (
                "reload",
                spawn_blocking(move || setup.server_config().map(|config| server.reload(config))),
            ),
            Request::RevokeAll => ("revoke", spawn_blocking(move || setup.storage.revoke_all())),
            Request::Rotate => ("rotate", spawn_blocking(move || setup.storage.rotate())),
            Request::Stop => return,
        }
    };
    let outcome = done.await.unwrap_or_else(|error| Err(error.to_string()));
    let outcome = match request {
        Request::Reload => {
            outcome.map_err(|reason| format!("{reason} (the previous certificate stays in use)"))
        }
        _ => outcome,
    };
    server.log.done(what, outcome);
}
