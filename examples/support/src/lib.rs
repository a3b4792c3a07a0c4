//! What the examples, tests and benchmarks share.

pub mod cli;
pub mod client;
