//! How old a session really is: the time of the full handshake it descends from.
//!
//! TLS 1.2 renewals wrap the *same* master secret again, back to back on one thread: `decrypt` or
//! `get`, then `encrypt`. So what was returned leaves its birth and a fingerprint of its secret in
//! a slot of the thread, and the very next `encrypt` takes it.
//!
//! TLS 1.3 tickets have secrets of their own and are made much later, perhaps on another thread. So
//! whoever drives the handshake writes a [`BirthRecord`] in front of the application's resumption
//! data, which rustls carries inside the session.

use std::cell::Cell;
use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::quality::RandomState;

use crate::clock::Time;
use crate::session::{Session, Version};
use crate::sync::thread_local;

/// What a session that was just handed to rustls leaves for the next `encrypt` on this thread.
#[derive(Clone, Copy)]
struct Trace {
    birth: Time,
    /// `None` if the session could not be parsed: then whatever comes next is its descendant.
    fingerprint: Option<u64>,
}

thread_local! {
    static LAST: Cell<Option<Trace>> = const { Cell::new(None) };
}

/// Whether there ever was a ring in this process: nothing else reads what is left here.
static IS_READ: AtomicBool = AtomicBool::new(false);

/// Has births left from now on.
pub(crate) fn read() {
    IS_READ.store(true, Ordering::Relaxed);
}

/// Leaves the birth of a session that rustls is about to see.
pub(crate) fn leave(session: &[u8], birth: Time) {
    if !IS_READ.load(Ordering::Relaxed) {
        return;
    }
    let fingerprint = match Session::parse(session) {
        // A resumed TLS 1.3 session gets a new secret; its age travels in a `BirthRecord`.
        Some(session) if session.version == Version::Tls13 => return set(None),
        Some(session) => Some(fingerprint(session.secret)),
        None => None,
    };
    set(Some(Trace { birth, fingerprint }));
}

fn set(trace: Option<Trace>) {
    // While a thread ends the slot may be gone; then nothing follows on it either.
    let _ = LAST.try_with(|last| last.set(trace));
}

/// Takes what was left, and says when the session that is now to be sealed was born, if it descends
/// from it. Wherever that is in doubt it does, so that doubt ends in a full handshake.
pub(crate) fn inherit(session: Option<&Session<'_>>) -> Option<Time> {
    let trace = LAST.try_with(Cell::take).ok()??;
    match (session, trace.fingerprint) {
        (Some(session), _) if session.version == Version::Tls13 => None,
        (Some(session), Some(left)) => (fingerprint(session.secret) == left).then_some(trace.birth),
        (None, _) | (_, None) => Some(trace.birth),
    }
}

/// It stays on the thread when nothing takes it, so it must not give the secret away: of 64 bits it
/// can say no more than 64 bits of the 384. Equal secrets are always equal here; unequal ones by
/// chance only make a session older than it is. A third of the secret will do, because each bit of
/// it is as random as the next.
fn fingerprint(secret: &[u8]) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    match secret.first_chunk() {
        Some(chunk) => KEY.hash_one(u128::from_ne_bytes(*chunk)),
        None => KEY.hash_one(secret),
    }
}

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

#[cfg(any(test, fuzzing))]
mod fuzzed;
#[cfg(any(test, fuzzing))]
pub use fuzzed::run as fuzzed;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::encoded;

    fn leave(session: &[u8], birth: Time) {
        read();
        super::leave(session, birth);
    }

    fn inherit(session: &[u8]) -> Option<Time> {
        super::inherit(Session::parse(session).as_ref())
    }

    fn tls12(secret: &[u8]) -> Vec<u8> {
        encoded(Version::Tls12, secret, b"")
    }

    fn tls13(secret: &[u8]) -> Vec<u8> {
        encoded(Version::Tls13, secret, b"")
    }

    #[test]
    fn the_same_secret_inherits_once() {
        leave(&tls12(b"secret"), Time(7));
        assert_eq!(inherit(&tls12(b"secret")), Some(Time(7)));
        assert_eq!(inherit(&tls12(b"secret")), None);
    }

    #[test]
    fn another_secret_is_another_session_and_ends_the_trace() {
        leave(&tls12(b"secret"), Time(7));
        assert_eq!(inherit(&tls12(b"other")), None);
        assert_eq!(inherit(&tls12(b"secret")), None);
    }

    #[test]
    fn what_cannot_be_parsed_is_taken_for_a_renewal() {
        leave(b"unheard of", Time(7));
        assert_eq!(inherit(&tls12(b"any")), Some(Time(7)));
        leave(&tls12(b"secret"), Time(8));
        assert_eq!(inherit(b"unheard of"), Some(Time(8)));
    }

    #[test]
    fn tls13_neither_leaves_nor_inherits() {
        leave(&tls13(b"secret"), Time(7));
        assert_eq!(inherit(b"unheard of"), None);
        leave(&tls12(b"secret"), Time(7));
        assert_eq!(inherit(&tls13(b"secret")), None);
    }

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
