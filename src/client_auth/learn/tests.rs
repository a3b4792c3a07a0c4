use rustls::crypto::{aws_lc_rs, ring};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ResolvesServerCertUsingSni, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{DistinguishedName, RootCertStore, SupportedProtocolVersion};

use super::*;

/// What a test's verifier does.
#[derive(Clone, Copy, Debug)]
enum Asks {
    Never,
    Optionally,
    Strictly,
    Panicking,
    ForRawPublicKeys,
}

impl ClientCertVerifier for Asks {
    fn offer_client_auth(&self) -> bool {
        !matches!(self, Self::Never)
    }

    fn client_auth_mandatory(&self) -> bool {
        !matches!(self, Self::Optionally)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match self {
            Self::Panicking => panic!("a verifier's own trouble"),
            _ => &[],
        }
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        unreachable!("no certificate is presented")
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unreachable!("no certificate is presented")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unreachable!("no certificate is presented")
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }

    fn requires_raw_public_keys(&self) -> bool {
        matches!(self, Self::ForRawPublicKeys)
    }
}

/// Must not be asked: the real key is not needed.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        unreachable!("the clone has a resolver of its own")
    }
}

fn config(
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
    verifier: Arc<dyn ClientCertVerifier>,
) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(NoCertificate));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.max_fragment_size = Some(64);
    config
}

fn only(mut provider: CryptoProvider, algorithm: &str) -> CryptoProvider {
    provider.cipher_suites.retain(|suite| {
        let name = format!("{:?}", suite.suite());
        name.starts_with("TLS13") || name.contains(algorithm)
    });
    provider
}

#[test]
fn every_policy_is_learnt_in_every_version_and_with_every_provider() {
    let providers = [
        aws_lc_rs::default_provider(),
        ring::default_provider(),
        only(aws_lc_rs::default_provider(), "ECDSA"),
        only(aws_lc_rs::default_provider(), "_RSA_"),
    ];
    let versions: [&[_]; 3] = [&[&TLS12], &[&TLS13], &[&TLS12, &TLS13]];
    for provider in providers {
        for versions in versions {
            for (asks, policy) in [
                (Asks::Never, Policy::NotAsked),
                (Asks::Optionally, Policy::Optional),
                (Asks::Strictly, Policy::Required),
            ] {
                let config = config(provider.clone(), versions, Arc::new(asks));
                assert_eq!(learn(&config), Some(policy), "{versions:?} {asks:?}");
            }
        }
    }
}

#[test]
fn a_configuration_without_client_authentication_asks_for_nothing() {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoCertificate));
    assert_eq!(learn(&config), Some(Policy::NotAsked));
}

#[test]
fn what_a_configuration_has_beside_its_verifier_does_not_matter() {
    let asks = Arc::new(Asks::Strictly);
    let mut config = config(aws_lc_rs::default_provider(), &[&TLS12, &TLS13], asks);
    config.cert_resolver = Arc::new(ResolvesServerCertUsingSni::new());
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.max_fragment_size = Some(100);
    config.require_ems = true;
    assert_eq!(learn(&config), Some(Policy::Required));
}

#[test]
fn webpki_verifiers_are_learnt() {
    let ca = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca.cert.der().clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        || WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone());
    let required = builder().build().unwrap();
    let optional = builder().allow_unauthenticated().build().unwrap();
    for (verifier, policy) in [(required, Policy::Required), (optional, Policy::Optional)] {
        let config = config(aws_lc_rs::default_provider(), &[&TLS12, &TLS13], verifier);
        assert_eq!(learn(&config), Some(policy));
    }
}

#[test]
fn a_verifier_of_raw_public_keys_is_met_with_one() {
    let asks = Arc::new(Asks::ForRawPublicKeys);
    let config = config(aws_lc_rs::default_provider(), &[&TLS13], asks);
    assert_eq!(learn(&config), Some(Policy::Required));
}

#[test]
fn a_verifier_that_panics_cannot_be_learnt() {
    let asks = Arc::new(Asks::Panicking);
    let config = config(aws_lc_rs::default_provider(), &[&TLS12, &TLS13], asks);
    assert_eq!(learn(&config), None);
}
