//! A Redis server of the test's own, on a free loopback port.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

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
        Self::with_tls_flags(certificate, key, ["--tls-auth-clients", "no"])
    }

    /// With TLS at another port, for clients that show a certificate of this authority.
    pub fn with_mutual_tls(certificate: &str, key: &str, ca: &str) -> Self {
        Self::with_tls_flags(certificate, key, ["--tls-ca-cert-file", ca])
    }

    fn with_tls_flags(certificate: &str, key: &str, [flag, value]: [&str; 2]) -> Self {
        let port = free_address();
        let mut server = Self::with_flags(&[
            "--tls-port",
            &port.port().to_string(),
            "--tls-cert-file",
            certificate,
            "--tls-key-file",
            key,
            flag,
            value,
        ]);
        server.tls_port = Some(port.port());
        server
    }

    /// Lets the user of [`as_user`] do what the page `operating` says a user must be allowed, in
    /// all the rows that begin with these, and no more.
    pub fn allow_documented(&self, rows: &[&str]) {
        let page = include_str!("../../src/docs/operating.md");
        let rights = rows.iter().map(|row| {
            let start = format!("| {row} | ");
            let line = page.lines().find(|line| line.starts_with(&start));
            let line = line.unwrap_or_else(|| panic!("no row {row}"));
            line.split('`').nth(1).unwrap().replace('\\', "")
        });
        let rights = rights.collect::<Vec<_>>().join(" ");
        self.ask(&format!("ACL SETUSER user on >p {rights}"));
    }

    /// A cluster of one node, which has all the slots.
    pub fn cluster() -> Self {
        let server = Self::with_flags(&["--cluster-enabled", "yes"]);
        server.ask("CLUSTER ADDSLOTSRANGE 0 16383");
        while !server.ask("CLUSTER INFO").contains("cluster_state:ok") {
            thread::yield_now();
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

    /// A node of a cluster that it has not met yet. A master that hangs is replaced after a second.
    fn member() -> Self {
        Self::with_flags(&[
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "1000",
            "--cluster-replica-validity-factor",
            "0",
            "--cluster-require-full-coverage",
            "no",
            "--repl-diskless-sync-delay",
            "0",
        ])
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
    pub fn ask(&self, command: &str) -> String {
        // A server that changes its role hangs up meanwhile.
        let mut tries = (0..20).map(|_| {
            self.try_to_ask(command)
                .inspect_err(|_| thread::sleep(Duration::from_millis(50)))
        });
        let answer = tries.find_map(io::Result::ok);
        let answer = answer.unwrap_or_else(|| panic!("{command}: no answer"));
        assert!(!answer.starts_with('-'), "{command}: {answer}");
        answer
    }

    fn try_to_ask(&self, command: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(stream, "{command}\r\n")?;
        answer(&mut BufReader::new(stream))
    }

    fn dump(&self) -> PathBuf {
        self.directory.path().join("dump.rdb")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

/// A master and its replica, watched by three Sentinels that replace a master which hangs for half
/// a second.
pub struct Replicated {
    pub servers: [RedisServer; 2],
    pub sentinels: Vec<RedisServer>,
}

impl Replicated {
    pub const NAME: &str = "fleet";

    /// With more lines for the Sentinels' configuration, and flags for the servers.
    pub fn with(lines: &str, flags: &[&str]) -> Self {
        let flags = [&["--repl-diskless-sync-delay", "0"], flags].concat();
        let master = RedisServer::with_flags(&flags);
        let port = master.port();
        let of = format!("127.0.0.1 {port}");
        let replica = [&flags, ["--replicaof", &of].as_slice()].concat();
        let servers = [master, RedisServer::with_flags(&replica)];
        while !servers[1]
            .ask("INFO replication")
            .contains("master_link_status:up")
        {
            thread::sleep(Duration::from_millis(10));
        }
        let name = Self::NAME;
        let sentinels = (0..3).map(|_| {
            let directory = TempDir::new().unwrap();
            let file = directory.path().join("sentinel.conf");
            let conf = format!(
                "sentinel monitor {name} 127.0.0.1 {port} 2\n\
                 sentinel down-after-milliseconds {name} 500\n\
                 sentinel failover-timeout {name} 2000\n{lines}\n"
            );
            fs::write(&file, conf).unwrap();
            RedisServer::spawn(&[file.to_str().unwrap(), "--sentinel"], directory)
        });
        let sentinels: Vec<_> = sentinels.collect();
        let knows_all = |sentinel: &RedisServer| {
            let known = sentinel.ask(&format!("SENTINEL MASTER {name}"));
            let count = |field: &str| known.split("\r\n").skip_while(|part| *part != field).nth(2);
            (count("num-slaves"), count("num-other-sentinels")) == (Some("1"), Some("2"))
        };
        while !sentinels.iter().all(knows_all) {
            thread::sleep(Duration::from_millis(10));
        }
        Self { servers, sentinels }
    }

    pub fn start() -> Self {
        Self::with("", &[])
    }

    pub fn sentinel_urls(&self) -> Vec<String> {
        self.sentinels.iter().map(RedisServer::url).collect()
    }
}

/// A cluster of three masters with a third of the slots each, and as many replicas.
pub struct RedisCluster {
    pub masters: Vec<RedisServer>,
    pub replicas: Vec<RedisServer>,
}

impl RedisCluster {
    /// The last slots of the masters.
    pub const LAST: [u16; 3] = [5_460, 10_922, 16_383];

    pub fn start() -> Self {
        let masters: Vec<_> = (0..3).map(|_| RedisServer::member()).collect();
        let replicas: Vec<_> = (0..3).map(|_| RedisServer::member()).collect();
        let mut first = 0;
        for (i, (master, last)) in masters.iter().zip(Self::LAST).enumerate() {
            master.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", i + 1));
            master.ask(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            first = last + 1;
        }
        let cluster = Self { masters, replicas };
        for server in cluster.servers() {
            masters_meet(&cluster.masters[0], server);
        }
        let wait = |is_so: &dyn Fn() -> bool| {
            while !is_so() {
                thread::sleep(Duration::from_millis(10));
            }
        };
        for server in cluster.servers() {
            wait(&|| server.ask("CLUSTER INFO").contains("cluster_known_nodes:6"));
        }
        for (master, replica) in cluster.masters.iter().zip(&cluster.replicas) {
            let id = master.ask("CLUSTER MYID");
            let id = id.split("\r\n").nth(1).unwrap();
            replica.ask(&format!("CLUSTER REPLICATE {id}"));
            wait(&|| {
                replica
                    .ask("INFO replication")
                    .contains("master_link_status:up")
            });
        }
        for server in cluster.servers() {
            // Each range with its master and one replica.
            wait(&|| server.ask("CLUSTER SLOTS").matches("127.0.0.1").count() == 6);
            wait(&|| server.ask("CLUSTER INFO").contains("cluster_state:ok"));
        }
        cluster
    }

    pub fn servers(&self) -> impl Iterator<Item = &RedisServer> {
        self.masters.iter().chain(&self.replicas)
    }

    pub fn urls(&self) -> Vec<String> {
        self.masters.iter().map(RedisServer::url).collect()
    }
}

fn masters_meet(first: &RedisServer, other: &RedisServer) {
    if first.port() != other.port() {
        other.ask(&format!("CLUSTER MEET 127.0.0.1 {}", first.port()));
    }
}

/// The same address, for the user of [`allow_documented`](RedisServer::allow_documented).
pub fn as_user(url: &str) -> String {
    url.replace("//", "//user:p@")
}

/// A way to a port, on which answers come late.
pub struct Way {
    pub port: u16,
    connections: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

impl Way {
    pub fn to(port: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let way = Self {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            lost: Arc::default(),
        };
        let (connections, lost) = (Arc::clone(&way.connections), Arc::clone(&way.lost));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let number = connections.fetch_add(1, Ordering::Relaxed);
                let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let there = (client.try_clone().unwrap(), server.try_clone().unwrap());
                for (delay, (mut from, mut to)) in
                    [(Duration::ZERO, there), (delay, (server, client))]
                {
                    let lost = Arc::clone(&lost);
                    thread::spawn(move || {
                        let mut bytes = vec![0; 1 << 16];
                        while let Ok(len @ 1..) = from.read(&mut bytes) {
                            thread::sleep(delay);
                            if number < lost.load(Ordering::Relaxed) {
                                continue;
                            }
                            if to.write_all(&bytes[..len]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        way
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The connections there are stay open, but nothing comes through any more.
    pub fn lose_connections(&self) {
        let connections = self.connections.load(Ordering::Relaxed);
        self.lost.store(connections, Ordering::Relaxed);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have been stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer and all that it consists of, as it is on the wire.
fn answer(from: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut answer = String::new();
    if from.read_line(&mut answer)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let len = answer[1..].trim_end().parse().unwrap_or(-1);
    match (answer.chars().next(), u64::try_from(len)) {
        (Some('$'), Ok(len)) => {
            from.take(len + 2).read_to_string(&mut answer)?;
        }
        (Some('*'), Ok(len)) => {
            for _ in 0..len {
                answer += &self::answer(from)?;
            }
        }
        _ => {}
    }
    Ok(answer)
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
