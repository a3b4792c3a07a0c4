//! Echo servers, each a process, whose STEKs come from one source: a client returns to another
//! server than it first met.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;
use test_support::Certificates;
use test_support::echo_server::EchoProcess;
#[cfg(not(feature = "redis"))]
use test_support::example;
#[cfg(feature = "redis")]
use test_support::redis::RedisServer;

use crate::visitor::Visitor;

#[test]
fn servers_with_one_secret_resume_each_others_tickets() {
    let servers = Pair::start(&["--stek", "derived:SECRET"]);
    servers.assert_they_share();
    assert_eq!(servers.source(), ["derived"; 2]);
}

#[test]
fn servers_with_the_same_key_files_resume_each_others_tickets() {
    let directory = TempDir::new().unwrap();
    let current = key_file(directory.path(), "current.key", 1);
    let previous = key_file(directory.path(), "previous.key", 101);
    let servers = Pair::start(&["--stek", &format!("file:{current},{previous}")]);
    servers.assert_they_share();
    assert_eq!(servers.source(), ["file"; 2]);
}

#[test]
fn servers_with_one_key_directory_resume_each_others_tickets() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("steks");
    let servers = Pair::start(&["--stek", &format!("dir:{}", directory.display())]);
    servers.assert_they_share();
    assert_eq!(servers.source(), ["directory"; 2]);
}
#[cfg(feature = "redis")]
#[test]
fn servers_with_one_redis_resume_each_others_tickets() {
    let redis = RedisServer::start();
    let source = format!("redis:{}", redis.url());
    let servers = Pair::start(&["--stek", &source, "--kek", "SECRET,OTHER"]);
    servers.assert_they_share();
    assert_eq!(servers.source(), ["redis"; 2]);
}

#[test]
fn servers_with_random_steks_do_not_resume_each_others_tickets() {
    let servers = Pair::start(&[]);
    let visitor = Visitor::new(&servers.certificates.ca());
    for server in &servers.servers {
        assert!(!visitor.visit(server.address()).unwrap());
        assert!(visitor.visit(server.address()).unwrap());
    }
    assert!(!visitor.visit(servers.servers[0].address()).unwrap());
}

#[test]
fn servers_with_different_secrets_do_not_resume_each_others_tickets() {
    let certificates = Certificates::for_names(&["localhost"]);
    let [one, other] = ["SECRET", "OTHER"]
        .map(|variable| start(&certificates, &["--stek", &format!("derived:{variable}")]));
    let visitor = Visitor::new(&certificates.ca());
    assert!(!visitor.visit(one.address()).unwrap());
    assert!(visitor.visit(one.address()).unwrap());
    assert!(!visitor.visit(other.address()).unwrap());
    assert_eq!(other.stop().counted("refused", "unknown key name"), 1);
}

#[test]
fn sigusr1_with_derived_steks_says_why_it_does_not_rotate() {
    let certificates = Certificates::for_names(&["localhost"]);
    let server = start(&certificates, &["--stek", "derived:SECRET"]);
    let visitor = Visitor::new(&certificates.ca());
    assert!(!visitor.visit(server.address()).unwrap());
    let (said, sums) = server.order("USR1");
    assert!(said.starts_with("rotate failed reason="), "{said}");
    assert!(said.contains("rotates by its schedule only"), "{said}");
    assert_eq!(sums.counted("STEKs", "rotations"), 0);
    assert!(visitor.visit(server.address()).unwrap());
}

#[cfg(feature = "redis")]
#[test]
fn servers_with_one_store_resume_each_others_sessions() {
    let redis = RedisServer::start();
    let url = format!("redis:{}", redis.url());
    let servers = Pair::start(&[
        "--resumption",
        "stateful",
        "--early-data",
        "1000",
        "--stek",
        &url,
        "--kek",
        "SECRET",
        "--store",
        &url,
        // However busy this machine is.
        "--store-deadline",
        "5s",
    ]);
    // What a handshake leaves is written behind it, and this machine may be busy.
    servers.assert_they_share_after(Duration::from_millis(200));
    assert_eq!(servers.source(), ["redis"; 2]);
}

#[cfg(feature = "redis")]
#[test]
fn a_server_whose_redis_is_down_starts_on_random_steks() {
    let mut redis = RedisServer::start();
    let source = format!("redis:{}", redis.url());
    redis.stop();
    let certificates = Certificates::for_names(&["localhost"]);
    let server = start(&certificates, &["--stek", &source, "--kek", "SECRET"]);
    let visitor = Visitor::new(&certificates.ca());
    assert!(!visitor.visit(server.address()).unwrap());
    assert!(visitor.visit(server.address()).unwrap());
}

#[cfg(not(feature = "redis"))]
#[test]
fn a_server_without_redis_says_how_to_build_one_with() {
    let output = std::process::Command::new(example("echo_server"))
        .args(["--stek", "redis:redis://127.0.0.1", "--kek", "SECRET"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.contains("add --features redis"), "{errors}");
}

const VARIABLES: [(&str, &str); 2] = [
    ("SECRET", "9c6bb1dd8e8f6c1a7d2e0a6f4b5c3d21"),
    ("OTHER", "e1f20394a5b6c7d8091a2b3c4d5e6f70"),
];

/// Two servers that show the same certificate.
struct Pair {
    certificates: Certificates,
    servers: [EchoProcess; 2],
}

impl Pair {
    fn start(flags: &[&str]) -> Self {
        let certificates = Certificates::for_names(&["localhost"]);
        let servers = [0, 1].map(|_| start(&certificates, flags));
        Self {
            certificates,
            servers,
        }
    }

    /// Clients that met either resume at both, again and again.
    fn assert_they_share(&self) {
        self.assert_they_share_after(Duration::ZERO);
    }

    /// The same, with so long a pause after each visit.
    fn assert_they_share_after(&self, pause: Duration) {
        for tls in [&TLS12, &TLS13] {
            for (first, second) in [(0, 1), (1, 0)] {
                let ca = self.certificates.ca();
                let visitor = Visitor::with(&ca, |options| options.version = tls);
                let visit = |server: usize| {
                    let resumed = visitor.visit(self.servers[server].address()).unwrap();
                    std::thread::sleep(pause);
                    resumed
                };
                assert!(!visit(first));
                for round in 0..3 {
                    assert!(visit(second), "{tls:?}, round {round}");
                    assert!(visit(first), "{tls:?}, round {round}");
                }
            }
        }
    }

    /// The sources that they name.
    fn source(self) -> [String; 2] {
        self.servers.map(|server| {
            let sums = server.stop();
            assert_eq!((sums.full, sums.resumed, sums.failed), (2, 12, 0));
            let words = sums.table.rsplit_once(", source ");
            let (_, from) = words.unwrap_or_else(|| panic!("no source in {}", sums.table));
            assert!(!from.contains("FALLEN BACK"), "{from}");
            from.split(',').map(str::to_owned).next().expect("one word")
        })
    }
}

fn start(certificates: &Certificates, flags: &[&str]) -> EchoProcess {
    let [certificate, key] = [certificates.certificate(), certificates.key()];
    let files = [
        "--cert",
        certificate.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    EchoProcess::with_env(&VARIABLES, &[&files, flags].concat())
}

/// A file as nginx has them: 80 bytes, for its owner alone.
fn key_file(directory: &Path, name: &str, first: u8) -> String {
    let path = directory.join(name);
    let bytes: Vec<u8> = (first..first + 80).collect();
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}
