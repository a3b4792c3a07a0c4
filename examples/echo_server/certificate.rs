//! The server's certificate and key: from files, or generated.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use example_support::certificate::{Authority, Identity};
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use tempfile::TempDir;

/// Reads all of a kind in a PEM file: certificates, private keys or revocation lists; at least one.
///
/// # Errors
///
/// A sentence that names the flag and the file.
pub(crate) fn read_pem<T: PemObject>(flag: &str, path: &Path) -> Result<Vec<T>, String> {
    let items = T::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let why = match items {
        Ok(items) if !items.is_empty() => return Ok(items),
        Ok(_) => "nothing of the kind in it".to_owned(),
        Err(pem::Error::Io(error)) => error.to_string(),
        Err(error) => format!("not a PEM file ({error})"),
    };
    Err(format!("{flag} {}: {why}", path.display()))
}

/// A CA that is made when the server starts. Its certificate is in a file, for clients to trust,
/// that is deleted when this value is dropped.
pub(crate) struct LocalAuthority {
    authority: Authority,
    names: Vec<String>,
    directory: TempDir,
}

impl LocalAuthority {
    /// Makes one that issues certificates for `localhost`, the loopback addresses and `address`.
    ///
    /// # Errors
    ///
    /// A sentence about what failed.
    pub(crate) fn new(address: IpAddr) -> Result<Self, String> {
        let mut names = ["localhost", "127.0.0.1", "::1"]
            .map(str::to_owned)
            .to_vec();
        if !address.is_unspecified() && !address.is_loopback() {
            names.push(address.to_string());
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
