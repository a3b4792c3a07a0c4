//! STEKs: their windows, their clocks, and where they come from.

mod clocks;
mod key_directory;
mod redis_source;
mod ring;
mod simulation;
mod sources;
