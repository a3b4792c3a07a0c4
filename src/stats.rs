//! What [`Stats`] consists of.

// Each value is declared once; `stats/declare.rs` says what comes of it.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::counters::Counted;
use crate::stek::KeyName;
use crate::sync::atomic::AtomicU64;

mod declare;
pub(crate) mod metrics;
#[cfg(feature = "metrics")]
mod sample;
mod table;

use declare::declare;
#[cfg(feature = "metrics")]
use sample::{Sample, Value};
use table::{Row, write_title};

/// What resumption has done since it was set up, and the state it is in: one snapshot.
///
/// Counters only grow. Taking a snapshot sums per-thread and per-shard counters, which takes some
/// microseconds and does not delay handshakes. Printed with `{}` it is a table for people.
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
    /// Client certificates in sessions that were to resume.
    pub client_auth: ClientAuthStats,
    /// The handshakes that acceptors saw.
    pub acceptor: AcceptorStats,
    /// The housekeeping that keeps all of this going.
    pub housekeeper: HousekeeperStats,
}

declare! {
    /// Counters of a [`SessionCache`](crate::SessionCache).
    pub struct CacheStats, counted by CacheCount, shown as "cache" {
        states {
            /// Sessions in the cache now, including expired ones that have not been swept yet.
            entries: u64, shown as "entries" {
                "resumption_cache_entries", "Sessions in the cache.", Value::number(entries);
            }
            /// The most sessions it may hold.
            max_entries: u64, shown as "at most" {
                "resumption_cache_max_entries", "Sessions that the cache may hold.",
                    Value::number(max_entries);
            }
            /// The bytes of their values now.
            bytes: u64, shown as "bytes" {
                "resumption_cache_bytes", "Bytes of the sessions in the cache.",
                    Value::number(bytes);
            }
        }
        counters {
            /// Sessions stored.
            stored: "resumption_cache_stored_total";
            /// Sessions found and handed to rustls.
            hits: "resumption_cache_hits_total";
            /// Sessions dropped because they expired.
            expired: "resumption_cache_expired_total";
            /// Sessions stored whose full handshake is not known.
            /// Their age counts from here: TLS 1.3 where handshakes are not followed.
            age_unknown as AgeUnknown: "resumption_cache_age_unknown_total";
        }
        reasons {
            /// Look-ups that found nothing.
            misses: "resumption_cache_misses_total", shown as "cache misses";
            /// Why a look-up in the cache found nothing.
            struct Misses {
                /// No such session: never stored, already taken, evicted, or of another scope.
                unknown,
                /// It had expired.
                expired,
                /// It is of the other TLS version: a TLS 1.2 session ID offered as a TLS 1.3 PSK
                /// identity or the reverse.
                other_version,
                /// The ID is not 32 bytes long, as every session ID of rustls is.
                malformed as MalformedLookup,
                /// With a shared store: a TLS 1.3 session that rustls asked for although no
                /// acceptor had claimed it, so a full handshake. Accept connections through an
                /// acceptor.
                not_claimed as NotClaimed,
                /// The full handshake would not admit its client: see
                /// [`ClientAuthStats::refused`].
                client_auth as ClientAuth,
            }

            /// Sessions that left before their time.
            evictions: "resumption_cache_evictions_total", shown as "evictions";
            /// Why sessions left the cache before their time.
            struct Evictions {
                /// The budget of entries was used up.
                entries,
                /// The budget of bytes was used up.
                bytes,
                /// Their scope was forgotten, or everything was revoked.
                forgotten,
                /// Another session was stored under the same ID.
                replaced,
            }

            /// Sessions that were not stored.
            not_stored: "resumption_cache_not_stored_total", shown as "not stored";
            /// Why a session was not stored.
            struct NotStored {
                /// Larger than a shard's share of the byte budget, or the cache has no room at all.
                no_room,
                /// Already older than `max_session_age`.
                too_old as TooOld,
                /// Its ID is not 32 bytes long.
                malformed as MalformedStore,
                /// It has client certificates, and no verifier was given.
                client_auth as ClientAuthStore,
            }
        }
    }
}

declare! {
    /// Counters of the tickets of a [`StekRing`](crate::StekRing).
    pub struct TicketStats, counted by TicketCount, shown as "tickets" {
        states {}
        counters {
            /// Tickets made.
            sealed as Sealed: "resumption_tickets_sealed_total";
            /// Tickets opened and handed to rustls.
            opened as Opened: "resumption_tickets_opened_total";
            /// Tickets made for sessions whose full handshake is not known.
            /// Their age counts from here: TLS 1.3 where handshakes are not followed.
            age_unknown as SealedAgeUnknown: "resumption_tickets_age_unknown_total";
        }
        reasons {
            /// Tickets that were not opened: each a full handshake.
            refused: "resumption_tickets_refused_total", shown as "refused";
            /// Why a ticket was not opened. Each is a full handshake.
            struct Refused {
                /// It bears the name of no STEK that is or was here: another server's, an older
                /// process's, or junk.
                unknown_key_name as UnknownKeyName,
                /// Longer than the fixed maximum.
                too_long as TooLong,
                /// Too short to be a ticket.
                malformed as Malformed,
                /// Authentication failed.
                forged as Forged,
                /// It was made in another scope.
                wrong_scope as WrongScope,
                /// Its STEK has expired.
                expired_key as ExpiredKey,
                /// Its full handshake is longer ago than `max_session_age`, or lies in the future.
                too_old as TooOld,
                /// Its STEK was revoked, or its scope forgotten.
                revoked as Revoked,
                /// The full handshake would not admit its client: see
                /// [`ClientAuthStats::refused`].
                client_auth as ClientAuth,
            }

            /// Tickets that were not made.
            not_sealed: "resumption_tickets_not_sealed_total", shown as "not sealed";
            /// Why a ticket was not made. rustls goes on without.
            struct NotSealed {
                /// No STEK may seal at this time, or sealing failed.
                no_key as NoKeyToSeal,
                /// It would be longer than the fixed maximum: a client with a very long certificate
                /// chain.
                too_long as TooLongToSeal,
                /// The session is as old as `max_session_age` allows.
                too_old as TooOldToSeal,
                /// It has client certificates, and no verifier was given.
                client_auth as ClientAuthToSeal,
            }
        }
    }
}

declare! {
    /// Counters of client certificates in sessions that were to resume.
    pub struct ClientAuthStats, counted by ClientAuthCount, shown as "client auth" {
        states {}
        counters {
            /// Client certificates verified because a session was to resume.
            verified as Verified: "resumption_client_auth_verified_total";
            /// Sessions resumed on a remembered verdict.
            remembered as Remembered: "resumption_client_auth_remembered_total";
            /// Sessions with client certificates that were not made, because no verifier was given.
            /// Hand it over with
            /// [`install_with_client_verifier`](crate::Resumption::install_with_client_verifier).
            not_kept as NotKept: "resumption_client_auth_not_kept_total";
        }
        reasons {
            /// Sessions refused because the full handshake would not admit their client.
            refused: "resumption_client_auth_refused_total", shown as "client auth refused";
            /// Why the full handshake would not admit the client of a session.
            struct ClientRefused {
                /// It has no certificate, and one is asked for here.
                no_certificate as NoCertificate,
                /// It has certificates, and no verifier was given.
                not_verified as NotVerified,
                /// Two others were verified already for the same ClientHello.
                too_many as TooMany,
                /// Its certificate has expired, or is not valid yet.
                expired as Expired,
                /// Its certificate was revoked.
                revoked as Revoked,
                /// Its certificate is of an authority that is not trusted here.
                unknown_issuer as UnknownIssuer,
                /// The verifier refused it for another reason, or panicked.
                other as Other,
            }
        }
    }
}

declare! {
    /// The state of a [`StekRing`](crate::StekRing).
    pub struct StekStats, shown as "STEKs" {
        states {
            /// The STEK that seals now, if one does.
            active: Option<KeyName> {
                "resumption_stek_active", "1 if a STEK seals.", Value::flag(active.is_some());
                "resumption_stek_active_key",
                    "First 48 bits of the active STEK's name: nodes that agree show the same number.",
                    active.map_or(Value::Gauge(f64::NAN), |name| Value::key(&name));
            }
            /// How long it has been sealing.
            active_age: Option<Duration> {
                "resumption_stek_active_age_seconds",
                    "How long the active STEK has been sealing; NaN if that is not known.",
                    Value::seconds(active_age, f64::NAN);
            }
            /// Whether that is longer than the schedule's interval: whoever supplies the STEK
            /// should replace it. It is kept.
            over_age: bool {
                "resumption_stek_over_age",
                    "1 if the active STEK is older than the interval: its supplier should replace it.",
                    Value::flag(over_age);
            }
            /// How long each STEK is to seal, by the schedule; `None` without a ring.
            interval: Option<Duration> {
                "resumption_stek_interval_seconds", "How long each STEK is to seal.",
                    Value::seconds(interval, f64::NAN);
            }
            /// STEKs held, including published and retired ones.
            keys: u64, shown as "keys" {
                "resumption_stek_keys", "STEKs held, including published and retired ones.",
                    Value::number(keys);
            }
            /// The name of the source they come from; empty without a ring.
            source: &'static str {
                "resumption_stek_source_info",
                    "Always 1; the label names the source that STEKs come from.",
                    Value::Gauge(1.0), label "source" = source;
            }
            /// How often the source is asked, unless it fails; `None` without a ring.
            poll_interval: Option<Duration> {
                "resumption_stek_source_poll_seconds",
                    "How often the source is asked, unless it fails.",
                    Value::seconds(poll_interval, f64::NAN);
            }
            /// How long ago the source last answered; `None` if it never did.
            source_answered: Option<Duration> {
                "resumption_stek_source_answer_age_seconds",
                    "How long ago the source last answered; +Inf if it never did.",
                    Value::seconds(source_answered, f64::INFINITY);
            }
            /// Whether the source has been asked and has not answered in time. A late answer is
            /// taken when it comes.
            source_late: bool {
                "resumption_stek_source_late",
                    "1 if the source was asked and has not answered in time.",
                    Value::flag(source_late);
            }
            /// Whether local random STEKs seal because the source has no active one.
            fallen_back: bool {
                "resumption_stek_fallen_back",
                    "1 if local random STEKs seal because the source has no active one.",
                    Value::flag(fallen_back);
            }
            /// Whether the other users of the source keep the same schedule, where it can tell.
            fleet_agrees: Option<bool> {
                "resumption_stek_fleet_agrees",
                    "1 if the other users of the source keep the same schedule; NaN if it cannot tell.",
                    fleet_agrees.map_or(Value::Gauge(f64::NAN), Value::flag);
            }
        }
        counters {
            /// How often another STEK became the one that seals.
            rotations: "resumption_stek_rotations_total";
            /// STEKs revoked on this node.
            revocations: "resumption_stek_revocations_total";
            /// How often the source failed to answer.
            source_failures: "resumption_stek_source_failures_total";
            /// How often more was revoked or forgotten than a shared source can remember.
            /// What is as old as the oldest of it was then withdrawn too.
            overflows: "resumption_stek_overflows_total";
        }
        reasons {}
    }
}

declare! {
    /// Counters of a [`SharedStore`](crate::store::SharedStore) and of what goes through it.
    pub struct StoreStats, counted by StoreCount, shown as "store" {
        states {
            /// The store's name; empty without one.
            store: &'static str {
                "resumption_store_info", "Always 1; the label names the shared store.",
                    Value::Gauge(1.0), label "store" = store;
            }
            /// How the store itself is doing.
            health: StoreHealth {}
        }
        counters {
            /// Sessions handed to the store.
            shared as Shared: "resumption_store_shared_total";
            /// TLS 1.3 sessions found, opened and deleted in the store.
            claimed as Claimed: "resumption_store_claimed_total";
            /// Claimed sessions that rustls did not take.
            /// The client went away, or no longer offered them after a HelloRetryRequest. Wiped.
            unused as Unused: "resumption_store_unused_total";
            /// TLS 1.2 sessions fetched into the cache.
            fetched as Fetched: "resumption_store_fetched_total";
            /// Sessions shared whose full handshake is not known.
            /// Their age counts from here: TLS 1.3 where no acceptor told.
            age_unknown as AgeUnknown: "resumption_store_age_unknown_total";
        }
        reasons {
            /// Sessions that were not handed to the store.
            not_shared: "resumption_store_not_shared_total", shown as "not shared";
            /// Why a session was not handed to the shared store. A TLS 1.3 client gets no ticket
            /// then.
            struct NotShared {
                /// The STEK source failed, and the local STEKs that stand in open nothing on other
                /// nodes.
                fallen_back as FallenBack,
                /// No STEK may seal at this time, or sealing failed.
                no_key as NoKey,
                /// The store did not take it: its queue is full, or its circuit breaker is open.
                not_taken as NotTaken,
                /// The session is as old as `max_session_age` allows.
                too_old as TooOldToShare,
                /// It has client certificates, and no verifier was given.
                client_auth as ClientAuthToShare,
                /// Not a session in a form that this crate knows, or larger than 64 KiB.
                malformed as Malformed,
            }

            /// Look-ups that found nothing of use.
            misses: "resumption_store_misses_total", shown as "store misses";
            /// Why a look-up in the shared store found nothing of use.
            struct StoreMisses {
                /// No such session: already claimed, expired, never written, or of another scope.
                not_found as NotFound,
                /// No answer by the deadline.
                timed_out as TimedOut,
                /// The store was not asked, because the circuit breaker is open.
                unavailable as Unavailable,
                /// The store was not asked, because too many look-ups were under way.
                busy as Busy,
                /// The store answered with an error.
                failed as Failed,
                /// What the store returned is not the value of a session.
                malformed as Garbage,
                /// It bears the name of no STEK that opens here: expired, revoked, or another
                /// fleet's.
                unknown_key_name as UnknownKeyName,
                /// Authentication failed: forged, or stored in the place of another session.
                forged as Forged,
                /// It had expired, and the store returned it all the same.
                expired as Expired,
                /// Its full handshake is longer ago than `max_session_age`, or lies in the future.
                too_old as TooOld,
                /// Its scope was forgotten here after it was made.
                forgotten as Forgotten,
            }
        }
    }
}

#[cfg(feature = "metrics")]
const NOT_WRITTEN: &str = "Sessions that were not written, or of which that is not known.";

/// What is wrong with a shared store.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum StoreTrouble {
    /// It cannot be connected to, or the connection was lost.
    Unreachable,
    /// It did not answer in time.
    TimedOut,
    /// It serves no writes: Redis's `READONLY`, as a master says that was demoted.
    ReadOnly,
    /// It is not responsible, or not for all: Redis's `MOVED`, or the address is that of a node of a
    /// Cluster, or of a Sentinel.
    Misplaced,
    /// It lacks a right or a password: Redis's `NOPERM`, `NOAUTH`, `WRONGPASS`.
    NotPermitted,
    /// It has no room for further sessions: Redis's `OOM`.
    Full,
    /// It does not know a command: Redis before 6.2, which has no `GETDEL`.
    Unsupported,
    /// It answered with another error.
    Refused,
}

impl fmt::Display for StoreTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed out",
            Self::ReadOnly => "read-only",
            Self::Misplaced => "not the right server",
            Self::NotPermitted => "not permitted",
            Self::Full => "full",
            Self::Unsupported => "unsupported",
            Self::Refused => "refused",
        })
    }
}

declare! {
    /// How a [`SharedStore`](crate::store::SharedStore) is doing, as far as it can tell.
    pub struct StoreHealth, shown as "store up" {
        states {
            /// Whether its circuit breaker is open, so that nobody waits for it.
            is_down: bool {
                "resumption_store_down", "1 while the store's circuit breaker is open.",
                    Value::flag(is_down);
            }
            /// What is wrong with it, until it serves again. It may be up all the same, as one is that
            /// is full. The log has the details.
            trouble: Option<StoreTrouble> {}
        }
        counters {
            /// Sessions known to have been written.
            written: "resumption_store_written_total";
            /// Dropped unsent, because the connection was lost while they waited.
            dropped: "resumption_store_not_written_total", a reason of NOT_WRITTEN;
            /// Refused by the store, as one that is full does.
            refused: "resumption_store_not_written_total", a reason of NOT_WRITTEN;
            /// Of unknown outcome. They are not written again.
            unknown: "resumption_store_not_written_total", a reason of NOT_WRITTEN;
            /// Connections made to the store.
            connections: "resumption_store_connections_total";
            /// How often the store's circuit breaker opened.
            outages: "resumption_store_outages_total";
        }
        reasons {}
    }
}

declare! {
    /// Counters of the handshakes that acceptors saw.
    pub struct AcceptorStats, counted by HandshakeCount, shown as "handshakes" {
        states {}
        counters {
            /// Handshakes that resumed, as acceptors saw them.
            resumed as Resumed: "resumption_handshakes_resumed_total";
            /// Resumed handshakes whose early data was accepted.
            early_data as EarlyData: "resumption_handshakes_early_data_total";
            /// Handshakes that failed or were given up after the ClientHello.
            failed as Failed: "resumption_handshakes_failed_total";
            /// Handshakes with a HelloRetryRequest.
            /// Full and resumed ones.
            hello_retries as HelloRetry: "resumption_handshakes_hello_retries_total";
        }
        reasons {
            /// Full handshakes, as acceptors saw them.
            full: "resumption_handshakes_full_total", shown as "full because", in all "full";
            /// Why a handshake was a full one.
            struct NotResumed {
                /// The client offered no session.
                not_offered as NotOffered,
                /// What it offered was not found or not accepted: the counters of tickets, cache
                /// and store say why.
                not_found as NotFound,
                /// The shared store gave no answer.
                store_unavailable as StoreUnavailable,
                /// The session was found in the shared store, but rustls did not resume it: it was
                /// made for another server name or cipher suite.
                declined as Declined,
            }
        }
    }
}

declare! {
    /// The state of housekeeping: what expires keys and sessions in time.
    pub struct HousekeeperStats, shown as "housekeeper" {
        states {
            /// How long ago it was last done: about a second at most while all is well. `None` for a
            /// cache or ring used alone.
            age: Option<Duration> {}
            /// When that was.
            last_run: Option<SystemTime> {
                // A time, not an age: a value that is no longer published must not look fresh.
                "resumption_housekeeper_last_run_timestamp_seconds",
                    "When housekeeping was last done, in seconds since 1970.",
                    Value::timestamp(last_run);
            }
        }
        counters {
            /// Log events and publications that were lost.
            /// The subscriber or recorder panicked, or too many waited for one that hangs.
            untold: "resumption_housekeeper_untold_total";
        }
        reasons {}
    }
}

impl Stats {
    /// Every metric with its value. What is not set up has none, so that nobody is alarmed that no
    /// STEK seals in stateful mode.
    #[cfg(feature = "metrics")]
    fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        self.cache.samples(&mut samples);
        self.tickets.samples(&mut samples);
        if !self.steks.source.is_empty() {
            self.steks.samples(&mut samples);
        }
        if !self.store.store.is_empty() {
            self.store.samples(&mut samples);
            self.store.health.samples(&mut samples);
        }
        self.client_auth.samples(&mut samples);
        // Where nobody sees handshakes there are no numbers, not none.
        if self.acceptor != AcceptorStats::default() {
            self.acceptor.samples(&mut samples);
        }
        if self.housekeeper.last_run.is_some() {
            self.housekeeper.samples(&mut samples);
        }
        samples
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = [self.cache.rows(), self.tickets.rows(), self.steks.rows()].concat();
        if !self.store.store.is_empty() {
            rows.extend(self.store.rows());
            let health = self.store.health;
            let title = if health.is_down {
                "store DOWN"
            } else {
                "store up"
            };
            rows.extend(health.rows().into_iter().map(|row| Row { title, ..row }));
        }
        if self.client_auth != ClientAuthStats::default() {
            rows.extend(self.client_auth.rows());
        }
        if self.acceptor != AcceptorStats::default() {
            rows.extend(self.acceptor.rows());
        }
        if self.housekeeper.untold > 0 {
            rows.extend(self.housekeeper.rows());
        }
        rows
    }
}

/// Housekeeping that was last done so long ago is late.
const HOUSEKEEPING_IS_LATE: Duration = Duration::from_secs(5);

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in self.rows() {
            write!(f, "{row}")?;
        }
        if let Some(trouble) = self.store.health.trouble {
            write_title(f, "store trouble")?;
            writeln!(f, " {trouble}")?;
        }
        write_title(f, "active STEK")?;
        let steks = &self.steks;
        match steks.active {
            Some(name) => write!(f, " {name}")?,
            None => f.write_str(" none")?,
        }
        if let Some(age) = steks.active_age {
            write!(f, ", for {:.1} s", age.as_secs_f64())?;
        }
        if steks.over_age {
            f.write_str(", OVER AGE")?;
        }
        if !steks.source.is_empty() {
            write!(f, ", source {}", steks.source)?;
        }
        if let Some(ago) = steks.source_answered {
            write!(f, ", answered {:.1} s ago", ago.as_secs_f64())?;
        }
        if steks.source_late {
            f.write_str(", LATE")?;
        }
        if steks.fallen_back {
            f.write_str(", FALLEN BACK to local random keys")?;
        }
        match steks.fleet_agrees {
            Some(true) => f.write_str(", the fleet agrees")?,
            Some(false) => f.write_str(", the fleet DISAGREES on the schedule")?,
            None => {}
        }
        match self.housekeeper.age {
            Some(age) if age > HOUSEKEEPING_IS_LATE => {
                write!(f, ", LAST HOUSEKEEPING {:.1} s ago", age.as_secs_f64())
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_the_key_and_cries_out_when_fallen_back() {
        let mut stats = Stats::default();
        stats.steks.active = Some(KeyName::from_bytes([0xab; 16]));
        stats.steks.active_age = Some(Duration::from_millis(1_500));
        stats.steks.source = "redis";
        stats.steks.fallen_back = true;
        stats.tickets.refused.forged = 3;
        let table = stats.to_string();
        assert!(
            table.contains("refused       unknown key name 0, too long 0, malformed 0, forged 3")
        );
        assert!(table.ends_with(
            "active STEK   abababababababababababababababab, for 1.5 s, source redis, FALLEN BACK to local random keys"
        ));
        stats.steks.over_age = true;
        assert!(
            stats
                .to_string()
                .contains(", for 1.5 s, OVER AGE, source redis")
        );
    }
}
