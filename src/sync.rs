//! What threads meet at, in the protocols that are this crate's own.
//!
//! The unit tests named `shuttle_…` run those protocols on `shuttle`, which tries one schedule of
//! the threads after another, thousands of them, and can repeat the one that failed. It knows no
//! weaker ordering of atomics than the strongest.
//!
//! ```text
//! RUSTFLAGS="--cfg rustls_resumption_shuttle" cargo test --features redis,tokio --lib shuttle
//! ```

#[cfg(not(all(test, rustls_resumption_shuttle)))]
pub(crate) use arc_swap::ArcSwap;
#[cfg(not(all(test, rustls_resumption_shuttle)))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(all(test, rustls_resumption_shuttle)))]
pub(crate) use std::{sync::atomic, thread_local};

#[cfg(all(test, rustls_resumption_shuttle))]
mod tried;
#[cfg(all(test, rustls_resumption_shuttle))]
pub(crate) use shuttle::{sync::atomic, thread_local};
#[cfg(all(test, rustls_resumption_shuttle))]
pub(crate) use tried::{ArcSwap, Mutex, try_schedules};
