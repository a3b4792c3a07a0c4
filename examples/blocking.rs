//! A TLS echo server of threads, without an async runtime:
//! `cargo run --release --example blocking`.

use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, thread};

use clap::Parser;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};
use rustls_resumption::Resumption;

/// How long a client may be silent before it is disconnected.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A TLS echo server of threads whose clients resume.
#[derive(Parser)]
struct Flags {
    /// Where to listen; port 0 picks a free one
    #[arg(default_value = "127.0.0.1:8443")]
    address: SocketAddr,
}

fn main() -> ExitCode {
    let Err(error) = run(Flags::parse().address) else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()])?;
    let ca = env::temp_dir().join("rustls-resumption-blocking.pem");
    // The certificate is its own CA.
    fs::write(&ca, made.cert.pem()).map_err(|error| format!("{}: {error}", ca.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], made.signing_key.into())?;

    Resumption::tickets()?.install(&mut config, "localhost");

    let config = Arc::new(config);
    let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
    let address = listener.local_addr()?;
    println!("listening on {address}, CA in {}", ca.display());
    loop {
        let (tcp, peer) = listener.accept()?;
        let config = Arc::clone(&config);
        thread::spawn(move || {
            if let Err(error) = serve(config, tcp, peer) {
                println!("{peer} {error}");
            }
        });
    }
}

fn serve(config: Arc<ServerConfig>, tcp: TcpStream, peer: SocketAddr) -> io::Result<()> {
    tcp.set_read_timeout(Some(TIMEOUT))?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(connection, tcp);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    let resumed = tls.conn.handshake_kind() == Some(HandshakeKind::Resumed);
    println!("{peer} {}", if resumed { "resumed" } else { "full" });
    let mut buffer = [0; 4096];
    loop {
        match tls.read(&mut buffer)? {
            0 => break,
            len => tls.write_all(&buffer[..len])?,
        }
    }
    tls.conn.send_close_notify();
    tls.flush()
}
