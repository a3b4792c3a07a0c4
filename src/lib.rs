#![doc = include_str!("../README.md")]
#![cfg_attr(rustls_resumption_docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::exhaustive_enums, clippy::exhaustive_structs)]
// What may panic is written otherwise, or says why it cannot.
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

mod acceptor;
#[cfg(feature = "tokio")]
pub use acceptor::ResumptionAcceptor;
pub use acceptor::{AcceptedConnection, BlockingAcceptor};
#[cfg(feature = "axum-server")]
pub use acceptor::{AxumAcceptor, DEFAULT_HANDSHAKE_TIMEOUT};
mod aead;
pub use aead::Sealing;
mod cache;
pub use cache::{DEFAULT_CACHE_ENTRIES, DEFAULT_SESSION_TTL, SessionCache};
mod clock;
pub use clock::{Clock, FakeClock};
mod counters;
pub mod docs;
mod error;
pub use error::Error;
mod fips;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzed;
mod lineage;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "metrics/off.rs"]
mod metrics;
mod reader;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
pub use redis::RedisClient;
mod resumption;
pub use resumption::{Resumption, ResumptionBuilder};
mod ring;
pub use ring::{DEFAULT_MAX_SESSION_AGE, DEFAULT_SOURCE_DEADLINE, StekRing};
mod rotation;
pub use rotation::{
    DEFAULT_PUBLISH_AHEAD, DEFAULT_ROTATION_INTERVAL, DEFAULT_TICKET_LIFETIME, MAX_TICKET_LIFETIME,
    Rotation,
};
mod rustls;
mod scope;
pub use scope::Scope;
mod session;
mod source;
#[cfg(unix)]
pub use source::KeyDirectory;
pub use source::{
    DEFAULT_EPOCH_ORIGIN, DEFAULT_POLL_INTERVAL, DerivedSource, KeyFiles, SourceError, SourceKey,
    SourceQuery, StekSource, source_fn,
};
#[cfg(feature = "redis")]
pub use source::{DEFAULT_REDIS_PREFIX, RedisSource};
mod stats;
pub use stats::{
    AcceptorStats, CacheStats, Evictions, Misses, NotResumed, NotSealed, NotShared, NotStored,
    Refused, Stats, StekStats, StoreHealth, StoreMisses, StoreStats, TicketStats,
};
mod stek;
pub use stek::{KeyName, Stek};
mod storage;
mod store;
#[cfg(feature = "redis")]
pub use store::RedisStore;
pub use store::{DEFAULT_STORE_DEADLINE, SharedStore, StoreError, StoreKey, StoreLookup};
mod sync;
mod ticket;
pub use ticket::DEFAULT_MAX_TICKET_LEN;
mod timer;
