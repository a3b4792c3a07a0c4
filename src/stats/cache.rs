use super::declare::declare;

declare! {
    /// Counters of a [`SessionCache`](crate::SessionCache).
    pub struct CacheStats, counted by CacheCount, shown as "cache" {
        states {
            /// Sessions in the cache now, including expired ones that have not been swept yet.
            entries: u64, shown as "entries" {
                "resumption_cache_entries", "Sessions in the cache.", Value::number(entries);
            }
            /// The maximum number of sessions.
            max_entries: u64, shown as "at most" {
                "resumption_cache_max_entries", "Maximum number of sessions in the cache.",
                    Value::number(max_entries);
            }
            /// Bytes of the session values in the cache now.
            bytes: u64, shown as "bytes" {
                "resumption_cache_bytes", "Bytes of the sessions in the cache.",
                    Value::number(bytes);
            }
            /// The maximum of them. If [`Evictions::bytes`] grows, it is reached before
            /// `max_entries`, and the cache holds fewer sessions than that.
            max_bytes: u64, shown as "bytes at most" {
                "resumption_cache_max_bytes", "Maximum of bytes of the sessions in the cache.",
                    Value::number(max_bytes);
            }
        }
        counters {
            /// Sessions stored.
            stored: "resumption_cache_stored_total";
            /// Sessions found.
            hits: "resumption_cache_hits_total";
            /// Sessions dropped because they expired.
            expired: "resumption_cache_expired_total";
            /// Sessions stored whose age is unknown.
            /// Their age counts from then on: TLS 1.3 where handshakes are not followed.
            age_unknown as AgeUnknown: "resumption_cache_age_unknown_total";
        }
        reasons {
            /// Look-ups that found nothing.
            misses: "resumption_cache_misses_total", shown as "cache misses";
            /// Why a look-up in the cache found nothing.
            struct Misses {
                /// No such session: never stored, already taken, evicted, or of another scope. What a
                /// shared store was asked for in vain counts there.
                unknown,
                /// It had expired.
                expired,
                /// It is of the other TLS version: a TLS 1.2 session ID offered as a TLS 1.3 PSK
                /// identity or the reverse.
                other_version,
                /// The ID is not 32 bytes long; every session ID that rustls makes is.
                malformed as MalformedLookup,
                /// With a shared store: a TLS 1.3 session that rustls asked for although no
                /// acceptor had claimed it, so a full handshake. Accept connections through an
                /// acceptor.
                not_claimed as NotClaimed,
                /// A full handshake would refuse its client: see
                /// [`ClientAuthStats::refused`](super::ClientAuthStats::refused).
                client_auth as ClientAuth,
            }

            /// Sessions removed before they expired.
            evictions: "resumption_cache_evictions_total", shown as "evictions";
            /// Why a session was removed before it expired.
            struct Evictions {
                /// The cache held its maximum number of sessions.
                entries,
                /// The byte budget was used up.
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
                /// Larger than a shard's share of the byte budget, or the cache is disabled.
                no_room,
                /// Already older than `max_session_age`.
                too_old as TooOld,
                /// Its ID is not 32 bytes long.
                malformed as MalformedStore,
                /// It has client certificates, and no verifier was given to check them later.
                client_auth as ClientAuthStore,
                /// Longer than [`max_session_len`](crate::ResumptionBuilder::max_session_len).
                too_long as TooLong,
                /// Its handshake began before a call that revoked or forgot what it descends from.
                revoked as RevokedStore,
            }
        }
    }
}
