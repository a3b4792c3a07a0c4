//! The ticket's wire format.
//!
//! ```text
//!  0          16     18      30                     n-26     n-23    n-16  n
//!  | key name | hint | nonce | what rustls gave us … | issued | lineage | tag |
//!  |                         |<-------------- sealed -------------->|
//! ```
//!
//! The trailer comes last, so that opening leaves the session at the front of its buffer. See
//! [`Lineage`] for its bytes; the time of issue is in whole seconds after the birth in it,
//! big-endian. If the lineage's flags say so, the [generation](Trailer::generation) of the scope
//! stands before the time of issue, in eight bytes.
//!
//! The additional data are the key name and the scope, so a ticket opens in its own scope alone. The
//! hint is a keyed hash of nonce and scope: it tells a ticket of another scope from a forged one,
//! but links no two tickets. Whoever forges tickets chooses it freely, so it proves nothing.

use zeroize::Zeroize;

use crate::clock::Time;
use crate::lineage::Lineage;
use crate::scope::{Scope, ScopeDigest};
use crate::sealed::{self, Envelope};
use crate::stek::{HINT_LEN, KeyName, Stek};

/// The longest ticket that is made or opened, by default: 16 KiB, which holds a client's
/// certificate chain of the usual size.
pub(crate) const DEFAULT_MAX_TICKET_LEN: usize = 16 * 1024;

/// What each ticket says beside the session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Trailer {
    /// In whole seconds after the birth.
    pub(crate) issued: Time,
    pub(crate) lineage: Lineage,
    /// How far the scope was forgotten; 0 is not written.
    pub(crate) generation: u64,
}

/// Why a ticket did not open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unopened {
    Forged,
    /// By its hint.
    WrongScope,
}

/// Set in the byte of the lineage's flags where a generation is written.
const HAS_GENERATION: u8 = 0x80;

const HEAD_LEN: usize = KeyName::LEN + HINT_LEN;

/// By how much a ticket is longer than the session in it, at least.
pub(crate) const OVERHEAD: usize = HEAD_LEN + Trailer::LEN + sealed::OVERHEAD;

/// The same where the scope has a generation.
const MAX_OVERHEAD: usize = OVERHEAD + size_of::<u64>();

/// By how much such a ticket is longer than the session in it.
pub(crate) fn overhead(generation: u64) -> usize {
    match generation {
        0 => OVERHEAD,
        _ => MAX_OVERHEAD,
    }
}

/// The bytes of the key name that a ticket bears, if it is long enough to be one.
pub(crate) fn key_name(ticket: &[u8]) -> Option<&[u8; KeyName::LEN]> {
    match ticket.len() >= OVERHEAD {
        true => ticket.first_chunk(),
        false => None,
    }
}

/// Seals a session. One allocation, of the ticket's exact size.
#[inline(always)] // it has one caller
pub(crate) fn seal(
    stek: &Stek,
    scope: &ScopeDigest,
    trailer: &Trailer,
    session: &[u8],
) -> Option<Vec<u8>> {
    let written = trailer.to_bytes();
    match trailer.generation {
        0 => seal_parts(stek, scope, [session, &written]),
        generation => seal_with_generation(stek, scope, session, generation, written),
    }
}

/// Apart, so that it does not make the usual way longer.
#[inline(never)]
fn seal_with_generation(
    stek: &Stek,
    scope: &ScopeDigest,
    session: &[u8],
    generation: u64,
    mut written: [u8; Trailer::LEN],
) -> Option<Vec<u8>> {
    let [.., flags] = &mut written;
    *flags |= HAS_GENERATION;
    seal_parts(stek, scope, [session, &generation.to_be_bytes(), &written])
}

#[inline(always)]
fn seal_parts<const PARTS: usize>(
    stek: &Stek,
    scope: &ScopeDigest,
    parts: [&[u8]; PARTS],
) -> Option<Vec<u8>> {
    let mut head = [0; HEAD_LEN];
    if let Some(name) = head.first_chunk_mut() {
        *name = *stek.name().as_bytes();
    }
    let aad = aad(stek.name().as_bytes(), scope);
    let mut ticket = sealed::seal(stek.ticket_key(), &head, &aad, parts)?;
    // Only now is the nonce known.
    let (head, rest) = ticket.split_first_chunk_mut::<HEAD_LEN>()?;
    *head.last_chunk_mut()? = stek.hint(rest.first_chunk()?, scope);
    Some(ticket)
}

/// Opens a ticket whose key name was looked up.
#[inline(always)] // it has one caller
pub(crate) fn open(
    stek: &Stek,
    scope: &ScopeDigest,
    ticket: &[u8],
) -> Result<(Trailer, Vec<u8>), Unopened> {
    let envelope = Envelope::<HEAD_LEN>::parse(ticket).ok_or(Unopened::Forged)?;
    let opened = {
        let name = envelope.head.first_chunk().ok_or(Unopened::Forged)?;
        envelope.open(stek.ticket_key(), &aad(name, scope))
    };
    let hint = stek.hint(envelope.nonce, scope);
    let is_meant = envelope.head.last_chunk() == Some(&hint);
    match opened {
        Some(opened) if is_meant => Trailer::split(opened).ok_or(Unopened::Forged),
        opened => Err(unopened(opened, is_meant)),
    }
}

#[cold]
#[inline(never)]
fn unopened(opened: Option<Vec<u8>>, is_meant: bool) -> Unopened {
    match opened {
        Some(mut opened) => {
            opened.zeroize(); // the hint was altered
            Unopened::Forged
        }
        None if is_meant => Unopened::Forged,
        None => Unopened::WrongScope,
    }
}

fn aad(name: &[u8; KeyName::LEN], scope: &ScopeDigest) -> [u8; KeyName::LEN + Scope::DIGEST_LEN] {
    let mut aad = [0; KeyName::LEN + Scope::DIGEST_LEN];
    let (first, digest) = aad.split_at_mut(KeyName::LEN);
    first.copy_from_slice(name);
    digest.copy_from_slice(scope);
    aad
}

impl Trailer {
    /// But for the generation.
    const LEN: usize = Time::AFTER_LEN + Lineage::LEN;

    /// But for the generation: one part to copy, not two.
    fn to_bytes(self) -> [u8; Self::LEN] {
        let [a, b, c] = self.issued.to_bytes_after(self.lineage.birth);
        let [d, e, f, g, h, i, flags] = self.lineage.to_bytes();
        [a, b, c, d, e, f, g, h, i, flags]
    }

    /// Cuts the trailer off what was opened.
    fn split(mut opened: Vec<u8>) -> Option<(Self, Vec<u8>)> {
        let (rest, lineage) = opened.split_last_chunk::<{ Lineage::LEN }>()?;
        let (mut rest, issued) = rest.split_last_chunk()?;
        let [.., flags] = lineage;
        let mut generation = 0;
        if flags & HAS_GENERATION != 0 {
            let bytes;
            (rest, bytes) = rest.split_last_chunk()?;
            generation = u64::from_be_bytes(*bytes);
        }
        let len = rest.len();
        let lineage = Lineage::from_bytes(*lineage);
        let trailer = Self {
            issued: Time::from_bytes_after(lineage.birth, *issued),
            lineage,
            generation,
        };
        opened.truncate(len);
        Some((trailer, opened))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::aead::Sealing;
    use crate::hex;

    pub(crate) fn stek(sealing: Sealing) -> Stek {
        let secret: [u8; 32] = std::array::from_fn(|i| i as u8);
        Stek::with_sealing(&secret, sealing).unwrap()
    }

    fn trailer() -> Trailer {
        Trailer {
            issued: Time(1_800_000_000_456),
            lineage: Lineage::of_full_handshake(Time(1_799_990_000_456))
                .of_unknown_age()
                .renewed(Time(1_799_999_000_456)),
            generation: 0,
        }
    }

    fn scope() -> ScopeDigest {
        *Scope::new("api").digest()
    }

    fn seal(stek: &Stek, trailer: &Trailer, session: &[u8]) -> Option<Vec<u8>> {
        super::seal(stek, &scope(), trailer, session)
    }

    fn open(stek: &Stek, ticket: &[u8]) -> Result<(Trailer, Vec<u8>), Unopened> {
        super::open(stek, &scope(), ticket)
    }

    #[test]
    fn a_ticket_opens_to_what_was_sealed_and_is_as_long_as_it_says() {
        for sealing in [Sealing::Aes256Gcm, Sealing::Aes256GcmSiv] {
            for len in [0, 1, 130, 5_000] {
                let session = vec![0x5a; len];
                for (generation, overhead) in [(0, 56), (1_800_000_000_123, 64)] {
                    let trailer = Trailer {
                        generation,
                        ..trailer()
                    };
                    let ticket = seal(&stek(sealing), &trailer, &session).unwrap();
                    assert_eq!(ticket.len(), overhead + len);
                    assert_eq!(overhead, super::overhead(generation));
                    assert_eq!(ticket.capacity(), ticket.len());
                    assert_eq!(key_name(&ticket), Some(stek(sealing).name().as_bytes()));
                    let opened = open(&stek(sealing), &ticket).unwrap();
                    assert_eq!(opened, (trailer, session.clone()));
                }
            }
        }
    }

    #[test]
    fn another_scope_is_told_from_a_forgery_and_neither_opens() {
        let stek = stek(Sealing::default());
        let other = *Scope::new("another").digest();
        let (mut by_hint, tickets) = (0, 64);
        for _ in 0..tickets {
            let mut ticket = seal(&stek, &trailer(), b"session").unwrap();
            let unopened = super::open(&stek, &other, &ticket).unwrap_err();
            by_hint += usize::from(unopened == Unopened::WrongScope);
            *ticket.last_mut().unwrap() ^= 1;
            assert_eq!(open(&stek, &ticket), Err(Unopened::Forged));
        }
        // Two hints are equal by chance once in 65,536.
        assert!(by_hint >= tickets - 1);
    }

    #[test]
    fn no_two_tickets_of_a_scope_need_have_the_same_hint() {
        let stek = stek(Sealing::default());
        let hint = |_| {
            let ticket = seal(&stek, &trailer(), b"session").unwrap();
            ticket[KeyName::LEN..].first_chunk::<HINT_LEN>().copied()
        };
        let hints: HashSet<_> = (0..64).map(hint).collect();
        assert!(hints.len() > 56, "{}", hints.len());
    }

    #[test]
    fn the_same_session_never_gives_the_same_ticket() {
        let stek = stek(Sealing::default());
        assert_ne!(seal(&stek, &trailer(), b"s"), seal(&stek, &trailer(), b"s"));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_refused() {
        let stek = stek(Sealing::default());
        let ticket = seal(&stek, &trailer(), b"session").unwrap();
        for bit in 0..ticket.len() * 8 {
            let mut forged = ticket.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&stek, &forged).is_err(), "bit {bit}");
        }
        for len in 0..ticket.len() {
            assert!(open(&stek, &ticket[..len]).is_err(), "length {len}");
        }
        let mut longer = ticket;
        longer.push(0);
        assert!(open(&stek, &longer).is_err());
    }

    #[test]
    fn nothing_shorter_than_an_empty_session_has_a_key_name() {
        assert_eq!(key_name(&[7; OVERHEAD - 1]), None);
        assert_eq!(key_name(&[7; OVERHEAD]), Some(&[7; KeyName::LEN]));
    }

    #[test]
    fn golden_ticket() {
        let ticket = hex::decode(include_str!("../tests/golden/ticket.hex"));
        let (trailer, session) = open(&stek(Sealing::Aes256GcmSiv), &ticket).unwrap();
        assert_eq!((trailer, &session[..]), (self::trailer(), &b"golden"[..]));
        let ticket = hex::decode(include_str!("../tests/golden/ticket-gcm.hex"));
        let (trailer, session) = open(&stek(Sealing::Aes256Gcm), &ticket).unwrap();
        assert_eq!((trailer, &session[..]), (self::trailer(), &b"golden"[..]));
    }
}
