//! STEKs: their windows, their clocks, and where they come from.

mod clocks;
mod key_directory;
mod redis_source;
mod redis_topologies;
mod ring;
mod simulation;
mod sources;
