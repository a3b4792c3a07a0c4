use std::sync::Arc;

use rustls::server::{Acceptor, ResolvesServerCertUsingSni};
use rustls::{Error, PeerIncompatible, ServerConfig};

/// Whether a configuration takes TLS 1.3 connections, which rustls does not tell: it is shown a
/// ClientHello of TLS 1.3 alone.
pub(super) fn speaks_tls13(config: &ServerConfig) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_whether_a_configuration_speaks_tls13() {
        use rustls::version::{TLS12, TLS13};

        let versions: [(&[_], _); 3] = [
            (&[&TLS12], false),
            (&[&TLS13], true),
            (&[&TLS12, &TLS13], true),
        ];
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        for (versions, expected) in versions {
            let config = ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(versions)
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
            assert_eq!(speaks_tls13(&config), expected, "{versions:?}");
        }
    }
}
