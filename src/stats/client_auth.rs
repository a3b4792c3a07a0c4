use super::declare::declare;

declare! {
    /// Counters of the client certificates of sessions that were offered.
    pub struct ClientAuthStats, counted by ClientAuthCount, shown as "client auth" {
        states {}
        counters {
            /// Client certificates verified again when their session was offered.
            verified as Verified: "resumption_client_auth_verified_total";
            /// Sessions resumed on a cached verdict.
            remembered as Remembered: "resumption_client_auth_remembered_total";
            /// Sessions with client certificates not kept, because no verifier was given.
            /// Each counts once in the cache, in the store and as a ticket. Hand the verifier over with
            /// [`install_with_client_verifier`](crate::Resumption::install_with_client_verifier).
            not_kept as NotKept: "resumption_client_auth_not_kept_total";
        }
        reasons {
            /// Sessions refused because a full handshake would refuse their client.
            refused: "resumption_client_auth_refused_total", shown as "client auth refused";
            /// Why a full handshake would refuse the client of a session.
            struct ClientRefused {
                /// It has no certificate, and this configuration requests one.
                no_certificate as NoCertificate,
                /// It has a certificate, and no verifier was given.
                not_verified as NotVerified,
                /// Two others were verified already for the same ClientHello.
                too_many as TooMany,
                /// Its certificate has expired, or is not valid yet.
                expired as Expired,
                /// Its certificate was revoked.
                revoked as Revoked,
                /// Its certificate was issued by an authority that is not trusted here.
                unknown_issuer as UnknownIssuer,
                /// The verifier refused it for another reason, or panicked.
                other as Other,
            }
        }
    }
}
