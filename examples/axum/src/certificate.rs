//! The server's certificate: from PEM files, or generated. Either can be renewed while the server
//! runs.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{env, fs, io};

use example_support::certificate::{Authority, Identity};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub(crate) enum Certificate {
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
    /// A new one each time, issued by a CA that lives as long as the process.
    Made {
        authority: Box<Authority>,
        names: Vec<String>,
        ca: PathBuf,
    },
}

impl Certificate {
    /// Makes a CA and writes its certificate to a file for clients.
    pub(crate) fn of_own_making(names: Vec<String>) -> Result<Self, Box<dyn Error>> {
        let authority = Box::new(Authority::new("axum example CA")?);
        let ca = env::temp_dir().join("axum-example-ca.pem");
        fs::write(&ca, authority.pem())?;
        Ok(Self::Made {
            authority,
            names,
            ca,
        })
    }

    /// A configuration with the current certificate.
    pub(crate) fn config(&self) -> Result<ServerConfig, Box<dyn Error + Send + Sync>> {
        let Identity { chain, key } = self.load()?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| format!("the certificate and its key: {error}"))?;
        // Not HTTP/2: the page needs a new connection for each request, to show its handshake.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn load(&self) -> Result<Identity, Box<dyn Error + Send + Sync>> {
        match self {
            Self::Files { certificate, key } => {
                let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
                    .and_then(Iterator::collect)
                    .map_err(|error| format!("--cert {}: {error}", certificate.display()))?;
                if chain.is_empty() {
                    let file = certificate.display();
                    return Err(format!("--cert {file}: no certificate in it").into());
                }
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| format!("--key {}: {error}", key.display()))?;
                Ok(Identity { chain, key })
            }
            Self::Made {
                authority, names, ..
            } => Ok(authority.issue(names)?),
        }
    }

    /// When the files were last written: a change asks for a reload.
    pub(crate) fn written(&self) -> Option<SystemTime> {
        let written = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
        match self {
            Self::Files { certificate, key } => {
                let both = || Ok::<_, io::Error>(written(certificate)?.max(written(key)?));
                both().ok()
            }
            Self::Made { .. } => None,
        }
    }
}

/// How often the files are checked.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
