//! Commands to paste into another terminal.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use rustls::ProtocolVersion;

use crate::flags::{ClientAuth, Flags};

/// Commands for the server that listens at `addresses`.
pub(crate) fn hints(flags: &Flags, addresses: &[SocketAddr], ca: Option<&Path>) -> String {
    let mut text = String::new();
    let Some(address) = addresses.first().copied().map(reachable) else {
        return text;
    };
    let trusted = ca.map_or_else(|| "YOUR_CA.pem".to_owned(), |ca| ca.display().to_string());
    let session = std::env::temp_dir().join(format!("session-{}.pem", address.port()));
    let session = session.display();
    let client_certificate = match &flags.client_ca {
        Some(_) if flags.client_auth == ClientAuth::Optional => "",
        Some(_) => " -cert YOUR_CLIENT.pem -key YOUR_CLIENT_KEY.pem",
        None => "",
    };
    let connect = format!(
        "openssl s_client -connect {address} -servername localhost -CAfile {trusted}\
         {client_certificate}"
    );
    // The client must stay for a moment to receive the ticket.
    writeln!(
        text,
        "
A full handshake, then one that resumes (`New` and `Reused` in what it prints):

  sleep 1 | {connect} -sess_out {session}
  sleep 1 | {connect} -sess_in {session}"
    )
    .expect("a String takes all");
    // echo_client has no client certificate.
    if flags.client_ca.is_none() {
        writeln!(text, "\nA thousand of each version:\n").expect("a String takes all");
        for version in flags.tls.versions() {
            let (version, early) = match version.version {
                ProtocolVersion::TLSv1_2 => ("1.2", 0),
                _ => ("1.3", flags.early_data.min(1_000)),
            };
            let early = match early {
                0 => String::new(),
                bytes => format!(" --early-data {bytes}"),
            };
            writeln!(
                text,
                "  cargo run --release --example echo_client -- --connect {address} \
                 --ca {trusted} --tls {version} --count 1000{early}"
            )
            .expect("a String takes all");
        }
    }
    let pid = std::process::id();
    write!(
        text,
        "
kill -HUP {pid} reloads the certificate, -USR1 rotates the STEK, -USR2 revokes all, -TERM ends
"
    )
    .expect("a String takes all");
    text
}

/// The address to which a client on this machine connects.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}
