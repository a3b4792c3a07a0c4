//! The parts of TLS messages that concern resumption.

use std::time::Duration;

use tls_codec::{
    DeserializeBytes as _, TlsByteVecU8, TlsByteVecU16, TlsByteVecU24, TlsDeserializeBytes,
    TlsSize, TlsVecU16,
};

/// A record, RFC 8446 5.1.
#[derive(TlsDeserializeBytes, TlsSize)]
pub(crate) struct Record {
    pub(crate) content_type: u8,
    legacy_version: u16,
    pub(crate) fragment: TlsByteVecU16,
}

impl Record {
    /// Removes the first record from `bytes`. None while it is incomplete.
    pub(crate) fn split_off(bytes: &mut Vec<u8>) -> Option<Self> {
        let (record, rest) = Self::tls_deserialize_bytes(bytes).ok()?;
        let length = bytes.len() - rest.len();
        bytes.drain(..length);
        Some(record)
    }
}

/// A handshake message, RFC 8446 4.
#[derive(TlsDeserializeBytes, TlsSize)]
pub(crate) struct Message {
    pub(crate) message_type: u8,
    pub(crate) body: TlsByteVecU24,
}

impl Message {
    /// Removes the first message from `bytes`. None while it is incomplete.
    pub(crate) fn split_off(bytes: &mut Vec<u8>) -> Option<Self> {
        let (message, rest) = Self::tls_deserialize_bytes(bytes).ok()?;
        let length = bytes.len() - rest.len();
        bytes.drain(..length);
        Some(message)
    }
}

pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const APPLICATION_DATA: u8 = 23;

pub(crate) const SERVER_HELLO: u8 = 2;
pub(crate) const NEW_SESSION_TICKET: u8 = 4;
pub(crate) const KEY_UPDATE: u8 = 24;

/// What a TLS 1.2 server sends in plaintext about resumption, before its ChangeCipherSpec.
#[derive(Default)]
pub(crate) struct ClearFlight {
    /// 0 if the session cannot be resumed by ID.
    pub(crate) session_id_length: usize,
    pub(crate) ticket: Option<TicketFacts>,
}

impl ClearFlight {
    /// Parses what a TLS 1.2 server sent, and ignores the rest.
    pub(crate) fn read(received: &[u8]) -> Self {
        let mut records = received.to_vec();
        let mut handshake = Vec::new();
        while let Some(record) = Record::split_off(&mut records) {
            match record.content_type {
                HANDSHAKE => handshake.extend_from_slice(record.fragment.as_slice()),
                CHANGE_CIPHER_SPEC => break,
                _ => {}
            }
        }

        let mut flight = Self::default();
        while let Some(message) = Message::split_off(&mut handshake) {
            let body = message.body.as_slice();
            match message.message_type {
                SERVER_HELLO => {
                    if let Ok((hello, _)) = ServerHello::tls_deserialize_bytes(body) {
                        flight.session_id_length = hello.session_id.as_slice().len();
                    }
                }
                NEW_SESSION_TICKET => flight.ticket = TicketFacts::of_tls12(body),
                _ => {}
            }
        }
        flight
    }
}

/// What a NewSessionTicket says about its ticket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TicketFacts {
    /// In seconds; 0 means unspecified in TLS 1.2, and "do not use" in TLS 1.3.
    pub(crate) lifetime_hint: u32,
    /// In bytes.
    pub(crate) size: usize,
    /// How many bytes of early data it allows.
    pub(crate) max_early_data: u32,
}

impl TicketFacts {
    /// How long the server promises to accept it, if it does.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        (self.lifetime_hint > 0).then(|| Duration::from_secs(self.lifetime_hint.into()))
    }

    /// None if it is no NewSessionTicket, or if the ticket is empty, which withdraws the offer of
    /// one (RFC 5077 3.3).
    fn of_tls12(body: &[u8]) -> Option<Self> {
        let message = NewSessionTicketTls12::tls_deserialize_exact_bytes(body).ok()?;
        let size = message.ticket.as_slice().len();
        (size > 0).then_some(Self {
            lifetime_hint: message.lifetime_hint,
            size,
            max_early_data: 0,
        })
    }

    pub(crate) fn of_tls13(body: &[u8]) -> Option<Self> {
        let message = NewSessionTicketTls13::tls_deserialize_exact_bytes(body).ok()?;
        let early_data = message
            .extensions
            .iter()
            .find(|extension| extension.extension_type == EARLY_DATA);
        Some(Self {
            lifetime_hint: message.lifetime,
            size: message.ticket.as_slice().len(),
            max_early_data: early_data
                .and_then(|extension| extension.data.as_slice().try_into().ok())
                .map_or(0, u32::from_be_bytes),
        })
    }
}

/// The head of a ServerHello, RFC 5246 7.4.1.3.
#[derive(TlsDeserializeBytes, TlsSize)]
struct ServerHello {
    version: u16,
    random: [u8; 32],
    session_id: TlsByteVecU8,
}

/// RFC 5077 3.3.
#[derive(TlsDeserializeBytes, TlsSize)]
struct NewSessionTicketTls12 {
    lifetime_hint: u32,
    ticket: TlsByteVecU16,
}

/// RFC 8446 4.6.1.
#[derive(TlsDeserializeBytes, TlsSize)]
struct NewSessionTicketTls13 {
    lifetime: u32,
    age_add: u32,
    nonce: TlsByteVecU8,
    ticket: TlsByteVecU16,
    extensions: TlsVecU16<Extension>,
}

/// RFC 8446 4.2.
#[derive(Debug, TlsDeserializeBytes, TlsSize)]
struct Extension {
    extension_type: u16,
    data: TlsByteVecU16,
}

const EARLY_DATA: u16 = 42;
