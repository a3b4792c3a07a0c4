//! Other TLS servers, each on a loopback port of its own.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::peer::{Peer, program};
use crate::{Certificates, free_address};

/// A server of somebody else's making. It ends with this value.
pub struct Server {
    pub address: SocketAddr,
    // Dropped in this order: first the program, then what it reads.
    _peer: Peer,
    _directory: Option<TempDir>,
}

/// `openssl s_server`, one connection at a time, for TLS 1.2 and 1.3 unless `flags` say otherwise.
pub fn openssl(certificates: &Certificates, flags: &[&str]) -> Server {
    let address = free_address();
    let peer = Peer::listening(
        Command::new(program("openssl", "openssl"))
            .args(["s_server", "-quiet", "-accept", &address.to_string()])
            .arg("-cert")
            .arg(certificates.certificate())
            .arg("-key")
            .arg(certificates.key())
            .args(flags),
        address,
    );
    Server {
        address,
        _peer: peer,
        _directory: None,
    }
}

/// `nginx` for TLS 1.2 and 1.3, with `directives` in its `server` block.
pub fn nginx(certificates: &Certificates, directives: &str) -> Server {
    let nginx = program("nginx", "nginx");
    let address = free_address();
    let directory = TempDir::new().unwrap();
    let certificate = certificates.certificate();
    let key = certificates.key();
    let configuration = format!(
        "daemon off;
         master_process off;
         pid nginx.pid;
         events {{}}
         http {{
             access_log off;
             client_body_temp_path .;
             proxy_temp_path .;
             fastcgi_temp_path .;
             uwsgi_temp_path .;
             scgi_temp_path .;
             server {{
                 listen {address} ssl;
                 ssl_protocols TLSv1.2 TLSv1.3;
                 ssl_certificate {};
                 ssl_certificate_key {};
                 {directives}
                 location / {{ return 204; }}
             }}
         }}",
        certificate.display(),
        key.display(),
    );
    let file = directory.path().join("nginx.conf");
    fs::write(&file, configuration).unwrap();
    let peer = Peer::listening(
        Command::new(nginx)
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(file)
            .args(["-e", "stderr"]),
        address,
    );
    Server {
        address,
        _peer: peer,
        _directory: Some(directory),
    }
}
