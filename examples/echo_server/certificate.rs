//! The server's certificate and key: from files, or generated.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use example_support::certificate::{Authority, Identity};
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use tempfile::TempDir;

/// Reads a certificate chain and its key from PEM files.
///
/// # Errors
///
/// A sentence that names the file.
pub(crate) fn read_identity(chain: &Path, key: &Path) -> Result<Identity, String> {
    let chain = read_certificates("--cert", chain)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| match error {
        pem::Error::NoItemsFound => format!(
            "--key {}: no private key in it; it must be a PEM file with a BEGIN PRIVATE KEY line, \
             not encrypted",
            key.display()
        ),
        error => unreadable("--key", key, &error),
    })?;
    Ok(Identity { chain, key })
}

/// Reads all certificates of a PEM file, at least one.
///
/// # Errors
///
/// A sentence that names the flag and the file.
pub(crate) fn read_certificates(
    flag: &str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(flag, path, &error))?;
    if certificates.is_empty() {
        return Err(format!(
            "{flag} {}: no certificate in it; it must be a PEM file with a BEGIN CERTIFICATE line",
            path.display()
        ));
    }
    Ok(certificates)
}

/// Reads all revocation lists of a PEM file, at least one.
///
/// # Errors
///
/// A sentence that names the flag and the file.
pub(crate) fn read_crls(
    flag: &str,
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let lists: Vec<_> = CertificateRevocationListDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(flag, path, &error))?;
    if lists.is_empty() {
        return Err(format!(
            "{flag} {}: no revocation list in it; it must be a PEM file with a BEGIN X509 CRL line",
            path.display()
        ));
    }
    Ok(lists)
}

fn unreadable(flag: &str, path: &Path, error: &pem::Error) -> String {
    let path = path.display();
    match error {
        pem::Error::Io(error) => {
            format!("{flag} {path}: {error}; name a PEM file that this user may read")
        }
        error => format!("{flag} {path}: not a PEM file ({error}); make or copy it anew"),
    }
}

/// A CA that is made when the server starts. Its certificate is in a file, for clients to trust, that
/// is deleted when this value is dropped.
pub(crate) struct LocalAuthority {
    authority: Authority,
    names: Vec<String>,
    directory: TempDir,
}

impl LocalAuthority {
    /// Makes one that issues certificates for `localhost`, the loopback addresses and `addresses`.
    ///
    /// # Errors
    ///
    /// A sentence about what failed.
    pub(crate) fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Result<Self, String> {
        let mut names = ["localhost", "127.0.0.1", "::1"]
            .map(str::to_owned)
            .to_vec();
        for address in addresses {
            let name = address.to_string();
            if !address.is_unspecified() && !names.contains(&name) {
                names.push(name);
            }
        }
        let directory = TempDir::with_prefix("echo_server-").map_err(|error| {
            format!(
                "cannot make a directory for the CA: {error}; set TMPDIR to one that is writable"
            )
        })?;
        let authority = Self {
            authority: Authority::new("authority of the echo server").map_err(not_made)?,
            names,
            directory,
        };
        let path = authority.path();
        fs::write(&path, authority.authority.pem())
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(authority)
    }

    /// The PEM file for clients to trust.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// What clients trust.
    pub(crate) fn roots(&self) -> RootCertStore {
        self.authority.roots()
    }

    /// Makes a new certificate with a new key.
    ///
    /// # Errors
    ///
    /// A sentence about what failed.
    pub(crate) fn issue(&self) -> Result<Identity, String> {
        self.authority.issue(&self.names).map_err(not_made)
    }
}

fn not_made(error: rcgen::Error) -> String {
    format!("cannot make a certificate: {error}; give one with --cert and --key")
}
