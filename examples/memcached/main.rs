//! A store of one's own, on the example of memcached, and whether it keeps the contract:
//! `cargo run --example memcached -- 127.0.0.1:11211`.
//!
//! It is no store for production: memcached has neither TLS nor a password here, so that whoever
//! reaches the port may delete sessions; it makes room without regard to how long values have to
//! live; a claim takes two round trips; and without a circuit breaker each client waits for a
//! server that hangs.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use rustls_resumption::store::contract;

use store::Memcached;

mod store;

/// Checks whether sessions can be shared through a memcached server.
#[derive(Parser)]
struct Flags {
    /// Where the server listens; nobody else should use it meanwhile
    #[arg(default_value = "127.0.0.1:11211")]
    address: SocketAddr,
}

fn main() -> ExitCode {
    let checked = Memcached::new(Flags::parse().address)
        .map_err(|error| error.to_string())
        .and_then(|store| contract::check(&store).map_err(|violation| violation.to_string()));
    match checked {
        Ok(()) => {
            println!("the store keeps the contract");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}
