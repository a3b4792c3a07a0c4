#![doc = include_str!("../README.md")]
#![cfg_attr(rustls_resumption_docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::exhaustive_enums, clippy::exhaustive_structs)]
// Panicking operations are denied; each exception states why it cannot panic.
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
mod housekeeper;
mod installation;
mod kdf;
mod lineage;
#[cfg(test)]
mod models;
mod outside;
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
