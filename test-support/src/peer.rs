//! Programs that a test starts, talks to and ends, and free ports for them.

use std::io::{Read as _, Seek as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A running program. It is killed, and waited for, when this value is dropped.
pub struct Peer {
    child: Child,
}

impl Peer {
    /// Starts a server and returns once it accepts TCP connections at `address`.
    ///
    /// Its standard input stays open and empty (`openssl s_server` ends connections with it), its
    /// standard output is thrown away, its standard error is shown if it fails to start.
    ///
    /// # Panics
    ///
    /// If it ends first or does not listen in time.
    pub fn listening(command: &mut Command, address: SocketAddr) -> Self {
        let mut errors = tempfile::tempfile().unwrap();
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(errors.try_clone().unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut peer = Self { child };
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = peer.child.try_wait().expect("a child of this test") {
                let mut said = String::new();
                errors.rewind().unwrap();
                errors.read_to_string(&mut said).unwrap();
                panic!("{command:?} ended with {status} before it listened at {address}: {said}");
            }
            assert!(
                begin.elapsed() < START_LIMIT,
                "{command:?} does not listen at {address} after {START_LIMIT:?}"
            );
            thread::sleep(POLL_INTERVAL);
        }
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself, which is no harm.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Finds an installed program.
///
/// # Panics
///
/// If it is missing, naming the Debian package that brings it.
pub fn program(name: &str, debian_package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        // Daemons such as nginx lie in /usr/sbin, which only root has in its PATH.
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| {
            panic!(
                "this test needs the program {name}: install Debian's package {debian_package} \
                 (apt-get install {debian_package})"
            )
        })
}

/// A program of the Python packages that `.ci/install` puts into `target/python`.
///
/// # Panics
///
/// If it is missing.
pub fn python_program(name: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let program = workspace.join("target/python/bin").join(name);
    assert!(
        program.is_file(),
        "this test needs {}, which .ci/install installs",
        program.display()
    );
    program
}

/// A loopback address whose port nobody listens on. Another program may take it before it is used,
/// which the number of ports makes unlikely.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port on the loopback interface")
}

/// The program that Cargo built of an example of this package, beside the running test.
///
/// # Panics
///
/// If it is not there: `cargo test --test NAME` builds no examples, `cargo test` does.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let program = test
        .parent()
        .and_then(Path::parent)
        .expect("tests are built in target/PROFILE/deps")
        .join("examples")
        .join(name);
    assert!(
        program.is_file(),
        "the example {name} is not built; run `cargo build --example {name}` (with the same \
         profile), or `cargo test` without `--test`"
    );
    program
}

const START_LIMIT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
