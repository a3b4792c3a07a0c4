//! A TLS echo server whose clients resume, also after it was told to reload its certificate by SIGHUP
//! (on Windows Ctrl-Break): `cargo run --release --example simple`.

use std::time::Duration;
use std::{env, error::Error, fs, net::SocketAddr, path::Path, process::ExitCode, sync::Arc};

use clap::Parser;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{HandshakeKind, ServerConfig};
use rustls_resumption::Resumption;
use tokio::io::{self, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio::{select, signal};
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
    let ca = env::temp_dir().join("rustls-resumption-simple.pem");
    let (mut acceptor, mut reload) = (load(&ca)?, reload_signal()?);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("{address}: {error}"))?;
    let address = listener.local_addr()?;
    println!("listening on {address}, CA in {}", ca.display());
    loop {
        let (tcp, peer) = select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    eprintln!("not accepted: {error}");
                    sleep(Duration::from_millis(100)).await; // too many open files, say
                    continue;
                }
            },
            _ = reload.recv() => {
                match load(&ca) {
                    Ok(loaded) => {
                        acceptor = loaded;
                        println!("reloaded");
                    }
                    Err(error) => eprintln!("not reloaded: {error}"),
                }
                continue;
            }
        };
        let handshake = timeout(Duration::from_secs(10), acceptor.accept(tcp));
        tokio::spawn(async move {
            let tls = handshake.await??;
            let resumed = tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            println!("{peer} {}", if resumed { "resumed" } else { "full" });
            let (mut reader, mut writer) = io::split(tls);
            io::copy(&mut reader, &mut writer).await?;
            writer.shutdown().await
        });
    }
}

/// Called at the start, and again at each reload, which here means another certificate. It is its own
/// CA, and written to a file for clients.
fn load(ca: &Path) -> Result<TlsAcceptor, Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()])?;
    fs::write(ca, made.cert.pem()).map_err(|error| format!("{}: {error}", ca.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], made.signing_key.into())?;

    // The same handle each time, so that no reload loses a session.
    Resumption::process()?.install(&mut config, "localhost");

    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(unix)]
fn reload_signal() -> io::Result<signal::unix::Signal> {
    signal::unix::signal(signal::unix::SignalKind::hangup())
}

#[cfg(windows)]
fn reload_signal() -> io::Result<signal::windows::CtrlBreak> {
    signal::windows::ctrl_break()
}
