//! What the benchmarks, the marks and the performance report measure, each thing in one place.

pub mod acceptors;
pub mod bars;
pub mod caches;
pub mod handshakes;
pub mod marks;
pub mod memory;
pub mod rotation;
pub mod tickets;
pub mod timing;
