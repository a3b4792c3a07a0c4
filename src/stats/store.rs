use std::fmt;

use super::Trouble;
use super::declare::declare;

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
            /// The client left, or no longer offered them after a HelloRetryRequest, or they no longer
            /// resumed by then. Wiped.
            unused as Unused: "resumption_store_unused_total";
            /// TLS 1.2 sessions fetched into the cache.
            fetched as Fetched: "resumption_store_fetched_total";
            /// Sessions shared whose age is unknown.
            /// Their age counts from then on: TLS 1.3 where handshakes are not followed.
            age_unknown as AgeUnknown: "resumption_store_age_unknown_total";
        }
        reasons {
            /// Sessions that were not handed to the store.
            not_shared: "resumption_store_not_shared_total", shown as "not shared";
            /// Why a session was not handed to the shared store. A TLS 1.3 client gets no ticket
            /// then.
            struct NotShared {
                /// The STEK source failed, and other nodes cannot open what local STEKs seal.
                fallen_back as FallenBack,
                /// No STEK is active, or sealing failed.
                no_key as NoKey,
                /// The store did not accept it: its queue is full, or its circuit breaker is open.
                not_taken as NotTaken,
                /// The session is as old as `max_session_age` allows.
                too_old as TooOldToShare,
                /// It has client certificates, and no verifier was given to check them later.
                client_auth as ClientAuthToShare,
                /// Not in an encoding of sessions that this crate knows.
                malformed as MalformedToShare,
                /// Longer than [`max_session_len`](crate::ResumptionBuilder::max_session_len).
                too_long as TooLongToShare,
                /// Its handshake began before a call that revoked or forgot what it descends from.
                revoked as RevokedToShare,
            }

            /// Look-ups that found no usable session.
            misses: "resumption_store_misses_total", shown as "store misses";
            /// Why a look-up in the shared store found no usable session.
            struct StoreMisses {
                /// No such session: already claimed, expired, never written, or of another scope.
                not_found as NotFound,
                /// No answer by the deadline.
                timed_out as TimedOut,
                /// The store was not asked, because the circuit breaker is open, or no server is known
                /// to have the key; or the server that was asked sent us to another in vain.
                unavailable as Unavailable,
                /// The store was not asked, because too many look-ups were under way.
                busy as Busy,
                /// The store answered with an error, lost the connection, or panicked.
                failed as Failed,
                /// What the store returned is not the value of a session.
                malformed as Malformed,
                /// Its key name is that of no STEK that opens here: expired, revoked, or another
                /// fleet's.
                unknown_key_name as UnknownKeyName,
                /// Authentication failed: forged, or stored in the place of another session.
                forged as Forged,
                /// It had expired, but the store still returned it.
                expired as Expired,
                /// Its full handshake is longer ago than `max_session_age`, or lies in the future.
                too_old as TooOld,
                /// Its scope was forgotten here after it was made.
                forgotten as Forgotten,
            }
        }
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
            /// What is wrong with it, until it works again. It may be up all the same: a full one
            /// is. The log has the details.
            trouble: Option<StoreTrouble> {}
            /// What last went wrong with it, and when.
            last_trouble: Option<Trouble> {}
        }
        counters {
            /// Sessions known to have been written.
            written: "resumption_store_written_total";
            /// Not done by any server.
            /// The connection was lost while they waited, or the server sent us to another in vain.
            dropped: "resumption_store_not_written_total", a reason of NOT_WRITTEN;
            /// Refused by the store, for example because it is full.
            refused: "resumption_store_not_written_total", a reason of NOT_WRITTEN;
            /// Of unknown outcome. They are not written again.
            unknown: "resumption_store_not_written_total", a reason of NOT_WRITTEN;
            /// Connections made to the store.
            connections: "resumption_store_connections_total";
            /// How often the store's circuit breaker opened.
            outages: "resumption_store_outages_total";
            /// How often look-ups went back to the store's own thread.
            /// Those of Redis may be served by a runtime that is named, which had ended, or was late,
            /// or lost its connection.
            lookup_runtime_outages: "resumption_store_lookup_runtime_outages_total";
        }
        reasons {}
    }
}

#[cfg(feature = "metrics")]
const NOT_WRITTEN: &str = "Sessions that were not written, or may not have been.";

/// What is wrong with a shared store.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum StoreTrouble {
    /// It cannot be connected to, or the connection was lost.
    Unreachable,
    /// It did not answer in time.
    TimedOut,
    /// It refuses writes: Redis's `READONLY`, the answer of a demoted master.
    ReadOnly,
    /// It is the wrong server: Redis's `MOVED`, or the address is that of a node of a Cluster, or
    /// of a Sentinel.
    Misplaced,
    /// This user may not do it, or the password is missing or wrong: Redis's `NOPERM`, `NOAUTH`,
    /// `WRONGPASS`.
    NotPermitted,
    /// It has no memory for further sessions: Redis's `OOM`.
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

#[cfg(feature = "serde")]
super::json::as_it_is!(StoreHealth, Option<StoreTrouble>);
#[cfg(feature = "serde")]
super::json::as_shown!(StoreTrouble);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_of_a_store_is_shown_as_what_it_is() {
        for (trouble, shown) in [
            (StoreTrouble::Unreachable, "unreachable"),
            (StoreTrouble::TimedOut, "timed out"),
            (StoreTrouble::ReadOnly, "read-only"),
            (StoreTrouble::Misplaced, "not the right server"),
            (StoreTrouble::NotPermitted, "not permitted"),
            (StoreTrouble::Full, "full"),
            (StoreTrouble::Unsupported, "unsupported"),
            (StoreTrouble::Refused, "refused"),
        ] {
            assert_eq!(trouble.to_string(), shown);
        }
    }
}
