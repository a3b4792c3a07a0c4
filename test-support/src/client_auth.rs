//! Authorities that issue and revoke clients' certificates, who shows them, and what verifies them.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationList,
    CertificateRevocationListParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime,
};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use rustls_resumption::FakeClock;

use crate::handshake::{PKI, provider, roots};

/// When the tests take place: 1 June 2027.
const START: u64 = 1_811_808_000;

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    serials: AtomicU64,
}

pub struct Certificate {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivatePkcs8KeyDer<'static>,
    serial: SerialNumber,
}

impl Authority {
    pub fn make() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Each of the same subject: that of a replaced one is no different.
        params
            .distinguished_name
            .push(DnType::CommonName, "clients");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self {
            issuer,
            serials: AtomicU64::new(1),
        }
    }

    pub fn issue(&self) -> Certificate {
        self.issue_until(2040)
    }

    /// A client's certificate, good until the first of January of a year.
    pub fn issue_until(&self, year: i32) -> Certificate {
        let serial = SerialNumber::from(self.serials.fetch_add(1, Ordering::Relaxed));
        let mut params = CertificateParams::new(vec!["client".into()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(serial.clone());
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certificate {
            chain: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            serial,
        }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(roots)
    }

    pub fn revoke(&self, certificates: &[&Certificate]) -> CertificateRevocationListDer<'static> {
        self.crl(certificates).into()
    }

    pub fn crl(&self, certificates: &[&Certificate]) -> CertificateRevocationList {
        let revoked = |certificate: &&Certificate| RevokedCertParams {
            serial_number: certificate.serial.clone(),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2040, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: certificates.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap()
    }

    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier_with(false, None)
    }

    pub fn verifier_with(
        &self,
        optional: bool,
        crl: Option<CertificateRevocationListDer<'static>>,
    ) -> Arc<dyn ClientCertVerifier> {
        let mut builder = WebPkiClientVerifier::builder_with_provider(self.roots(), provider());
        builder = builder.with_crls(crl);
        if optional {
            builder = builder.allow_unauthenticated();
        }
        builder.build().unwrap()
    }
}

/// A client that comes back, with a certificate or without.
pub fn client(
    version: &'static SupportedProtocolVersion,
    certificate: Option<&Certificate>,
) -> Arc<ClientConfig> {
    client_showing(version, Wallet::with(certificate))
}

pub fn client_showing(
    version: &'static SupportedProtocolVersion,
    wallet: Arc<Wallet>,
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots())
        .with_client_cert_resolver(wallet);
    config.enable_early_data = true;
    Arc::new(config)
}

/// What a client shows in full handshakes. It keeps its sessions when that changes.
#[derive(Debug)]
pub struct Wallet(Mutex<Option<Arc<CertifiedKey>>>);

impl Wallet {
    pub fn with(certificate: Option<&Certificate>) -> Arc<Self> {
        let wallet = Arc::new(Self(Mutex::new(None)));
        wallet.change(certificate);
        wallet
    }

    pub fn change(&self, certificate: Option<&Certificate>) {
        *self.0.lock().unwrap() = certificate.map(|Certificate { chain, key, .. }| {
            let key = PrivateKeyDer::Pkcs8(key.clone_key());
            let key = provider().key_provider.load_private_key(key).unwrap();
            Arc::new(CertifiedKey::new(chain.clone(), key))
        });
    }
}

impl ResolvesClientCert for Wallet {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap().clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

pub fn config(verifier: Option<Arc<dyn ClientCertVerifier>>, time: &Date) -> ServerConfig {
    config_with(provider(), verifier, time)
}

pub fn config_with(
    provider: Arc<CryptoProvider>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    time: &Date,
) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12, &TLS13])
        .unwrap();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let (certificate, key) = &PKI.server;
    let key = PrivateKeyDer::Pkcs8(key.clone_key());
    let mut config = builder
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.time_provider = Arc::new(time.clone());
    config
}

/// The date, for the server.
#[derive(Clone, Debug)]
pub struct Date(pub Arc<AtomicU64>);

impl Date {
    pub fn start() -> Self {
        Self(Arc::new(AtomicU64::new(START)))
    }

    pub fn pass(&self, clock: &FakeClock, time: Duration) {
        self.0.fetch_add(time.as_secs(), Ordering::Relaxed);
        clock.advance(time);
    }
}

impl TimeProvider for Date {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.0.load(Ordering::Relaxed);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// Counts what it is asked, and can be told what to do.
#[derive(Debug)]
pub struct Watched {
    inner: Arc<dyn ClientCertVerifier>,
    asked: AtomicUsize,
    pub panics: AtomicBool,
    /// How long it takes, on a clock that stands still else.
    takes: Option<(FakeClock, Duration)>,
}

impl Watched {
    pub fn new(inner: Arc<dyn ClientCertVerifier>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            asked: AtomicUsize::new(0),
            panics: AtomicBool::new(false),
            takes: None,
        })
    }

    pub fn slow(inner: Arc<dyn ClientCertVerifier>, time: FakeClock, takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            inner,
            asked: AtomicUsize::new(0),
            panics: AtomicBool::new(false),
            takes: Some((time, takes)),
        })
    }

    pub fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

impl ClientCertVerifier for Watched {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[] // as a verifier that pins keys does
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some((time, takes)) = &self.takes {
            time.advance(*takes);
        }
        assert!(
            !self.panics.load(Ordering::Relaxed),
            "a verifier's own trouble"
        );
        self.inner.verify_client_cert(leaf, others, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The ticket in a ClientHello: the first identity of its last extension, which ends with it.
pub fn identity(flight: &[u8]) -> Vec<u8> {
    let length = |at: usize| usize::from(flight[at]) << 8 | usize::from(flight[at + 1]);
    let pre_shared_key = |at: &usize| length(*at) == 41 && at + 4 + length(at + 2) == flight.len();
    let at = (0..flight.len() - 4).find(pre_shared_key).unwrap() + 4;
    let len = length(at + 2);
    flight[at + 4..at + 4 + len].to_vec()
}
