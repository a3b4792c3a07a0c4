//! What each fact means for the operators of the server.

use std::time::Duration;

use serde_json::{Value, json};

use crate::connect::ConnectError;
use crate::report::{Aspect, Finding, Grade};
use crate::session::{Issued, Mechanism};
use crate::visit::Offered;
use crate::wire::TicketFacts;

pub(crate) fn no_handshake(mechanism: Mechanism, error: &ConnectError) -> Finding {
    Finding {
        mechanism,
        aspect: Aspect::Handshake,
        value: json!(false),
        seen: error.to_string(),
        grade: Grade::Note,
        verdict: match (error.is_about_version(), mechanism) {
            (true, Mechanism::Tls13Ticket) => "speaks no TLS 1.3",
            (true, _) => "speaks no TLS 1.2",
            (false, _) => "nothing else can be tested",
        }
        .to_owned(),
    }
}

/// What the server issued, before any of it is offered.
pub(crate) fn issued(mechanism: Mechanism, issued: &Issued) -> Vec<Finding> {
    let mut findings = vec![match mechanism {
        Mechanism::SessionId => session_id(issued.session_id_length),
        Mechanism::Tls12Ticket | Mechanism::Tls13Ticket => tickets(mechanism, issued.tickets.len()),
    }];
    if let Some(first) = issued.tickets.first()
        && mechanism != Mechanism::SessionId
    {
        let largest = issued.tickets.iter().map(|ticket| ticket.size).max();
        findings.push(ticket_size(mechanism, largest.unwrap_or(first.size)));
        findings.push(lifetime_hint(mechanism, first));
    }
    findings
}

fn session_id(length: usize) -> Finding {
    let (seen, grade, verdict) = match length {
        0 => (
            "none".to_owned(),
            Grade::Note,
            "clients without tickets cannot resume",
        ),
        length => (
            bytes(length),
            Grade::Good,
            "clients without tickets can resume",
        ),
    };
    Finding {
        mechanism: Mechanism::SessionId,
        aspect: Aspect::SessionId,
        value: json!(length),
        seen,
        grade,
        verdict: verdict.to_owned(),
    }
}

fn tickets(mechanism: Mechanism, count: usize) -> Finding {
    let (grade, verdict) = match (count, mechanism) {
        (0, Mechanism::Tls13Ticket) => (Grade::Bad, "no TLS 1.3 client can resume"),
        (0, _) => (Grade::Note, "clients resume by session ID, or not at all"),
        (1, Mechanism::Tls13Ticket) => (Grade::Note, "not enough for parallel connections"),
        (_, Mechanism::Tls13Ticket) => (Grade::Good, "enough for parallel connections"),
        _ => (Grade::Good, "returning clients can resume"),
    };
    Finding {
        mechanism,
        aspect: Aspect::Tickets,
        value: json!(count),
        seen: count.to_string(),
        grade,
        verdict: verdict.to_owned(),
    }
}

fn ticket_size(mechanism: Mechanism, size: usize) -> Finding {
    let secret = match mechanism {
        Mechanism::Tls13Ticket => PSK_LENGTH,
        Mechanism::SessionId | Mechanism::Tls12Ticket => MASTER_SECRET_LENGTH,
    };
    let (grade, verdict) = if size <= secret {
        let verdict = "a handle: the server keeps the session (stateful)";
        (Grade::Good, verdict)
    } else if size <= LARGE_TICKET {
        (Grade::Good, "large enough to hold the session (stateless)")
    } else {
        let verdict = "a ClientHello that carries it needs more than one packet";
        (Grade::Note, verdict)
    };
    Finding {
        mechanism,
        aspect: Aspect::TicketSize,
        value: json!(size),
        seen: bytes(size),
        grade,
        verdict: verdict.to_owned(),
    }
}

fn lifetime_hint(mechanism: Mechanism, ticket: &TicketFacts) -> Finding {
    let seconds = ticket.lifetime_hint;
    let hint = Duration::from_secs(seconds.into());
    let (grade, verdict) = match (seconds, mechanism) {
        (0, Mechanism::Tls13Ticket) => (Grade::Bad, "clients must discard the ticket at once"),
        (0, _) => (Grade::Note, "unspecified: clients choose for themselves"),
        (_, Mechanism::Tls13Ticket) if hint > MAX_LIFETIME => {
            (Grade::Bad, "at most 7 days are allowed (RFC 8446 4.6.1)")
        }
        _ if hint > LONG_LIFETIME => (Grade::Note, "its key must be kept secret that long"),
        _ => (Grade::Good, "at most a day"),
    };
    Finding {
        mechanism,
        aspect: Aspect::LifetimeHint,
        value: json!(seconds),
        seen: match seconds {
            0 => "0".to_owned(),
            _ => humantime::format_duration(hint).to_string(),
        },
        grade,
        verdict: verdict.to_owned(),
    }
}

pub(crate) fn resumed(mechanism: Mechanism, offered: &Offered) -> Finding {
    judge(
        mechanism,
        Aspect::Resumed,
        offered,
        |resumed| match resumed {
            true => (Grade::Good, "returning clients skip the full handshake"),
            false => (Grade::Bad, "issued, but not accepted"),
        },
    )
}

/// `again` is the second offer of a session that was resumed at the first.
pub(crate) fn single_use(mechanism: Mechanism, again: &Offered) -> Finding {
    let mut finding = judge(mechanism, Aspect::SingleUse, again, |resumed| {
        match (resumed, mechanism) {
            (false, Mechanism::Tls13Ticket) => (Grade::Good, "a stolen or copied one is useless"),
            (false, _) => (Grade::Note, "clients expect a TLS 1.2 session to last"),
            (true, Mechanism::Tls13Ticket) => {
                (Grade::Note, "used twice, it links connections to observers")
            }
            (true, _) => (Grade::Good, "as intended in TLS 1.2"),
        }
    });
    if let Value::Bool(resumed) = finding.value {
        finding.value = json!(!resumed);
        finding.seen = yes_or_no(!resumed);
    }
    finding
}

/// `offers` are the first and the second offer of one ticket with early data; none if `ticket`
/// allows no early data.
pub(crate) fn early_data(ticket: &TicketFacts, offers: &[Offered]) -> Finding {
    let limit = ticket.max_early_data;
    let first = offers.first().is_some_and(Offered::early_data_accepted);
    let again = offers.get(1).is_some_and(Offered::early_data_accepted);
    let (seen, grade, verdict) = match (limit, first, again) {
        (0, ..) => ("not offered".to_owned(), Grade::Good, "nothing to replay"),
        (_, false, _) => (
            format!("up to {}, refused", bytes(limit as usize)),
            Grade::Note,
            "allowed, but not accepted",
        ),
        (_, true, false) => (
            format!("up to {}, accepted once", bytes(limit as usize)),
            Grade::Good,
            "a replay on this node is refused",
        ),
        (_, true, true) => (
            format!("up to {}, accepted twice", bytes(limit as usize)),
            Grade::Bad,
            "whoever records a request can replay it (RFC 8446 8)",
        ),
    };
    Finding {
        mechanism: Mechanism::Tls13Ticket,
        aspect: Aspect::EarlyData,
        value: json!({ "limit": limit, "accepted": first, "again": again }),
        seen,
        grade,
        verdict: verdict.to_owned(),
    }
}

/// `offered` is the outcome of offering a ticket that was used before, with so many bytes.
pub(crate) fn refused_early_data(len: usize, offered: &Offered) -> Finding {
    let survived = matches!(offered, Offered::Answered(_));
    let (seen, grade, verdict) = match offered {
        Offered::Broken(error) => (
            format!("{}: {error}", bytes(len)),
            Grade::Bad,
            "it must be skipped (RFC 8446 4.2.10), not end the connection",
        ),
        Offered::Answered(_) | Offered::NoSession(_) => (
            format!("{} skipped", bytes(len)),
            Grade::Good,
            "the client sends it again",
        ),
    };
    Finding {
        mechanism: Mechanism::Tls13Ticket,
        aspect: Aspect::RefusedEarlyData,
        value: json!(survived),
        seen,
        grade,
        verdict: verdict.to_owned(),
    }
}

/// `offered` is the outcome of offering a session of which a connection had ended with an alert.
pub(crate) fn after_alert(mechanism: Mechanism, offered: &Offered) -> Finding {
    let aspect = Aspect::AfterAlert;
    judge(mechanism, aspect, offered, |resumed| match resumed {
        true => (Grade::Note, "RFC 5246 7.2.2 wants the session dropped"),
        false => (Grade::Good, "dropped, as RFC 5246 7.2.2 wants it"),
    })
}

/// `offered` is the outcome of offering a TLS 1.2 ticket that was resumed.
pub(crate) fn renewal(offered: &Offered) -> Finding {
    let renewed = offered.brought_ticket();
    let (grade, verdict) = match renewed {
        true => (
            Grade::Note,
            "clients that keep only their first ticket resume less",
        ),
        false => (Grade::Good, "a ticket lasts until its lifetime ends"),
    };
    Finding {
        mechanism: Mechanism::Tls12Ticket,
        aspect: Aspect::Renewal,
        value: json!(renewed),
        seen: yes_or_no(renewed),
        grade,
        verdict: verdict.to_owned(),
    }
}

/// `there` is the outcome of offering the first server's session to the node, `back` the reverse.
pub(crate) fn node(mechanism: Mechanism, node: &str, there: &Offered, back: &Offered) -> Finding {
    let (seen, grade, verdict) = match (
        trouble(there).or_else(|| trouble(back)),
        there.resumed(),
        back.resumed(),
    ) {
        (Some((seen, verdict)), ..) => (seen, Grade::Bad, verdict),
        (None, true, true) => (
            "resumed both ways".to_owned(),
            Grade::Good,
            "clients can return to either",
        ),
        (None, false, false) => (
            "full both ways".to_owned(),
            Grade::Bad,
            "they do not share sessions",
        ),
        (None, true, false) => (
            "resumed there, not back".to_owned(),
            Grade::Bad,
            "the keys or stores of the two differ",
        ),
        (None, false, true) => (
            "resumed back, not there".to_owned(),
            Grade::Bad,
            "the keys or stores of the two differ",
        ),
    };
    Finding {
        mechanism,
        aspect: Aspect::Node(node.to_owned()),
        value: json!({ "there": was_resumed(there), "back": was_resumed(back) }),
        seen,
        grade,
        verdict: verdict.to_owned(),
    }
}

/// `hint` is the lifetime that the server promised, if any.
pub(crate) fn after_wait(
    mechanism: Mechanism,
    waited: Duration,
    hint: Option<Duration>,
    offered: &Offered,
) -> Finding {
    let aspect = Aspect::Wait(waited);
    judge(mechanism, aspect, offered, |resumed| {
        match (resumed, hint) {
            (true, _) => (Grade::Good, "still accepted"),
            // The client respects the hint, so it did not offer the session.
            (false, Some(hint)) if hint < waited => (Grade::Good, "past its lifetime hint"),
            (false, Some(_)) => (Grade::Bad, "rejected before the end of its lifetime hint"),
            (false, None) => (Grade::Note, "no longer accepted"),
        }
    })
}

/// `name` is the name under which a session of another name was offered.
pub(crate) fn server_name(mechanism: Mechanism, name: &str, offered: &Offered) -> Finding {
    let aspect = Aspect::ServerName(name.to_owned());
    // The server attempted a full handshake, for which its certificate is not valid.
    let refused = matches!(offered, Offered::Broken(error) if error.is_about_certificate());
    if refused {
        return Finding {
            mechanism,
            aspect,
            value: json!(false),
            seen: "no; its certificate is for other names".to_owned(),
            grade: Grade::Good,
            verdict: KEPT_APART.to_owned(),
        };
    }
    judge(mechanism, aspect, offered, |resumed| match resumed {
        true => (Grade::Note, "safe only if both authenticate clients alike"),
        false => (Grade::Good, KEPT_APART),
    })
}

/// A finding whose value is whether the offered session was resumed.
fn judge(
    mechanism: Mechanism,
    aspect: Aspect,
    offered: &Offered,
    verdict: impl FnOnce(bool) -> (Grade, &'static str),
) -> Finding {
    let (seen, (grade, verdict)) = match trouble(offered) {
        Some((seen, why)) => (seen, (Grade::Bad, why)),
        None => (yes_or_no(offered.resumed()), verdict(offered.resumed())),
    };
    Finding {
        mechanism,
        aspect,
        value: was_resumed(offered),
        seen,
        grade,
        verdict: verdict.to_owned(),
    }
}

/// Null if it is not known.
fn was_resumed(offered: &Offered) -> Value {
    match offered {
        Offered::Answered(handshake) => json!(handshake.resumed),
        Offered::Broken(_) | Offered::NoSession(_) => Value::Null,
    }
}

/// What was seen, and the verdict, if an offer got no answer.
fn trouble(offered: &Offered) -> Option<(String, &'static str)> {
    match offered {
        Offered::Answered(_) => None,
        Offered::Broken(error @ ConnectError::Tcp { .. }) => {
            Some((error.to_string(), "the node does not answer"))
        }
        Offered::Broken(error) => Some((
            error.to_string(),
            "offering a session must never break the connection",
        )),
        Offered::NoSession(Some(error)) => {
            Some((error.to_string(), "no session could be obtained"))
        }
        Offered::NoSession(None) => Some((
            "no session issued".to_owned(),
            "not every node, or connection, issues one",
        )),
    }
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn bytes(count: usize) -> String {
    format!("{count} bytes")
}

const KEPT_APART: &str = "the names are kept apart";

/// The shortest secret of a TLS 1.3 session, that of a suite with SHA-256.
const PSK_LENGTH: usize = 32;
const MASTER_SECRET_LENGTH: usize = 48;

/// With a ticket of this size, a ClientHello still fits one packet of 1,460 bytes.
const LARGE_TICKET: usize = 1000;

const LONG_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);
