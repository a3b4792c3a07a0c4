//! The example `echo_server` as a process.

use std::fmt::Debug;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::example;

/// `echo_server` on a free loopback port. It is killed, and waited for, when this value is dropped.
pub struct EchoProcess {
    child: Child,
    lines: Receiver<String>,
    address: Option<SocketAddr>,
    /// The file of the authority to trust, if the server made it.
    ca: Option<PathBuf>,
    _directory: TempDir,
}

/// A `conn` line.
#[derive(Debug)]
pub struct Conn {
    pub peer: SocketAddr,
    pub version: String,
    /// `full`, or what it resumed by: `ticket`, `session_id` or `cache`; with rustls's own storage,
    /// which does not tell, `resumed`.
    pub outcome: String,
    pub early: usize,
    pub us: u64,
}

/// A `stats` line, and the table after it.
#[derive(Debug)]
pub struct Sums {
    pub accepted: u64,
    pub full: u64,
    pub resumed: u64,
    pub failed: u64,
    pub early: u64,
    pub table: String,
}

impl EchoProcess {
    /// Starts it, and returns once it is ready.
    pub fn start(flags: &[&str]) -> Self {
        Self::with_env(&[], flags)
    }

    /// The same with more environment variables.
    pub fn with_env(variables: &[(&str, &str)], flags: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let mut child = Command::new(example("echo_server"))
            // Where it makes its files, so that they go away however it ends.
            .env("TMPDIR", directory.path())
            .envs(variables.iter().copied())
            .args(["--listen", "127.0.0.1:0"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().expect("it is piped");
        let mut server = Self {
            child,
            lines: read_lines(stdout),
            address: None,
            ca: None,
            _directory: directory,
        };
        loop {
            let line = server.line();
            match line.split_once(' ') {
                Some(("ca", path)) => server.ca = Some(path.into()),
                Some(("metrics", url)) => assert!(url.ends_with("/metrics")),
                Some(("listening", address)) => server.address = Some(parsed(address)),
                _ => {
                    assert_eq!(line, "ready");
                    return server;
                }
            }
        }
    }

    /// The address that it listens at.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("it was told before it was ready")
    }

    pub fn ca(&self) -> &Path {
        self.ca.as_ref().expect("it made its certificate itself")
    }

    /// The next line that it prints.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn line(&self) -> String {
        self.lines
            .recv_timeout(LIMIT)
            .unwrap_or_else(|error| panic!("no line from echo_server: {error}"))
    }

    /// The next line, which must be of a connection.
    pub fn conn(&self) -> Conn {
        let line = self.line();
        let outcome = match value(&line, "kind") {
            "resumed" if line.contains(" by=") => value(&line, "by"),
            kind => kind,
        };
        assert!(line.starts_with("conn "), "{line}");
        Conn {
            peer: parsed(value(&line, "peer")),
            version: value(&line, "version").to_owned(),
            outcome: outcome.to_owned(),
            early: parsed(value(&line, "early")),
            us: parsed(value(&line, "us")),
        }
    }

    /// Sends a signal, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(status.success(), "{kill}: {status}");
    }

    /// Sends a signal that makes it do something and print sums. Returns what it says of the
    /// former, and the sums.
    pub fn order(&self, signal: &str) -> (String, Sums) {
        self.signal(signal);
        let said = self.line_past_connections();
        (said, self.sums())
    }

    fn line_past_connections(&self) -> String {
        loop {
            let line = self.line();
            if !["conn ", "fail "].iter().any(|kind| line.starts_with(kind)) {
                return line;
            }
        }
    }

    /// Reads sums, past lines of connections.
    pub fn sums(&self) -> Sums {
        let line = self.line_past_connections();
        assert!(line.starts_with("stats "), "{line}");
        let count = |key| parsed(value(&line, key));
        let mut table = String::new();
        // The last line of the table, or all that there is of it.
        while !["active STEK", "no Stats"]
            .iter()
            .any(|last| table.contains(last))
        {
            table += &self.line();
            table.push('\n');
        }
        Sums {
            accepted: count("accepted"),
            full: count("full"),
            resumed: count("resumed"),
            failed: count("failed"),
            early: count("early"),
            table,
        }
    }

    /// Waits until it has ended by itself. Returns the lines that were left.
    pub fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let mut left = Vec::new();
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) => left.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("echo_server does not end; {left:?}"),
            }
        }
        (self.child.wait().unwrap(), left)
    }

    /// Asks it to end, and returns the sums that it prints then.
    pub fn stop(self) -> Sums {
        self.signal("TERM");
        let sums = self.sums();
        let (status, left) = self.ended();
        assert!(status.success(), "{status}");
        assert!(left.is_empty(), "{left:?}");
        sums
    }
}

impl Drop for EchoProcess {
    fn drop(&mut self) {
        // It may have ended by itself, which is no harm.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sums {
    /// A count of the table, such as `wrong scope` in the row `refused`.
    pub fn counted(&self, row: &str, name: &str) -> u64 {
        let row = self
            .table
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{row:<13} ")))
            .unwrap_or_else(|| panic!("no row {row} in\n{}", self.table));
        let count = row
            .split(", ")
            .find_map(|count| count.strip_prefix(&format!("{name} ")));
        parsed(count.unwrap_or_else(|| panic!("no {name} in {row}")))
    }
}

/// The value of `key=value` in a line. It ends with a space.
pub fn value<'a>(line: &'a str, key: &str) -> &'a str {
    line.split(' ')
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("no {key}= in {line}"))
}

fn parsed<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// The lines that can be read, as they come.
pub fn read_lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Tries again and again until something is true.
///
/// # Panics
///
/// If it never is.
pub fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// After so long something is wrong, however slow the machine is.
const LIMIT: Duration = Duration::from_secs(60);
