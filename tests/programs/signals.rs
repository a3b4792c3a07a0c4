//! What `echo_server` does when it is told to: reload, rotate, revoke, end.

use std::fs;
use std::path::PathBuf;

use example_support::client::ClientOptions;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;
use test_support::Certificates;
use test_support::echo_server::EchoProcess;

use crate::visitor::Visitor;

#[test]
fn a_reload_shows_the_new_certificate_and_keeps_every_session() {
    let (first, second) = (certificates(), certificates());
    for mode in ["tickets", "stateful"] {
        let files = Files::of(&first);
        let server = files.start(&["--resumption", mode]);
        let returning = Visitor::new(&first.ca());
        assert!(!returning.visit(server.address()).unwrap());

        files.put(&second);
        let (said, _) = server.order("HUP");
        assert_eq!(said, "reload ok");
        assert!(returning.visit(server.address()).unwrap(), "{mode}");
        // Those without a session see the new certificate.
        let distrust = Visitor::new(&first.ca()).visit(server.address());
        assert!(distrust.unwrap_err().is_about_certificate());
        assert!(!Visitor::new(&second.ca()).visit(server.address()).unwrap());
        let sums = server.stop();
        assert_eq!((sums.full, sums.resumed, sums.failed), (2, 1, 1));
    }
}

#[test]
fn a_bad_new_file_keeps_the_old_certificate_and_says_so() {
    let certificates = certificates();
    let files = Files::of(&certificates);
    let server = files.start(&[]);
    let returning = Visitor::new(&certificates.ca());
    assert!(!returning.visit(server.address()).unwrap());

    let other = self::certificates();
    type Change = fn(&Files, &Certificates);
    let changes: [(&str, Change); 3] = [
        ("nothing of the kind in it", |files, _| {
            fs::write(files.certificate(), "nonsense").unwrap();
        }),
        ("KeyMismatch", |files, other| {
            fs::copy(other.certificate(), files.certificate()).unwrap();
        }),
        ("No such file", |files, _| {
            fs::remove_file(files.key()).unwrap();
        }),
    ];
    for (why, change) in changes {
        change(&files, &other);
        let (said, sums) = server.order("HUP");
        assert!(said.starts_with("reload failed reason="), "{said}");
        assert!(
            said.contains(why) && said.contains("stays in use"),
            "{said}"
        );
        assert_eq!(sums.failed, 0);
        assert!(returning.visit(server.address()).unwrap());
        let newcomer = Visitor::new(&certificates.ca());
        assert!(!newcomer.visit(server.address()).unwrap());
    }
}

#[test]
fn a_generated_certificate_is_reloaded_too() {
    let server = EchoProcess::start(&[]);
    let ca = server.ca().to_owned();
    let returning = Visitor::new(&ca);
    assert!(!returning.visit(server.address()).unwrap());
    assert_eq!(server.order("HUP").0, "reload ok");
    assert!(returning.visit(server.address()).unwrap());
    assert!(!Visitor::new(&ca).visit(server.address()).unwrap());
    server.stop();
    assert!(!ca.exists(), "it takes its files away");
}

#[test]
fn rustls_own_sessions_die_with_a_reload_and_cannot_be_rotated_or_revoked() {
    for mode in ["builtin-tickets", "builtin-stateful"] {
        let server = EchoProcess::start(&["--resumption", mode]);
        let visitor = Visitor::new(server.ca());
        assert!(!visitor.visit(server.address()).unwrap());
        assert!(visitor.visit(server.address()).unwrap());
        for (signal, what) in [("USR1", "rotate"), ("USR2", "revoke")] {
            let (said, sums) = server.order(signal);
            assert!(
                said.starts_with(&format!("{what} failed reason=")),
                "{said}"
            );
            assert!(sums.table.starts_with("no Stats"), "{sums:?}");
        }
        assert!(visitor.visit(server.address()).unwrap());
        assert_eq!(server.order("HUP").0, "reload ok");
        assert!(!visitor.visit(server.address()).unwrap(), "{mode}");
    }
}

#[test]
fn sigusr1_rotates_the_stek_and_what_it_sealed_still_opens() {
    let server = EchoProcess::start(&[]);
    let visitor = Visitor::new(server.ca());
    assert!(!visitor.visit(server.address()).unwrap());
    for rotations in 1..=3 {
        let (said, sums) = server.order("USR1");
        assert_eq!(said, "rotate ok");
        assert_eq!(sums.counted("STEKs", "rotations"), rotations);
        assert_eq!(sums.counted("tickets", "opened"), rotations - 1);
        assert!(visitor.visit(server.address()).unwrap());
    }
}

#[test]
fn sigusr2_revokes_all() {
    for (mode, row, reason) in [
        ("tickets", "refused", "revoked"),
        ("stateful", "cache misses", "unknown"),
    ] {
        for tls in [&TLS12, &TLS13] {
            let server = EchoProcess::start(&["--resumption", mode]);
            let visitor = Visitor::with(server.ca(), |options| options.version = tls);
            assert!(!visitor.visit(server.address()).unwrap());
            assert!(visitor.visit(server.address()).unwrap());
            assert_eq!(server.order("USR2").0, "revoke ok");
            assert!(!visitor.visit(server.address()).unwrap(), "{mode}");
            // What is made from then on resumes.
            assert!(visitor.visit(server.address()).unwrap(), "{mode}");
            let sums = server.stop();
            assert_eq!(sums.counted(row, reason), 1, "{sums:?}");
        }
    }
}

#[test]
fn sigint_ends_it_as_sigterm_does() {
    let server = EchoProcess::start(&[]);
    Visitor::new(server.ca()).visit(server.address()).unwrap();
    server.signal("INT");
    assert_eq!(server.sums().accepted, 1);
    let (status, left) = server.ended();
    assert!(status.success() && left.is_empty(), "{status} {left:?}");
}

#[test]
fn client_certificates_are_demanded_and_a_reload_changes_whose() {
    let (clients, others) = (certificates(), certificates());
    let identity = |options: &mut ClientOptions, of: &Certificates| {
        let chain = vec![CertificateDer::from_pem_file(of.certificate()).unwrap()];
        let key = PrivateKeyDer::from_pem_file(of.key()).unwrap();
        options.identity = Some((chain, key));
    };
    for tls in [&TLS12, &TLS13] {
        let files = Files::of(&clients);
        let client_ca = files.directory.path().join("ca.pem");
        fs::copy(clients.ca(), &client_ca).unwrap();
        let server = EchoProcess::start(&["--client-ca", client_ca.to_str().unwrap()]);
        let known = Visitor::with(server.ca(), |options| {
            identity(options, &clients);
            options.version = tls;
        });
        assert!(!known.visit(server.address()).unwrap());
        assert!(known.visit(server.address()).unwrap());
        assert_eq!(server.order("HUP").0, "reload ok");
        assert!(
            known.visit(server.address()).unwrap(),
            "the same authorities"
        );
        // Nobody else comes in.
        let unknown = Visitor::with(server.ca(), |options| options.version = tls);
        assert!(unknown.visit(server.address()).is_err());
        let wrong = Visitor::with(server.ca(), |options| {
            identity(options, &others);
            options.version = tls;
        });
        assert!(wrong.visit(server.address()).is_err());

        fs::copy(others.ca(), &client_ca).unwrap();
        let (said, sums) = server.order("HUP");
        assert_eq!((&*said, sums.failed), ("reload ok", 2));
        let refused = known.visit(server.address());
        assert!(
            refused.is_err(),
            "its session is of an authority that is no longer trusted"
        );
        assert!(!wrong.visit(server.address()).unwrap(), "now it is welcome");
        let sums = server.stop();
        assert_eq!(sums.counted("refused", "client auth"), 1, "{sums:?}");
    }
}

fn certificates() -> Certificates {
    Certificates::for_names(&["localhost"])
}

/// A certificate and key that change while a server uses them.
struct Files {
    directory: TempDir,
}

impl Files {
    fn of(certificates: &Certificates) -> Self {
        let files = Self {
            directory: TempDir::new().unwrap(),
        };
        files.put(certificates);
        files
    }

    fn put(&self, certificates: &Certificates) {
        fs::copy(certificates.certificate(), self.certificate()).unwrap();
        fs::copy(certificates.key(), self.key()).unwrap();
    }

    fn certificate(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// Starts a server with them.
    fn start(&self, flags: &[&str]) -> EchoProcess {
        let (certificate, key) = (self.certificate(), self.key());
        let files = [
            "--cert",
            certificate.to_str().unwrap(),
            "--key",
            key.to_str().unwrap(),
        ];
        EchoProcess::start(&[&files, flags].concat())
    }
}
