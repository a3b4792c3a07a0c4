//! What the library logs, on standard error.

use std::{env, io};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

/// For the end of `--help`.
pub const HELP: &str = "\
What the library logs goes to standard error. RUST_LOG says how much: warn (the default), info,
rustls_resumption=trace, or off";

/// Shows warnings, or what `RUST_LOG` says.
pub fn show() {
    let said = env::var("RUST_LOG").unwrap_or_default();
    // Not an `EnvFilter`, whose regular expressions take a twentieth of the examples' build.
    let filter = match said.as_str() {
        "" => Ok(Targets::new()),
        said => said.parse(),
    };
    let filter = filter.unwrap_or_else(|error| {
        eprintln!("RUST_LOG={said}: {error}; showing warnings");
        Targets::new()
    });
    let level = filter.default_level().unwrap_or(LevelFilter::WARN);
    tracing_subscriber::registry()
        .with(fmt::layer().with_writer(io::stderr))
        .with(filter.with_default(level))
        .init();
}
