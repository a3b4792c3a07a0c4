//! Real handshakes in memory, between rustls's server and client.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::client::Resumption as ClientResumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig,
    ServerConnection, SupportedProtocolVersion,
};
use rustls_resumption::Resumption;

pub const FULL: HandshakeKind = HandshakeKind::Full;
pub const RESUMED: HandshakeKind = HandshakeKind::Resumed;
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

pub struct Pki {
    pub ca: CertificateDer<'static>,
    pub server: (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>),
    pub client: (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>),
}

pub static PKI: LazyLock<Pki> = LazyLock::new(|| {
    let mut params = CertificateParams::new(vec!["Test CA".into()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let leaf = |name: &str, usage| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.into()]).unwrap();
        params.extended_key_usages = vec![usage];
        let cert = params.signed_by(&key, &ca).unwrap();
        (
            cert.der().clone(),
            PrivatePkcs8KeyDer::from(key.serialize_der()),
        )
    };
    Pki {
        server: leaf("localhost", ExtendedKeyUsagePurpose::ServerAuth),
        client: leaf("a client", ExtendedKeyUsagePurpose::ClientAuth),
        ca: ca.der().clone(),
    }
});

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

pub fn ring_provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub fn roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(PKI.ca.clone()).unwrap();
    Arc::new(roots)
}

fn key(der: &PrivatePkcs8KeyDer<'static>) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(der.clone_key())
}

pub fn server_config() -> ServerConfig {
    server_config_with(provider(), false)
}

/// A server that asks for client certificates and takes no connection without.
pub fn mtls_server_config() -> ServerConfig {
    server_config_with(provider(), true)
}

pub fn server_config_with(provider: Arc<CryptoProvider>, client_auth: bool) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS12, &TLS13])
        .unwrap();
    let builder = match client_auth {
        true => builder.with_client_cert_verifier(client_verifier(provider)),
        false => builder.with_no_client_auth(),
    };
    let (cert, der) = &PKI.server;
    builder
        .with_single_cert(vec![cert.clone()], key(der))
        .unwrap()
}

/// What [`mtls_server_config`] verifies client certificates with.
pub fn client_verifier(provider: Arc<CryptoProvider>) -> Arc<dyn ClientCertVerifier> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(), provider);
    verifier.build().unwrap()
}

/// A client with a session store of its own: each is another returning client.
pub fn client(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    Arc::new(client_config(version))
}

pub fn client_config(version: &'static SupportedProtocolVersion) -> ClientConfig {
    let (cert, der) = &PKI.client;
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots())
        .with_client_auth_cert(vec![cert.clone()], key(der))
        .unwrap()
}

/// A TLS 1.2 client that does not speak tickets, so resumes by session ID.
pub fn client_without_tickets() -> Arc<ClientConfig> {
    let mut config = client_config(&TLS12);
    config.resumption = ClientResumption::in_memory_sessions(32)
        .tls12_resumption(rustls::client::Tls12Resumption::SessionIdOnly);
    Arc::new(config)
}

#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub kind: HandshakeKind,
    pub version: ProtocolVersion,
    /// Early data, as far as the server accepted it.
    pub early: Vec<u8>,
}

/// A handshake and an exchange after it, in which the client gets its tickets.
pub fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Outcome {
    try_handshake(client, server, b"").unwrap()
}

/// A call that is a part of a handshake which begins now, and is followed.
pub fn followed<T>(resumption: &Resumption, call: impl FnOnce() -> T) -> T {
    let call = || Ok::<_, Infallible>(call());
    let Ok((result, _)) = resumption.follow_blocking(call);
    result
}

pub fn kind(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> HandshakeKind {
    handshake(client, server).kind
}

pub fn try_handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    early_data: &[u8],
) -> Result<Outcome, rustls::Error> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(client.clone(), name)?;
    let mut server = ServerConnection::new(server.clone())?;
    if let Some(mut early) = client.early_data() {
        early.write_all(early_data).unwrap();
    }
    let mut early = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        carry(&mut client, &mut server)?;
        if let Some(mut data) = server.early_data() {
            data.read_to_end(&mut early).unwrap();
        }
        carry(&mut server, &mut client)?;
    }
    echo(&mut client, &mut server)?;
    Ok(Outcome {
        kind: server.handshake_kind().unwrap(),
        version: server.protocol_version().unwrap(),
        early,
    })
}

/// What a client says before it hears anything: what an attacker may record and say again.
pub fn first_flight(client: &Arc<ClientConfig>, early_data: &[u8]) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    if !early_data.is_empty() {
        let mut early = client.early_data().expect("a ticket that allows it");
        early.write_all(early_data).unwrap();
    }
    let mut wire = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut wire).unwrap();
    }
    wire
}

/// The early data that a server takes from a recorded first flight.
pub fn early_data_accepted(server: &Arc<ServerConfig>, mut flight: &[u8]) -> Option<Vec<u8>> {
    let mut server = ServerConnection::new(server.clone()).unwrap();
    while !flight.is_empty() {
        server.read_tls(&mut flight).unwrap();
        server.process_new_packets().unwrap();
    }
    let mut early = Vec::new();
    server.early_data()?.read_to_end(&mut early).unwrap();
    Some(early)
}

fn echo(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
    client.writer().write_all(b"ping").unwrap();
    carry(client, server)?;
    let mut ping = [0; 4];
    server.reader().read_exact(&mut ping).unwrap();
    server.writer().write_all(&ping).unwrap();
    carry(server, client)?;
    client.reader().read_exact(&mut ping).unwrap();
    assert_eq!(&ping, b"ping");
    Ok(())
}

/// Moves what one side has to say to the other.
pub fn carry<A, B>(
    from: &mut impl std::ops::DerefMut<Target = rustls::ConnectionCommon<A>>,
    to: &mut impl std::ops::DerefMut<Target = rustls::ConnectionCommon<B>>,
) -> Result<(), rustls::Error> {
    let mut wire = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut wire).unwrap();
    }
    let mut wire = wire.as_slice();
    while !wire.is_empty() {
        to.read_tls(&mut wire).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}
