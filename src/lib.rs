//! TLS session resumption for rustls servers.
#![warn(missing_docs, clippy::exhaustive_enums, clippy::exhaustive_structs)]
