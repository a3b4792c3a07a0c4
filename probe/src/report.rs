//! What the probe found, as a table and as JSON.

use std::fmt;
use std::time::Duration;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde_json::{Value, json};

use crate::session::Mechanism;

/// One line of the report.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) mechanism: Mechanism,
    pub(crate) aspect: Aspect,
    /// What was seen, for programs.
    pub(crate) value: Value,
    /// What was seen, for people.
    pub(crate) seen: String,
    pub(crate) grade: Grade,
    pub(crate) verdict: String,
}

/// What a finding is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Aspect {
    /// Whether a session was resumed after a connection of it had ended with a fatal alert.
    AfterAlert,
    /// What a ticket allows and the server accepts: `{"limit", "accepted", "again"}`.
    EarlyData,
    /// Always false: this finding is made only if the handshake failed.
    Handshake,
    /// In seconds.
    LifetimeHint,
    /// Whether a session resumed on that node, and one of that node here: `{"there", "back"}`.
    Node(String),
    /// Whether a session that the first node issued did not resume at the second one after it should
    /// have been revoked.
    Refused(String, String),
    /// Whether a connection survived early data that was refused.
    RefusedEarlyData,
    /// Whether a TLS 1.2 connection that resumed brought another ticket.
    Renewal,
    /// Whether an offered session was resumed.
    Resumed,
    /// Whether a session of one name was resumed under that other name.
    ServerName(String),
    /// Its length in bytes, 0 if there is none.
    SessionId,
    /// Whether the same ticket was refused when it was offered again.
    SingleUse,
    /// The size of the largest ticket in bytes.
    TicketSize,
    /// How many a full handshake issued.
    Tickets,
    /// Whether an offered session was resumed after that time.
    Wait(Duration),
}

impl Aspect {
    fn id(&self) -> &'static str {
        match self {
            Self::AfterAlert => "after_alert",
            Self::EarlyData => "early_data",
            Self::Handshake => "handshake",
            Self::LifetimeHint => "lifetime_hint",
            Self::Node(_) => "node",
            Self::Refused(..) => "refused",
            Self::RefusedEarlyData => "refused_early_data",
            Self::Renewal => "renewal",
            Self::Resumed => "resumed",
            Self::ServerName(_) => "server_name",
            Self::SessionId => "session_id",
            Self::SingleUse => "single_use",
            Self::TicketSize => "ticket_size",
            Self::Tickets => "tickets",
            Self::Wait(_) => "wait",
        }
    }

    /// Which one, if there can be several.
    fn subject(&self) -> Value {
        match self {
            Self::Node(node) => json!(node),
            Self::Refused(from, to) => json!(format!("{from} to {to}")),
            Self::ServerName(name) => json!(name),
            Self::Wait(waited) => json!(waited.as_secs_f64()),
            _ => Value::Null,
        }
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AfterAlert => write!(f, "after a fatal alert"),
            Self::EarlyData => write!(f, "early data (0-RTT)"),
            Self::Handshake => write!(f, "handshake"),
            Self::LifetimeHint => write!(f, "lifetime hint"),
            Self::Node(node) => write!(f, "to and from {node}"),
            Self::Refused(from, to) => write!(f, "{from} to {to}"),
            Self::RefusedEarlyData => write!(f, "refused early data"),
            Self::Renewal => write!(f, "renewed"),
            Self::Resumed => write!(f, "resumed"),
            Self::ServerName(name) => write!(f, "as {name}"),
            Self::SessionId => write!(f, "session ID"),
            Self::SingleUse => write!(f, "single use"),
            Self::TicketSize => write!(f, "ticket size"),
            Self::Tickets => write!(f, "tickets sent"),
            Self::Wait(waited) => write!(f, "after {}", humantime::format_duration(*waited)),
        }
    }
}

/// How good it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Grade {
    Bad,
    Good,
    /// Neither, but worth knowing.
    Note,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bad => "bad",
            Self::Good => "good",
            Self::Note => "note",
        })
    }
}

pub(crate) fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    // What was seen may be a long error.
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(TABLE_WIDTH);
    table.set_header(["TLS", "aspect", "seen", "", "verdict"]);
    let mut above = None;
    if let Some(seen) = table.column_mut(2) {
        seen.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(SEEN_WIDTH)));
    }
    for finding in findings {
        let mechanism = match above.replace(finding.mechanism) == Some(finding.mechanism) {
            true => String::new(),
            false => finding.mechanism.to_string(),
        };
        table.add_row([
            mechanism,
            finding.aspect.to_string(),
            finding.seen.clone(),
            finding.grade.to_string(),
            finding.verdict.clone(),
        ]);
    }
    table
}

pub(crate) fn json(target: &str, server_name: &str, findings: &[Finding]) -> Value {
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "mechanism": finding.mechanism.id(),
                "aspect": finding.aspect.id(),
                "subject": finding.aspect.subject(),
                "value": finding.value,
                "seen": finding.seen,
                "grade": finding.grade.to_string(),
                "verdict": finding.verdict,
            })
        })
        .collect();
    json!({ "target": target, "server_name": server_name, "findings": findings })
}

/// In columns.
const TABLE_WIDTH: u16 = 140;
const SEEN_WIDTH: u16 = 34;
