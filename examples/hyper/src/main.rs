//! HTTP/1.1 and HTTP/2 by hyper over TLS whose clients resume:
//! `cargo run --release -p hyper-example`.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use clap::Parser;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_resumption::{Resumption, ResumptionAcceptor};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// HTTP/1.1 and HTTP/2 over TLS whose clients resume; answers with the kind of the handshake.
#[derive(Parser)]
struct Flags {
    /// Where to listen; port 0 picks a free one
    #[arg(default_value = "127.0.0.1:8443")]
    address: SocketAddr,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run(Flags::parse().address).await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn run(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()])?;
    let ca = env::temp_dir().join("hyper-example.pem");
    // The certificate is its own CA.
    fs::write(&ca, made.cert.pem()).map_err(|error| format!("{}: {error}", ca.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], made.signing_key.into())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

    let resumption = Resumption::tickets()?;
    resumption.install(&mut config, "localhost");

    // Replaces tokio-rustls's `TlsAcceptor`, which works as well, but does not carry sessions'
    // ages.
    let acceptor = ResumptionAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("{address}: {error}"))?;
    let address = listener.local_addr()?;
    println!("listening on {address}, try:");
    let twice = format!("https://{address} https://{address}");
    let ca = ca.display();
    println!("curl --cacert {ca} --http1.1 -H 'connection: close' {twice}");
    loop {
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("not accepted: {error}");
                sleep(Duration::from_millis(100)).await; // too many open files, say
                continue;
            }
        };
        let (acceptor, resumption) = (acceptor.clone(), resumption.clone());
        tokio::spawn(async move {
            if let Err(error) = serve(acceptor, tcp, peer, resumption).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

async fn serve(
    acceptor: ResumptionAcceptor,
    tcp: TcpStream,
    peer: SocketAddr,
    resumption: Resumption,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let accepting = resumption.follow(|| acceptor.accept(tcp));
    let (tls, handshake) = timeout(HANDSHAKE_TIMEOUT, accepting).await??;
    eprintln!("{peer} {handshake}"); // the access log
    let kind = match handshake.outcome.is_resumed() {
        true => "resumed",
        false => "full",
    };
    let service = service_fn(|_request| {
        let text = format!("handshake     {kind}\n{}\n", resumption.stats());
        async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text)))) }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    server.serve_connection(TokioIo::new(tls), service).await
}
