//! A TLS server whose resumption can be seen and stopped by hand:
//!
//! ```text
//! ADMIN_TOKEN=$(openssl rand -hex 16) cargo run --release -p admin-example
//! curl http://127.0.0.1:9443/stats
//! curl -X POST -H "authorization: Bearer $ADMIN_TOKEN" http://127.0.0.1:9443/revoke/KEY_NAME
//! ```

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use example_support::{cli, logs};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_resumption::Resumption;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

mod admin;

/// A TLS server whose resumption can be seen and stopped by hand.
#[derive(Parser)]
#[command(after_help = logs::HELP)]
struct Flags {
    /// Where to serve TLS; port 0 picks one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Where to serve /ready, /stats, /steks and /revoke, in clear: not where strangers can reach it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9443")]
    admin: SocketAddr,
    /// The environment variable with the token that /revoke asks for
    #[arg(long, value_name = "ENVVAR", default_value = "ADMIN_TOKEN")]
    token: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(run).await
}

async fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let Flags {
        listen,
        admin,
        token,
    } = flags;
    let secret = std::env::var(&token).map_err(|error| format!("--token {token}: {error}"))?;
    if secret.len() < 16 {
        return Err(format!(
            "--token {token}: at least 16 characters, such as `openssl rand -hex 16`"
        )
        .into());
    }
    let made = rcgen::generate_simple_self_signed(["localhost".into()])?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], made.signing_key.into())?;
    let resumption = Resumption::tickets()?;
    resumption.install(&mut config, "localhost");

    let bind = async |flag: &str, address: SocketAddr| {
        let bound = TcpListener::bind(address).await;
        bound.map_err(|error| format!("{flag} {address}: {error}"))
    };
    let (tls, http) = (
        bind("--listen", listen).await?,
        bind("--admin", admin).await?,
    );
    println!("listening on {}", tls.local_addr()?);
    println!("admin on http://{}", http.local_addr()?);
    tokio::spawn(serve(
        tls,
        TlsAcceptor::from(Arc::new(config)),
        resumption.clone(),
    ));
    axum::serve(http, admin::routes(resumption, secret)).await?;
    Ok(())
}

/// Says hello to each client, and how its handshake went.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor, resumption: Resumption) {
    loop {
        let Ok((tcp, peer)) = listener.accept().await else {
            continue;
        };
        let accepting = resumption.follow(|| acceptor.accept(tcp));
        tokio::spawn(async move {
            let (mut tls, handshake) = match accepting.await {
                Ok(accepted) => accepted,
                Err(error) => return println!("{peer} {error}"),
            };
            let kind = if handshake.outcome.is_resumed() {
                "resumed"
            } else {
                "full"
            };
            // A client that hangs up is its own business.
            let _ = tls.write_all(format!("{kind}\n").as_bytes()).await;
            let _ = tls.shutdown().await;
        });
    }
}
