//! A Redis server of the test's own, on a free loopback port.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::free_address;

/// It keeps nothing on disk unless told to [`save`](RedisServer::save), and ends with this value.
pub struct RedisServer {
    child: Child,
    port: u16,
    tls_port: Option<u16>,
    flags: Vec<String>,
    directory: TempDir,
}

impl RedisServer {
    pub fn start() -> Self {
        Self::with_flags(&[])
    }

    /// With more of redis-server's flags, such as `["--requirepass", "secret"]`.
    pub fn with_flags(flags: &[&str]) -> Self {
        let ours = ["--save", "", "--appendonly", "no"];
        Self::spawn(&[&ours, flags].concat(), TempDir::new().unwrap())
    }

    /// With TLS at another port. The certificate and its key are PEM files.
    pub fn with_tls(certificate: &str, key: &str) -> Self {
        let port = free_address().port().to_string();
        let mut server = Self::with_flags(&[
            "--tls-port",
            &port,
            "--tls-cert-file",
            certificate,
            "--tls-key-file",
            key,
            "--tls-auth-clients",
            "no",
        ]);
        server.tls_port = port.parse().ok();
        server
    }

    /// A cluster of one node, which has all the slots.
    pub fn cluster() -> Self {
        let server = Self::with_flags(&["--cluster-enabled", "yes"]);
        server.ask("CLUSTER ADDSLOTSRANGE 0 16383");
        while !server.ask("CLUSTER INFO").contains("cluster_state:ok") {
            std::thread::yield_now();
        }
        server
    }

    /// A Sentinel that calls `master` by this name.
    pub fn sentinel(master: &Self, name: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("sentinel.conf");
        let port = master.port();
        fs::write(
            &file,
            format!("sentinel monitor {name} 127.0.0.1 {port} 1\n"),
        )
        .unwrap();
        Self::spawn(&[file.to_str().unwrap(), "--sentinel"], directory)
    }

    fn spawn(flags: &[&str], directory: TempDir) -> Self {
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        // Another program may take a port between the choice and the use.
        for _ in 0..10 {
            let port = free_address().port();
            if let Some(child) = spawn(port, &flags, &directory) {
                return Self {
                    child,
                    port,
                    tls_port: None,
                    flags,
                    directory,
                };
            }
        }
        panic!("redis-server found no port that it could listen on");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn tls_url(&self) -> String {
        let port = self.tls_port.expect("a server started with TLS");
        format!("rediss://localhost:{port}")
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection for the test itself.
    #[cfg(feature = "full")]
    pub fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_connection().unwrap()
    }

    /// Ends it at once, as a crash would: what was not saved is lost.
    pub fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again at the same port, with what was last saved.
    pub fn restart(&mut self) {
        self.child = spawn(self.port, &self.flags, &self.directory)
            .expect("redis-server listens where it listened before");
    }

    /// Connections stay open and new ones are taken by the kernel, but nothing is answered.
    pub fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// Writes everything to disk, and gives it.
    pub fn save(&self) -> Vec<u8> {
        self.ask("SAVE");
        fs::read(self.dump()).unwrap()
    }

    /// Makes the next start load this.
    pub fn put_dump(&self, dump: &[u8]) {
        fs::write(self.dump(), dump).unwrap();
    }

    /// Makes the next start an empty one.
    pub fn remove_dump(&self) {
        let _ = fs::remove_file(self.dump());
    }

    /// Gives a command and returns the answer, as it is on the wire.
    fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "{command}\r\nQUIT\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(!answer.starts_with('-'), "{command}: {answer}");
        answer
    }

    fn dump(&self) -> PathBuf {
        self.directory.path().join("dump.rdb")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have been stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None` if it ended before it was ready, as when the port is taken.
fn spawn(port: u16, flags: &[String], directory: &TempDir) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(flags)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .arg("--dir")
        .arg(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("this test needs redis-server ({error}): apt-get install redis-server")
        });
    let said = BufReader::new(child.stdout.take().unwrap());
    let signs = ["Ready to accept connections", "+monitor master"];
    let ready = said
        .lines()
        .map_while(Result::ok)
        .any(|line| signs.iter().any(|sign| line.contains(sign)));
    if !ready {
        child.wait().unwrap();
    }
    ready.then_some(child)
}
