//! Sessions: the cache, and the store that a fleet shares.

mod cache;
mod flood;
mod memcached;
mod observed;
mod redis_commands;
mod redis_log;
mod redis_runtime;
mod redis_store;
mod redis_topologies;
