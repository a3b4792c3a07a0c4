//! Handshakes of real clients, in memory and over loopback.

mod acceptor;
mod ages;
mod blocking;
mod cannot_resume;
mod claimed;
mod client_auth;
mod client_auth_paths;
mod copies;
mod early_data;
mod follow;
mod forgetting;
mod incident;
mod incident_threads;
mod incoming;
mod lineage;
mod plain;
mod quic;
mod ways_in;
