//! Sessions: the cache, and the store that a fleet shares.

mod cache;
mod flood;
mod redis_store;

// For the model of the cache.
use test_support::session;
