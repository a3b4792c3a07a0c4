//! What a configuration does about client certificates, learnt by a handshake in memory.
//!
//! rustls keeps the verifier of a `ServerConfig` private. But what the verifier asks of clients
//! shows on the wire: a client of our own shakes hands with a clone of the configuration, presents
//! no certificate, and sees whether it was asked for one and whether it was turned away. The clone
//! has nothing that could be noticed outside: no ticketer, store or key log, and a certificate
//! whose key signs nothing, so that neither the real key nor `verify_client_cert` is ever called.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::time_provider::DefaultTimeProvider;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, NoKeyLog, ServerConfig,
    ServerConnection, SignatureAlgorithm, SignatureScheme,
};

use super::policy::Policy;
use crate::errands::guarded;

/// The policy of a configuration. `None` if it cannot be learnt: no handshake gets far enough, or
/// the verifier panics.
pub(crate) fn learn(config: &ServerConfig) -> Option<Policy> {
    let attempt = |kind: &Kind| guarded(|| kind.shake_hands(config)).flatten();
    KINDS.iter().find_map(attempt)
}

/// What a handshake is tried with: cipher suites of TLS 1.2 want a certificate of their own kind,
/// and a verifier of raw public keys turns away who offers none.
struct Kind {
    server: SignatureAlgorithm,
    raw_public_keys: bool,
}

const KINDS: [Kind; 4] = [
    Kind::of(SignatureAlgorithm::ECDSA, false),
    Kind::of(SignatureAlgorithm::RSA, false),
    Kind::of(SignatureAlgorithm::ECDSA, true),
    Kind::of(SignatureAlgorithm::RSA, true),
];

/// Rounds in which either side may speak: a TLS 1.2 handshake takes two.
const MAX_ROUNDS: usize = 8;

impl Kind {
    const fn of(server: SignatureAlgorithm, raw_public_keys: bool) -> Self {
        Self {
            server,
            raw_public_keys,
        }
    }

    fn shake_hands(&self, config: &ServerConfig) -> Option<Policy> {
        let provider = Arc::clone(config.crypto_provider());
        let asked = Arc::new(Asked::new(self.raw_public_keys));
        let mut server = ServerConnection::new(self.stripped(config)?).ok()?;
        let client = client_config(provider, Arc::clone(&asked))?;
        let name = ServerName::try_from("client-auth.invalid").ok()?;
        let mut client = ClientConnection::new(client, name).ok()?;
        for _ in 0..MAX_ROUNDS {
            pass(&mut client, &mut server)?;
            match server.process_new_packets() {
                Ok(_) => {}
                Err(Error::NoCertificatesPresented) => return Some(Policy::Required),
                Err(_) => return None,
            }
            if !server.is_handshaking() {
                return Some(match asked.was_asked() {
                    true => Policy::Optional,
                    false => Policy::NotAsked,
                });
            }
            pass(&mut server, &mut client)?;
            client.process_new_packets().ok()?;
        }
        None
    }

    /// The configuration without what could be noticed outside or fail for another reason.
    fn stripped(&self, config: &ServerConfig) -> Option<Arc<ServerConfig>> {
        let fresh = ServerConfig::builder_with_provider(Arc::clone(config.crypto_provider()))
            .with_safe_default_protocol_versions()
            .ok()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Unsigned(self.server)));
        let mut stripped = config.clone();
        stripped.session_storage = Arc::new(NoServerSessionStorage {});
        stripped.ticketer = fresh.ticketer;
        stripped.cert_resolver = fresh.cert_resolver;
        stripped.key_log = Arc::new(NoKeyLog {});
        stripped.time_provider = Arc::new(DefaultTimeProvider);
        stripped.alpn_protocols.clear();
        stripped.cert_compressors.clear();
        stripped.cert_decompressors.clear();
        stripped.max_fragment_size = None;
        stripped.max_early_data_size = 0;
        stripped.send_half_rtt_data = false;
        stripped.send_tls13_tickets = 0;
        Some(Arc::new(stripped))
    }
}

fn client_config(provider: Arc<CryptoProvider>, asked: Arc<Asked>) -> Option<Arc<ClientConfig>> {
    let anyone = AnyServer(Arc::clone(&provider));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anyone))
        .with_client_cert_resolver(asked);
    config.resumption = rustls::client::Resumption::disabled();
    Some(Arc::new(config))
}

/// Hands on what one side has to say. `None` if the other cannot take it.
fn pass<A, B>(
    from: &mut rustls::ConnectionCommon<A>,
    to: &mut rustls::ConnectionCommon<B>,
) -> Option<()>
where
    A: rustls::SideData,
    B: rustls::SideData,
{
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).ok()?;
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).ok()?;
    }
    Some(())
}

/// The client's side: notes whether it is asked for a certificate, and has none.
#[derive(Debug)]
struct Asked {
    was_asked: AtomicBool,
    raw_public_keys: bool,
}

impl Asked {
    fn new(raw_public_keys: bool) -> Self {
        Self {
            was_asked: AtomicBool::new(false),
            raw_public_keys,
        }
    }

    fn was_asked(&self) -> bool {
        self.was_asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_asked.store(true, Ordering::Relaxed);
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        self.raw_public_keys
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Accepts whatever a server presents and however it is signed: it is ours, in memory.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A certificate that is none, with a key that signs nothing: a real key would have to be of a kind
/// that the provider knows.
#[derive(Clone, Copy, Debug)]
struct Unsigned(SignatureAlgorithm);

impl ResolvesServerCert for Unsigned {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificate = CertificateDer::from(vec![0x30, 0x00]);
        Some(Arc::new(CertifiedKey::new(
            vec![certificate],
            Arc::new(*self),
        )))
    }
}

impl SigningKey for Unsigned {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        // rustls has left out those that the version and the cipher suite do not allow.
        offered.first().map(|scheme| Box::new(Blank(*scheme)) as _)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0
    }
}

#[derive(Debug)]
struct Blank(SignatureScheme);

impl Signer for Blank {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![0; 64])
    }

    fn scheme(&self) -> SignatureScheme {
        self.0
    }
}

#[cfg(test)]
mod tests;
