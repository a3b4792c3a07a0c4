//! How old a TLS 1.3 session really is: the time of the full handshake it descends from.
//!
//! Its tickets have secrets of their own and are made long after the session that they renew was
//! handed out, perhaps on another thread. So whoever drives the handshake writes a [`BirthRecord`] in
//! front of the application's resumption data, which rustls carries inside the session.

use crate::clock::Time;

/// The birth of a TLS 1.3 session, in front of the application's own resumption data:
///
/// ```text
///  0       5       6       12
///  | magic | flags | birth | the application's data …
/// ```
///
/// The birth is in milliseconds, big-endian; six bytes will do for nine millennia. Short, because
/// with it every ticket is longer, and each is hashed several times in a handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BirthRecord {
    pub(crate) birth: Time,
    /// Whether the session renews one that was resumed, which shows that its client comes back.
    pub(crate) is_renewal: bool,
}

impl BirthRecord {
    const MAGIC: [u8; 5] = *b"\xd3born";
    pub(crate) const LEN: usize = 12;
    const RENEWAL: u8 = 1;

    /// The record found at the head of a session's application data, and what follows it.
    pub(crate) fn split(data: &[u8]) -> (Option<Self>, &[u8]) {
        Self::read(data).map_or((None, data), |(record, rest)| (Some(record), rest))
    }

    fn read(data: &[u8]) -> Option<(Self, &[u8])> {
        let rest = data.strip_prefix(&Self::MAGIC)?;
        let (flags, rest) = rest.split_first()?;
        let (&[a, b, c, d, e, f], rest) = rest.split_first_chunk()?;
        let record = Self {
            birth: Time(u64::from_be_bytes([0, 0, a, b, c, d, e, f])),
            is_renewal: flags & Self::RENEWAL != 0,
        };
        Some((record, rest))
    }

    /// The record followed by the application's data.
    pub(crate) fn join(self, data: &[u8]) -> Vec<u8> {
        let [_, _, birth @ ..] = self.birth.0.to_be_bytes();
        let flags = if self.is_renewal { Self::RENEWAL } else { 0 };
        let parts: [&[u8]; 4] = [&Self::MAGIC, &[flags], &birth, data];
        parts.concat()
    }
}

#[cfg(any(test, rustls_resumption_fuzzing))]
#[path = "../fuzz/bodies/private/birth_record.rs"]
mod fuzzed;
#[cfg(any(test, rustls_resumption_fuzzing))]
pub use fuzzed::run as fuzzed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_birth_record() {
        let record = BirthRecord {
            birth: Time(0x0102_0304_0506),
            is_renewal: true,
        };
        let bytes = record.join(b"app");
        assert_eq!(bytes, b"\xd3born\x01\x01\x02\x03\x04\x05\x06app");
        assert_eq!(BirthRecord::split(&bytes), (Some(record), &b"app"[..]));
        let is_renewal = false;
        let first = BirthRecord {
            is_renewal,
            ..record
        };
        let bytes = first.join(b"");
        assert_eq!(bytes, b"\xd3born\x00\x01\x02\x03\x04\x05\x06");
        assert_eq!(BirthRecord::split(&bytes), (Some(first), &b""[..]));
    }

    #[test]
    fn application_data_without_a_record_is_left_alone() {
        let record = BirthRecord {
            birth: Time(1),
            is_renewal: false,
        };
        let whole = record.join(b"");
        assert_eq!(whole.len(), BirthRecord::LEN);
        for data in [&b""[..], b"app", &whole[..BirthRecord::LEN - 1]] {
            assert_eq!(BirthRecord::split(data), (None, data));
        }
    }
}
