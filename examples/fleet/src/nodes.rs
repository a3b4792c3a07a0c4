//! The nodes as processes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::balancer::{Balancer, HelloRandom};
use crate::node::{self, Report};

/// How long before its end a node gets no new connections.
const DRAIN: Duration = Duration::from_secs(1);

/// How long a node may take to revoke all.
const ANSWER: Duration = Duration::from_secs(30);

/// How to start a node.
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) redis: String,
    pub(crate) directory: PathBuf,
    pub(crate) kek: String,
}

/// Three of them, behind a load balancer.
pub(crate) struct Nodes {
    launch: Launch,
    balancer: Arc<Balancer>,
    children: Vec<Child>,
    told: Arc<Mutex<Told>>,
}

/// What the nodes reported.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) reports: [Report; 3],
    /// When the source of each last answered.
    pub(crate) answered: [Option<Instant>; 3],
    /// How often the early data of a ClientHello was accepted.
    pub(crate) early: HashMap<HelloRandom, u64>,
    /// What the node said that was told to revoke all.
    pub(crate) withdrawn: Option<String>,
}

impl Nodes {
    pub(crate) async fn start(launch: Launch, balancer: Arc<Balancer>) -> Result<Self, String> {
        let mut nodes = Self {
            launch,
            balancer,
            children: Vec::new(),
            told: Arc::default(),
        };
        for index in 0..3 {
            let child = nodes.spawn(index).await?;
            nodes.children.push(child);
        }
        Ok(nodes)
    }

    pub(crate) fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("nobody panicked")
    }

    /// Stops a node, after its connections, and starts it again: its memory is lost.
    pub(crate) async fn restart(&mut self, index: usize) -> Result<(), String> {
        self.balancer.set(index, None);
        sleep(DRAIN).await;
        let child = &mut self.children[index];
        let killed = child.kill().await;
        killed.map_err(|error| format!("a node cannot be ended: {error}"))?;
        self.children[index] = self.spawn(index).await?;
        Ok(())
    }

    /// Has one node revoke all, and waits for its answer, which is told as well.
    pub(crate) async fn revoke_all(&mut self, index: usize) -> Result<(), String> {
        let stdin = self.children[index].stdin.as_mut().expect("it is piped");
        let written = stdin.write_all(node::REVOKE_ALL.as_bytes()).await;
        written.map_err(|error| format!("a node has ended: {error}"))?;
        let answered = async {
            while self.told().withdrawn.is_none() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(ANSWER, answered)
            .await
            .map_err(|_| format!("a node has not revoked within {ANSWER:?}"))
    }

    async fn spawn(&self, index: usize) -> Result<Child, String> {
        let Launch {
            program,
            redis,
            directory,
            kek,
        } = &self.launch;
        let mut child = command(program, redis, directory)
            .env(node::KEK, kek)
            .spawn()
            .map_err(|error| format!("a node does not start: {error}"))?;
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let address = match lines.next_line().await {
            Ok(Some(line)) => line.strip_prefix("listening ").and_then(|a| a.parse().ok()),
            _ => None,
        };
        let address = address.ok_or("a node ended before it was ready; what it said is above")?;
        self.balancer.set(index, Some(address));
        let (balancer, told) = (Arc::clone(&self.balancer), Arc::clone(&self.told));
        tokio::spawn(listen(index, lines, balancer, told));
        Ok(child)
    }
}

fn command(program: &Path, redis: &str, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--node", redis, "--directory"])
        .arg(directory)
        // It ends when this end of the pipe is closed.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Records a node's reports until it exits.
async fn listen(
    index: usize,
    mut lines: Lines<BufReader<ChildStdout>>,
    balancer: Arc<Balancer>,
    told: Arc<Mutex<Told>>,
) {
    while let Ok(Some(line)) = lines.next_line().await {
        let early = line
            .strip_prefix("early ")
            .and_then(|port| port.parse().ok());
        let hello = early.and_then(|port| balancer.hello(index, port));
        let mut told = told.lock().expect("nobody panicked");
        if let Some(hello) = hello {
            *told.early.entry(hello).or_default() += 1;
        } else if let Some(withdrawn) = line.strip_prefix("withdrawn ") {
            told.withdrawn = Some(withdrawn.to_owned());
        } else if let Ok(report) = line.parse::<Report>() {
            let ago = Duration::from_millis(report.source_answered);
            told.answered[index] = Instant::now().checked_sub(ago);
            told.reports[index] = report;
        }
    }
}
