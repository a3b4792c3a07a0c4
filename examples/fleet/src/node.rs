//! An echo server, one process of the fleet.
//!
//! It prints `listening ADDR`, then ten times a second a line of [`Report`], and `early PORT` when it
//! accepts early data from a peer of that port. On [`REVOKE_ALL`] in its standard input it revokes
//! all and prints `withdrawn` and what that did. It exits when its standard input is closed.

use std::fmt;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls_resumption::source::RedisSource;
use rustls_resumption::store::RedisStore;
use rustls_resumption::{Resumption, ResumptionAcceptor, Rotation, Stats};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::{interval, timeout};
use tokio_rustls::server::TlsStream;

use crate::redis::client;

/// The environment variable with the KEK.
pub(crate) const KEK: &str = "FLEET_KEK";

/// A line of a node's standard input.
pub(crate) const REVOKE_ALL: &str = "revoke all\n";

/// STEKs rotate often enough to be seen, and are published for longer than a node's poll interval.
const INTERVAL: Duration = Duration::from_secs(6);
const AHEAD: Duration = Duration::from_secs(4);
const LIFETIME: Duration = Duration::from_secs(120);

const EARLY_DATA: u32 = 4_096;

/// How long a connection may take in total.
const LIMIT: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Serves until standard input ends.
pub(crate) async fn run(redis: &str, directory: &Path) -> Result<(), Failure> {
    let kek = std::env::var(KEK)?;
    let rotation = Rotation::new()
        .interval(INTERVAL)
        .publish_ahead(AHEAD)
        .ticket_lifetime(LIFETIME);
    let resumption = Resumption::builder()
        .stateful(20_000)
        .rotation(rotation)
        .stek_source(RedisSource::with_client(client(redis)?, kek.as_bytes())?)
        .shared_store(RedisStore::with_client(client(redis)?)?.lookup_runtime(Handle::current()))
        .build()?;

    let chain = vec![std::fs::read(directory.join("certificate.der"))?.into()];
    let key = PrivateKeyDer::try_from(std::fs::read(directory.join("key.der"))?)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.max_early_data_size = EARLY_DATA;
    resumption.install(&mut config, "fleet");
    let acceptor = ResumptionAcceptor::from(Arc::new(config));

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("listening {}", listener.local_addr()?);
    let mut reports = interval(Duration::from_millis(100));
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (tcp, peer) = accepted?;
                let _ = tcp.set_nodelay(true);
                let handshake = acceptor.accept(tcp);
                tokio::spawn(timeout(LIMIT, async move {
                    // The client reports connections that fail.
                    if let Ok(stream) = handshake.await {
                        let _ = echo(stream, peer.port()).await;
                    }
                }));
            }
            _ = reports.tick() => println!("{}", Report::from(resumption.stats())),
            command = commands.next_line() => {
                if command?.is_none() {
                    return Ok(());
                }
                // There is one command. It waits for Redis.
                let resumption = resumption.clone();
                spawn_blocking(move || println!("withdrawn {}", resumption.revoke_all()));
            }
        }
    }
}

async fn echo(mut stream: TlsStream<TcpStream>, port: u16) -> std::io::Result<()> {
    let mut early = Vec::new();
    if let Some(mut reader) = stream.get_mut().1.early_data() {
        reader.read_to_end(&mut early)?;
    }
    if !early.is_empty() {
        println!("early {port}");
        stream.write_all(&early).await?;
        stream.flush().await?;
    }
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            len => {
                stream.write_all(&buffer[..len]).await?;
                stream.flush().await?;
            }
        }
    }
}

/// A node's report about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) full: u64,
    pub(crate) resumed: u64,
    pub(crate) claimed: u64,
    pub(crate) early: u64,
    pub(crate) rotations: u64,
    pub(crate) keys: u64,
    pub(crate) fallen_back: bool,
    pub(crate) store_is_down: bool,
    /// Whether all of the store serves.
    pub(crate) store_is_well: bool,
    /// How many milliseconds ago the source last answered.
    pub(crate) source_answered: u64,
    /// The first digits of the name of the STEK that seals.
    pub(crate) active: String,
}

impl From<Stats> for Report {
    fn from(stats: Stats) -> Self {
        let name = stats.steks.active.map(|name| name.to_string());
        let answered = stats.steks.source_answered;
        Self {
            full: stats.acceptor.full.total(),
            resumed: stats.acceptor.resumed,
            claimed: stats.store.claimed,
            early: stats.acceptor.early_data,
            rotations: stats.steks.rotations,
            keys: stats.steks.keys,
            fallen_back: stats.steks.fallen_back,
            store_is_down: stats.store.health.is_down,
            store_is_well: !stats.store.health.is_down && stats.store.health.trouble.is_none(),
            source_answered: answered.map_or(u64::MAX, |answered| answered.as_millis() as u64),
            active: name.map_or_else(|| "none".to_owned(), |name| name[..8].to_owned()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            full,
            resumed,
            claimed,
            early,
            rotations,
            keys,
            fallen_back,
            store_is_down,
            store_is_well,
            source_answered,
            active,
        } = self;
        write!(
            f,
            "report {full} {resumed} {claimed} {early} {rotations} {keys} {fallen_back} \
             {store_is_down} {store_is_well} {source_answered} {active}"
        )
    }
}

impl FromStr for Report {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        fn word<'a, T: FromStr>(words: &mut impl Iterator<Item = &'a str>) -> Result<T, String> {
            let word = words.next().and_then(|word| word.parse().ok());
            word.ok_or_else(|| "not a report".to_owned())
        }
        let words = &mut line.split(' ').skip(1);
        Ok(Self {
            full: word(words)?,
            resumed: word(words)?,
            claimed: word(words)?,
            early: word(words)?,
            rotations: word(words)?,
            keys: word(words)?,
            fallen_back: word(words)?,
            store_is_down: word(words)?,
            store_is_well: word(words)?,
            source_answered: word(words)?,
            active: word(words)?,
        })
    }
}
