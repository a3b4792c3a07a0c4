//! A Redis server or Sentinel of its own, on a free loopback port.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::way::Network;

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Keeps nothing on disk, and is killed when this value is dropped.
pub(crate) struct Server {
    program: PathBuf,
    flags: Vec<String>,
    directory: TempDir,
    port: u16,
    child: Child,
    /// By which others come there.
    way: u16,
    /// The same to where the nodes of a Cluster speak with each other.
    bus: Option<u16>,
    /// From which it connects to others.
    pub(crate) host: Ipv4Addr,
}

/// How to start servers.
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Path,
    pub(crate) network: &'a Network,
}

impl Launch<'_> {
    /// The server of this number, with more flags.
    ///
    /// # Errors
    ///
    /// A sentence about why it does not run, and what to do about it.
    pub(crate) async fn server(&self, number: u8, more: &[&str]) -> Result<Server, String> {
        let host = host(number);
        let (port, way) = self.port_and_way(host).await?;
        let announced = way.to_string();
        let announce = [
            "--replica-announce-ip",
            "127.0.0.1",
            "--replica-announce-port",
        ];
        let flags = [&announce[..], &[&announced], more].concat();
        self.run(host, port, way, None, &flags).await
    }

    /// A node of a Cluster that knows of no other.
    pub(crate) async fn member(&self, number: u8, more: &[&str]) -> Result<Server, String> {
        let host = host(number);
        let (port, way) = self.port_and_way(host).await?;
        let (inner, bus) = self.port_and_way(host).await?;
        let [inner, announced, announced_bus] = [inner, way, bus].map(|port| port.to_string());
        let flags = [
            ["--cluster-enabled", "yes"],
            ["--cluster-port", &inner],
            ["--cluster-announce-ip", "127.0.0.1"],
            ["--cluster-announce-port", &announced],
            ["--cluster-announce-bus-port", &announced_bus],
        ];
        let flags = [flags.as_flattened(), more].concat();
        self.run(host, port, way, Some(bus), &flags).await
    }

    async fn run(
        &self,
        host: Ipv4Addr,
        port: u16,
        way: u16,
        bus: Option<u16>,
        flags: &[&str],
    ) -> Result<Server, String> {
        let source = host.to_string();
        let ours = [
            "--save",
            "",
            "--appendonly",
            "no",
            "--bind-source-addr",
            &source,
        ];
        let flags = [&ours[..], flags].concat();
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let directory = directory()?;
        Ok(Server {
            child: spawn(self.program, &flags, directory.path(), port).await?,
            program: self.program.to_owned(),
            flags,
            directory,
            port,
            way,
            bus,
            host,
        })
    }

    /// A Sentinel with this configuration.
    pub(crate) async fn sentinel(&self, configuration: &str) -> Result<Server, String> {
        let host = Ipv4Addr::LOCALHOST;
        let (port, way) = self.port_and_way(host).await?;
        let directory = directory()?;
        let file = directory.path().join("sentinel.conf");
        std::fs::write(&file, configuration).map_err(|error| format!("no file: {error}"))?;
        let flags = vec![file.display().to_string(), "--sentinel".to_owned()];
        Ok(Server {
            child: spawn(self.program, &flags, directory.path(), port).await?,
            program: self.program.to_owned(),
            flags,
            directory,
            port,
            way,
            bus: None,
            host,
        })
    }

    /// A free port for a server, and the way by which others come there.
    async fn port_and_way(&self, host: Ipv4Addr) -> Result<(u16, u16), String> {
        let chosen = async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = listener.local_addr()?.port();
            io::Result::Ok((port, self.network.way_to(host, port).await?))
        };
        chosen
            .await
            .map_err(|error| format!("no free port: {error}"))
    }
}

fn host(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, number)
}

impl Server {
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.way)
    }

    /// The port at which others find it.
    pub(crate) fn port_of_way(&self) -> String {
        self.way.to_string()
    }

    /// Where others find it, as Redis writes it in commands.
    pub(crate) fn place(&self) -> String {
        format!("127.0.0.1 {}", self.way)
    }

    /// The same for another node of its Cluster.
    pub(crate) fn place_in_cluster(&self) -> String {
        let bus = self.bus.unwrap_or_default();
        format!("{} {bus}", self.place())
    }

    /// Kills it, as a crash would: everything in it is lost.
    pub(crate) async fn kill(&mut self) -> Result<(), String> {
        let killed = self.child.kill().await;
        killed.map_err(|error| format!("redis-server cannot be killed: {error}"))
    }

    /// Starts it again at the same port.
    pub(crate) async fn restart(&mut self) -> Result<(), String> {
        let directory = self.directory.path();
        self.child = spawn(&self.program, &self.flags, directory, self.port).await?;
        Ok(())
    }

    /// Connections stay open, and the kernel accepts new ones, but nothing is answered.
    pub(crate) async fn stop(&self) -> Result<(), String> {
        self.signal("STOP").await
    }

    pub(crate) async fn resume(&self) -> Result<(), String> {
        self.signal("CONT").await
    }

    async fn signal(&self, signal: &str) -> Result<(), String> {
        let id = self.child.id().ok_or("redis-server has ended")?;
        let mut kill = Command::new("sh");
        kill.args(["-c", &format!("kill -{signal} {id}")]);
        match kill.status().await {
            Ok(status) if status.success() => Ok(()),
            outcome => Err(format!("redis-server gets no signal: {outcome:?}")),
        }
    }

    /// Gives a command, whatever the state of its way, and returns the answer as it is on the wire.
    pub(crate) async fn ask(&self, command: &str) -> Result<String, String> {
        let answer = timeout(ANSWER, answer(self.port, command)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match answer {
            Ok(answer) if !answer.starts_with('-') => Ok(answer),
            Ok(refusal) => Err(format!("{command}: {refusal}")),
            Err(error) => Err(format!("{command}: {error}")),
        }
    }
}

fn directory() -> Result<TempDir, String> {
    TempDir::new().map_err(|error| format!("no directory: {error}"))
}

async fn answer(port: u16, command: &str) -> io::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?);
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    let mut left = 1;
    while left > 0 {
        left -= 1;
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match (line.chars().next(), line[1..].trim_end().parse::<usize>()) {
            (Some('*'), Ok(parts)) => left += parts,
            (Some('$'), Ok(len)) => {
                let mut text = vec![0; len + "\r\n".len()];
                stream.read_exact(&mut text).await?;
                line += &String::from_utf8_lossy(&text);
            }
            _ => {}
        }
        answer += &line;
    }
    Ok(answer)
}

/// Returns once it answers.
async fn spawn(
    program: &Path,
    flags: &[String],
    directory: &Path,
    port: u16,
) -> Result<Child, String> {
    let mut child = Command::new(program)
        .args(flags)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            format!(
                "{} does not start ({error}): install Debian's package redis-server, or name the \
                 program with --redis-server PATH",
                program.display()
            )
        })?;
    let said = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(said).lines();
    let signs = ["Ready to accept connections", "+monitor master"];
    while let Ok(Some(line)) = lines.next_line().await {
        if signs.iter().any(|sign| line.contains(sign)) {
            // Its output must not be closed.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(child);
        }
    }
    Err(format!(
        "{} ended before it was ready to listen at port {port}",
        program.display()
    ))
}
