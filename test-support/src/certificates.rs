//! Certificates as PEM files.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

/// A certificate authority and a server certificate of it, as PEM files in a directory that goes
/// away with this value.
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// The server certificate is good for each of `names`, DNS names and IP addresses.
    pub fn for_names(names: &[&str]) -> Self {
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

    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }
}
