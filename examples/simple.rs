//! A TLS echo server whose clients resume: `cargo run --release --example simple`.

use std::{env, error::Error, fs, net::SocketAddr, process::ExitCode, sync::Arc};

use clap::Parser;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{HandshakeKind, ServerConfig};
use rustls_resumption::Resumption;
use tokio::io::{self, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A TLS echo server whose clients resume.
#[derive(Parser)]
struct Flags {
    /// Where to listen
    #[arg(default_value = "127.0.0.1:8443")]
    address: SocketAddr,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = serve(Flags::parse().address).await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn serve(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()])?;
    let ca = env::temp_dir().join("rustls-resumption-simple.pem");
    // The certificate is its own CA.
    fs::write(&ca, made.cert.pem()).map_err(|error| format!("{}: {error}", ca.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], made.signing_key.into())?;

    // The same handle whenever a configuration is made, so that no reload loses a session.
    Resumption::process()?.install(&mut config, "localhost");

    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("{address}: {error}"))?;
    let address = listener.local_addr()?;
    println!("listening on {address}, CA in {}", ca.display());
    loop {
        let (tcp, peer) = listener.accept().await?;
        let handshake = acceptor.accept(tcp);
        tokio::spawn(async move {
            let tls = handshake.await?;
            let resumed = tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            println!("{peer} {}", if resumed { "resumed" } else { "full" });
            let (mut reader, mut writer) = io::split(tls);
            io::copy(&mut reader, &mut writer).await?;
            writer.shutdown().await
        });
    }
}
