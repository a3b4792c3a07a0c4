use std::fmt;
use std::time::Duration;

use tracing::{Span, trace};

use crate::counters::Counters;
use crate::session_lineage::SessionLineage;
use crate::stats::{AcceptorStats, HandshakeCount};
use crate::stek::KeyName;

/// What happened in a handshake, as far as resumption goes.
///
/// Shown, it is the end of a line of an access log, under the names that the fields of a `tracing`
/// span have: `outcome=resumed by=ticket age=60 key_name=abab…`, or `outcome=not_found why=forged`.
/// Times are in seconds; what is not known is left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Handshake {
    /// What came of it.
    pub outcome: Outcome,
    /// Whether early data was accepted. `None` where the connection is out of sight: known to the
    /// acceptors of this crate, and over QUIC.
    pub early_data: Option<bool>,
    /// Whether the client had to say hello twice. `None` where the connection is out of sight: known
    /// to the acceptors of this crate.
    pub hello_retry: Option<bool>,
    /// How long ago the client certificates of a resumed session were last verified, where a
    /// [verifier](crate::Resumption::install_with_client_verifier) does that; a full handshake
    /// verifies them itself.
    pub client_verified: Option<Duration>,
    /// Tells the other connections of the same session, where
    /// [`session_lineage`](crate::ResumptionBuilder::session_lineage) is enabled. `None` if none was
    /// resumed and none made; and, like `client_verified`, where the connection is out of sight, if
    /// no session was made in TLS 1.3: then nothing shows that one was resumed. So on connections that
    /// are [followed](crate::Resumption::follow) leave `send_tls13_tickets` above 0, or use an
    /// acceptor of this crate.
    pub lineage: Option<SessionLineage>,
}

/// What came of a handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// A full handshake: the client offered a session, and rustls did not resume it, because of
    /// another server name or cipher suite, say.
    Declined,
    /// A full handshake: of what the client offered nothing was there, or could be opened.
    NotFound {
        /// Why.
        ///
        /// | it is | of what the client offered |
        /// | --- | --- |
        /// | `not_found`, `not_claimed` | a session that was not there: [`Misses`](crate::stats::Misses) has the reasons |
        /// | a reason of [`Refused`](crate::stats::Refused), as `unknown_key_name` | a ticket that was refused |
        /// | `no_certificate`, `too_many_certificates`, `certificate_expired`, `certificate_revoked`, `certificate_unknown_issuer`, `certificate_not_verified`, `certificate_refused` | a session whose client a full handshake would refuse: [`ClientRefused`](crate::stats::ClientRefused) |
        /// | `ticket_when_stateful` | a TLS 1.2 ticket, in stateful mode |
        why: &'static str,
    },
    /// A full handshake: the client offered no session.
    NotOffered,
    /// The session was resumed. With [`follow`](crate::Resumption::follow) around an acceptor of
    /// others, where the connection itself is out of sight, that is concluded from what rustls asked
    /// for and made: a TLS 1.3 client that offers a session which rustls declines, and asks for no
    /// new ones, passes for resumed. To decide something by it, ask `handshake_kind()` of the
    /// connection, or use an acceptor of this crate.
    Resumed {
        /// How it was kept until then.
        by: ResumedBy,
        /// How long its full handshake is ago. `None` if some handshake since then was not
        /// followed.
        age: Option<Duration>,
        /// The STEK that had sealed it, if one had.
        key_name: Option<KeyName>,
    },
    /// A full handshake: the shared store gave no answer.
    StoreUnavailable,
}

impl Outcome {
    /// Whether a session was resumed.
    pub fn is_resumed(&self) -> bool {
        matches!(self, Self::Resumed { .. })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Declined => "declined",
            Self::NotFound { .. } => "not_found",
            Self::NotOffered => "not_offered",
            Self::Resumed { .. } => "resumed",
            Self::StoreUnavailable => "store_unavailable",
        }
    }
}

/// How a session was kept until it was resumed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ResumedBy {
    /// In this process's cache, once, as TLS 1.3 has it: by a PSK identity.
    Cache,
    /// By a session storage or ticketer that is not of this crate.
    Other,
    /// In this process's cache, by a TLS 1.2 session ID.
    SessionId,
    /// In a [`SharedStore`](crate::store::SharedStore).
    SharedStore,
    /// By the client, in a ticket.
    Ticket,
}

impl ResumedBy {
    fn name(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Other => "other",
            Self::SessionId => "session_id",
            Self::SharedStore => "shared_store",
            Self::Ticket => "ticket",
        }
    }
}

impl Handshake {
    #[inline(always)]
    pub(crate) fn count(&self, counts: &Counters<AcceptorStats>) {
        trace!(outcome = self.outcome.name(), retry = ?self.hello_retry, "accepted");
        counts.add(match self.outcome {
            Outcome::Declined => HandshakeCount::Declined,
            Outcome::NotFound { .. } => HandshakeCount::NotFound,
            Outcome::NotOffered => HandshakeCount::NotOffered,
            Outcome::Resumed { .. } => HandshakeCount::Resumed,
            Outcome::StoreUnavailable => HandshakeCount::StoreUnavailable,
        });
        if self.early_data == Some(true) {
            counts.add(HandshakeCount::EarlyData);
        }
        if self.hello_retry == Some(true) {
            counts.add(HandshakeCount::HelloRetry);
        }
    }

    /// Fills the fields in that a span has for it.
    pub(crate) fn record(&self, span: &Span) {
        if span.is_disabled() {
            return;
        }
        span.record("resumption.outcome", self.outcome.name());
        match self.outcome {
            Outcome::Resumed { by, age, key_name } => {
                span.record("resumption.by", by.name());
                if let Some(age) = age {
                    span.record("resumption.age", age.as_secs());
                }
                if let Some(name) = key_name {
                    span.record("resumption.key_name", tracing::field::display(name));
                }
            }
            Outcome::NotFound { why } => {
                span.record("resumption.why", why);
            }
            Outcome::Declined | Outcome::NotOffered | Outcome::StoreUnavailable => {}
        }
    }
}

impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outcome={}", self.outcome.name())?;
        match self.outcome {
            Outcome::Resumed { by, age, key_name } => {
                write!(f, " by={}", by.name())?;
                if let Some(age) = age {
                    write!(f, " age={}", age.as_secs())?;
                }
                if let Some(name) = key_name {
                    write!(f, " key_name={name}")?;
                }
            }
            Outcome::NotFound { why } => write!(f, " why={why}")?,
            Outcome::Declined | Outcome::NotOffered | Outcome::StoreUnavailable => {}
        }
        if let Some(early_data) = self.early_data {
            write!(f, " early_data={early_data}")?;
        }
        if let Some(hello_retry) = self.hello_retry {
            write!(f, " hello_retry={hello_retry}")?;
        }
        if let Some(ago) = self.client_verified {
            write!(f, " client_verified={}", ago.as_secs())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::field::{Empty, Field, Visit};
    use tracing::{Event, Metadata, Subscriber, info_span, span};

    use super::*;

    /// Keeps the fields that spans are given.
    #[derive(Clone, Default)]
    struct Fields(Arc<Mutex<Vec<String>>>);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0.lock().push(format!("{field}={value:?}"));
        }
    }

    impl Subscriber for Fields {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, values: &span::Record<'_>) {
            values.record(&mut self.clone());
        }

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, _: &Event<'_>) {}

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn it_is_shown_as_the_end_of_a_line_of_a_log() {
        let mut handshake = Handshake {
            outcome: Outcome::NotFound { why: "forged" },
            early_data: None,
            hello_retry: None,
            client_verified: None,
            lineage: None,
        };
        assert_eq!(handshake.to_string(), "outcome=not_found why=forged");
        handshake.outcome = Outcome::Resumed {
            by: ResumedBy::Ticket,
            age: Some(Duration::from_secs(60)),
            key_name: Some(KeyName::from_bytes([0xab; 16])),
        };
        handshake.early_data = Some(true);
        assert_eq!(
            handshake.to_string(),
            "outcome=resumed by=ticket age=60 key_name=abababababababababababababababab \
             early_data=true"
        );
    }

    #[test]
    fn a_span_is_told_what_happened() {
        let fields = Fields::default();
        tracing::subscriber::with_default(fields.clone(), || {
            let span = info_span!(
                "handshake",
                resumption.outcome = Empty,
                resumption.by = Empty,
                resumption.age = Empty,
                resumption.key_name = Empty,
                resumption.why = Empty,
            );
            for outcome in [
                Outcome::NotFound { why: "forged" },
                Outcome::Resumed {
                    by: ResumedBy::Ticket,
                    age: Some(Duration::from_secs(60)),
                    key_name: Some(KeyName::from_bytes([0xab; 16])),
                },
                Outcome::Resumed {
                    by: ResumedBy::Cache,
                    age: None,
                    key_name: None,
                },
            ] {
                let handshake = Handshake {
                    outcome,
                    early_data: None,
                    hello_retry: None,
                    client_verified: None,
                    lineage: None,
                };
                handshake.record(&span);
            }
        });
        assert_eq!(
            *fields.0.lock(),
            [
                r#"resumption.outcome="not_found""#,
                r#"resumption.why="forged""#,
                r#"resumption.outcome="resumed""#,
                r#"resumption.by="ticket""#,
                "resumption.age=60",
                "resumption.key_name=abababababababababababababababab",
                r#"resumption.outcome="resumed""#,
                r#"resumption.by="cache""#,
            ]
        );
    }
}
