//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::cli;
use crate::steks::{Steks, redis_url};

const HELP: &str = "\
Signals:
  SIGHUP           reads certificate, key, client CAs and lists again, and keeps every session
  SIGUSR1          rotates the STEK
  SIGUSR2          revokes all STEKs and sessions
  SIGINT, SIGTERM  let connections finish for some seconds, and end the server

What the library logs goes to standard error. RUST_LOG says how much: warn (the default), info,
rustls_resumption=trace, or off

The exit status is 0, or 2 if a flag or a file has to be corrected.";

/// A TLS echo server for TLS 1.2 and 1.3 whose clients resume.
#[derive(Clone, Parser)]
#[command(name = "echo_server", after_help = HELP)]
pub(crate) struct Flags {
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443", value_parser = cli::address)]
    pub(crate) listen: SocketAddr,
    /// The certificate chain, a PEM file, instead of a generated certificate
    #[arg(long, value_name = "PEM", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The private key of the certificate, a PEM file
    #[arg(long, value_name = "PEM", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Ask for client certificates from these CAs, a PEM file; SIGHUP reads it again
    #[arg(long, value_name = "PEM")]
    pub(crate) client_ca: Option<PathBuf>,
    /// Whether clients without a certificate are turned away
    #[arg(long, value_enum, default_value = "required", requires = "client_ca")]
    pub(crate) client_auth: ClientAuth,
    /// Revocation lists of those CAs, a PEM file; SIGHUP reads it again
    #[arg(long, value_name = "PEM", requires = "client_ca")]
    pub(crate) client_crl: Option<PathBuf>,
    /// How many bytes of early data (0-RTT) to allow; needs stateful resumption
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) early_data: u32,
    /// How sessions resume; the builtin ones are rustls's own, for comparison
    #[arg(long, value_enum, default_value = "tickets")]
    pub(crate) resumption: Mode,
    /// How many sessions the cache holds [default: 20000; of builtin ones 256]
    #[arg(long, value_name = "N")]
    pub(crate) cache_entries: Option<usize>,
    /// How many bytes the sessions in the cache may use in total [default: 1 KiB for each]
    #[arg(long, value_name = "N")]
    pub(crate) cache_bytes: Option<usize>,
    /// How long a session stays in the cache
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub(crate) session_ttl: Duration,
    /// Where session ticket encryption keys (STEKs) come from: random, derived:ENVVAR (of a secret
    /// in the environment), file:PATH[,PATH...], dir:PATH or redis:URL. Servers with the same
    /// resume each other's tickets
    #[arg(long, value_name = "SOURCE", default_value = "random")]
    pub(crate) stek: Steks,
    /// The environment variables of the key-encryption keys for redis:URL; the first one seals
    #[arg(long, value_name = "ENVVAR", value_delimiter = ',')]
    pub(crate) kek: Vec<String>,
    /// Where sessions live that servers with the same STEKs share: redis:URL. For stateful
    /// resumption
    #[arg(long, value_name = "STORE", value_parser = store)]
    pub(crate) store: Option<StoreUrl>,
    /// How long a handshake waits for the store at most
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = duration)]
    pub(crate) store_deadline: Duration,
    /// How long each STEK seals tickets
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub(crate) rotate_every: Duration,
    /// How long a ticket opens
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = duration)]
    pub(crate) ticket_lifetime: Duration,
    /// How long after its full handshake a session may resume, however often it is renewed
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub(crate) max_session_age: Duration,
    /// The name of the scope in which sessions resume
    #[arg(long, value_name = "NAME", default_value = "echo")]
    pub(crate) scope: String,
    /// How long a handshake may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) handshake_timeout: Duration,
    /// Serve Prometheus metrics at this address; needs the feature `metrics`
    #[arg(long, value_name = "ADDR", value_parser = cli::address)]
    pub(crate) metrics: Option<SocketAddr>,
    /// Show what resumes and what does not, with server and client in one process, and exit
    #[arg(long)]
    pub(crate) demo: bool,
}

/// Has no `Debug`, because it may contain a password.
#[derive(Clone)]
pub(crate) struct StoreUrl(pub(crate) String);

/// What becomes of clients without a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum ClientAuth {
    /// They are admitted.
    Optional,
    /// They are turned away.
    Required,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Mode {
    Tickets,
    Stateful,
    Off,
    BuiltinTickets,
    BuiltinStateful,
}

impl Flags {
    /// Checks that the flags go together.
    ///
    /// # Errors
    ///
    /// A sentence about the flags that do not.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self {
            cache_entries,
            early_data,
            kek,
            resumption,
            stek,
            store,
            ..
        } = self;
        let stateful = matches!(resumption, Mode::Stateful | Mode::BuiltinStateful);
        if *early_data > 0 && !stateful {
            return Err(
                "--early-data needs sessions that are used once: add --resumption stateful"
                    .to_owned(),
            );
        }
        if store.is_some() && *resumption != Mode::Stateful {
            return Err("--store holds sessions: add --resumption stateful".to_owned());
        }
        if store.is_some() && *stek == Steks::Random {
            return Err(
                "--store is sealed under STEKs that all servers have: add --stek".to_owned(),
            );
        }
        if *stek != Steks::Random && *resumption != Mode::Tickets && store.is_none() {
            return Err("--stek is about tickets: add --resumption tickets, or --store".to_owned());
        }
        match (stek, kek.is_empty()) {
            (Steks::Redis(_), true) => {
                return Err(
                    "--stek redis:URL seals what it puts there: add --kek ENVVAR".to_owned(),
                );
            }
            (Steks::Redis(_), false) | (_, true) => {}
            (_, false) => return Err("--kek goes with --stek redis:URL alone".to_owned()),
        }
        let builtin = matches!(resumption, Mode::BuiltinTickets | Mode::BuiltinStateful);
        if builtin && cache_entries.is_some_and(|entries| entries > BUILTIN_ENTRIES_LIMIT) {
            return Err(format!(
                "--cache-entries of rustls's own cache take their memory at once: at most \
                 {BUILTIN_ENTRIES_LIMIT}"
            ));
        }
        Ok(())
    }
}

/// The largest size of rustls's own cache; rustls panics if it cannot be allocated.
const BUILTIN_ENTRIES_LIMIT: usize = 10_000_000;

fn store(text: &str) -> Result<StoreUrl, String> {
    redis_url(text)
        .map(StoreUrl)
        .ok_or_else(|| "no such store; it is redis:URL".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than nothing".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!(
            "{error}; a time is a number and a unit, such as 500ms, 10s or 24h"
        )),
    }
}
