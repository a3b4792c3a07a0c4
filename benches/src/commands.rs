//! The subcommands.

pub(crate) mod acceptor;
pub(crate) mod clients;
pub(crate) mod counts;
pub(crate) mod figures;
pub(crate) mod junk;
pub(crate) mod marks;
mod progress;
pub(crate) mod report;
pub(crate) mod rotation;
pub(crate) mod steps;
