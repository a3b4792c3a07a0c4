//! What the tests of this workspace share. Without the feature `full` it knows nothing of the crate
//! that is tested, so its unit tests can use it too.

#[cfg(feature = "full")]
pub mod acceptor;
pub mod alone;
#[cfg(feature = "full")]
pub mod certificates;
#[cfg(feature = "full")]
pub mod client_auth;
#[cfg(feature = "full")]
pub mod clients;
#[cfg(feature = "full")]
pub mod echo;
pub mod echo_server;
pub mod fake_redis;
#[cfg(feature = "full")]
pub mod fleet;
#[cfg(feature = "full")]
pub mod handshake;
pub mod hello;
pub mod inputs;
pub mod log;
#[cfg(target_os = "linux")]
pub mod memory;
pub mod peer;
#[cfg(target_os = "linux")]
pub mod process;
#[cfg(unix)]
pub mod redis;
#[cfg(feature = "full")]
pub mod servers;
pub mod session;

use std::path::{Path, PathBuf};

#[cfg(feature = "full")]
pub use certificates::Certificates;
pub use peer::{example, free_address};

/// The directory of the whole workspace.
pub fn repository() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    ours.parent().expect("a directory of the workspace").into()
}
