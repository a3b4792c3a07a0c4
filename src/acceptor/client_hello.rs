//! What a client offers to resume.

use std::borrow::Cow;

use crate::reader::Reader;

/// How many sessions are looked up for one ClientHello, at most. rustls itself offers one.
const MAX_IDENTITIES: usize = 4;

/// What of a ClientHello matters to resumption. Empty where it cannot be parsed: whether it is well
/// formed is rustls's to say.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Offer {
    /// Whether TLS 1.3 is among the client's versions.
    pub(super) tls13: bool,
    /// The first PSK identities that may be sessions in a store, if the client resumes as rustls
    /// does (`psk_dhe_ke`).
    pub(super) identities: Vec<[u8; 32]>,
    pub(super) has_identities: bool,
    /// The TLS 1.2 session ID, if it may be in a store. A TLS 1.3 client makes one up.
    pub(super) session_id: Option<[u8; 32]>,
    pub(super) has_session_id: bool,
    /// A TLS 1.2 ticket; then rustls looks at no session ID.
    pub(super) has_ticket: bool,
    /// Whether early data follows.
    pub(super) early_data: bool,
}

impl Offer {
    /// Reads it from the first records that a client sent, which may go on after the ClientHello.
    pub(super) fn read(records: &[u8]) -> Self {
        let message = first_handshake_message(records);
        message
            .and_then(|message| Self::parse(&message))
            .unwrap_or_default()
    }

    /// Reads a ClientHello ([RFC 8446 §4.1.2]).
    ///
    /// [RFC 8446 §4.1.2]: https://www.rfc-editor.org/rfc/rfc8446#section-4.1.2
    fn parse(message: &[u8]) -> Option<Self> {
        let mut message = Reader::new(message);
        let (kind, body) = (message.u8()?, message.vector::<3>()?);
        let mut hello = (kind == CLIENT_HELLO).then(|| Reader::new(body))?;
        let _legacy_version = hello.u16()?;
        let _random = hello.take(32)?;
        let session_id = hello.vector::<1>()?;
        let _cipher_suites = hello.vector::<2>()?;
        let _compression_methods = hello.vector::<1>()?;
        let mut offer = Self {
            session_id: session_id.try_into().ok(),
            has_session_id: !session_id.is_empty(),
            ..Self::default()
        };
        // TLS 1.2 may go without extensions.
        let extensions = match hello.is_empty() {
            true => &[],
            false => whole(&mut hello, Reader::vector::<2>)?,
        };
        let mut extensions = Reader::new(extensions);
        let mut resumes_with_dhe = false;
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            let mut body = Reader::new(extensions.vector::<2>()?);
            match kind {
                SESSION_TICKET => offer.has_ticket = !body.is_empty(),
                EARLY_DATA => offer.early_data = true,
                // It comes last, or rustls refuses the ClientHello (§4.2.11).
                PRE_SHARED_KEY if !extensions.is_empty() => return None,
                PRE_SHARED_KEY => offer.read_identities(body)?,
                SUPPORTED_VERSIONS => {
                    let mut versions = whole(&mut body, Reader::vector::<1>)?.chunks_exact(2);
                    let is_even = versions.remainder().is_empty();
                    offer.tls13 = is_even.then(|| versions.any(|version| version == TLS13))?;
                }
                PSK_KEY_EXCHANGE_MODES => {
                    let modes = whole(&mut body, Reader::vector::<1>)?;
                    resumes_with_dhe = modes.contains(&PSK_DHE_KE);
                }
                _ => {}
            }
        }
        if !resumes_with_dhe {
            offer.identities.clear();
        }
        Some(offer)
    }

    /// Reads what comes first in the extension `pre_shared_key`, §4.2.11.
    fn read_identities(&mut self, mut pre_shared_key: Reader<'_>) -> Option<()> {
        let mut identities = Reader::new(pre_shared_key.vector::<2>()?);
        while !identities.is_empty() {
            let identity = identities.vector::<2>()?;
            let _obfuscated_ticket_age = identities.array::<4>()?;
            self.has_identities = true;
            if self.identities.len() < MAX_IDENTITIES {
                self.identities.extend(<[u8; 32]>::try_from(identity));
            }
        }
        Some(())
    }
}

/// What is read, if nothing is left then.
fn whole<'a>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Option<&'a [u8]>,
) -> Option<&'a [u8]> {
    read(reader).filter(|_| reader.is_empty())
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SESSION_TICKET: u16 = 35;
const PRE_SHARED_KEY: u16 = 41;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;
const PSK_KEY_EXCHANGE_MODES: u16 = 45;
const TLS13: [u8; 2] = [3, 4];
const PSK_DHE_KE: u8 = 1;

/// A handshake message, put together from the records (§5.1) that it is spread over.
fn first_handshake_message(records: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut records = Reader::new(records);
    let mut message: Cow<'_, [u8]> = Cow::default();
    loop {
        let content_type = records.u8()?;
        let _legacy_version = records.u16()?;
        let fragment = records.vector::<2>()?;
        if content_type != HANDSHAKE {
            return None;
        }
        match message.is_empty() {
            true => message = Cow::Borrowed(fragment),
            false => message.to_mut().extend_from_slice(fragment),
        }
        if is_complete(&message) {
            return Some(message);
        }
    }
}

/// Whether the message is there in whole. Looked at for each record, however short they are, so it
/// copies nothing.
fn is_complete(message: &[u8]) -> bool {
    let Some((&[_, a, b, c], body)) = message.split_first_chunk() else {
        return false;
    };
    body.len() >= u32::from_be_bytes([0, a, b, c]) as usize
}

#[cfg(any(test, rustls_resumption_fuzzing))]
#[path = "../../fuzz/bodies/private/client_hello.rs"]
pub(super) mod fuzzed;

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello's body with these extensions.
    fn hello(session_id: &[u8], extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([9; 32]);
        body.push(session_id.len() as u8);
        body.extend(session_id);
        body.extend([0, 2, 0x13, 1, 1, 0]);
        let extensions: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, body)| [&kind.to_be_bytes()[..], &with_len(body)].concat())
            .collect();
        body.extend(with_len(&extensions));
        body
    }

    fn with_len(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
    }

    fn identities<'a>(ids: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let identity = |id| [&with_len(id)[..], &[1, 2, 3, 4]].concat();
        let list: Vec<u8> = ids.into_iter().flat_map(identity).collect();
        let binders = [&[32][..], &[5; 32]].concat();
        [with_len(&list), with_len(&binders)].concat()
    }

    /// In records of this many bytes.
    fn records(body: &[u8], fragment: usize) -> Vec<u8> {
        let len = (body.len() as u32).to_be_bytes();
        let message = [&[CLIENT_HELLO], &len[1..], body].concat();
        let record = |fragment: &[u8]| [&[HANDSHAKE, 3, 1][..], &with_len(fragment)].concat();
        message.chunks(fragment).flat_map(record).collect()
    }

    const VERSIONS: (u16, &[u8]) = (SUPPORTED_VERSIONS, &[4, 3, 4, 3, 3]);
    const DHE: (u16, &[u8]) = (PSK_KEY_EXCHANGE_MODES, &[1, 1]);

    #[test]
    fn finds_identities_however_the_message_is_cut_into_records() {
        let psk = identities([&[7; 32][..], &[8; 200], &[9; 32]]);
        let body = hello(
            &[6; 32],
            &[
                (0x0a0a, &[]),
                VERSIONS,
                DHE,
                (EARLY_DATA, &[]),
                (PRE_SHARED_KEY, &psk),
            ],
        );
        let expected = Offer {
            tls13: true,
            identities: vec![[7; 32], [9; 32]],
            has_identities: true,
            session_id: Some([6; 32]),
            has_session_id: true,
            has_ticket: false,
            early_data: true,
        };
        for fragment in [1, 2, 3, 4, 5, 100, 16_384] {
            let mut records = records(&body, fragment);
            assert_eq!(Offer::read(&records), expected, "{fragment}");
            records.extend([20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 9]); // early data may follow
            assert_eq!(Offer::read(&records), expected, "{fragment}");
        }
    }

    #[test]
    fn takes_the_first_few_of_many_identities() {
        let many: Vec<[u8; 32]> = (0..1_600u16)
            .map(|i| std::array::from_fn(|j| i.to_be_bytes()[j % 2]))
            .collect();
        let psk = identities(many.iter().map(<[u8; 32]>::as_slice));
        let body = hello(&[], &[VERSIONS, DHE, (PRE_SHARED_KEY, &psk)]);
        assert!(body.len() > 60_000);
        let offer = Offer::read(&records(&body, 16_384));
        assert_eq!(offer.identities, many[..4]);
    }

    #[test]
    fn sessions_that_rustls_would_not_resume_are_not_looked_up() {
        let psk = identities([&[7; 32][..]]);
        let without_dhe = hello(
            &[],
            &[VERSIONS, (PSK_KEY_EXCHANGE_MODES, &[1, 0]), (41, &psk)],
        );
        let offer = Offer::read(&records(&without_dhe, 100));
        assert!(offer.has_identities && offer.identities.is_empty());
        let no_modes = hello(&[], &[VERSIONS, (41, &psk)]);
        assert!(Offer::read(&records(&no_modes, 100)).identities.is_empty());
    }

    #[test]
    fn a_tls12_client_offers_a_session_id_or_a_ticket() {
        let offer = Offer::read(&records(&hello(&[6; 32], &[(SESSION_TICKET, &[])]), 100));
        assert_eq!(offer.session_id, Some([6; 32]));
        assert!(!offer.tls13 && !offer.has_ticket);
        let offer = Offer::read(&records(&hello(&[6; 32], &[(SESSION_TICKET, &[1])]), 100));
        assert!(offer.has_ticket);
        let offer = Offer::read(&records(&hello(&[6; 31], &[]), 100));
        assert!(offer.has_session_id && offer.session_id.is_none());
    }

    #[test]
    fn anything_cut_short_or_malformed_offers_nothing() {
        let psk = identities([&[7; 32][..]]);
        let body = hello(&[6; 32], &[VERSIONS, DHE, (PRE_SHARED_KEY, &psk)]);
        let whole = records(&body, 50);
        for len in 0..whole.len() {
            assert_eq!(Offer::read(&whole[..len]), Offer::default(), "{len}");
        }
        for len in 2..psk.len() {
            let body = hello(&[6; 32], &[VERSIONS, DHE, (PRE_SHARED_KEY, &psk[..len])]);
            let offer = Offer::read(&records(&body, 50));
            assert!(offer.identities.len() <= 1, "{len}");
        }
        for behind in [VERSIONS, (PRE_SHARED_KEY, &psk)] {
            let body = hello(&[6; 32], &[DHE, (PRE_SHARED_KEY, &psk), behind]);
            assert_eq!(Offer::read(&records(&body, 50)), Offer::default());
        }
        for garbage in [&[0xff; 500][..], &[22; 500], b"GET / HTTP/1.1\r\n\r\n"] {
            assert_eq!(Offer::read(garbage), Offer::default());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            Offer::read(&bytes);
            let offer = Offer::read(&records(&bytes, 64));
            assert!(offer.identities.len() <= MAX_IDENTITIES);
            let psk = hello(&[6; 32], &[VERSIONS, DHE, (PRE_SHARED_KEY, &bytes)]);
            Offer::read(&records(&psk, 64));
        }
    }
}
