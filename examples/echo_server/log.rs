//! The server's log: a line for each connection, and totals.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ProtocolVersion;
use rustls_resumption::Stats;
use rustls_resumption::acceptor::Handshake;

use crate::cli;

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

/// A connection whose handshake is complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    pub(crate) version: Option<ProtocolVersion>,
    pub(crate) is_resumed: bool,
    /// What this crate tells of it; `None` with rustls's own storage.
    pub(crate) handshake: Option<Handshake>,
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

    pub(crate) fn connected(&self, peer: SocketAddr, accepted: &Accepted) {
        let Accepted {
            version,
            is_resumed,
            handshake,
            early,
            took,
        } = *accepted;
        let (kind, counter) = match is_resumed {
            true => ("resumed", &self.counts.resumed),
            false => ("full", &self.counts.full),
        };
        count(counter);
        if early > 0 {
            count(&self.counts.early);
        }
        let version = match version {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        };
        let us = took.as_micros();
        let told = handshake.map_or_else(String::new, |told| format!(" {told}"));
        self.say(format_args!(
            "conn peer={peer} version={version} kind={kind} early={early} us={us}{told}"
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
