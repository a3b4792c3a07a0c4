//! Virtual hosts behind one listener, of which one requires client certificates and one asks for
//! them: nothing crosses. `cargo run --release --example mtls_vhosts` tries it and prints a table.
//!
//! Resumption skips the checks of the full handshake. So a session of the public host must not
//! resume at the private one, and neither must a session admitted by a client CA that is no longer
//! trusted. Hence each host has its own scope, and the private one hands its verifier over, which
//! is asked again whenever a client comes back.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption as ClientResumption,
    Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, HandshakeKind, NamedGroup, RootCertStore,
    ServerConfig, ServerConnection, SideData, SupportedProtocolVersion,
};
use rustls_resumption::Resumption;

const PUBLIC: &str = "public.example";
const OPTIONAL: &str = "optional.example";
const PRIVATE: &str = "private.example";

type Failure = Box<dyn Error + Send + Sync>;
type Authority = CertifiedIssuer<'static, KeyPair>;

/// Offers sessions of each of two virtual hosts to the other, and prints a table of the outcomes.
///
/// The exit status is 0 if every outcome was the expected one.
#[derive(Parser)]
struct Flags {}

fn main() -> ExitCode {
    Flags::parse();
    match show() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the tables. Returns whether every outcome was the expected one.
fn show() -> Result<bool, Failure> {
    let mut right = true;
    for (version, name) in [(&TLS12, "TLS 1.2"), (&TLS13, "TLS 1.3")] {
        println!("{name:<57}  outcome");
        for (what, expected, outcome) in visits(version)? {
            let verdict = if outcome == expected {
                ""
            } else {
                "  <- WRONG"
            };
            right &= outcome == expected;
            println!("  {what:<55}  {outcome}{verdict}");
        }
        println!();
    }
    Ok(right)
}

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Full,
    Resumed,
    /// A full handshake in which the client lacked the certificate that the host requires.
    Refused,
}

use Outcome::{Full, Refused, Resumed};

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Full => "full handshake",
            Resumed => "resumed",
            Refused => "refused",
        })
    }
}

/// What was tried, the expected outcome, and the actual one.
type Row = (&'static str, Outcome, Outcome);

fn visits(version: &'static SupportedProtocolVersion) -> Result<Vec<Row>, Failure> {
    let (server_ca, client_ca, next_ca) = (authority("S")?, authority("C")?, authority("N")?);
    // A certificate that expires is noticed at once here; by default within a minute.
    let builder = Resumption::builder().recheck_interval(Duration::ZERO);
    let resumption = builder.build()?;
    let date = Arc::new(Date(AtomicU64::new(START)));
    let asking = |name: &'static str, verifier: Arc<dyn ClientCertVerifier>| {
        let mut config = server_config(name, &server_ca, Some(Arc::clone(&verifier)))?;
        config.time_provider = Arc::clone(&date) as Arc<dyn TimeProvider>;
        resumption.install_with_client_verifier(&mut config, name, verifier);
        Ok::<_, Failure>(Arc::new(config))
    };
    let private = |ca: &Authority, revoked: &[u64]| asking(PRIVATE, verifier(ca, revoked, true)?);

    let mut public = server_config(PUBLIC, &server_ca, None)?;
    resumption.install(&mut public, PUBLIC);
    let mut hosts = Hosts {
        resumption: resumption.clone(),
        public: Arc::new(public),
        optional: asking(OPTIONAL, verifier(&client_ca, &[], false)?)?,
        private: private(&client_ca, &[])?,
    };

    let anyone = || client_config(version, &server_ca, None);
    let known = || client_config(version, &server_ca, Some((&client_ca, MEMBER)));
    let (visitor, member) = (anyone()?, known()?);
    let mut rows = vec![
        ("public, first visit", Full, hosts.visit(&visitor, PUBLIC)),
        ("public, again", Resumed, hosts.visit(&visitor, PUBLIC)),
        (
            "private, first visit, with a certificate",
            Full,
            hosts.visit(&member, PRIVATE),
        ),
        ("private, again", Resumed, hosts.visit(&member, PRIVATE)),
        (
            "the public host's session at the private one",
            Refused,
            hosts.visit(&visitor, PRIVATE),
        ),
        (
            "the private host's session at the public one",
            Full,
            hosts.visit(&member, PUBLIC),
        ),
    ];
    // These were refused by scope, before any check of rustls's.
    let crossings = resumption.stats().tickets.refused.wrong_scope;
    let counted = if crossings == 2 { Refused } else { Resumed };
    rows.push((
        "both, as counted: refused for their scope",
        Refused,
        counted,
    ));

    let member = known()?;
    hosts.visit(&member, PRIVATE);
    hosts.private = private(&client_ca, &[])?;
    let row = ("private, with its own certificate renewed", Resumed);
    rows.push((row.0, row.1, hosts.visit(&member, PRIVATE)));

    hosts.private = private(&client_ca, &[MEMBER + 1])?;
    let row = ("private, with a new CRL that lists another client", Resumed);
    rows.push((row.0, row.1, hosts.visit(&member, PRIVATE)));
    hosts.private = private(&client_ca, &[MEMBER])?;
    let row = ("private, with a new CRL that lists this client", Refused);
    rows.push((row.0, row.1, hosts.visit(&member, PRIVATE)));

    let member = known()?;
    hosts.private = private(&client_ca, &[])?;
    hosts.visit(&member, PRIVATE);
    hosts.private = private(&next_ca, &[])?;
    let row = ("private, which now trusts another client CA", Refused);
    rows.push((row.0, row.1, hosts.visit(&member, PRIVATE)));

    // Where a certificate is optional a client without one may resume; its session is not one of the
    // private host, even if both had the same scope.
    let (visitor, member) = (anyone()?, known()?);
    hosts.private = private(&client_ca, &[])?;
    for (what, expected, client, host) in [
        ("optional, without a certificate", Full, &visitor, OPTIONAL),
        ("optional, again", Resumed, &visitor, OPTIONAL),
        (
            "that session at the private host",
            Refused,
            &visitor,
            PRIVATE,
        ),
        ("optional, with a certificate", Full, &member, OPTIONAL),
        ("optional, with it again", Resumed, &member, OPTIONAL),
    ] {
        rows.push((what, expected, hosts.visit(client, host)));
    }

    let member = known()?;
    hosts.visit(&member, PRIVATE);
    date.0.store(EXPIRED, Ordering::Relaxed);
    let row = ("private, its client's certificate having expired", Refused);
    rows.push((row.0, row.1, hosts.visit(&member, PRIVATE)));
    date.0.store(START, Ordering::Relaxed);
    let renewed = known()?;
    let row = ("private, with a renewed certificate", Full);
    rows.push((row.0, row.1, hosts.visit(&renewed, PRIVATE)));
    let row = ("private, with it again", Resumed);
    rows.push((row.0, row.1, hosts.visit(&renewed, PRIVATE)));

    // Without the verifier nobody could tell whether a certificate still holds.
    let member = known()?;
    let mut blind = server_config(PRIVATE, &server_ca, Some(verifier(&client_ca, &[], true)?))?;
    resumption.install(&mut blind, PRIVATE);
    hosts.private = Arc::new(blind);
    hosts.visit(&member, PRIVATE);
    let row = ("private, again, had it not handed its verifier over", Full);
    rows.push((row.0, row.1, hosts.visit(&member, PRIVATE)));
    Ok(rows)
}

/// The date by which the hosts verify certificates.
#[derive(Debug)]
struct Date(AtomicU64);

/// In 2027, in seconds since the Unix epoch.
const START: u64 = 1_811_808_000;

/// When clients' certificates have expired.
const EXPIRED: u64 = 1_900_000_000;

impl TimeProvider for Date {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.0.load(Ordering::Relaxed);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// Hosts behind one listener, told apart by SNI.
struct Hosts {
    resumption: Resumption,
    public: Arc<ServerConfig>,
    optional: Arc<ServerConfig>,
    private: Arc<ServerConfig>,
}

impl Hosts {
    /// Completes a handshake in memory, including the tickets after it.
    fn visit(&self, client: &Arc<ClientConfig>, host: &'static str) -> Outcome {
        // Followed, so that what one client is refused is not held against the next one.
        let visit = || self.try_visit(client, host);
        match self.resumption.follow_blocking(visit) {
            Ok((HandshakeKind::Resumed, _)) => Resumed,
            Ok(_) => Full,
            Err(_) => Refused,
        }
    }

    fn try_visit(
        &self,
        config: &Arc<ClientConfig>,
        host: &'static str,
    ) -> Result<HandshakeKind, Failure> {
        let mut client = ClientConnection::new(Arc::clone(config), ServerName::try_from(host)?)?;
        let mut server = self.accept(&mut client)?;
        while client.is_handshaking() || server.is_handshaking() {
            carry(&mut server, &mut client)?;
            carry(&mut client, &mut server)?;
        }
        carry(&mut server, &mut client)?;
        Ok(server.handshake_kind().ok_or("no handshake")?)
    }

    /// Chooses the configuration by the ClientHello.
    fn accept(&self, client: &mut ClientConnection) -> Result<ServerConnection, Failure> {
        let mut acceptor = Acceptor::default();
        let mut hello = Vec::new();
        client.write_tls(&mut hello)?;
        acceptor.read_tls(&mut hello.as_slice())?;
        let accepted = acceptor.accept().map_err(|(error, _)| error)?;
        let accepted = accepted.ok_or("half a ClientHello")?;
        let config = match accepted.client_hello().server_name() {
            Some(PRIVATE) => &self.private,
            Some(OPTIONAL) => &self.optional,
            _ => &self.public,
        };
        let connection = accepted.into_connection(Arc::clone(config));
        Ok(connection.map_err(|(error, _)| error)?)
    }
}

/// Moves what one side has to send to the other.
fn carry<A: SideData, B: SideData>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<(), Failure> {
    let mut wire = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut wire)?;
    }
    let mut wire = wire.as_slice();
    while !wire.is_empty() {
        to.read_tls(&mut wire)?;
        to.process_new_packets()?;
    }
    Ok(())
}

fn authority(name: &str) -> Result<Authority, Failure> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// The name in a client's certificate.
const CLIENT: &str = "member";

/// The serial number of a client's certificate.
const MEMBER: u64 = 7;

fn identity(
    name: &str,
    by: &Authority,
    serial: u64,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Failure> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.serial_number = Some(SerialNumber::from(serial));
    if name == CLIENT {
        params.not_after = date_time_ymd(2028, 1, 1);
    }
    let made = params.signed_by(&key, by)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((vec![made.der().clone()], key.into()))
}

fn roots(authority: &Authority) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    Ok(roots)
}

/// A verifier with a CRL that lists these serial numbers.
fn verifier(
    client_ca: &Authority,
    revoked: &[u64],
    insists: bool,
) -> Result<Arc<dyn ClientCertVerifier>, Failure> {
    let revoked = revoked.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let crl = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2100, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let crl = crl.signed_by(client_ca)?.into();
    let (roots, provider) = (Arc::new(roots(client_ca)?), Arc::new(default_provider()));
    let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
    if !insists {
        verifier = verifier.allow_unauthenticated();
    }
    Ok(verifier.with_crls([crl]).build()?)
}

fn server_config(
    name: &str,
    by: &Authority,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, Failure> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = identity(name, by, 1)?;
    Ok(builder.with_single_cert(chain, key)?)
}

/// A client that offers each host the sessions of all hosts.
fn client_config(
    version: &'static SupportedProtocolVersion,
    server_ca: &Authority,
    client: Option<(&Authority, u64)>,
) -> Result<Arc<ClientConfig>, Failure> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots(server_ca)?);
    let mut config = match client {
        Some((ca, serial)) => {
            let (chain, key) = identity(CLIENT, ca, serial)?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    let store = Mingling(ClientSessionMemoryCache::new(32));
    config.resumption = ClientResumption::store(Arc::new(store));
    Ok(Arc::new(config))
}

/// Keeps sessions regardless of the host that issued them, as an attacker would.
#[derive(Debug)]
struct Mingling(ClientSessionMemoryCache);

fn one_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())
}

impl ClientSessionStore for Mingling {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(one_name(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&one_name())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(one_name(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&one_name())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&one_name());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(one_name(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&one_name())
    }
}
