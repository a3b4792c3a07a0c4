//! What the tests share: certificates, free ports, the examples' programs, servers to talk to.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

pub(crate) mod clients;
pub(crate) mod echo;
pub(crate) mod echo_server;
pub(crate) mod peer;
pub(crate) mod servers;

/// A certificate authority and a server certificate of it, as PEM files in a directory that goes
/// away with this value.
pub(crate) struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// The server certificate is good for each of `names`, DNS names and IP addresses.
    pub(crate) fn for_names(names: &[&str]) -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        ca.distinguished_name
            .push(DnType::CommonName, "authority of the tests");
        let ca_key = KeyPair::generate().unwrap();
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);

        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();

        let certificates = Self {
            directory: TempDir::new().unwrap(),
        };
        std::fs::write(certificates.ca(), ca_certificate.pem()).unwrap();
        std::fs::write(certificates.certificate(), certificate.pem()).unwrap();
        std::fs::write(certificates.key(), key.serialize_pem()).unwrap();
        certificates
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }
}

/// A loopback address whose port nobody listens on. Another program may take it before it is used,
/// which the number of ports makes unlikely.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port on the loopback interface")
}

/// The program that Cargo built of an example of this package, beside the running test.
///
/// # Panics
///
/// If it is not there: `cargo test --test NAME` builds no examples, `cargo test` does.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let program = test
        .parent()
        .and_then(Path::parent)
        .expect("tests are built in target/PROFILE/deps")
        .join("examples")
        .join(name);
    assert!(
        program.is_file(),
        "the example {name} is not built; run `cargo build --example {name}` (with the same \
         profile), or `cargo test` without `--test`"
    );
    program
}
