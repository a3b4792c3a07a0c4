//! Attackers: clients, writers in the store, readers of logs.

mod clients;
mod fuzzed;
mod panicking;
mod secrecy;
mod store;
