use super::declare::declare;

declare! {
    /// Counters of the handshakes that acceptors saw.
    pub struct AcceptorStats, counted by HandshakeCount, shown as "handshakes" {
        states {}
        counters {
            /// Handshakes that resumed, as acceptors saw them.
            resumed as Resumed: "resumption_handshakes_resumed_total";
            /// Resumed handshakes whose early data was accepted.
            early_data as EarlyData: "resumption_handshakes_early_data_total";
            /// Handshakes that failed or were aborted after the ClientHello.
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
