//! What the library logs, on standard error.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// For the end of `--help`.
pub const HELP: &str = "\
What the library logs goes to standard error. RUST_LOG says how much: warn (the default), info,
rustls_resumption=trace, or off";

/// Shows warnings, or what `RUST_LOG` says.
pub fn show() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
}
