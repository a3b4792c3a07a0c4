//! QUIC with quinn, a server and its client in one run:
//! `cargo run --release -p quinn-example -- stateful`.
//!
//! With tickets, every connection but the first resumes. In stateful mode, the client's request is
//! also sent with its first packet (0-RTT), which saves a round trip. Either way, sessions survive
//! the renewal of the certificate.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use example_support::certificate::{Authority, Identity};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig, VarInt};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::version::TLS13;
use rustls_resumption::Resumption;

/// QUIC connections that resume, one after the other.
#[derive(Parser)]
struct Flags {
    /// Who remembers sessions: the client (tickets), or the server (stateful, with 0-RTT)
    #[arg(value_enum, default_value = "tickets")]
    mode: Mode,
    /// How many connections to make before the certificate is renewed, and after
    #[arg(long, value_name = "N", default_value_t = 3)]
    connections: usize,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    Tickets,
    Stateful,
}

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: &Flags) -> Result<(), Failure> {
    let resumption = match flags.mode {
        Mode::Tickets => Resumption::tickets()?,
        Mode::Stateful => Resumption::stateful(10_000)?,
    };
    let authority = Authority::new("quinn example CA")?;
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Endpoint::server(
        server_config(&authority, &resumption, flags.mode)?,
        loopback,
    )?;
    tokio::spawn(serve(server.clone()));
    let mut client = Endpoint::client(loopback)?;
    client.set_default_client_config(client_config(&authority)?);

    println!("connection  handshake  request sent        0-RTT");
    for number in 1..=2 * flags.connections {
        if number == flags.connections + 1 {
            let renewed = server_config(&authority, &resumption, flags.mode)?;
            server.set_server_config(Some(renewed));
            println!("            -- certificate renewed --");
        }
        let before = resumed(&resumption);
        let early = visit(&client, server.local_addr()?).await?;
        let kind = if resumed(&resumption) > before {
            "resumed"
        } else {
            "full"
        };
        let (sent, early) = match early {
            Some(true) => ("with the first", "accepted"),
            Some(false) => ("after all", "refused"),
            None => ("after the handshake", "-"),
        };
        println!("{number:<10}  {kind:<9}  {sent:<18}  {early}");
    }
    client.close(VarInt::from_u32(0), b"");
    client.wait_idle().await;
    server.close(VarInt::from_u32(0), b"");
    println!("\n{}", resumption.stats());
    Ok(())
}

/// quinn does not expose the kind of a handshake, so ask the counters.
fn resumed(resumption: &Resumption) -> u64 {
    let stats = resumption.stats();
    stats.tickets.opened + stats.cache.hits
}

fn server_config(
    authority: &Authority,
    resumption: &Resumption,
    mode: Mode,
) -> Result<ServerConfig, Failure> {
    let Identity { chain, key } = authority.issue(&["localhost".to_owned()])?;
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    if mode == Mode::Stateful {
        tls.max_early_data_size = u32::MAX; // what QUIC asks for (RFC 9001, section 4.6.1)
    }
    resumption.install(&mut tls, "localhost");
    let crypto = QuicServerConfig::try_from(tls)?;
    Ok(ServerConfig::with_crypto(Arc::new(crypto)))
}

fn client_config(authority: &Authority) -> Result<ClientConfig, Failure> {
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    tls.enable_early_data = true;
    let crypto = QuicClientConfig::try_from(tls)?;
    Ok(ClientConfig::new(Arc::new(crypto)))
}

/// Echoes requests as they arrive: 0-RTT before the handshake is complete.
async fn serve(server: Endpoint) {
    while let Some(incoming) = server.accept().await {
        tokio::spawn(async move {
            let connection = match incoming.accept()?.into_0rtt() {
                Ok((connection, _)) => connection,
                Err(connecting) => connecting.await?,
            };
            while let Ok((mut answer, mut request)) = connection.accept_bi().await {
                answer.write_all(&request.read_to_end(1024).await?).await?;
                answer.finish()?;
            }
            Ok::<_, Failure>(())
        });
    }
}

/// Makes a connection for one request. Returns whether the server accepted it early, if it was sent
/// as early data.
async fn visit(client: &Endpoint, server: SocketAddr) -> Result<Option<bool>, Failure> {
    let connecting = client.connect(server, "localhost")?;
    let (connection, early) = match connecting.into_0rtt() {
        Ok((connection, accepted)) => {
            ask(&connection).await?;
            let accepted = accepted.await;
            // New sessions arrive once the server has completed the handshake: stay until then.
            ask(&connection).await?;
            (connection, Some(accepted))
        }
        Err(connecting) => {
            let connection = connecting.await?;
            ask(&connection).await?;
            (connection, None)
        }
    };
    connection.close(VarInt::from_u32(0), b"");
    Ok(early)
}

async fn ask(connection: &Connection) -> Result<(), Failure> {
    let (mut request, mut answer) = connection.open_bi().await?;
    request.write_all(b"safe to repeat").await?;
    request.finish()?;
    match answer.read_to_end(1024).await?.as_slice() {
        b"safe to repeat" => Ok(()),
        other => Err(format!("answered {other:?}").into()),
    }
}
