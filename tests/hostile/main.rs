//! Those who mean harm: clients, writers in the store, readers of logs.

mod clients;
mod fuzzed;
mod secrecy;
mod store;
