//! Hardened TLS session resumption for servers on [rustls](https://docs.rs/rustls/0.23) 0.23: one
//! [`Resumption`], installed in every `ServerConfig` of the process, and returning clients skip the
//! full handshake, on one machine or on a fleet.
//!
//! ```
//! use rustls_resumption::Resumption;
//!
//! # fn f(mut config: rustls::ServerConfig) -> Result<(), rustls_resumption::Error> {
//! let resumption = Resumption::tickets()?; // or stateful(100_000)?, or builder()
//! resumption.install(&mut config, "api.example.com"); // and again in each reloaded configuration
//! println!("{}", resumption.stats()); // who resumed, who did not, and why
//! # Ok(()) }
//! ```
//!
//! | to | see |
//! | --- | --- |
//! | set it up: modes, keys, stores, limits | [`Resumption::builder`], which shows each decision in a few lines |
//! | decide: tickets or stateful, which keys, what it costs, the lines for axum, hyper, tonic, quinn and others | [`docs::choosing`] |
//! | find out why clients do not resume, what to watch, what to do in an incident | [`docs::operating`] |
//! | know what is promised, and which test keeps each promise | [`docs::security`] |
//! | come from nginx, HAProxy, Envoy or rustls's defaults | [`docs::migrating`] |
//! | look up a word: STEK, scope, claim, publish-ahead | [`docs::glossary`] |
//! | know for each handshake whether and how it resumed | [`Resumption::follow`], and the acceptors in [`acceptor`] |
//! | bring your own keys or store | [`source::StekSource`], [`store::SharedStore`] |
//!
//! The README has a complete server; `examples/` has more. All [features](docs::choosing#features)
//! (`tokio`, `axum-server`, `quinn`, `redis`, `metrics`, `serde`, `fips`) are off by default.
#![cfg_attr(rustls_resumption_docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::exhaustive_enums, clippy::exhaustive_structs)]
// Panicking operations are warned of, and CI denies warnings; each exception states why it cannot
// panic.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used,
    )
)]

// Rarer names are in these modules; the root has those of the paved path.
pub mod acceptor;
pub mod docs;
pub mod source;
pub mod stats;
pub mod store;

mod aead;
mod cache;
#[cfg(feature = "redis")]
mod caught;
mod client_auth;
mod clock;
mod context;
mod counters;
mod errands;
mod error;
mod fips;
#[cfg(any(test, rustls_resumption_fuzzing))]
#[doc(hidden)]
pub mod fuzzed;
mod handshake;
mod hex;
mod hook;
mod housekeeper;
mod installation;
mod kdf;
mod lineage;
#[cfg(test)]
mod models;
mod outside;
#[cfg(feature = "redis")]
mod own_runtime;
mod process;
mod pulse;
mod reader;
#[cfg(feature = "redis")]
mod redis;
mod resumption;
mod ring;
mod rotation;
mod rustls;
mod scope;
mod sealed;
mod session;
mod session_lineage;
mod siphash;
mod stek;
mod sync;
mod terms;
mod ticket;

#[cfg(feature = "tokio")]
pub use acceptor::resumption_acceptor::ResumptionAcceptor;
pub use aead::Sealing;
pub use clock::{Clock, FakeClock};
pub use error::Error;
pub use resumption::{Reach, Resumption, ResumptionBuilder, SessionCache, StekRing, Withdrawn};
pub use rotation::Rotation;
pub use scope::Scope;
pub use stats::Stats;
pub use stek::{KeyName, Stek};

/// Compiles what the README shows.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
