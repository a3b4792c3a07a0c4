//! The small examples, as programs, visited by real clients.

use std::io::{BufRead, BufReader, Lines};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use example_support::client::{Client, ClientOptions, read_roots};
use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;
use test_support::{example, free_address};

use crate::visitor::Visitor;

/// A program that runs until this value is dropped.
struct Running(Child, Lines<BufReader<ChildStdout>>);

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self(child, lines)
    }

    fn line(&mut self) -> String {
        self.1.next().unwrap().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
#[test]
fn the_simple_server_reloads_its_certificate_and_keeps_every_session() {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(example("simple"));
    let mut server = Running::start(command.arg("127.0.0.1:0").env("TMPDIR", folder.path()));
    let greeting = server.line();
    let (address, ca) = greeting.split_once(", CA in ").unwrap();
    let address = address.trim_start_matches("listening on ").parse().unwrap();
    let client = |version| Visitor::with(Path::new(ca), |options| options.version = version);
    let (returning, newcomers) = ([&TLS13, &TLS12].map(client), client(&TLS13));
    for visitor in &returning {
        assert!(!visitor.visit(address).unwrap());
    }
    let hangup = Command::new("kill")
        .args(["-HUP", &server.0.id().to_string()])
        .status();
    assert!(hangup.unwrap().success());
    while server.line() != "reloaded" {}
    for visitor in &returning {
        assert!(visitor.visit(address).unwrap());
    }
    // Whoever has no session is shown the new certificate.
    assert!(newcomers.visit(address).unwrap_err().is_about_certificate());
    assert!(!client(&TLS13).visit(address).unwrap());
}

#[test]
fn the_blocking_server_echoes_and_resumes_in_both_versions() {
    let address = free_address();
    let mut command = Command::new(example("blocking"));
    let mut server = Running::start(command.arg(address.to_string()));
    let greeting = server.line();
    let ca = greeting.split("CA in ").nth(1).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for version in [&TLS13, &TLS12] {
        let mut options = ClientOptions::new(vec![address], read_roots(Path::new(ca)).unwrap());
        options.version = version;
        let mut worker = Client::new(options).unwrap().worker();
        for word in ["full", "resumed", "resumed"] {
            let outcome = runtime.block_on(worker.echo()).unwrap();
            assert_eq!(outcome.handshake.resumed, word == "resumed");
            let line = server.line();
            assert!(line.ends_with(word), "{line}");
        }
    }
}

#[test]
fn a_data_connection_must_resume_its_control_connections_session() {
    let output = Command::new(example("ftps")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("control connection: NotOffered"), "{said}");
    let verdicts =
        "data connection of its client: accepted\ndata connection of another client: refused\n";
    assert!(said.ends_with(verdicts), "{said}");
}

#[test]
fn every_example_says_what_it_is_for() {
    for name in [
        "blocking",
        "echo_client",
        "echo_server",
        "ftps",
        "memcached",
        "mtls_vhosts",
        "simple",
    ] {
        let output = Command::new(example(name)).arg("--help").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{name}: {said}");
        assert!(said.contains("Usage: "), "{name}: {said}");
    }
}

#[test]
fn what_has_to_be_corrected_is_told_in_one_line_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for program in ["simple", "blocking"] {
        let said = |flags: &[&str], folder: &str| {
            let mut command = Command::new(example(program));
            let output = command.args(flags).env("TMPDIR", folder).output().unwrap();
            assert!(!output.status.success());
            String::from_utf8(output.stderr).unwrap()
        };
        let folder = std::env::temp_dir().display().to_string();
        let told = said(&[&taken], &folder);
        let expected = format!("error: {taken}: Address already in use");
        assert!(
            told.starts_with(&expected) && told.lines().count() == 1,
            "{told}"
        );
        let told = said(&["127.0.0.1:0"], "/nonexistent");
        assert!(
            told.starts_with("error: /nonexistent/rustls-resumption-"),
            "{told}"
        );
        assert!(said(&["nowhere"], &folder).contains("invalid value 'nowhere'"));
    }
}

#[test]
fn nothing_crosses_between_the_virtual_hosts() {
    let output = Command::new(example("mtls_vhosts")).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{table}");
    assert!(!table.contains("WRONG"), "{table}");
    let resumed = table.lines().filter(|row| row.ends_with("resumed")).count();
    let refused = table.lines().filter(|row| row.ends_with("refused")).count();
    assert_eq!((resumed, refused), (14, 12), "{table}");
}
