//! How an FTPS server tells that a data connection is of the client of its control connection: it
//! must resume the same session. `cargo run --example ftps` lets two clients try.

use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::Parser;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use rustls_resumption::Resumption;
use rustls_resumption::acceptor::Handshake;

/// Shows how an FTPS server tells that a data connection is of the client of its control connection.
#[derive(Parser)]
struct Flags {}

fn main() -> ExitCode {
    Flags::parse();
    let Err(error) = run() else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run() -> Result<(), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".into()])?;
    let certificate: CertificateDer<'static> = made.cert.into();
    let resumption = Resumption::builder().session_lineage().build()?;
    let server = server(&resumption, certificate.clone(), made.signing_key.into())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;

    // Each client has a store of sessions of its own. The second one has no control connection.
    let (alice, mallory) = (client(&certificate)?, client(&certificate)?);
    let visits = thread::spawn(move || {
        [&alice, &alice, &mallory].map(|client| visit(client, TcpStream::connect(address)?))
    });

    let control = accept(&resumption, &server, listener.accept()?.0)?;
    println!("control connection: {:?}", control.outcome);
    for client in ["its client", "another client"] {
        let data = accept(&resumption, &server, listener.accept()?.0)?;
        // A lineage is there whenever a session is: two that are missing prove nothing.
        let is_same = data.lineage.is_some() && data.lineage == control.lineage;
        let verdict = if is_same { "accepted" } else { "refused" };
        println!("data connection of {client}: {verdict}");
    }
    for visited in visits.join().map_err(|_| "a client panicked")? {
        visited?;
    }
    Ok(())
}

fn server(
    resumption: &Resumption,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    resumption.install(&mut config, "localhost");
    Ok(Arc::new(config))
}

/// Serves a connection, and returns what happened in its handshake. (A server would first compare,
/// then serve.)
fn accept(
    resumption: &Resumption,
    server: &Arc<ServerConfig>,
    mut tcp: TcpStream,
) -> Result<Handshake, Box<dyn Error>> {
    let mut connection = ServerConnection::new(Arc::clone(server))?;
    let ((), handshake) = resumption.follow_blocking(|| {
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp)?;
        }
        io::Result::Ok(())
    })?;
    let mut tls = StreamOwned::new(connection, tcp);
    tls.write_all(b"220 ready\r\n")?;
    tls.conn.send_close_notify();
    tls.flush()?;
    Ok(handshake)
}

fn client(certificate: &CertificateDer<'static>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Reads to the end, so that the session arrives.
fn visit(client: &Arc<ClientConfig>, tcp: TcpStream) -> io::Result<()> {
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::clone(client), name).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(connection, tcp);
    tls.read_to_end(&mut Vec::new()).map(drop)
}
