use std::any::Any;
use std::sync::Arc;

use quinn_proto::crypto::{
    ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session,
    UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectionId, Side, TransportError};

use super::Report;
use super::follow::{Following, Seen};
use crate::handshake::Handshake;
use crate::resumption::Resumption;

impl Resumption {
    /// [Follows](Resumption::follow) every handshake of a QUIC endpoint: quinn's, and HTTP/3 on it.
    ///
    /// Wraps what quinn makes of a configuration that this `Resumption` is
    /// [installed](Resumption::install) in.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use rustls_resumption::Resumption;
    /// # fn f(resumption: Resumption, crypto: Arc<dyn quinn_proto::crypto::ServerConfig>) {
    /// // let crypto = Arc::new(quinn::crypto::rustls::QuicServerConfig::try_from(config)?);
    /// let crypto = resumption.follow_quic(crypto);
    /// let server = quinn_proto::ServerConfig::with_crypto(crypto); // it is `quinn::ServerConfig`
    /// # }
    /// ```
    pub fn follow_quic(&self, config: Arc<dyn ServerConfig>) -> Arc<dyn ServerConfig> {
        self.follow_quic_with(config, |_| ())
    }

    /// The same, and calls this at the end of each handshake, with what happened in it: for an
    /// access log, say.
    pub fn follow_quic_with(
        &self,
        config: Arc<dyn ServerConfig>,
        on_handshake: impl Fn(&Handshake) + Send + Sync + 'static,
    ) -> Arc<dyn ServerConfig> {
        Arc::new(Followed {
            config,
            resumption: self.clone(),
            report: Arc::new(on_handshake),
        })
    }
}

struct Followed {
    config: Arc<dyn ServerConfig>,
    resumption: Resumption,
    report: Report,
}

impl ServerConfig for Followed {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.config.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.config.retry_tag(version, id, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        Box::new(FollowedSession {
            session: Arc::clone(&self.config).start_session(version, params),
            following: Some(self.resumption.following()),
            report: Arc::clone(&self.report),
        })
    }
}

struct FollowedSession {
    session: Box<dyn Session>,
    /// `None` once the handshake is over.
    following: Option<Following>,
    report: Report,
}

impl FollowedSession {
    fn during<R>(&mut self, call: impl FnOnce(&mut dyn Session) -> R) -> R {
        let Some(mut following) = self.following.take() else {
            return call(&mut *self.session);
        };
        let result = following.during(|| call(&mut *self.session));
        match self.session.is_handshaking() {
            true => self.following = Some(following),
            false => {
                let handshake = following.end(Seen {
                    // There are keys for it, once the handshake is over, if it was accepted.
                    early_data: Some(self.session.early_crypto().is_some()),
                    ..Seen::default()
                });
                (self.report)(&handshake);
            }
        }
        result
    }
}

impl Session for FollowedSession {
    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.during(|session| session.read_handshake(buf))
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        self.during(|session| session.write_handshake(buf))
    }

    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        self.session.initial_keys(id, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.session.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.session.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.session.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.session.transport_parameters()
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.session.next_1rtt_keys()
    }

    fn is_valid_retry(&self, id: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.session.is_valid_retry(id, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}

#[cfg(test)]
mod tests {
    use quinn_proto::TransportErrorCode;

    use super::*;

    fn parameters() -> TransportParameters {
        TransportParameters::read(Side::Client, &mut [].as_slice()).unwrap()
    }

    /// Gives answers that tell it from others.
    struct Peculiar {
        is_early: bool,
    }

    impl ServerConfig for Peculiar {
        fn initial_keys(&self, _: u32, _: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
            Err(UnsupportedVersion)
        }

        fn retry_tag(&self, version: u32, _: &ConnectionId, packet: &[u8]) -> [u8; 16] {
            [version as u8 + packet[0]; 16]
        }

        fn start_session(self: Arc<Self>, _: u32, _: &TransportParameters) -> Box<dyn Session> {
            let is_early = self.is_early;
            Box::new(Self { is_early })
        }
    }

    impl Session for Peculiar {
        fn initial_keys(&self, _: &ConnectionId, _: Side) -> Keys {
            unreachable!("there are none")
        }

        fn handshake_data(&self) -> Option<Box<dyn Any>> {
            Some(Box::new("handshake data"))
        }

        fn peer_identity(&self) -> Option<Box<dyn Any>> {
            Some(Box::new("peer"))
        }

        fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
            None
        }

        fn early_data_accepted(&self) -> Option<bool> {
            Some(self.is_early)
        }

        fn is_handshaking(&self) -> bool {
            true
        }

        fn read_handshake(&mut self, _: &[u8]) -> Result<bool, TransportError> {
            Ok(false)
        }

        fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
            Err(TransportErrorCode::crypto(1).into())
        }

        fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
            buf.push(7);
            None
        }

        fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
            None
        }

        fn is_valid_retry(&self, _: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
            header == payload
        }

        fn export_keying_material(
            &self,
            output: &mut [u8],
            label: &[u8],
            context: &[u8],
        ) -> Result<(), ExportKeyingMaterialError> {
            output[0] = label[0] + context[0];
            Ok(())
        }
    }

    #[test]
    fn whatever_is_asked_of_a_followed_endpoint_is_answered_by_the_one_within() {
        let resumption = Resumption::tickets().unwrap();
        for is_early in [false, true] {
            let followed = resumption.follow_quic(Arc::new(Peculiar { is_early }));
            let session = followed.start_session(1, &parameters());
            assert_eq!(session.early_data_accepted(), Some(is_early));
        }
        let followed = resumption.follow_quic(Arc::new(Peculiar { is_early: false }));
        let id = ConnectionId::new(&[1, 2, 3]);
        assert!(followed.initial_keys(1, &id).is_err());
        assert_eq!(followed.retry_tag(1, &id, &[4]), [5; 16]);
        let mut session = followed.start_session(1, &parameters());
        let shown = |any: Option<Box<dyn Any>>| *any.unwrap().downcast::<&str>().unwrap();
        assert_eq!(shown(session.handshake_data()), "handshake data");
        assert_eq!(shown(session.peer_identity()), "peer");
        assert!(session.early_crypto().is_none());
        assert!(session.is_handshaking() && session.transport_parameters().is_err());
        assert!(session.next_1rtt_keys().is_none());
        assert!(session.is_valid_retry(&id, b"same", b"same"));
        assert!(!session.is_valid_retry(&id, b"same", b"other"));
        let (mut written, mut exported) = (Vec::new(), [0]);
        assert!(!session.read_handshake(&[]).unwrap());
        assert!(session.write_handshake(&mut written).is_none());
        session
            .export_keying_material(&mut exported, &[8], &[1])
            .unwrap();
        assert_eq!((written, exported), (vec![7], [9]));
    }
}
