//! HTTPS with axum whose clients resume, across certificate reloads too, and a page that shows it:
//! `cargo run --release -p axum-example`, then open the address that it prints.

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use clap::{Parser, ValueEnum};
use example_support::{cli, logs};
use metrics_exporter_prometheus::PrometheusBuilder;
use rustls_resumption::{Resumption, Rotation};

use crate::certificate::Certificate;
use crate::demo::Demo;
use crate::visit::{Handshakes, Witness};

mod certificate;
mod demo;
mod page;
mod visit;

/// An HTTPS server whose page shows whether your connection was resumed.
#[derive(Parser)]
#[command(after_help = logs::HELP)]
struct Flags {
    /// Where to listen; port 0 picks one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// The certificate chain; both files are read again when they change, and on SIGHUP
    #[arg(long, value_name = "PEM", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "PEM", requires = "cert")]
    key: Option<PathBuf>,
    /// Who remembers sessions: the client (tickets), or the server (stateful)
    #[arg(long, value_enum, default_value = "tickets")]
    resumption: Mode,
    /// How long each ticket key seals
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    rotate_every: Duration,
    /// How long a ticket opens
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    ticket_lifetime: Duration,
    /// Serve Prometheus metrics at this address
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Tickets,
    Stateful,
}

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(serve).await
}

async fn serve(flags: Flags) -> Result<(), Box<dyn Error>> {
    if let Some(address) = flags.metrics {
        PrometheusBuilder::new()
            .with_http_listener(address)
            .install()
            .map_err(|error| format!("--metrics {address}: {error}"))?;
    }
    let rotation = Rotation::new()
        .interval(flags.rotate_every)
        .ticket_lifetime(flags.ticket_lifetime);
    let resumption = match flags.resumption {
        Mode::Tickets => Resumption::builder().rotation(rotation).build()?,
        Mode::Stateful => Resumption::stateful(100_000)?,
    };
    let certificate = match flags.cert.zip(flags.key) {
        Some((certificate, key)) => Certificate::Files { certificate, key },
        None => Certificate::of_own_making(vec!["localhost".into(), "127.0.0.1".into()])?,
    };
    if let Certificate::Made { ca, .. } = &certificate {
        println!("CA in {}", ca.display());
    }

    let config = demo::config(&certificate, &resumption).map_err(|error| error.to_string())?;
    let tls = RustlsConfig::from_config(Arc::new(config));
    let handshakes = Arc::<Handshakes>::default();
    let acceptor = Witness::new(tls.clone(), resumption.clone(), Arc::clone(&handshakes));
    let demo = Arc::new(Demo::new(resumption, certificate, tls, handshakes));
    tokio::spawn(Arc::clone(&demo).watch_certificate());
    tokio::spawn(Arc::clone(&demo).keep_history());

    let listener = TcpListener::bind(flags.listen)
        .map_err(|error| format!("--listen {}: {error}", flags.listen))?;
    listener.set_nonblocking(true)?;
    println!("listening on https://{}", listener.local_addr()?);
    let service = page::routes(demo).into_make_service_with_connect_info::<SocketAddr>();
    axum_server::from_tcp(listener)?
        .acceptor(acceptor)
        .serve(service)
        .await?;
    Ok(())
}
