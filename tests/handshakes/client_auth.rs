//! No client resumes that a full handshake would refuse: policies of client certificates that
//! differ under one scope, certificates that expire, are revoked, or whose authority is no longer
//! trusted.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime,
};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, HandshakeKind, RootCertStore,
    ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use rustls_resumption::{FakeClock, Resumption, ResumptionBuilder};
use test_support::handshake::{
    FULL, PKI, RESUMED, VERSIONS, early_data_accepted, first_flight, provider, roots,
    server_config, try_handshake,
};

/// When the tests take place: 1 June 2027.
const START: u64 = 1_811_808_000;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    serials: AtomicU64,
}

struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
    serial: SerialNumber,
}

impl Authority {
    fn new() -> Self {
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

    fn issue(&self) -> Certificate {
        self.issue_until(2040)
    }

    /// A client's certificate, good until the first of January of a year.
    fn issue_until(&self, year: i32) -> Certificate {
        let serial = SerialNumber::from(self.serials.fetch_add(1, Ordering::Relaxed));
        let mut params = CertificateParams::new(vec!["client".into()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(serial.clone());
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certificate {
            chain: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            serial,
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(roots)
    }

    fn revoke(&self, certificates: &[&Certificate]) -> CertificateRevocationListDer<'static> {
        let revoked = |certificate: &&Certificate| RevokedCertParams {
            serial_number: certificate.serial.clone(),
            revocation_time: date_time_ymd(2027, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2027, 1, 1),
            next_update: date_time_ymd(2040, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: certificates.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().into()
    }

    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier_with(false, None)
    }

    fn verifier_with(
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
fn client(
    version: &'static SupportedProtocolVersion,
    certificate: Option<&Certificate>,
) -> Arc<ClientConfig> {
    client_showing(version, Wallet::with(certificate))
}

fn client_showing(
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
struct Wallet(Mutex<Option<Arc<CertifiedKey>>>);

impl Wallet {
    fn with(certificate: Option<&Certificate>) -> Arc<Self> {
        let wallet = Arc::new(Self(Mutex::new(None)));
        wallet.change(certificate);
        wallet
    }

    fn change(&self, certificate: Option<&Certificate>) {
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

fn config(verifier: Option<Arc<dyn ClientCertVerifier>>, time: &Date) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider())
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
struct Date(Arc<AtomicU64>);

impl Date {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(START)))
    }

    fn pass(&self, clock: &FakeClock, time: Duration) {
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

/// A server in one of the two modes, whose clocks a test sets.
struct Server {
    resumption: Resumption,
    clock: FakeClock,
    date: Date,
}

const MODES: [bool; 2] = [false, true];

impl Server {
    fn new(stateful: bool) -> Self {
        let clock = FakeClock::new();
        let builder = Resumption::builder().clock(clock.clock()).manual_stepping();
        let builder = match stateful {
            true => builder.stateful(20_000),
            false => builder,
        };
        Self {
            resumption: builder.build().unwrap(),
            clock,
            date: Date::new(),
        }
    }

    fn pass(&self, time: Duration) {
        self.date.pass(&self.clock, time);
        self.resumption.step();
    }

    fn open(&self) -> Arc<ServerConfig> {
        let mut config = config(None, &self.date);
        self.resumption.install(&mut config, "api");
        Arc::new(config)
    }

    fn verifying(&self, verifier: Arc<dyn ClientCertVerifier>) -> Arc<ServerConfig> {
        let mut config = config(Some(verifier.clone()), &self.date);
        let resumption = &self.resumption;
        resumption.install_with_client_verifier(&mut config, "api", verifier);
        Arc::new(config)
    }

    /// Without handing the verifier over.
    fn learning(&self, verifier: Arc<dyn ClientCertVerifier>) -> Arc<ServerConfig> {
        let mut config = config(Some(verifier), &self.date);
        self.resumption.install(&mut config, "api");
        Arc::new(config)
    }
}

fn kind(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<HandshakeKind, Error> {
    Ok(try_handshake(client, server, b"")?.kind)
}

fn each(test: impl Fn(&'static SupportedProtocolVersion, Server) + Sync) {
    for version in VERSIONS {
        for stateful in MODES {
            // On a thread of its own: a thread that saw refusals stops verifying for a moment.
            std::thread::scope(|scope| {
                let test = &test;
                let run = scope.spawn(move || test(version, Server::new(stateful)));
                run.join().unwrap();
            });
        }
    }
}

#[test]
fn a_session_made_without_a_certificate_request_does_not_resume_where_one_is_made() {
    let ca = Authority::new();
    each(|version, server| {
        let required = [
            server.verifying(ca.verifier()),
            server.learning(ca.verifier()),
        ];
        let optional = [
            server.verifying(ca.verifier_with(true, None)),
            server.learning(ca.verifier_with(true, None)),
        ];
        let open = server.open();
        for from in [&open, &optional[0], &optional[1]] {
            let client = client(version, None);
            assert_eq!(kind(&client, from), Ok(FULL));
            assert_eq!(kind(&client, from), Ok(RESUMED), "where it was made");
            for required in &required {
                let refused = kind(&client, required);
                assert!(
                    refused.is_err(),
                    "not resumed, and then without a certificate"
                );
            }
        }
        for optional in &optional {
            let client = client(version, None);
            assert_eq!(kind(&client, &open), Ok(FULL));
            assert_eq!(kind(&client, optional), Ok(FULL), "now it is asked");
            assert_eq!(kind(&client, optional), Ok(RESUMED));
            assert_eq!(kind(&client, &open), Ok(RESUMED), "there nobody asks");
        }
        assert_ne!(
            server.resumption.stats().client_auth.refused.no_certificate,
            0
        );
    });
}

#[test]
fn sessions_with_certificates_resume_where_their_verifier_is_known() {
    let ca = Authority::new();
    each(|version, server| {
        let certificate = ca.issue();
        let required = server.verifying(ca.verifier());
        let optional = server.verifying(ca.verifier_with(true, None));
        let client = client(version, Some(&certificate));
        assert_eq!(kind(&client, &required), Ok(FULL));
        for server in [&required, &optional, &required] {
            assert_eq!(kind(&client, server), Ok(RESUMED));
        }
        let blind = server.learning(ca.verifier());
        assert_eq!(kind(&client, &blind), Ok(FULL), "nobody to ask");
        assert_eq!(kind(&client, &blind), Ok(FULL), "nor is one made there");
        let stats = server.resumption.stats().client_auth;
        assert_ne!((stats.refused.not_verified, stats.not_kept), (0, 0));
        assert_eq!(
            kind(&client, &server.open()),
            Ok(FULL),
            "nor is anybody here"
        );
    });
}

#[test]
fn unverified_client_certificates_resume_only_on_request() {
    let ca = Authority::new();
    for version in VERSIONS {
        let builder = Resumption::builder().resume_unverified_client_certificates();
        let mut config = config(Some(ca.verifier()), &Date::new());
        let resumption = builder.build().unwrap();
        resumption.install(&mut config, "api");
        let config = Arc::new(config);
        let client = client(version, Some(&ca.issue()));
        assert_eq!(kind(&client, &config), Ok(FULL));
        assert_eq!(kind(&client, &config), Ok(RESUMED));
    }
}

#[test]
fn an_expired_certificate_does_not_resume_and_a_renewed_one_is_accepted_at_once() {
    let ca = Authority::new();
    each(|version, server| {
        let config = server.verifying(ca.verifier());
        let short = ca.issue_until(2028);
        let wallet = Wallet::with(Some(&short));
        let client = client_showing(version, wallet.clone());
        // To an hour before the end.
        let end = 1_830_297_600;
        server.date.0.store(end - 3600, Ordering::Relaxed);
        assert_eq!(kind(&client, &config), Ok(FULL));
        assert_eq!(kind(&client, &config), Ok(RESUMED));
        server.pass(Duration::from_secs(3601));
        wallet.change(Some(&ca.issue()));
        assert_eq!(kind(&client, &config), Ok(FULL));
        assert_eq!(kind(&client, &config), Ok(RESUMED));
        assert_ne!(server.resumption.stats().client_auth.refused.expired, 0);
        let old = self::client(version, Some(&short));
        assert!(kind(&old, &config).is_err(), "as the full handshake says");
    });
}

#[test]
fn a_new_crl_refuses_the_clients_it_lists_and_costs_no_other_a_session() {
    let ca = Authority::new();
    each(|version, server| {
        let (good, evil) = (ca.issue(), ca.issue());
        let before = server.verifying(ca.verifier());
        let [honest, thief] = [&good, &evil].map(|c| client(version, Some(c)));
        for client in [&honest, &thief] {
            assert_eq!(kind(client, &before), Ok(FULL));
            assert_eq!(kind(client, &before), Ok(RESUMED));
        }
        let crl = ca.revoke(&[&evil]);
        let after = server.verifying(ca.verifier_with(false, Some(crl)));
        assert_eq!(kind(&honest, &after), Ok(RESUMED));
        assert!(
            kind(&thief, &after).is_err(),
            "not resumed, and then revoked"
        );
        let refused = server.resumption.stats().client_auth.refused;
        assert_ne!(refused.revoked, 0);
    });
}

#[test]
fn clients_of_a_replaced_ca_do_not_resume() {
    each(|version, server| {
        let (old, new) = (Authority::new(), Authority::new());
        let client = client(version, Some(&old.issue()));
        let before = server.verifying(old.verifier());
        assert_eq!(kind(&client, &before), Ok(FULL));
        assert_eq!(kind(&client, &before), Ok(RESUMED));
        let after = server.verifying(new.verifier());
        assert!(
            kind(&client, &after).is_err(),
            "of the same subject, but not the same"
        );
        assert_ne!(server.resumption.stats().client_auth.refused.total(), 0);
    });
}

#[test]
fn early_data_of_a_revoked_client_is_not_accepted() {
    let ca = Authority::new();
    let server = Server::new(true);
    let allowing = |verifier: Arc<dyn ClientCertVerifier>| {
        let mut config = config(Some(verifier.clone()), &server.date);
        config.max_early_data_size = 1024;
        let resumption = &server.resumption;
        resumption.install_with_client_verifier(&mut config, "api", verifier);
        Arc::new(config)
    };
    let evil = ca.issue();
    let thief = client(&TLS13, Some(&evil));
    let before = allowing(ca.verifier());
    for _ in 0..2 {
        kind(&thief, &before).unwrap();
    }
    let flight = first_flight(&thief, b"early");
    assert_eq!(
        early_data_accepted(&before, &flight).as_deref(),
        Some(&b"early"[..])
    );
    let flight = first_flight(&thief, b"early");
    let after = allowing(ca.verifier_with(false, Some(ca.revoke(&[&evil]))));
    assert_eq!(early_data_accepted(&after, &flight), None);
}

/// Counts what it is asked, and can be told what to do.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn ClientCertVerifier>,
    asked: AtomicUsize,
    panics: AtomicBool,
}

impl Watched {
    fn new(inner: Arc<dyn ClientCertVerifier>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            asked: AtomicUsize::new(0),
            panics: AtomicBool::new(false),
        })
    }

    fn asked(&self) -> usize {
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

#[test]
fn a_verdict_is_cached_for_the_interval_and_a_new_verifier_has_none() {
    let ca = Authority::new();
    each(|version, server| {
        let verifier = Watched::new(ca.verifier());
        let config = server.verifying(verifier.clone());
        let client = client(version, Some(&ca.issue()));
        assert_eq!(kind(&client, &config), Ok(FULL));
        assert_eq!(verifier.asked(), 1, "by rustls");
        for _ in 0..3 {
            assert_eq!(kind(&client, &config), Ok(RESUMED));
        }
        assert_eq!(verifier.asked(), 1, "and once for all that come back");
        server.pass(ResumptionBuilder::DEFAULT_RECHECK_INTERVAL);
        assert_eq!(kind(&client, &config), Ok(RESUMED));
        assert_eq!(verifier.asked(), 1);
        let reloaded = Watched::new(ca.verifier());
        assert_eq!(
            kind(&client, &server.verifying(reloaded.clone())),
            Ok(RESUMED)
        );
        assert_eq!((verifier.asked(), reloaded.asked()), (0, 1));
    });
}

#[test]
fn a_verifier_that_panics_refuses() {
    let ca = Authority::new();
    each(|version, server| {
        let verifier = Watched::new(ca.verifier_with(true, None));
        let config = server.verifying(verifier.clone());
        let wallet = Wallet::with(Some(&ca.issue()));
        let client = client_showing(version, wallet.clone());
        assert_eq!(kind(&client, &config), Ok(FULL));
        verifier.panics.store(true, Ordering::Relaxed);
        // Or rustls would ask it in the full handshake too.
        wallet.change(None);
        assert!(
            kind(&client, &config).is_err(),
            "`Watched` insists on a certificate"
        );
        assert_ne!(server.resumption.stats().client_auth.refused.other, 0);
    });
}

#[test]
fn at_most_two_chains_are_verified_for_one_client_hello() {
    let ca = Authority::new();
    let server = Server::new(false);
    let verifier = Watched::new(ca.verifier());
    let config = server.verifying(verifier);
    let certificates: Vec<_> = (0..8).map(|_| ca.issue()).collect();
    let tickets: Vec<_> = certificates
        .iter()
        .map(|certificate| {
            let client = client(&TLS13, Some(certificate));
            kind(&client, &config).unwrap();
            first_flight(&client, b"")
        })
        .collect();
    let revoked = Watched::new(ca.verifier_with(
        false,
        Some(ca.revoke(&certificates.iter().collect::<Vec<_>>())),
    ));
    let config = server.verifying(revoked.clone());
    // Each flight has one ticket; rustls asks for it in the call that reads the hello.
    let identities: Vec<_> = tickets.iter().map(|flight| identity(flight)).collect();
    for ticket in &identities {
        assert!(config.ticketer.decrypt(ticket).is_none());
    }
    assert!(revoked.asked() <= 2);
    let stats = server.resumption.stats().client_auth.refused;
    assert_eq!((stats.revoked, stats.too_many), (2, 6));
    // The same ones again cost nothing, however often.
    for _ in 0..14 {
        assert!(config.ticketer.decrypt(&identities[0]).is_none());
    }
    assert_eq!(revoked.asked(), 0);
}

/// The ticket in a ClientHello: the first identity of its last extension, which ends with it.
fn identity(flight: &[u8]) -> Vec<u8> {
    let length = |at: usize| usize::from(flight[at]) << 8 | usize::from(flight[at + 1]);
    let pre_shared_key = |at: &usize| length(*at) == 41 && at + 4 + length(at + 2) == flight.len();
    let at = (0..flight.len() - 4).find(pre_shared_key).unwrap() + 4;
    let len = length(at + 2);
    flight[at + 4..at + 4 + len].to_vec()
}

#[test]
fn fields_set_by_hand_work_without_client_authentication() {
    let ca = Authority::new();
    each(|version, server| {
        let by_hand = |mut config: ServerConfig| {
            config.session_storage = server.resumption.session_storage("api");
            config.ticketer = server.resumption.ticketer("api");
            Arc::new(config)
        };
        let open = by_hand(server_config());
        let bare = client(version, None);
        assert_eq!(kind(&bare, &open), Ok(FULL));
        assert_eq!(kind(&bare, &open), Ok(RESUMED));
        assert!(kind(&bare, &server.verifying(ca.verifier())).is_err());
        let optional = server.learning(ca.verifier_with(true, None));
        assert_eq!(
            kind(&bare, &optional),
            Ok(FULL),
            "nobody knows what it was asked"
        );
        let required = by_hand(config(Some(ca.verifier()), &server.date));
        let client = client(version, Some(&ca.issue()));
        for _ in 0..2 {
            assert_eq!(kind(&client, &required), Ok(FULL), "nobody to ask");
        }
    });
}
