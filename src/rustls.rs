//! Everything that depends on rustls's own shapes: the implementations of its traits, and a parser
//! of the encoding of its sessions. The one file to port to another line of rustls.

#[cfg(feature = "acceptor")]
use std::sync::Arc;

#[cfg(feature = "acceptor")]
use rustls::ServerConfig;
use rustls::server::{ProducesTickets, StoresServerSessions};

use crate::cache::SessionCache;
use crate::ring::StekRing;
use crate::storage::Storage;

/// The line of rustls whose session encoding goes into tickets. Part of every [`KeyName`]
/// (crate::KeyName), so that another line's tickets are simply unknown.
pub(crate) const CODEC_LINE: &str = "rustls 0.23";

impl StoresServerSessions for SessionCache {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.store(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.fetch(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.claim(key)
    }

    fn can_cache(&self) -> bool {
        self.has_room()
    }
}

impl StoresServerSessions for Storage {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.store(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.fetch(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.claim(key)
    }

    fn can_cache(&self) -> bool {
        self.answer_search();
        self.has_room()
    }
}

impl ProducesTickets for StekRing {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // At most 7 days; see `Rotation::validate`.
        u32::try_from(self.ticket_lifetime().as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher)
    }
}

/// Makes no tickets: rustls's own such type is private.
#[derive(Debug)]
pub(crate) struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _cipher: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// Whether a configuration takes TLS 1.3 connections, which rustls does not tell: it is shown a
/// ClientHello of TLS 1.3 alone.
#[cfg(feature = "acceptor")]
pub(crate) fn speaks_tls13(config: &ServerConfig) -> bool {
    use rustls::server::{Acceptor, ResolvesServerCertUsingSni};
    use rustls::{Error, PeerIncompatible};

    let mut acceptor = Acceptor::default();
    let read = acceptor.read_tls(&mut tls13_hello().as_slice());
    let (Ok(_), Ok(Some(accepted))) = (read, acceptor.accept()) else {
        return true; // a rustls that asks for more; most do speak it
    };
    let mut config = config.clone();
    // If it does, the handshake ends here, for want of a certificate.
    config.cert_resolver = Arc::new(ResolvesServerCertUsingSni::new());
    let refused = accepted.into_connection(Arc::new(config)).err();
    let not_enabled = Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled);
    refused.is_none_or(|(error, _)| error != not_enabled)
}

/// A record with a ClientHello that has what rustls asks of one before it looks at versions.
#[cfg(feature = "acceptor")]
fn tls13_hello() -> Vec<u8> {
    let header = [22, 3, 1, 0, 62, 1, 0, 0, 58];
    let version_and_random = [3; 2 + 32];
    let no_session_id = [0];
    let suite_and_compression = [0, 2, 0x13, 1, 1, 0];
    let extensions = [0, 15];
    let supported_versions = [0, 43, 0, 3, 2, 3, 4];
    let signature_algorithms = [0, 13, 0, 4, 0, 2, 4, 3];
    let parts: [&[u8]; 7] = [
        &header,
        &version_and_random,
        &no_session_id,
        &suite_and_compression,
        &extensions,
        &supported_versions,
        &signature_algorithms,
    ];
    parts.concat()
}

/// What we read of a session that rustls encoded (`ServerSessionValue` in its `msgs/persist.rs`):
///
/// ```text
///  has SNI (1) [length (1), SNI]
///  version (2)
///  cipher suite (2)
///  length (1), master secret or PSK
///  extended master secret (1)
///  has client certificates (1) [length (3), each: length (3), DER]
///  has ALPN (1) [length (1), ALPN]
///  length (2), application data
///  creation time (8)
///  age obfuscation offset (4)
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Session<'a> {
    pub(crate) version: Version,
    pub(crate) secret: &'a [u8],
    pub(crate) application_data: &'a [u8],
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

impl Version {
    /// As TLS writes it.
    pub(crate) fn wire(self) -> [u8; 2] {
        match self {
            Self::Tls12 => [3, 3],
            Self::Tls13 => [3, 4],
        }
    }
}

impl<'a> Session<'a> {
    /// `None` if these bytes are not a session of the rustls line that we know.
    pub(crate) fn parse(encoded: &'a [u8]) -> Option<Self> {
        let mut input = Input::new(encoded);
        if input.flag()? {
            input.vector::<1>()?;
        }
        let version = match input.array()? {
            [3, 3] => Version::Tls12,
            [3, 4] => Version::Tls13,
            _ => return None,
        };
        let _cipher_suite = input.array::<2>()?;
        let secret = input.vector::<1>()?;
        let _extended_master_secret = input.flag()?;
        if input.flag()? {
            input.vector::<3>()?;
        }
        if input.flag()? {
            input.vector::<1>()?;
        }
        let application_data = input.vector::<2>()?;
        let _creation_time = input.array::<8>()?;
        let _age_obfuscation_offset = input.array::<4>()?;
        input.is_empty().then_some(Self {
            version,
            secret,
            application_data,
        })
    }
}

/// Reads an encoding front to back. What is cut short gives `None`.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.array()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// Bytes preceded by their length in `N` bytes.
    fn vector<const N: usize>(&mut self) -> Option<&'a [u8]> {
        let len = self
            .array::<N>()?
            .iter()
            .fold(0, |len, byte| (len << 8) | usize::from(*byte));
        let (vector, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(vector)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A session as rustls encodes it, with the parts that this crate reads.
    pub(crate) fn encoded(version: Version, secret: &[u8], application_data: &[u8]) -> Vec<u8> {
        let mut out = vec![1, 9];
        out.extend_from_slice(b"localhost");
        out.extend_from_slice(match version {
            Version::Tls12 => &[3, 3, 0xc0, 0x2b],
            Version::Tls13 => &[3, 4, 0x13, 1],
        });
        out.push(secret.len() as u8);
        out.extend_from_slice(secret);
        out.extend_from_slice(&[1, 1, 0, 0, 6, 0, 0, 3, b'd', b'e', b'r', 1, 2, b'h', b'2']);
        out.extend_from_slice(&(application_data.len() as u16).to_be_bytes());
        out.extend_from_slice(application_data);
        out.extend_from_slice(&[0; 12]);
        out
    }

    #[test]
    fn reads_the_parts_of_either_version() {
        for version in [Version::Tls12, Version::Tls13] {
            let bytes = encoded(version, &[7; 48], b"app");
            let expected = Session {
                version,
                secret: &[7; 48],
                application_data: b"app",
            };
            assert_eq!(Session::parse(&bytes), Some(expected));
        }
    }

    #[cfg(feature = "acceptor")]
    #[test]
    fn tells_whether_a_configuration_speaks_tls13() {
        use rustls::version::{TLS12, TLS13};

        let versions: [(&[_], _); 3] = [
            (&[&TLS12], false),
            (&[&TLS13], true),
            (&[&TLS12, &TLS13], true),
        ];
        for provider in [
            rustls::crypto::aws_lc_rs::default_provider(),
            rustls::crypto::ring::default_provider(),
        ] {
            for (versions, expected) in versions {
                let config = ServerConfig::builder_with_provider(Arc::new(provider.clone()))
                    .with_protocol_versions(versions)
                    .unwrap()
                    .with_no_client_auth()
                    .with_cert_resolver(
                        Arc::new(rustls::server::ResolvesServerCertUsingSni::new()),
                    );
                assert_eq!(speaks_tls13(&config), expected, "{versions:?}");
            }
        }
    }

    #[test]
    fn anything_cut_short_or_too_long_is_not_a_session() {
        let bytes = encoded(Version::Tls12, &[7; 48], b"app");
        for len in 0..bytes.len() {
            assert_eq!(Session::parse(&bytes[..len]), None, "{len}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Session::parse(&longer), None);
        assert_eq!(Session::parse(&[0; 200]), None);
        assert_eq!(Session::parse(&[0xff; 200]), None);
    }
}
