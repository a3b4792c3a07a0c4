//! What the benchmarks, the marks and the report measure: each workload is defined once.

pub mod acceptors;
pub mod bars;
pub mod caches;
pub mod claims;
pub mod client_certificates;
pub mod following;
pub mod handshakes;
pub mod marks;
pub mod memory;
pub mod rotation;
pub mod tickets;
pub mod timing;
