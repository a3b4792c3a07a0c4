//! TLS clients of other libraries, each of which resumes in its own way.
//!
//! Each method connects at least twice, has its bytes echoed, and returns of each connection
//! whether it reused a session, as the client tells; `None` if it does not.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::echo_server::read_lines;
use crate::peer::program;

/// Whether each connection of a client reused a session.
pub type Told = Option<Vec<bool>>;

/// A server that shows a certificate for `localhost`.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub address: SocketAddr,
    pub ca: &'a Path,
}

impl Target<'_> {
    /// `openssl s_client`, the second time with the session of the first.
    pub fn openssl(&self, flags: &[&str]) -> Told {
        let directory = TempDir::new().unwrap();
        let session = directory.path().join("session.pem");
        let session = session.to_str().unwrap();
        let first = self.s_client(&[flags, &["-sess_out", session]].concat());
        let second = self.s_client(&[flags, &["-sess_in", session]].concat());
        Some(told(&(first + &second), "New, ", "Reused, "))
    }

    /// TLS 1.3 with one cipher suite.
    pub fn openssl_suite(&self, suite: &str) -> Told {
        self.openssl(&["-tls1_3", "-ciphersuites", suite])
    }

    /// Six connections.
    pub fn openssl_reconnect(&self, version: &str) -> Told {
        let said = self.s_client(&[version, "-reconnect"]);
        Some(told(&said, "New, ", "Reused, "))
    }

    /// One run of `openssl s_client`. Returns what it printed.
    pub fn s_client(&self, flags: &[&str]) -> String {
        succeeded(self.try_s_client(flags))
    }

    /// The same where it may fail.
    pub fn try_s_client(&self, flags: &[&str]) -> Result<String, String> {
        let mut command = Command::new(program("openssl", "openssl"));
        command
            .args(["s_client", "-servername", "localhost"])
            .args(["-verify_return_error", "-connect"])
            .arg(self.address.to_string())
            .arg("-CAfile")
            .arg(self.ca)
            .args(flags);
        converse(&mut command)
    }

    /// `gnutls-cli`, which by itself connects again when it has a session.
    pub fn gnutls(&self, version: &str, priority: &str) -> Told {
        let priority = format!("NORMAL:-VERS-ALL:+VERS-TLS{version}{priority}");
        let mut command = Command::new(program("gnutls-cli", "gnutls-bin"));
        command
            .args(["--resume", "--waitresumption", "--priority", &priority])
            .args(["--sni-hostname", "localhost", "--verify-hostname"])
            .args(["localhost", "--port"])
            .arg(self.address.port().to_string())
            .arg("--x509cafile")
            .arg(self.ca)
            .arg(self.address.ip().to_string());
        let said = succeeded(converse(&mut command));
        Some(told(
            &said,
            "- Handshake was completed",
            "*** This is a resumed session",
        ))
    }

    /// Python's `ssl`, the second time with the session of the first.
    pub fn python(&self, version: &str, options: &str) -> Told {
        let output = Command::new(program("python3", "python3"))
            .args(["-c", PYTHON, version, options])
            .arg(self.address.ip().to_string())
            .arg(self.address.port().to_string())
            .arg(self.ca)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Some(told(
            &String::from_utf8(output.stdout).unwrap(),
            "new",
            "reused",
        ))
    }

    /// `curl`, twice in one run: it keeps the session, not the connection.
    pub fn curl(&self, version: &str) -> Told {
        let url = format!("https://localhost:{}/", self.address.port());
        let resolve = format!("localhost:{}:{}", self.address.port(), self.address.ip());
        let output = Command::new(program("curl", "curl"))
            .args(["--silent", "--show-error", "--tls-max", version])
            .args([&format!("--tlsv{version}"), "--resolve", &resolve])
            // A request that is a response when it is echoed.
            .args(["--request", "HTTP/1.0 200 OK", "--header"])
            .args(["Content-Length: 0", "--header", "Connection: close"])
            .args(["--write-out", "%{http_code} ", "--cacert"])
            .arg(self.ca)
            .args([&url, &url])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "200 200 ");
        None
    }
}

/// Reads from what a client printed which connections were `new` and which `reused` a session.
fn told(said: &str, new: &str, reused: &str) -> Vec<bool> {
    said.lines()
        .filter_map(|line| {
            let is_told = line.starts_with(new) || line.starts_with(reused);
            is_told.then(|| line.starts_with(reused))
        })
        .collect()
}

const PYTHON: &str = r#"
import socket, ssl, sys
version, options, host, port, ca = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
if options:
    context.options |= ssl.Options[options]
session = None
for _ in range(2):
    with socket.create_connection((host, int(port))) as tcp:
        with context.wrap_socket(tcp, server_hostname="localhost", session=session) as tls:
            tls.sendall(b"hello\n")
            assert tls.recv(6) == b"hello\n"
            print("reused" if tls.session_reused else "new")
            session = tls.session
"#;

/// Runs a client that sends what it reads and prints what comes back: says hello, and ends it when
/// that has come back. Returns all that it printed.
fn converse(command: &mut Command) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().expect("it is piped");
    let lines = read_lines(child.stdout.take().expect("it is piped"));
    // If it has failed already, what it printed tells why.
    let _ = stdin.write_all(b"hello\n");
    let mut said = String::new();
    for line in &lines {
        said += &line;
        said.push('\n');
        if line.ends_with("hello") {
            break;
        }
    }
    drop(stdin);
    said.extend(lines.iter().map(|line| line + "\n"));
    let status = child.wait().unwrap();
    match status.success() {
        true => Ok(said),
        false => Err(format!("{command:?}: {status}\n{said}")),
    }
}

fn succeeded(run: Result<String, String>) -> String {
    run.unwrap_or_else(|failed| panic!("{failed}"))
}
