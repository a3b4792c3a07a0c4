use super::declare::declare;

declare! {
    /// Counters of the tickets of a [`StekRing`](crate::StekRing).
    pub struct TicketStats, counted by TicketCount, shown as "tickets" {
        states {}
        counters {
            /// Tickets sealed.
            sealed as Sealed: "resumption_tickets_sealed_total";
            /// Tickets opened and handed to rustls.
            opened as Opened: "resumption_tickets_opened_total";
            /// Tickets sealed for sessions whose age is unknown.
            /// Their age counts from then on: TLS 1.3 where handshakes are not followed.
            age_unknown as SealedAgeUnknown: "resumption_tickets_age_unknown_total";
        }
        reasons {
            /// Tickets refused, each of which costs a full handshake.
            refused: "resumption_tickets_refused_total", shown as "refused";
            /// Why a ticket was refused. Each refusal costs a full handshake.
            struct Refused {
                /// Its key name is that of no STEK, past or present: it comes from another server
                /// or an earlier process, or is junk.
                unknown_key_name as UnknownKeyName,
                /// Longer than the fixed maximum.
                too_long as TooLong,
                /// Too short to be a ticket.
                malformed as Malformed,
                /// Authentication failed.
                forged as Forged,
                /// It was made in another scope, by its hint: a forged one may say so too.
                wrong_scope as WrongScope,
                /// Its STEK has expired.
                expired_key as ExpiredKey,
                /// Its full handshake is longer ago than `max_session_age`, or lies in the future.
                too_old as TooOld,
                /// Its STEK was revoked, or its scope forgotten.
                revoked as Revoked,
                /// A full handshake would refuse its client: see
                /// [`ClientAuthStats::refused`](super::ClientAuthStats::refused).
                client_auth as ClientAuth,
            }

            /// Tickets not issued.
            not_sealed: "resumption_tickets_not_sealed_total", shown as "not sealed";
            /// Why no ticket was issued. The handshake completes without one.
            struct NotSealed {
                /// No STEK is active, or sealing failed.
                no_key as NoKeyToSeal,
                /// It would be longer than the fixed maximum: a client with a very long certificate
                /// chain.
                too_long as TooLongToSeal,
                /// The session is as old as `max_session_age` allows.
                too_old as TooOldToSeal,
                /// It has client certificates, and no verifier was given to check them later.
                client_auth as ClientAuthToSeal,
                /// Its handshake began before a call that revoked or forgot what it descends from.
                revoked as RevokedToSeal,
            }
        }
    }
}
