//! Tests that measure a whole process, each in a process of its own.

mod either;
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
