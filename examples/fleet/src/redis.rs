//! A Redis server of its own, on a free loopback port.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Keeps nothing on disk, and is killed when this value is dropped.
pub(crate) struct Redis {
    program: PathBuf,
    directory: TempDir,
    port: u16,
    child: Child,
}

impl Redis {
    /// # Errors
    ///
    /// A sentence about why it does not run, and what to do about it.
    pub(crate) async fn start(program: PathBuf) -> Result<Self, String> {
        let directory = TempDir::new().map_err(|error| format!("no directory: {error}"))?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| format!("no free port: {error}"))?
            .port();
        let child = spawn(&program, &directory, port).await?;
        Ok(Self {
            program,
            directory,
            port,
            child,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it, as a crash would: everything in it is lost.
    pub(crate) async fn kill(&mut self) -> Result<(), String> {
        let killed = self.child.kill().await;
        killed.map_err(|error| format!("redis-server cannot be killed: {error}"))
    }

    /// Starts it again at the same port.
    pub(crate) async fn restart(&mut self) -> Result<(), String> {
        self.child = spawn(&self.program, &self.directory, self.port).await?;
        Ok(())
    }
}

/// Returns once it answers.
async fn spawn(program: &PathBuf, directory: &TempDir, port: u16) -> Result<Child, String> {
    let mut child = Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(directory.path())
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
    while let Ok(Some(line)) = lines.next_line().await {
        if line.contains("Ready to accept connections") {
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
