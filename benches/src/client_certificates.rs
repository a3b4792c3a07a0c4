//! Clients that show certificates: a leaf and two issuers.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, IsCa, KeyPair};
use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use crate::handshakes::ServerKey;

/// How long each certificate is, but for some bytes.
const CERTIFICATE_BYTES: usize = 1_024;

/// A client's certificate, and its issuers up to a root.
pub(crate) struct ClientCertificate {
    root: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

impl ClientCertificate {
    /// A certificate whose key and whose issuers' keys are of one kind.
    pub(crate) fn new(kind: ServerKey) -> Self {
        let key = || kind.generate().expect("the system's randomness failed");
        let root = Authority::self_signed(authority(0), key()).expect(UNFIT);
        let upper = |padding| Authority::signed_by(authority(padding), key(), &root).expect(UNFIT);
        let upper = upper(padding(upper(0).der()));
        let lower = |padding| Authority::signed_by(authority(padding), key(), &upper).expect(UNFIT);
        let lower = lower(padding(lower(0).der()));
        let own = key();
        let leaf = |padding| params(padding).signed_by(&own, &lower).expect(UNFIT);
        let leaf = leaf(padding(leaf(0).der()));
        Self {
            root: root.der().clone(),
            chain: vec![leaf.into(), lower.der().clone(), upper.der().clone()],
            key: PrivatePkcs8KeyDer::from(own.serialize_der()),
        }
    }

    /// Accepts it.
    pub(crate) fn verifier(&self, provider: Arc<CryptoProvider>) -> Arc<dyn ClientCertVerifier> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.root.clone())
            .expect("a certificate that does not parse");
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .expect("a verifier without roots")
    }

    /// A client that shows it.
    pub(crate) fn shown_by(
        &self,
        client: ConfigBuilder<ClientConfig, WantsClientCert>,
    ) -> ClientConfig {
        let key = PrivateKeyDer::Pkcs8(self.key.clone_key());
        client
            .with_client_auth_cert(self.chain.clone(), key)
            .expect("a certificate that does not fit its key")
    }
}

const UNFIT: &str = "a name that cannot be certified";

fn authority(padding: usize) -> CertificateParams {
    let mut authority = params(padding);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
}

fn params(padding: usize) -> CertificateParams {
    let mut params = CertificateParams::new(["client".to_owned()]).expect(UNFIT);
    if padding > 0 {
        let padding = vec![0xa5; padding];
        let unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999], padding);
        params.custom_extensions.push(unknown);
    }
    params
}

/// How much more a certificate needs to be as long as it should.
fn padding(certificate: &CertificateDer<'_>) -> usize {
    const EXTENSION: usize = 24;
    CERTIFICATE_BYTES.saturating_sub(certificate.len() + EXTENSION)
}
