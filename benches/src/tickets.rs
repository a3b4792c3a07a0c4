//! Ways to seal a session into a ticket, each behind rustls's own trait.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use rustls_resumption::StekRing;

/// An implementation to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Contender {
    /// [`StekRing`].
    Ours,
    /// rustls's [`Ticketer`].
    Rustls,
    /// Nothing but AES-256-GCM-SIV into a fresh `Vec` of the same layout as ours.
    RawGcmSiv,
    /// Nothing but AES-256-GCM into a fresh `Vec` of the same layout as ours.
    RawGcm,
}

impl Contender {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ours, Self::Rustls, Self::RawGcmSiv, Self::RawGcm];

    /// Its name in tables and plots.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "rustls-resumption",
            Self::Rustls => "rustls Ticketer",
            Self::RawGcmSiv => "raw AES-256-GCM-SIV",
            Self::RawGcm => "raw AES-256-GCM",
        }
    }

    /// One with fresh keys.
    pub fn build(self) -> Arc<dyn ProducesTickets> {
        match self {
            Self::Ours => ring(),
            Self::Rustls => Ticketer::new().expect("the system's randomness failed"),
            Self::RawGcmSiv => Arc::new(Raw::new(&aead::AES_256_GCM_SIV)),
            Self::RawGcm => Arc::new(Raw::new(&aead::AES_256_GCM)),
        }
    }
}

/// A ring with random STEKs.
pub fn ring() -> Arc<StekRing> {
    Arc::new(StekRing::new().expect("the system's randomness failed"))
}

/// A ticketer, a session to seal, and tickets to refuse or to open.
pub struct Workload {
    ticketer: Arc<dyn ProducesTickets>,
    session: Vec<u8>,
    tickets: Vec<Vec<u8>>,
    junk: Vec<Vec<u8>>,
    forged: Vec<Vec<u8>>,
}

impl Workload {
    /// Seals `session` with `contender` some hundred times over.
    pub fn new(contender: Contender, session: &[u8]) -> Self {
        Self::with(contender.build(), session)
    }

    /// The same with a given ticketer.
    pub fn with(ticketer: Arc<dyn ProducesTickets>, session: &[u8]) -> Self {
        let tickets: Vec<_> = (0..256)
            .map(|_| {
                ticketer
                    .encrypt(session)
                    .expect("a session that cannot be sealed")
            })
            .collect();
        let changed = |at: fn(usize) -> usize| {
            tickets
                .iter()
                .map(|ticket| {
                    let mut ticket = ticket.clone();
                    let at = at(ticket.len());
                    ticket[at] ^= 1;
                    ticket
                })
                .collect()
        };
        Self {
            junk: changed(|_| 0),
            forged: changed(|length| length - 1),
            ticketer,
            session: session.to_vec(),
            tickets,
        }
    }

    /// Seals one session.
    pub fn seal(&self) -> Option<Vec<u8>> {
        self.ticketer.encrypt(&self.session)
    }

    /// Seals the session again and again.
    pub fn seals(&self, operations: usize) -> Duration {
        let start = Instant::now();
        for _ in 0..operations {
            std::hint::black_box(self.seal());
        }
        start.elapsed()
    }

    /// Opens good tickets in turn.
    pub fn opens(&self, operations: usize) -> Duration {
        assert_eq!(
            self.ticketer.decrypt(&self.tickets[0]).as_ref(),
            Some(&self.session)
        );
        self.decrypts(&self.tickets, operations)
    }

    /// Refuses tickets of a plausible length under an unknown key name.
    pub fn refuses_junk(&self, operations: usize) -> Duration {
        assert_eq!(self.ticketer.decrypt(&self.junk[0]), None);
        self.decrypts(&self.junk, operations)
    }

    /// Refuses tickets with the right key name and a wrong tag.
    pub fn refuses_forged(&self, operations: usize) -> Duration {
        assert_eq!(self.ticketer.decrypt(&self.forged[0]), None);
        self.decrypts(&self.forged, operations)
    }

    fn decrypts(&self, tickets: &[Vec<u8>], operations: usize) -> Duration {
        let start = Instant::now();
        for ticket in tickets.iter().cycle().take(operations) {
            std::hint::black_box(self.ticketer.decrypt(ticket));
        }
        start.elapsed()
    }
}

const KEY_NAME: usize = 16;
const HINT: usize = 2;
const NONCE: usize = aead::NONCE_LEN;
const TAG: usize = 16;

/// The minimum that any ticketer does: `key name ‖ hint ‖ nonce ‖ AEAD(header ‖ session) ‖ tag`, as
/// many bytes sealed and authenticated as of ours, with a single key and nonce (which no server may
/// do).
struct Raw {
    key: LessSafeKey,
    /// The length of the sealed header.
    header: usize,
}

impl Raw {
    fn new(algorithm: &'static aead::Algorithm) -> Self {
        let empty = ring()
            .encrypt(&[])
            .expect("an empty session that cannot be sealed");
        let key = UnboundKey::new(algorithm, &[7; 32]).expect("a key of the wrong length");
        Self {
            key: LessSafeKey::new(key),
            header: empty.len() - PREFIX.len() - TAG,
        }
    }
}

const PREFIX: [u8; KEY_NAME + HINT + NONCE] = [9; KEY_NAME + HINT + NONCE];

/// The key name and the scope.
const AAD: [u8; KEY_NAME + 32] = [9; KEY_NAME + 32];

impl ProducesTickets for Raw {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        12 * 60 * 60
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let sealed = PREFIX.len() + self.header + session.len();
        let mut ticket = Vec::with_capacity(sealed + TAG);
        ticket.extend_from_slice(&PREFIX);
        ticket.resize(PREFIX.len() + self.header, 0);
        ticket.extend_from_slice(session);
        let nonce = Nonce::assume_unique_for_key([9; NONCE]);
        let body = &mut ticket[PREFIX.len()..];
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(&AAD), body)
            .ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (key_name, rest) = ticket.split_at_checked(KEY_NAME)?;
        let (nonce, body) = rest.get(HINT..)?.split_at_checked(NONCE)?;
        if *key_name != PREFIX[..KEY_NAME] {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let opened = self
            .key
            .open_in_place(nonce, Aad::from(&AAD), &mut body)
            .ok()?
            .len();
        body.truncate(opened);
        body.drain(..self.header);
        Some(body)
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw").finish_non_exhaustive()
    }
}
