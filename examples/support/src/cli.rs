//! Shared parts of the examples' command lines.

use std::error::Error;
use std::fmt::Display;
use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::logs;

/// A TLS version, as a value of a flag.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Tls {
    #[value(name = "1.2")]
    V12,
    #[value(name = "1.3")]
    V13,
}

impl Tls {
    pub fn version(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::V12 => &TLS12,
            Self::V13 => &TLS13,
        }
    }
}

/// The exit status for what the user has to correct: a bad flag, an unreadable file.
pub const USAGE: u8 = 2;

/// Parses the command line. A bad flag is explained in one line on standard error.
///
/// # Errors
///
/// The status to exit with: [`USAGE`], or success after `--help` and `--version`.
pub fn parse<T: Parser>() -> Result<T, ExitCode> {
    T::try_parse().map_err(|error| {
        if error.use_stderr() {
            let words: Vec<_> = error
                .render()
                .to_string()
                .split_whitespace()
                .map(str::to_owned)
                .collect();
            eprintln!("{}", words.join(" "));
            ExitCode::from(USAGE)
        } else {
            // The reader of standard output may be gone.
            let _ = error.print();
            ExitCode::SUCCESS
        }
    })
}

/// The whole of an example's `main`: parses the command line, shows what is logged, and runs; an
/// error is explained as what the user has to correct.
pub async fn run<T, F>(run: impl FnOnce(T) -> F) -> ExitCode
where
    T: Parser,
    F: Future<Output = Result<(), Box<dyn Error>>>,
{
    let flags = match parse() {
        Ok(flags) => flags,
        Err(status) => return status,
    };
    logs::show();
    match run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(error),
    }
}

/// Explains in one line on standard error what the user has to correct, and returns [`USAGE`].
pub fn refuse(what: impl Display) -> ExitCode {
    eprintln!("error: {what}");
    ExitCode::from(USAGE)
}

/// Writes a line to standard output. A reader that is gone, such as `head`, is not an error.
pub fn show(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Reads an address, `HOST:PORT`.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.to_socket_addrs()
        .map_err(|error| format!("{error}; an address is HOST:PORT, such as 127.0.0.1:8443"))?
        .next()
        .ok_or_else(|| "the name has no address".to_owned())
}

/// Reads a whole number that is not zero.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("must be a whole number of at least 1".to_owned()),
    }
}
