//! What a client may send first: any bytes, and any message cut into records in any way.

use super::*;

/// Reads the bytes as records, or as a ClientHello's body that is cut into records.
pub fn run(data: &[u8]) {
    let Some((&fragment, rest)) = data.split_first() else {
        return;
    };
    let (records, message) = match fragment {
        0 => (rest.to_vec(), plain::message(rest)),
        len => (cut(rest, len.into()), Some(rest.to_vec())),
    };
    let offer = Offer::read(&records);
    let expected = message.and_then(|message| plain::offer(&message));
    assert_eq!(offer, expected.unwrap_or_default(), "as a plain reading");
    assert!(offer.identities.len() <= 4);
    assert!(offer.has_identities || offer.identities.is_empty());
    assert!(offer.has_session_id || offer.session_id.is_none());
    if offer != Offer::default() {
        let more = [&records[..], b"\x17\x03\x03\x00\x09early"].concat();
        assert_eq!(Offer::read(&more), offer, "early data may follow");
    }
}

/// Handshake records of this many bytes, with a ClientHello of this body.
fn cut(body: &[u8], fragment: usize) -> Vec<u8> {
    let [_, len @ ..] = (body.len() as u32).to_be_bytes();
    let message = [&[1], &len[..], body].concat();
    let record = |part: &[u8]| [&[22, 3, 1, 0, part.len() as u8], part].concat();
    message.chunks(fragment).flat_map(record).collect()
}

/// The same by hand, as plainly as can be.
mod plain {
    use super::Offer;

    struct Bytes<'a>(&'a [u8]);

    impl<'a> Bytes<'a> {
        fn take(&mut self, len: usize) -> Option<&'a [u8]> {
            let (taken, rest) = self.0.split_at_checked(len)?;
            self.0 = rest;
            Some(taken)
        }

        /// A number of so many bytes.
        fn number(&mut self, len: usize) -> Option<usize> {
            let bytes = self.take(len)?;
            Some(bytes.iter().fold(0, |n, byte| n * 256 + usize::from(*byte)))
        }

        /// What follows its length, itself of so many bytes.
        fn vector(&mut self, len: usize) -> Option<Self> {
            let len = self.number(len)?;
            self.take(len).map(Self)
        }
    }

    /// The body of the ClientHello at the head of records.
    pub(super) fn message(records: &[u8]) -> Option<Vec<u8>> {
        let (mut records, mut message) = (Bytes(records), Vec::new());
        loop {
            let kind = records.number(1)?;
            let _version = records.number(2)?;
            let fragment = records.vector(2)?;
            if kind != 22 {
                return None;
            }
            message.extend(fragment.0);
            let mut message = Bytes(&message);
            let (kind, body) = (message.number(1), message.vector(3));
            if let (Some(kind), Some(body)) = (kind, body) {
                return (kind == 1).then(|| body.0.to_vec());
            }
        }
    }

    pub(super) fn offer(body: &[u8]) -> Option<Offer> {
        let mut body = Bytes(body);
        body.take(2 + 32)?;
        let session_id = body.vector(1)?.0;
        let (_suites, _compression) = (body.vector(2)?, body.vector(1)?);
        let mut offer = Offer {
            session_id: session_id.try_into().ok(),
            has_session_id: !session_id.is_empty(),
            ..Offer::default()
        };
        if body.0.is_empty() {
            return Some(offer);
        }
        let mut extensions = body.vector(2)?;
        if !body.0.is_empty() {
            return None;
        }
        let mut resumes = false;
        while !extensions.0.is_empty() {
            let kind = extensions.number(2)?;
            let mut extension = extensions.vector(2)?;
            match kind {
                35 => offer.has_ticket = !extension.0.is_empty(),
                41 if !extensions.0.is_empty() => return None, // it comes last
                41 => {
                    let ids = identities(extension.vector(2)?)?;
                    offer.has_identities = !ids.is_empty();
                    let ids = ids.into_iter().filter_map(|id| id.try_into().ok());
                    offer.identities = ids.take(4).collect();
                }
                42 => offer.early_data = true,
                43 => {
                    let versions = extension.vector(1)?.0;
                    if versions.len() % 2 != 0 || !extension.0.is_empty() {
                        return None;
                    }
                    offer.tls13 = versions.chunks(2).any(|version| version == [3, 4]);
                }
                45 => {
                    resumes = extension.vector(1)?.0.contains(&1);
                    if !extension.0.is_empty() {
                        return None;
                    }
                }
                _ => {}
            }
        }
        if !resumes {
            offer.identities.clear();
        }
        Some(offer)
    }

    fn identities(mut list: Bytes<'_>) -> Option<Vec<&[u8]>> {
        let mut identities = Vec::new();
        while !list.0.is_empty() {
            identities.push(list.vector(2)?.0);
            list.take(4)?;
        }
        Some(identities)
    }
}
