//! gRPC by tonic on three nodes that share STEKs: a client's connections resume on each, also after
//! its certificate was renewed. `cargo run --release -p tonic-example`.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_resumption::acceptor::{Incoming, Outcome};
use rustls_resumption::source::DerivedSource;
use rustls_resumption::{Resumption, ResumptionAcceptor};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

type Failure = Box<dyn Error + Send + Sync>;

struct Node {
    address: SocketAddr,
    resumption: Resumption,
    reload: watch::Sender<ResumptionAcceptor>,
}

impl Node {
    async fn start(
        name: usize,
        secret: &[u8],
        made: &CertifiedKey<KeyPair>,
    ) -> Result<Self, Failure> {
        let source = DerivedSource::new(secret)?;
        let resumption = Resumption::builder().stek_source(source).build()?;
        let (reload, current) = watch::channel(acceptor(&resumption, made)?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let incoming = Incoming::new(listener, move || {
            let acceptor = current.borrow().clone();
            acceptor.on_handshake(move |handshake| match handshake.outcome {
                Outcome::Resumed { .. } => println!("node {name}: resumed"),
                _ => println!("node {name}: full"),
            })
        });
        let (_reporter, health) = tonic_health::server::health_reporter();
        let server = Server::builder().add_service(health);
        tokio::spawn(server.serve_with_incoming(incoming));
        Ok(Self {
            address,
            resumption,
            reload,
        })
    }
}

/// For the certificate as it is now.
fn acceptor(
    resumption: &Resumption,
    made: &CertifiedKey<KeyPair>,
) -> Result<ResumptionAcceptor, Failure> {
    let key = made.signing_key.serialize_der();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.try_into()?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    resumption.install(&mut config, "localhost");
    Ok(ResumptionAcceptor::new(config.into()))
}

/// Shows gRPC on three nodes that share keys: the connections of one client, each resumed or not.
#[derive(Parser)]
struct Flags {}

#[tokio::main]
async fn main() -> ExitCode {
    Flags::parse();
    let Err(error) = run().await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn run() -> Result<(), Failure> {
    let _ = default_provider().install_default();
    let mut secret = [0; 32]; // the same on each node
    let random = default_provider().secure_random;
    random.fill(&mut secret).map_err(rustls::Error::from)?;
    let made = rcgen::generate_simple_self_signed(["localhost".into()])?;
    let mut nodes = Vec::new();
    for name in 1..=3 {
        nodes.push(Node::start(name, &secret, &made).await?);
    }
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(made.cert.pem())) // it is its own CA
        .domain_name("localhost");
    let endpoint = Endpoint::from_static("https://localhost").tls_config(tls)?;
    for node in &nodes {
        visit(&endpoint, node.address).await?;
    }
    let renewed = rcgen::generate_simple_self_signed(["localhost".into()])?;
    for node in &nodes {
        node.reload
            .send_replace(acceptor(&node.resumption, &renewed)?);
        visit(&endpoint, node.address).await?;
    }
    Ok(())
}

/// One connection and one call.
async fn visit(endpoint: &Endpoint, address: SocketAddr) -> Result<(), Failure> {
    let connect = service_fn(move |_| async move {
        let tcp = TcpStream::connect(address).await?;
        Ok::<_, io::Error>(TokioIo::new(tcp))
    });
    let channel = endpoint.connect_with_connector(connect).await?;
    HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await?;
    Ok(())
}
