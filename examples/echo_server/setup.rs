//! Builds the server's configuration from the flags.

use std::path::PathBuf;
use std::sync::Arc;

use example_support::certificate::Identity;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::certificate::{LocalAuthority, read_pem};
use crate::flags::{ClientAuth, Flags};
use crate::storage::Storage;

/// What outlives a configuration.
pub(crate) struct Setup {
    pub(crate) storage: Storage,
    flags: Flags,
    /// `None` if the certificate comes from files.
    authority: Option<LocalAuthority>,
    provider: Arc<CryptoProvider>,
}

impl Setup {
    /// # Errors
    ///
    /// A sentence about what is wrong and how to correct it.
    pub(crate) fn new(flags: Flags) -> Result<Self, String> {
        let authority = match &flags.cert {
            Some(_) => None,
            None => Some(LocalAuthority::new(flags.listen.ip())?),
        };
        Ok(Self {
            storage: Storage::new(&flags)?,
            flags,
            authority,
            provider: Arc::new(aws_lc_rs::default_provider()),
        })
    }

    /// The file with the CA that clients have to trust, if the server made it.
    pub(crate) fn ca(&self) -> Option<PathBuf> {
        self.authority.as_ref().map(LocalAuthority::path)
    }

    /// Reads the files again, or makes a new certificate. Sessions are kept in the storage.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong and how to correct it.
    pub(crate) fn server_config(&self) -> Result<ServerConfig, String> {
        let verifier = self.verifier()?;
        let Identity { chain, key } = self.identity()?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_single_cert(chain, key)
            .map_err(|error| format!("--cert and --key: {error}"))?;
        config.max_early_data_size = self.flags.early_data;
        let scope = &self.flags.scope;
        self.storage.install(&mut config, scope, verifier)?;
        Ok(config)
    }

    fn identity(&self) -> Result<Identity, String> {
        match (&self.authority, &self.flags.cert, &self.flags.key) {
            (None, Some(cert), Some(key)) => Ok(Identity {
                chain: read_pem("--cert", cert)?,
                key: read_pem("--key", key)?.remove(0),
            }),
            (Some(authority), ..) => authority.issue(),
            _ => Err("--cert and --key go together: give both or none".to_owned()),
        }
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let Some(path) = &self.flags.client_ca else {
            return Ok(WebPkiClientVerifier::no_client_auth());
        };
        let authorities: Vec<CertificateDer<'_>> = read_pem("--client-ca", path)?;
        let crls = match &self.flags.client_crl {
            Some(path) => read_pem("--client-crl", path)?,
            None => Vec::new(),
        };
        let refuse = |error: &dyn std::error::Error| {
            let path = path.display();
            format!("--client-ca {path}: {error}; give certificates of authorities")
        };
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|error| refuse(&error))?;
        }
        let (roots, provider) = (Arc::new(roots), Arc::clone(&self.provider));
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(roots, provider).with_crls(crls);
        if self.flags.client_auth == ClientAuth::Optional {
            builder = builder.allow_unauthenticated();
        }
        builder.build().map_err(|error| refuse(&error))
    }
}
