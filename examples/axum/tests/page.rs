//! The example as its users meet it: the program runs, real TLS clients visit it.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{fs, thread};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedProtocolVersion,
};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// The example, on a port of its own. Ends with this value.
struct Server {
    child: Child,
    address: SocketAddr,
    /// What it says after it began to listen.
    lines: mpsc::Receiver<String>,
    directory: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Server {
    fn start(flags: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a CA");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        write_certificate(directory.path(), &authority);
        let mut child = Command::new(env!("CARGO_BIN_EXE_axum-example"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--cert",
                "cert.pem",
                "--key",
                "key.pem",
            ])
            .args(flags)
            .current_dir(&directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let line = lines.recv_timeout(PATIENCE).unwrap();
        let address = line.strip_prefix("listening on https://").unwrap();
        Self {
            address: address.parse().unwrap(),
            child,
            lines,
            directory,
            authority,
        }
    }

    fn client(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        let builder = builder.with_root_certificates(roots);
        Arc::new(builder.with_no_client_auth())
    }

    fn get(&self, client: &Arc<ClientConfig>, path: &str) -> Answer {
        self.ask(
            client,
            &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        )
    }

    /// One request by a connection of its own, to the end of the answer.
    fn ask(&self, client: &Arc<ClientConfig>, request: &str) -> Answer {
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            kind: tls.handshake_kind().unwrap(),
            certificate: tls.peer_certificates().unwrap()[0].clone(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    fn status(&self, client: &Arc<ClientConfig>) -> Value {
        serde_json::from_str(&self.get(client, "/status").body).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
struct Answer {
    kind: HandshakeKind,
    certificate: CertificateDer<'static>,
    head: String,
    body: String,
}

fn write_certificate(directory: &Path, authority: &CertifiedIssuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    // As careful people do: never half a pair, and the certificate last.
    for (name, text) in [("key", key.serialize_pem()), ("cert", certificate.pem())] {
        let new = directory.join(format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(&new, directory.join(format!("{name}.pem"))).unwrap();
    }
}

#[test]
fn the_page_shows_its_visitor_whether_the_connection_was_resumed() {
    for flags in [&[][..], &["--resumption", "stateful"]] {
        let server = Server::start(flags);
        for (version, name) in [(&TLS13, "TLS 1.3"), (&TLS12, "TLS 1.2")] {
            let client = server.client(version);
            for (kind, verdict) in [
                (HandshakeKind::Full, "hero full"),
                (HandshakeKind::Resumed, "hero resumed"),
                (HandshakeKind::Resumed, "hero resumed"),
            ] {
                let page = server.get(&client, "/");
                assert_eq!(page.kind, kind);
                assert!(page.head.starts_with("HTTP/1.1 200 OK"), "{}", page.head);
                assert!(page.body.contains(verdict));
                assert!(
                    page.body.contains(&format!(r#""version":"{name}""#)),
                    "{name}"
                );
                assert!(!page.body.contains("{{"), "nothing was left out");
            }
        }
    }
}

#[test]
fn the_page_loads_nothing_from_elsewhere() {
    let server = Server::start(&[]);
    let page = server.get(&server.client(&TLS13), "/").body;
    assert!(!page.contains("http://") && !page.contains("https://"));
    assert!(!page.contains(" src=") && !page.contains("@import"));
}

#[test]
fn a_renewed_certificate_is_served_and_sessions_are_kept() {
    let server = Server::start(&[]);
    let returning = server.client(&TLS13);
    let before = server.get(&returning, "/status");
    assert_eq!(before.kind, HandshakeKind::Full);
    write_certificate(server.directory.path(), &server.authority);
    let said = server.lines.recv_timeout(PATIENCE).unwrap();
    assert_eq!(said, "certificate renewed, sessions kept");
    let newcomer = server.get(&server.client(&TLS13), "/status");
    assert_ne!(newcomer.certificate, before.certificate);
    assert_eq!(
        server.get(&returning, "/status").kind,
        HandshakeKind::Resumed
    );
    assert_eq!(server.status(&returning)["certificates"], 2);
}

#[test]
fn the_buttons_rotate_renew_and_revoke_but_not_for_other_pages() {
    let server = Server::start(&[]);
    let client = server.client(&TLS13);
    let act = |what: &str, header: &str| {
        let request = format!(
            "POST /do/{what} HTTP/1.1\r\nhost: localhost\r\n{header}content-length: 0\r\n\r\n"
        );
        server.ask(&client, &request)
    };
    let ours = "x-axum-example: 1\r\n";
    assert!(act("revoke", "").head.starts_with("HTTP/1.1 403"));
    let before = server.status(&client);
    for what in ["rotate", "renew"] {
        assert!(act(what, ours).head.starts_with("HTTP/1.1 204"), "{what}");
        assert_eq!(
            server.get(&client, "/").kind,
            HandshakeKind::Resumed,
            "{what}"
        );
    }
    assert_ne!(
        server.status(&client)["ring"]["active"],
        before["ring"]["active"]
    );
    assert!(act("revoke", ours).head.starts_with("HTTP/1.1 204"));
    assert_eq!(server.get(&client, "/").kind, HandshakeKind::Full);
    let why = &server.status(&client)["why"];
    assert_eq!(why[0][0], "ticket: revoked");
    assert!(act("dance", ours).head.starts_with("HTTP/1.1 404"));
}

#[test]
fn curl_resumes_within_one_run() {
    let server = Server::start(&[]);
    let ca = server.directory.path().join("ca.pem");
    fs::write(&ca, server.authority.pem()).unwrap();
    let url = format!("https://localhost:{}/status", server.address.port());
    let curl = Command::new("curl")
        .args(["--silent", "--show-error", "--ipv4", "--cacert"])
        .arg(&ca)
        .args([&url, &url])
        .output()
        .expect("curl (Debian's package of that name)");
    let text = String::from_utf8(curl.stdout).unwrap();
    assert!(
        curl.status.success(),
        "{}",
        String::from_utf8_lossy(&curl.stderr)
    );
    assert!(text.contains(r#""resumed":true,"suite""#), "{text}");
}

#[test]
fn metrics_are_served_under_the_names_that_the_manual_lists() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = Server::start(&["--metrics", &free.to_string()]);
    let client = server.client(&TLS13);
    for _ in 0..3 {
        server.get(&client, "/");
    }
    let manual = include_str!("../../../src/docs/operating.md");
    let listed = |name: &str| manual.contains(&format!("| `{name}` |"));
    let mut text = String::new();
    // Published within a second.
    for _ in 0..300 {
        text = scrape(free);
        if text.contains("\nresumption_tickets_opened_total 2\n") {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert!(
        text.contains("\nresumption_tickets_opened_total 2\n"),
        "{text}"
    );
    assert!(text.contains("\n# HELP resumption_tickets_sealed_total Tickets sealed.\n"));
    assert!(text.contains("\n# TYPE resumption_stek_keys gauge\n"));
    assert!(text.contains("\nresumption_tickets_refused_total{reason=\"forged\"} 0\n"));
    let names: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(names.len() > 20);
    for name in names {
        assert!(listed(name), "{name}");
    }
}

fn scrape(address: SocketAddr) -> String {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    tcp.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    tcp.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_bad_certificate_file_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_axum-example"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--cert",
            "no-such.pem",
            "--key",
            "no-such.key",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: --cert no-such.pem: "), "{error}");
}

#[test]
fn a_certificate_file_without_a_certificate_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let junk = directory.path().join("junk.pem");
    fs::write(&junk, "junk").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_axum-example"))
        .args(["--listen", "127.0.0.1:0", "--key", "no-such.key", "--cert"])
        .arg(&junk)
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let expected = format!("error: --cert {}: no certificate in it", junk.display());
    assert!(error.starts_with(&expected), "{error}");
}

/// The address of a CA of its own making is printed, and its file is a certificate.
#[test]
fn without_files_it_makes_a_certificate_and_says_where_the_ca_is() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_axum-example"))
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let read = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line);
    child.kill().unwrap();
    child.wait().unwrap();
    read.unwrap();
    let path = line.trim_end().strip_prefix("CA in ").unwrap();
    CertificateDer::from_pem_file(path).unwrap();
}
