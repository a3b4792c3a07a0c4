use super::declare::declare;

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
