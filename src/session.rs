//! How rustls encodes a session. Another line of rustls may encode it in another way.

use crate::reader::Reader;

/// The line of rustls whose session encoding goes into tickets. Part of every
/// [`KeyName`](crate::KeyName), so that another line's tickets are simply unknown.
pub(crate) const CODEC_LINE: &str = "rustls 0.23";

/// The parts that this crate reads of an encoded session (`ServerSessionValue` in rustls's
/// `msgs/persist.rs`):
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
///
/// Behind it may stand what this crate adds, where its owner wants to tell connections of one
/// session, and takes away before rustls sees it again: the [tag](Session::tag) (16).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Session<'a> {
    pub(crate) server_name: Option<&'a [u8]>,
    pub(crate) version: Version,
    pub(crate) cipher_suite: [u8; 2],
    pub(crate) secret: &'a [u8],
    /// The client's chain: each certificate after its length in three bytes.
    pub(crate) client_certificates: Option<&'a [u8]>,
    /// Where in the encoding the part of the chain is that follows the leaf, and its length.
    pub(crate) issuers: Option<(usize, usize)>,
    /// What a TLS 1.3 session and its renewals have in common.
    pub(crate) tag: Option<Tag>,
}

/// Random bytes.
pub(crate) type Tag = [u8; 16];

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
    #[inline(always)] // what a caller does not need of it costs nothing then
    pub(crate) fn parse(encoded: &'a [u8]) -> Option<Self> {
        let mut input = Reader::new(encoded);
        let server_name = input.optional::<1>()?;
        let [major, minor, cipher_suite @ ..] = input.array::<4>()?;
        let version = match [major, minor] {
            [3, 3] => Version::Tls12,
            [3, 4] => Version::Tls13,
            _ => return None,
        };
        let secret = input.vector::<1>()?;
        let _extended_master_secret = input.flag()?;
        let client_certificates = input.optional::<3>()?;
        let issuers = client_certificates.and_then(|chain| {
            let mut rest = Reader::new(chain);
            let _leaf = rest.vector::<3>()?;
            let end = encoded.len().saturating_sub(input.len());
            Some((end.saturating_sub(rest.len()), rest.len()))
        });
        let _alpn = input.optional::<1>()?;
        let _application_data = input.vector::<2>()?;
        let _creation_time_and_age_obfuscation_offset = input.array::<12>()?;
        let tag = match input.is_empty() {
            true => None,
            false => Some(input.array()?),
        };
        input.is_empty().then_some(Self {
            server_name,
            version,
            cipher_suite,
            secret,
            client_certificates,
            issuers,
            tag,
        })
    }

    /// Takes the tag away, which rustls does not know, from a session that was parsed so.
    pub(crate) fn untag(tag: Option<Tag>, session: &mut Vec<u8>) {
        let tag_len = tag.map_or(0, |tag| tag.len());
        session.truncate(session.len().saturating_sub(tag_len));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A session as rustls encodes it, with the parts that this crate reads.
    pub(crate) fn encoded(version: Version, secret: &[u8], application_data: &[u8]) -> Vec<u8> {
        encoded_with(version, secret, None, application_data)
    }

    /// The same with a client's chain, each certificate after its length in three bytes.
    pub(crate) fn encoded_with(
        version: Version,
        secret: &[u8],
        chain: Option<&[u8]>,
        application_data: &[u8],
    ) -> Vec<u8> {
        let mut out = vec![1, 9];
        out.extend_from_slice(b"localhost");
        out.extend_from_slice(match version {
            Version::Tls12 => &[3, 3, 0xc0, 0x2b],
            Version::Tls13 => &[3, 4, 0x13, 1],
        });
        out.push(secret.len() as u8);
        out.extend_from_slice(secret);
        out.push(1); // extended master secret
        out.push(chain.is_some().into());
        if let Some(chain) = chain {
            out.extend_from_slice(&(chain.len() as u32).to_be_bytes()[1..]);
            out.extend_from_slice(chain);
        }
        out.extend_from_slice(&[1, 2, b'h', b'2']);
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
                server_name: Some(b"localhost"),
                version,
                cipher_suite: match version {
                    Version::Tls12 => [0xc0, 0x2b],
                    Version::Tls13 => [0x13, 1],
                },
                secret: &[7; 48],
                client_certificates: None,
                issuers: None,
                tag: None,
            };
            assert_eq!(Session::parse(&bytes), Some(expected));
            let chain = &[0, 0, 3, b'd', b'e', b'r'];
            let bytes = encoded_with(version, &[7; 48], Some(chain), b"app");
            let expected = Session {
                client_certificates: Some(chain),
                issuers: Some((75, 0)),
                ..expected
            };
            assert_eq!(Session::parse(&bytes), Some(expected));
        }
    }

    #[test]
    fn a_tag_is_read_and_taken_away() {
        let bytes = encoded(Version::Tls13, &[7; 48], b"app");
        let mut tagged = [&bytes[..], &[9; 16]].concat();
        let tag = Session::parse(&tagged).unwrap().tag;
        assert_eq!(tag, Some([9; 16]));
        for tag in [tag, None] {
            Session::untag(tag, &mut tagged);
            assert_eq!(tagged, bytes);
        }
    }

    #[test]
    fn anything_cut_short_or_too_long_is_not_a_session() {
        let bytes = encoded(Version::Tls12, &[7; 48], b"app");
        for len in 0..bytes.len() {
            assert_eq!(Session::parse(&bytes[..len]), None, "{len}");
        }
        for len in (1..40).filter(|len| *len != 16) {
            let longer = [&bytes[..], &vec![0; len]].concat();
            assert_eq!(Session::parse(&longer), None, "{len}");
        }
        assert_eq!(Session::parse(&[0; 200]), None);
        assert_eq!(Session::parse(&[0xff; 200]), None);
    }
}
