use super::declare::declare;

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
                /// [`ClientAuthStats::refused`](super::ClientAuthStats::refused).
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
