use super::declare::declare;

declare! {
    /// Counters of the handshakes that were followed.
    pub struct AcceptorStats, counted by HandshakeCount, shown as "handshakes" {
        states {}
        counters {
            /// Followed handshakes that resumed.
            resumed as Resumed: "resumption_handshakes_resumed_total";
            /// Resumed handshakes whose early data was accepted.
            early_data as EarlyData: "resumption_handshakes_early_data_total";
            /// Handshakes whose early data was refused, as acceptors saw them.
            /// It is dropped, and the client sends it again.
            early_data_refused as EarlyDataRefused: "resumption_handshakes_early_data_refused_total";
            /// Handshakes that failed or were aborted after the ClientHello.
            /// With `follow` around an acceptor of others also before it.
            failed as Failed: "resumption_handshakes_failed_total";
            /// Handshakes with a HelloRetryRequest.
            /// Full and resumed ones, as acceptors saw them.
            hello_retries as HelloRetry: "resumption_handshakes_hello_retries_total";
        }
        reasons {
            /// Followed handshakes that did not resume.
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
                /// The session was found or its ticket opened, but rustls did not resume it: it was
                /// made for another server name or cipher suite.
                declined as Declined,
            }
            /// Followed handshakes of clients that cannot resume.
            /// Each is counted among the full ones too.
            cannot: "resumption_handshakes_cannot_resume_total", shown as "cannot resume";
            /// Why a client cannot resume, whatever it is given.
            struct CannotResume {
                /// TLS 1.3, without `psk_dhe_ke` among the ways in which the client resumes
                /// ([RFC 8446 §4.2.9]): rustls gives it no tickets. Erlang/OTP is one. Known to the
                /// acceptors of this crate, unless the configuration has `max_tls13_tickets`.
                ///
                /// [RFC 8446 §4.2.9]: https://www.rfc-editor.org/rfc/rfc8446#section-4.2.9
                no_psk_dhe_ke as NoPskDheKe,
                /// TLS 1.2 in stateful mode, and the client offered no session ID: either it is
                /// new, or it resumes by tickets alone, as Go's does.
                no_session_id as NoSessionId,
                /// TLS 1.2 in stateful mode, and the client offered a ticket, as after a migration:
                /// rustls then gives it no session ID either, until it drops the ticket.
                ticket_when_stateful as TicketWhenStateful,
            }
        }
    }
}
