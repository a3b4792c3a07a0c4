//! The synchronisation primitives of this crate's own concurrent protocols.
//!
//! The unit tests named `shuttle_…` run those protocols under `shuttle`, which explores thousands
//! of thread schedules and can replay one that failed. It treats every atomic operation as
//! sequentially consistent, so it does not check weaker orderings.
//!
//! ```text
//! RUSTFLAGS="--cfg rustls_resumption_shuttle" cargo test --features redis,tokio --lib shuttle
//! ```

pub(crate) mod lock;

#[cfg(not(all(test, rustls_resumption_shuttle)))]
pub(crate) use arc_swap::ArcSwap;
#[cfg(not(all(test, rustls_resumption_shuttle)))]
pub(crate) use lock::{Mutex, MutexGuard};
#[cfg(not(all(test, rustls_resumption_shuttle)))]
pub(crate) use std::{
    sync::{atomic, mpsc},
    thread_local,
};

#[cfg(all(test, rustls_resumption_shuttle))]
mod tried;
#[cfg(all(test, rustls_resumption_shuttle))]
pub(crate) use shuttle::sync::MutexGuard;
#[cfg(all(test, rustls_resumption_shuttle))]
pub(crate) use shuttle::{
    sync::{atomic, mpsc},
    thread_local,
};
#[cfg(all(test, rustls_resumption_shuttle))]
pub(crate) use tried::{ArcSwap, Mutex, try_schedules};
