//! Builds the server's configuration from the flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use example_support::certificate::Identity;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::certificate::{LocalAuthority, read_certificates, read_crls, read_identity};
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
            None => Some(LocalAuthority::new(
                flags.listen.iter().map(SocketAddr::ip),
            )?),
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
            .with_protocol_versions(&self.flags.tls.versions())
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_single_cert(chain, key)
            .map_err(|error| self.misfit(&error))?;
        config.max_early_data_size = self.flags.early_data;
        let scope = &self.flags.scope;
        self.storage.install(&mut config, scope, verifier)?;
        Ok(config)
    }

    fn identity(&self) -> Result<Identity, String> {
        match (&self.authority, &self.flags.cert, &self.flags.key) {
            (None, Some(cert), Some(key)) => read_identity(cert, key),
            (Some(authority), ..) => authority.issue(),
            _ => Err("--cert and --key go together: give both or none".to_owned()),
        }
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let Some(path) = &self.flags.client_ca else {
            return Ok(WebPkiClientVerifier::no_client_auth());
        };
        let authorities = read_certificates("--client-ca", path)?;
        let crls = match &self.flags.client_crl {
            Some(path) => read_crls("--client-crl", path)?,
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

    /// Explains why rustls rejected certificate and key.
    fn misfit(&self, error: &rustls::Error) -> String {
        let [cert, key] = [&self.flags.cert, &self.flags.key].map(|path| {
            path.as_ref()
                .map_or_else(String::new, |path| path.display().to_string())
        });
        match error {
            rustls::Error::InconsistentKeys(_) => format!(
                "--key {key} is not the key of the certificate in --cert {cert}: give the two that \
                 were made together"
            ),
            rustls::Error::InvalidCertificate(why) => format!(
                "--cert {cert}: the first certificate cannot be used ({why:?}): it must be the \
                 server's own, X.509 version 3"
            ),
            error => format!(
                "--key {key}: {error}; it must be an RSA, ECDSA or Ed25519 key in PKCS#8, PKCS#1 \
                 or SEC1"
            ),
        }
    }
}
