use std::error::Error;
use std::io::{BufRead, BufReader, Lines, Write, stdin};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{env, io, process, thread};

use clap::ValueEnum;
use cpu_time::ProcessTime;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_resumption::Resumption;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::io::InspectWriter;

use super::site::Site;

/// How a server resumes sessions.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Kind {
    Default,
    Ticketer,
    Tickets,
    Stateful,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] =
        [Self::Default, Self::Ticketer, Self::Tickets, Self::Stateful];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "rustls's default",
            Self::Ticketer => "rustls's Ticketer",
            Self::Tickets => "this crate, tickets",
            Self::Stateful => "this crate, stateful",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Tickets | Self::Stateful)
    }

    fn install(self, config: &mut ServerConfig) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Default => {}
            Self::Ticketer => config.ticketer = Ticketer::new()?,
            Self::Tickets => Resumption::tickets()?.install(config, "report"),
            Self::Stateful => Resumption::stateful(100_000)?.install(config, "report"),
        }
        Ok(())
    }
}

/// A server in its own process, so that its resource use is separate from the clients'.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    process: Child,
    /// Each line asks for the usage; closing it ends the server.
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// What a server has used since it started.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// Bytes sent up to the end of each handshake, tickets included.
    pub(crate) sent: u64,
    /// Bytes of resident memory now.
    pub(crate) memory: u64,
}

impl Server {
    pub(crate) fn start(kind: Kind, site: &Site) -> Result<Self, Box<dyn Error>> {
        let value = kind
            .to_possible_value()
            .ok_or("a kind of server without a name")?;
        let mut process = Command::new(env::current_exe()?)
            .args(["serve", value.get_name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut questions = process.stdin.take().ok_or("no standard input")?;
        let stdout = process.stdout.take().ok_or("no standard output")?;
        let mut answers = BufReader::new(stdout).lines();
        write!(questions, "{}\n{END_OF_PEM}\n", site.pem)?;
        let address = answers.next().ok_or("the server did not start")??.parse()?;
        Ok(Self {
            address,
            process,
            questions,
            answers,
        })
    }

    pub(crate) fn usage(&mut self) -> Result<Usage, Box<dyn Error>> {
        writeln!(self.questions)?;
        let answer = self.answers.next().ok_or("the server exited")??;
        let figures = answer
            .split(' ')
            .map(str::parse)
            .collect::<Result<Vec<u64>, _>>()?;
        let [cpu, sent, memory] = figures[..] else {
            return Err(format!("unexpected answer from the server: {answer}").into());
        };
        Ok(Usage {
            cpu: Duration::from_nanos(cpu),
            sent,
            memory,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The line after the certificate on a server's standard input.
const END_OF_PEM: &str = "serve";

/// Runs the server that [`Server::start`] starts.
pub(crate) async fn serve(kind: Kind) -> Result<(), Box<dyn Error>> {
    let lines = stdin()
        .lines()
        .take_while(|line| !matches!(line, Ok(line) if line == END_OF_PEM));
    let pem = lines.collect::<Result<Vec<_>, _>>()?.join("\n");
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    kind.install(&mut config)?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    thread::spawn(move || {
        for _ in stdin().lines() {
            let cpu = ProcessTime::now().as_duration().as_nanos();
            let memory = memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem);
            println!("{cpu} {} {memory}", counted.load(Ordering::Relaxed));
        }
        // The parent process is gone.
        process::exit(0);
    });
    let acceptor = TlsAcceptor::from(Arc::new(config));
    loop {
        let (stream, _) = listener.accept().await?;
        // The client reports a connection that fails.
        tokio::spawn(echo(acceptor.clone(), stream, Arc::clone(&sent)));
    }
}

async fn echo(acceptor: TlsAcceptor, stream: TcpStream, sent: Arc<AtomicU64>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let written = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&written);
    let stream = InspectWriter::new(stream, move |bytes: &[u8]| {
        counted.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    });
    let stream = acceptor.accept(stream).await?;
    sent.fetch_add(written.load(Ordering::Relaxed), Ordering::Relaxed);
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}
