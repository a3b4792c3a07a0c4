//! What [`Stats`] consists of.

#[cfg(feature = "metrics")]
pub(crate) mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "stats/metrics/off.rs"]
pub(crate) mod metrics;
mod table;

use std::time::Duration;

use crate::stek::KeyName;

/// What resumption did since it was set up, and the state it is in: one snapshot.
///
/// Counters only grow. Taking a snapshot sums per-thread and per-shard counters: some microseconds,
/// and nothing that handshakes wait for. Printed with `{}` it is a table for people.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// The session cache.
    pub cache: CacheStats,
    /// The tickets made and opened.
    pub tickets: TicketStats,
    /// The ring of STEKs, and where they come from.
    pub steks: StekStats,
    /// The shared store of sessions.
    pub store: StoreStats,
    /// The handshakes that acceptors saw.
    pub acceptor: AcceptorStats,
}

/// Counters of a [`SessionCache`](crate::SessionCache).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Sessions in the cache now, expired ones that were not swept yet included.
    pub entries: u64,
    /// How many there may be.
    pub max_entries: u64,
    /// Bytes of their values now.
    pub bytes: u64,
    /// Sessions stored.
    pub stored: u64,
    /// Sessions handed to rustls.
    pub hits: u64,
    /// Look-ups that handed out nothing, by reason.
    pub misses: Misses,
    /// Sessions that left before their time, by reason.
    pub evictions: Evictions,
    /// Sessions that were not stored, by reason.
    pub refused: NotStored,
    /// Sessions dropped because they expired.
    pub expired: u64,
    /// Sessions stored whose full handshake is not known (TLS 1.3 without an acceptor that tells),
    /// so that their age counts from here.
    pub age_unknown: u64,
}

/// Why a look-up in the cache handed out nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Misses {
    /// No such session: never stored, taken already, evicted, or of another scope.
    pub unknown: u64,
    /// It had expired.
    pub expired: u64,
    /// It is of the other TLS version: a TLS 1.2 session ID offered as a TLS 1.3 PSK identity or
    /// the reverse.
    pub other_version: u64,
    /// What was asked for is not 32 bytes long, as every session ID of rustls is.
    pub malformed: u64,
    /// With a shared store: a TLS 1.3 session that rustls asked for although no acceptor had claimed
    /// it, so a full handshake. Accept connections through an acceptor.
    pub not_claimed: u64,
}

/// Why sessions left the cache before their time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Evictions {
    /// The budget of entries was used up.
    pub entries: u64,
    /// The budget of bytes was used up.
    pub bytes: u64,
    /// Their scope was forgotten, or all was revoked.
    pub forgotten: u64,
    /// Another session was stored under the same ID.
    pub replaced: u64,
}

/// Why a session was not stored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct NotStored {
    /// Larger than a shard's share of the byte budget, or the cache has room for nothing.
    pub no_room: u64,
    /// Older than `max_session_age` already.
    pub too_old: u64,
    /// Its ID is not 32 bytes long.
    pub malformed: u64,
}

/// Counters of a [`StekRing`](crate::StekRing).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct TicketStats {
    /// Tickets made.
    pub sealed: u64,
    /// Tickets opened and handed to rustls.
    pub opened: u64,
    /// Tickets that were not opened, by reason.
    pub refused: Refused,
    /// Tickets that were not made, by reason.
    pub not_sealed: NotSealed,
    /// Tickets made for sessions whose full handshake is not known (TLS 1.3 without an acceptor
    /// that tells), so that their age counts from here.
    pub age_unknown: u64,
}

/// Why a ticket was not opened. Each is a full handshake.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Refused {
    /// It bears the name of no STEK that is or was here: another server's, an older process's, or
    /// junk.
    pub unknown_key_name: u64,
    /// Longer than the fixed maximum.
    pub too_long: u64,
    /// Too short to be a ticket.
    pub malformed: u64,
    /// Its seal does not fit.
    pub forged: u64,
    /// It was made in another scope.
    pub wrong_scope: u64,
    /// Its STEK has expired.
    pub expired_key: u64,
    /// Its full handshake is longer ago than `max_session_age`, or lies in the future.
    pub too_old: u64,
    /// Its STEK was revoked, or its scope forgotten.
    pub revoked: u64,
}

/// Why a ticket was not made. rustls goes on without.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct NotSealed {
    /// No STEK may seal at this time, or sealing failed.
    pub no_key: u64,
    /// It would be longer than the fixed maximum: a client with a very long certificate chain.
    pub too_long: u64,
    /// The session is as old as `max_session_age` allows.
    pub too_old: u64,
}

/// The state of a [`StekRing`](crate::StekRing).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct StekStats {
    /// The STEK that seals now, if one does.
    pub active: Option<KeyName>,
    /// How long it has been sealing.
    pub active_age: Option<Duration>,
    /// Whether that is longer than the schedule's interval: a STEK which its operator should have
    /// replaced. It is kept.
    pub over_age: bool,
    /// How long each STEK is to seal, by the schedule; `None` without a ring.
    pub interval: Option<Duration>,
    /// STEKs held, published and retired ones included.
    pub keys: u64,
    /// How often another STEK became the one that seals.
    pub rotations: u64,
    /// STEKs revoked here.
    pub revocations: u64,
    /// The name of the source they come from; empty without a ring.
    pub source: &'static str,
    /// How long ago the source last answered; `None` if it never did.
    pub source_answered: Option<Duration>,
    /// How often the source failed to answer.
    pub source_failures: u64,
    /// Whether local random STEKs seal because the source has none that may.
    pub fallen_back: bool,
    /// Whether the other users of the source keep the same schedule, where it can tell.
    pub fleet_agrees: Option<bool>,
}

/// Counters of a [`SharedStore`](crate::store::SharedStore) and of what goes through it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct StoreStats {
    /// The store's name; empty without one.
    pub store: &'static str,
    /// Sessions handed to the store.
    pub shared: u64,
    /// Sessions that were not, by reason.
    pub not_shared: NotShared,
    /// TLS 1.3 sessions among those shared whose full handshake is not known (no acceptor told), so
    /// that their age counts from here.
    pub age_unknown: u64,
    /// TLS 1.3 sessions claimed: found, opened and deleted in the store.
    pub claimed: u64,
    /// Claimed sessions that rustls did not take: the client went away, or no longer offered them
    /// after a HelloRetryRequest. Wiped.
    pub unused: u64,
    /// TLS 1.2 sessions fetched into the local cache.
    pub fetched: u64,
    /// Look-ups that found nothing of use, by reason.
    pub misses: StoreMisses,
    /// How the store itself fares.
    pub health: StoreHealth,
}

/// Why a session was not handed to the shared store. A TLS 1.3 client gets no ticket then.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct NotShared {
    /// The STEK source failed, and the local STEKs that stand in open nothing on other nodes.
    pub fallen_back: u64,
    /// No STEK may seal at this time, or sealing failed.
    pub no_key: u64,
    /// The store would not take it: its queue is full, or it does not answer.
    pub not_taken: u64,
    /// The session is as old as `max_session_age` allows.
    pub too_old: u64,
    /// Not a session as this crate knows them, or larger than 64 KiB.
    pub malformed: u64,
}

/// Why a look-up in the shared store found nothing of use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct StoreMisses {
    /// No such session: claimed already, expired, never written, or of another scope.
    pub not_found: u64,
    /// No answer by the deadline.
    pub timed_out: u64,
    /// The store was not asked, because it did not answer lately.
    pub unavailable: u64,
    /// The store was not asked, because too many look-ups were under way.
    pub busy: u64,
    /// The store answered with an error.
    pub failed: u64,
    /// What the store gave is not a session's value.
    pub malformed: u64,
    /// It bears the name of no STEK that opens here: expired, revoked, or another fleet's.
    pub unknown_key_name: u64,
    /// Its seal does not fit: forged, or stored in the place of another session.
    pub forged: u64,
    /// It had expired, and the store gave it all the same.
    pub expired: u64,
    /// Its full handshake is longer ago than `max_session_age`, or lies in the future.
    pub too_old: u64,
    /// Its scope was forgotten here after it was made.
    pub forgotten: u64,
}

/// How a [`SharedStore`](crate::store::SharedStore) fares, as far as it tells.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct StoreHealth {
    /// Values of which it is known that they were written.
    pub written: u64,
    /// Values dropped unsent, because the connection was lost while they waited.
    pub dropped: u64,
    /// Values that the store refused, as one that is full does.
    pub refused: u64,
    /// Values of which the outcome is unknown. They are not written again.
    pub unknown: u64,
    /// Connections made, the first one included.
    pub connections: u64,
    /// How often it was given up for a while because it did not answer.
    pub outages: u64,
    /// Whether it is given up now, so that nobody waits for it.
    pub is_down: bool,
}

/// Counters of the handshakes that acceptors saw.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct AcceptorStats {
    /// Handshakes that resumed, by rustls's own word.
    pub resumed: u64,
    /// Those among them whose early data was accepted.
    pub early_data: u64,
    /// Full handshakes, by reason.
    pub full: NotResumed,
    /// Handshakes, of either kind, with a HelloRetryRequest.
    pub hello_retries: u64,
    /// Handshakes that failed or were given up after the ClientHello.
    pub failed: u64,
}

/// Why a handshake was a full one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct NotResumed {
    /// The client offered no session.
    pub not_offered: u64,
    /// What it offered was not found or not accepted: the counters of tickets, cache and store say
    /// why.
    pub not_found: u64,
    /// The shared store gave no answer.
    pub store_unavailable: u64,
    /// The session was found in the shared store, but rustls did not resume it: it was made for
    /// another server name or cipher suite.
    pub declined: u64,
}

impl NotResumed {
    /// All full handshakes.
    #[expect(clippy::arithmetic_side_effects, reason = "nobody counts to 2^64")]
    pub fn total(&self) -> u64 {
        let Self {
            not_offered,
            not_found,
            store_unavailable,
            declined,
        } = self;
        not_offered + not_found + store_unavailable + declined
    }
}
