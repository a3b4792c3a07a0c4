//! A TLS echo server for TLS 1.2 and 1.3 whose clients resume, and that reports for each connection
//! whether it was resumed.
//!
//! ```text
//! cargo run --release --example echo_server -- --demo
//! cargo run --release --example echo_server
//! cargo run --release --example echo_server -- --resumption stateful --early-data 16384
//! SECRET=$(openssl rand -hex 32) cargo run --release --example echo_server -- --stek derived:SECRET
//! ```
//!
//! It prints `metrics URL` if it serves metrics, `ca FILE` if it made its certificate itself,
//! `listening ADDR`, `ready`, and then a line for each connection. SIGHUP reloads certificate, key
//! and client CAs and keeps every session, SIGUSR1 rotates the STEK, SIGUSR2 revokes everything;
//! each then prints a line `stats ...` with totals, and [`Stats`](rustls_resumption::Stats). SIGINT
//! and SIGTERM let connections finish for some seconds, print the same and end the server.
//!
//! Clients for it, in another terminal:
//!
//! ```text
//! cargo run --release --example echo_client -- --connect ADDR --ca FILE --count 1000
//! sleep 1 | openssl s_client -connect ADDR -servername localhost -CAfile FILE -sess_out session.pem
//! sleep 1 | openssl s_client -connect ADDR -servername localhost -CAfile FILE -sess_in session.pem
//! ```
//!
//! The exit status is 0, or 2 if a flag or a file has to be corrected.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use example_support::{cli, client, logs};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use flags::Flags;
use log::Log;
use serve::Server;
use setup::Setup;
use signals::{Request, Signals};

mod certificate;
mod demo;
mod flags;
mod log;
mod metrics;
mod serve;
mod setup;
mod signals;
mod steks;
mod storage;

/// How long open connections may continue once the server is asked to stop.
const GRACE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let flags: Flags = match cli::parse() {
        Ok(flags) => flags,
        Err(status) => return status,
    };
    logs::show();
    // For TLS to Redis.
    #[cfg(feature = "redis")]
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match (flags.check(), flags.demo) {
        (Err(wrong), _) => Err(wrong),
        (Ok(()), true) => demo::run().await,
        (Ok(()), false) => run(flags).await.map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(cli::refuse)
}

/// Serves until a signal says to stop.
async fn run(flags: Flags) -> Result<(), String> {
    let metrics = match flags.metrics {
        Some(address) => Some(metrics::serve(address).await?),
        None => None,
    };
    let setup = Arc::new(Setup::new(flags.clone())?);
    let config = setup.server_config()?;
    let (listener, address) = serve::bind(flags.listen).await?;
    let mut signals = Signals::new().map_err(|error| format!("no signals: {error}"))?;
    let server = Server::new(config, flags.handshake_timeout, Log::default())
        .following(setup.storage.ours().ok().cloned());
    let server = Arc::new(match flags.store {
        Some(_) => server.with_store(),
        None => server,
    });
    if let Some(address) = metrics {
        cli::show(format_args!("metrics http://{address}/metrics"));
    }
    if let Some(ca) = setup.ca() {
        cli::show(format_args!("ca {}", ca.display()));
    }
    cli::show(format_args!("listening {address}\nready"));

    // The receiver ends when the last connection does.
    let (open, mut connections) = mpsc::channel(1);
    let accepting = tokio::spawn(Arc::clone(&server).accept(listener, open));
    loop {
        match signals.next().await {
            Request::Stop => break,
            request => obey(request, &setup, &server).await,
        }
        server.log.stats(setup.storage.stats());
    }

    accepting.abort();
    tokio::select! {
        // A second signal ends the wait.
        () = until_stop(&mut signals) => {}
        _ = timeout(GRACE, connections.recv()) => {}
    }
    server.log.stats(setup.storage.stats());
    Ok(())
}

async fn until_stop(signals: &mut Signals) {
    while signals.next().await != Request::Stop {}
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
    cli::show(match outcome {
        Ok(()) => format!("{what} ok"),
        Err(reason) => format!("{what} failed reason={reason:?}"),
    });
}
