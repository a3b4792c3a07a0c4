//! What is measured of a whole process, which each of these tests has to itself.

mod erasure;
mod foreign;
#[cfg(unix)]
mod forked;
mod half_open;
mod long_run;
mod metrics;
mod redis_resources;
mod resources;
mod sources_erasure;
mod stress;
