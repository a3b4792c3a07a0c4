//! The server's log: a line for each connection, and totals.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ProtocolVersion;
use rustls_resumption::Stats;

use crate::cli;
use crate::witness::By;

/// Counts connections, and prints a line for each unless it is silent.
#[derive(Default)]
pub(crate) struct Log {
    is_silent: bool,
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
    /// Prints nothing.
    pub(crate) fn silent() -> Self {
        Self {
            is_silent: true,
            counts: Counts::default(),
        }
    }

    pub(crate) fn accepted(&self) {
        count(&self.counts.accepted);
    }

    pub(crate) fn connected(&self, peer: SocketAddr, handshake: &Handshake) {
        count(match handshake.resumed {
            Some(_) => &self.counts.resumed,
            None => &self.counts.full,
        });
        if handshake.early > 0 {
            count(&self.counts.early);
        }
        let version = version(handshake.version);
        let early = handshake.early;
        let us = handshake.took.as_micros();
        let (kind, by) = match handshake.resumed {
            None => ("full", "-"),
            Some(By::Ticket) => ("resumed", "ticket"),
            Some(By::Session) => ("resumed", "session"),
        };
        self.say(format_args!(
            "conn peer={peer} version={version} kind={kind} by={by} early={early} us={us}"
        ));
    }

    pub(crate) fn failed(&self, peer: SocketAddr, reason: impl Display) {
        count(&self.counts.failed);
        self.say(format_args!(
            "fail peer={peer} reason={:?}",
            reason.to_string()
        ));
    }

    /// Prints the totals and the library's `Stats`.
    pub(crate) fn stats(&self, stats: Option<Stats>) {
        let table = match stats {
            Some(stats) => stats.to_string(),
            None => "no Stats: rustls's own storage counts nothing".to_owned(),
        };
        self.say(format_args!("{}\n{table}", self.counts));
    }

    fn say(&self, lines: impl Display) {
        if !self.is_silent {
            cli::show(lines);
        }
    }
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
