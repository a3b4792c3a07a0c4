use std::error::Error;

use benches::handshakes::ServerKey;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, IsCa, KeyPair};
use rustls::RootCertStore;

/// A certificate for `localhost`, made on the spot.
pub(crate) struct Site {
    /// What clients trust.
    pub(crate) roots: RootCertStore,
    /// The certificate and its private key.
    pub(crate) pem: String,
}

/// The OID of a meaningless certificate extension; 32473 is reserved for examples (RFC 5612).
const PADDING: [u64; 8] = [1, 3, 6, 1, 4, 1, 32473, 1];

impl Site {
    pub(crate) fn new(key: ServerKey, padding_kib: u16) -> Result<Self, Box<dyn Error>> {
        let mut ca = CertificateParams::new(vec!["Report CA".to_owned()])?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone())?;

        let key = key.generate()?;
        let mut server = CertificateParams::new(vec!["localhost".to_owned()])?;
        if padding_kib > 0 {
            let padding = vec![0; usize::from(padding_kib) * 1024];
            server
                .custom_extensions
                .push(CustomExtension::from_oid_content(&PADDING, padding));
        }
        let certificate = server.signed_by(&key, &ca)?;
        Ok(Self {
            roots,
            pem: certificate.pem() + &key.serialize_pem(),
        })
    }
}
