//! The ticket's wire format.
//!
//! ```text
//!  0          16      28                      n-61     n-55      n-48    n-16  n
//!  | key name | nonce | what rustls gave us … | issued | lineage | scope | tag |
//!  |                  |<-------------------- sealed -------------------->|     |
//! ```
//!
//! The trailer comes last, so that opening leaves the session at the front of its buffer. The time
//! is in milliseconds since the Unix epoch, big-endian; see [`Lineage`] for its bytes. The key name
//! is the additional data; the scope is inside, and compared after opening, so that a ticket of
//! another scope and a forged one are told apart.

use crate::clock::Time;
use crate::lineage::Lineage;
use crate::reader::Reader;
use crate::scope::Scope;
use crate::sealed::{self, Envelope};
use crate::stek::{KeyName, Stek};

/// The longest ticket that is made or opened, by default: 16 KiB, which holds a client's
/// certificate chain of the usual size.
pub(crate) const DEFAULT_MAX_TICKET_LEN: usize = 16 * 1024;

/// What each ticket says beside the session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Trailer {
    pub(crate) issued: Time,
    pub(crate) lineage: Lineage,
    pub(crate) scope: [u8; Scope::DIGEST_LEN],
}

const TRAILER_LEN: usize = Time::LEN + Lineage::LEN + Scope::DIGEST_LEN;

/// By how much a ticket is longer than the session in it.
pub(crate) const OVERHEAD: usize = KeyName::LEN + TRAILER_LEN + sealed::OVERHEAD;

/// The key name that a ticket bears, if it is long enough to be one.
pub(crate) fn key_name(ticket: &[u8]) -> Option<KeyName> {
    if ticket.len() < OVERHEAD {
        return None;
    }
    ticket.first_chunk().copied().map(KeyName::from_bytes)
}

/// Seals a session. One allocation, of the ticket's exact size.
pub(crate) fn seal(stek: &Stek, trailer: &Trailer, session: &[u8]) -> Option<Vec<u8>> {
    let name = stek.name().as_bytes();
    let Trailer {
        issued,
        lineage,
        scope,
    } = trailer;
    let plaintext = [session, &issued.to_bytes(), &lineage.to_bytes(), scope];
    sealed::seal(stek.ticket_key(), name, name, &plaintext)
}

/// Opens a ticket whose key name was looked up. `None` if it is forged.
pub(crate) fn open(stek: &Stek, ticket: &[u8]) -> Option<(Trailer, Vec<u8>)> {
    let envelope = Envelope::<{ KeyName::LEN }>::parse(ticket)?;
    let mut opened = envelope.open(stek.ticket_key(), envelope.head)?;
    let (session, trailer) = opened.split_last_chunk()?;
    let (len, trailer) = (session.len(), Trailer::read(trailer)?);
    opened.truncate(len);
    Some((trailer, opened))
}

impl Trailer {
    fn read(bytes: &[u8; TRAILER_LEN]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        Some(Self {
            issued: Time::from_bytes(reader.array()?),
            lineage: Lineage::from_bytes(reader.array()?),
            scope: reader.array()?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::aead::Sealing;
    use crate::hex;

    pub(crate) fn stek(sealing: Sealing) -> Stek {
        let secret: [u8; 32] = std::array::from_fn(|i| i as u8);
        Stek::with_sealing(&secret, sealing).unwrap()
    }

    fn trailer() -> Trailer {
        Trailer {
            issued: Time(1_800_000_000_123),
            lineage: Lineage {
                birth: Time(1_799_999_000_456),
                is_known: false,
                is_renewal: true,
                was_asked: false,
                is_unseen: false,
                is_late: false,
            },
            scope: *Scope::new("api").digest(),
        }
    }

    #[test]
    fn a_ticket_opens_to_what_was_sealed_and_is_as_long_as_it_says() {
        for sealing in [Sealing::Aes256Gcm, Sealing::Aes256GcmSiv] {
            for len in [0, 1, 130, 5_000] {
                let session = vec![0x5a; len];
                let ticket = seal(&stek(sealing), &trailer(), &session).unwrap();
                assert_eq!(ticket.len(), OVERHEAD + len);
                assert_eq!(ticket.capacity(), ticket.len());
                assert_eq!(key_name(&ticket), Some(*stek(sealing).name()));
                assert_eq!(open(&stek(sealing), &ticket).unwrap(), (trailer(), session));
            }
        }
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
            assert!(open(&stek, &forged).is_none(), "bit {bit}");
        }
        for len in 0..ticket.len() {
            assert!(open(&stek, &ticket[..len]).is_none(), "length {len}");
        }
        let mut longer = ticket;
        longer.push(0);
        assert!(open(&stek, &longer).is_none());
    }

    #[test]
    fn nothing_shorter_than_an_empty_session_has_a_key_name() {
        assert_eq!(key_name(&[7; OVERHEAD - 1]), None);
        assert_eq!(
            key_name(&[7; OVERHEAD]),
            Some(KeyName::from_bytes([7; KeyName::LEN]))
        );
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
