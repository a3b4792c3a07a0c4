//! The examples as processes, and other programs as their clients.

mod client_certificates;
mod crowd;
mod echo_client;
mod echo_server;
mod echo_server_flags;
mod peers;
mod returning;
mod shared_steks;
mod signals;
mod small_examples;
mod visitor;
