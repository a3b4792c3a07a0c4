//! The server's log: a line for each connection, and totals.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ProtocolVersion;
use rustls_resumption::Stats;

use crate::flags::LogStyle;
use crate::output::Output;
use crate::witness::By;

/// Counts connections, and prints what its style asks for.
pub(crate) struct Log {
    style: LogStyle,
    /// `None` if connections are not logged.
    connections: Option<Output>,
    output: Option<Output>,
    counts: Counts,
}

/// How many connections there were, by outcome.
#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    full: AtomicU64,
    resumed: AtomicU64,
    failed: AtomicU64,
    /// Resumed ones with early data.
    early: AtomicU64,
}

/// The endpoints of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    pub(crate) local_port: u16,
}

/// A handshake that was completed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handshake {
    pub(crate) version: ProtocolVersion,
    /// How it was resumed; `None` for a full handshake.
    pub(crate) resumed: Option<By>,
    /// Bytes of early data.
    pub(crate) early: usize,
    /// From the accepted TCP connection to the end of the TLS handshake.
    pub(crate) took: Duration,
}

impl Log {
    /// Prints to `output`; nothing for connections if `quiet`.
    pub(crate) fn new(output: Output, style: LogStyle, quiet: bool) -> Self {
        Self {
            style,
            connections: (!quiet).then(|| output.clone()),
            output: Some(output),
            counts: Counts::default(),
        }
    }

    /// Prints nothing.
    pub(crate) fn silent() -> Self {
        Self {
            style: LogStyle::Text,
            connections: None,
            output: None,
            counts: Counts::default(),
        }
    }

    pub(crate) fn accepted(&self) {
        count(&self.counts.accepted);
    }

    pub(crate) fn connected(&self, ends: Ends, handshake: &Handshake) {
        count(match handshake.resumed {
            Some(_) => &self.counts.resumed,
            None => &self.counts.full,
        });
        if handshake.early > 0 {
            count(&self.counts.early);
        }
        if let Some(output) = &self.connections {
            output.write(match self.style {
                LogStyle::Text => text(ends, handshake),
                LogStyle::Line => line(ends, handshake),
            });
        }
    }

    pub(crate) fn failed(&self, ends: Ends, reason: impl Display) {
        count(&self.counts.failed);
        if let Some(output) = &self.connections {
            let Ends { peer, local_port } = ends;
            let reason = reason.to_string();
            output.write(match self.style {
                LogStyle::Text => format!("{peer:<21}  failed: {}", reason.escape_debug()),
                LogStyle::Line => format!("fail peer={peer} port={local_port} reason={reason:?}"),
            });
        }
    }

    /// Logs that something was done, or why it failed.
    pub(crate) fn done(&self, what: &str, outcome: Result<(), String>) {
        self.say(match (self.style, outcome) {
            (LogStyle::Text, Ok(())) => format!("{what}: done"),
            (LogStyle::Text, Err(reason)) => format!("{what}: FAILED: {reason}"),
            (LogStyle::Line, Ok(())) => format!("{what} ok"),
            (LogStyle::Line, Err(reason)) => format!("{what} failed reason={reason:?}"),
        });
    }

    /// Prints the totals and the library's `Stats`.
    pub(crate) fn stats(&self, stats: Option<Stats>) {
        let table = match stats {
            Some(stats) => stats.to_string(),
            None => "no Stats: rustls's own storage counts nothing".to_owned(),
        };
        self.say(format!("{}\n{table}", self.counts));
    }

    /// Prints some lines.
    pub(crate) fn say(&self, lines: impl Display) {
        if let Some(output) = &self.output {
            output.write(lines.to_string());
        }
    }

    /// Waits until everything is printed, at most this long.
    pub(crate) fn flush(&self, deadline: Duration) {
        if let Some(output) = &self.output {
            output.flush(deadline);
        }
    }
}

fn line(ends: Ends, handshake: &Handshake) -> String {
    let Ends { peer, local_port } = ends;
    let version = version(handshake.version);
    let early = handshake.early;
    let us = handshake.took.as_micros();
    let (kind, by) = match handshake.resumed {
        None => ("full", "-"),
        Some(By::Ticket) => ("resumed", "ticket"),
        Some(By::Session) => ("resumed", "session"),
    };
    format!(
        "conn peer={peer} port={local_port} version={version} kind={kind} by={by} early={early} us={us}"
    )
}

fn text(ends: Ends, handshake: &Handshake) -> String {
    let peer = ends.peer;
    let version = version(handshake.version);
    let us = handshake.took.as_micros();
    let kind = match handshake.resumed {
        None => "full",
        Some(By::Ticket) => "resumed by ticket",
        Some(By::Session) => "resumed by session",
    };
    let early = match handshake.early {
        0 => String::new(),
        early => format!("  {early} bytes of early data"),
    };
    format!("{peer:<21}  TLS {version}  {kind:<18}  {us:>7} µs{early}")
}

fn version(version: ProtocolVersion) -> String {
    match version {
        ProtocolVersion::TLSv1_2 => "1.2".to_owned(),
        ProtocolVersion::TLSv1_3 => "1.3".to_owned(),
        other => format!("{other:?}"),
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            accepted,
            full,
            resumed,
            failed,
            early,
        } = self;
        let [accepted, full, resumed, failed, early] =
            [accepted, full, resumed, failed, early].map(|count| count.load(Ordering::Relaxed));
        write!(
            f,
            "stats accepted={accepted} full={full} resumed={resumed} failed={failed} early={early}"
        )
    }
}
