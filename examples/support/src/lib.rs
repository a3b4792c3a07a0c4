//! What the examples, tests and benchmarks share.

pub mod certificate;
pub mod cli;
pub mod client;
pub mod logs;
