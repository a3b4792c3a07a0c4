//! Attackers: clients, writers in the store, readers of logs.

mod clients;
mod fuzzed;
mod secrecy;
mod store;
