//! Shows what resumes and what does not: server and client in one process, over loopback TCP.
//!
//! In each row a new client makes a full handshake, something happens, and the client returns. The
//! client tells whether it resumed; what [`Stats`] counted in between tells why.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use example_support::certificate::Identity;
use rustls::crypto::aws_lc_rs;
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_resumption::{FakeClock, KeyName, Resumption, Rotation, SessionCache};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::certificate::LocalAuthority;
use crate::cli;
use crate::client::{Client, ClientOptions, Outcome};
use crate::log::Log;
use crate::serve::{Server, bind};
use why::Why;

mod why;

/// Prints the table. The exit status says whether every outcome was the expected one.
///
/// # Errors
///
/// A sentence that says why the demo cannot run.
pub(crate) async fn run() -> Result<ExitCode, String> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "mode",
        "TLS",
        "a client comes ...",
        "handshake",
        "µs",
        "why",
    ]);
    if let Some(column) = table.column_mut(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let (mut total, mut wrong) = (0, Vec::new());
    for mode in [Mode::Tickets, Mode::Stateful] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let stage = Stage::new(mode, version).await?;
            for event in Event::ALL {
                let seen = stage.play(event).await?;
                let expected = event.expected(mode);
                let kind = match seen.outcome.handshake.resumed {
                    true => "resumed",
                    false => "full",
                };
                let micros = seen.outcome.handshake.latency.as_micros().to_string();
                let version = stage.version();
                table.add_row([
                    mode.name(),
                    version,
                    &seen.event,
                    kind,
                    &micros,
                    &seen.why.to_string(),
                ]);
                total += 1;
                if seen.why != expected || seen.outcome.handshake.resumed != expected.resumes() {
                    wrong.push(format!(
                        "{}, TLS {version}, {}: expected: {expected}",
                        mode.name(),
                        seen.event
                    ));
                }
            }
        }
    }
    cli::show(table);
    if wrong.is_empty() {
        cli::show(format_args!("{total} clients came, all as they should."));
        return Ok(ExitCode::SUCCESS);
    }
    for line in &wrong {
        eprintln!("{line}");
    }
    eprintln!("{} of {total} are not as they should be", wrong.len());
    Ok(ExitCode::FAILURE)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Stateful,
    Tickets,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Stateful => "stateful",
            Self::Tickets => "tickets",
        }
    }
}

/// What happens before a client returns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Event {
    FirstVisit,
    Return,
    Rotation,
    Reload,
    OtherScope,
    Expiry,
    Revocation,
}

impl Event {
    const ALL: [Self; 7] = [
        Self::FirstVisit,
        Self::Return,
        Self::Rotation,
        Self::Reload,
        Self::OtherScope,
        Self::Expiry,
        Self::Revocation,
    ];

    fn expected(self, mode: Mode) -> Why {
        let tickets = mode == Mode::Tickets;
        match self {
            Self::FirstVisit => Why::NothingOffered,
            Self::Return | Self::Rotation | Self::Reload if tickets => Why::TicketOpened,
            Self::Return | Self::Rotation | Self::Reload => Why::SessionFound,
            Self::OtherScope if tickets => Why::WrongScope,
            Self::Expiry if tickets => Why::ExpiredKey,
            Self::Expiry => Why::SessionExpired,
            Self::Revocation if tickets => Why::Revoked,
            Self::OtherScope | Self::Revocation => Why::NoSuchSession,
        }
    }
}

/// What was observed of a client.
struct Seen {
    event: String,
    outcome: Outcome,
    why: Why,
}

/// A [`Resumption`] on a fake clock, and two servers that share it, each with its own scope.
struct Stage {
    time: FakeClock,
    resumption: Resumption,
    mode: Mode,
    version: &'static SupportedProtocolVersion,
    authority: LocalAuthority,
    client: Client,
    home: (SocketAddr, Arc<Server>),
    other: (SocketAddr, Arc<Server>),
    _accepting: JoinSet<()>,
}

impl Stage {
    async fn new(mode: Mode, version: &'static SupportedProtocolVersion) -> Result<Self, String> {
        let time = FakeClock::new();
        let mut builder = Resumption::builder().clock(time.clock());
        if mode == Mode::Stateful {
            builder = builder.stateful(20_000);
        }
        let resumption = builder.build().map_err(|error| error.to_string())?;
        let authority = LocalAuthority::new(Ipv4Addr::LOCALHOST.into())?;

        let mut accepting = JoinSet::new();
        let home = serve(&mut accepting, config(&resumption, &authority, HOME)?).await?;
        let other = serve(&mut accepting, config(&resumption, &authority, OTHER)?).await?;
        let options = ClientOptions {
            version,
            ..ClientOptions::new(vec![home.0, other.0], authority.roots())
        };
        Ok(Self {
            time,
            resumption,
            mode,
            version,
            authority,
            client: Client::new(options).map_err(|error| error.to_string())?,
            home,
            other,
            _accepting: accepting,
        })
    }

    fn version(&self) -> &'static str {
        match self.version.version {
            rustls::ProtocolVersion::TLSv1_2 => "1.2",
            _ => "1.3",
        }
    }

    /// A new client connects, something happens, and it returns.
    async fn play(&self, event: Event) -> Result<Seen, String> {
        let worker = self.client.worker();
        if event != Event::FirstVisit {
            let first = worker.echo_at(self.home.0).await;
            first.map_err(|error| error.to_string())?;
        }
        let event_seen = self.cause(event)?;
        let address = match event {
            Event::OtherScope => self.other.0,
            _ => self.home.0,
        };
        let before = self.resumption.stats();
        let outcome = worker
            .echo_at(address)
            .await
            .map_err(|error| error.to_string())?;
        let after = self.resumption.stats();
        Ok(Seen {
            event: event_seen,
            outcome,
            why: Why::read(&before, &after),
        })
    }

    /// Makes the event happen. Returns its description.
    fn cause(&self, event: Event) -> Result<String, String> {
        let tickets = self.mode == Mode::Tickets;
        Ok(match event {
            Event::FirstVisit => "for the first time".to_owned(),
            Event::Return => "back".to_owned(),
            Event::Rotation => {
                let before = self.resumption.stats().steks.active;
                self.resumption
                    .rotate_now()
                    .map_err(|error| error.to_string())?;
                let after = self.resumption.stats().steks.active;
                match (before, after) {
                    (Some(before), Some(after)) => format!(
                        "back after a STEK rotation ({} to {})",
                        short(&before),
                        short(&after)
                    ),
                    _ => "back after a STEK rotation (none to rotate)".to_owned(),
                }
            }
            Event::Reload => {
                let config = config(&self.resumption, &self.authority, HOME)?;
                self.home.1.reload(config);
                "back after a certificate reload, to a new ServerConfig".to_owned()
            }
            Event::OtherScope => format!("to another scope ({OTHER} instead of {HOME})"),
            Event::Expiry => {
                let life = match tickets {
                    true => Rotation::DEFAULT_INTERVAL + Rotation::DEFAULT_TICKET_LIFETIME,
                    false => SessionCache::DEFAULT_TTL,
                };
                self.time.advance(life);
                if tickets {
                    // On a fake clock, only this makes the next STEK.
                    self.resumption.step();
                }
                format!("back {} hours later", life.as_secs() / 3_600)
            }
            Event::Revocation => {
                let _ = self.resumption.revoke_all();
                "back after revoke_all()".to_owned()
            }
        })
    }
}

fn short(name: &KeyName) -> String {
    name.to_string().chars().take(8).collect()
}

const HOME: &str = "shop";
const OTHER: &str = "bank";

/// A configuration with a new certificate.
fn config(
    resumption: &Resumption,
    authority: &LocalAuthority,
    scope: &str,
) -> Result<ServerConfig, String> {
    let Identity { chain, key } = authority.issue()?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| error.to_string())?;
    resumption.install(&mut config, scope);
    Ok(config)
}

/// Serves on a free port until `accepting` is dropped.
async fn serve(
    accepting: &mut JoinSet<()>,
    config: ServerConfig,
) -> Result<(SocketAddr, Arc<Server>), String> {
    let (listener, address) = bind((Ipv4Addr::LOCALHOST, 0).into()).await?;
    let server = Arc::new(Server::new(config, HANDSHAKE_TIMEOUT, Log::silent()));
    // Nothing waits for its connections to end.
    let (open, _) = mpsc::channel(1);
    accepting.spawn(Arc::clone(&server).accept(listener, open));
    Ok((address, server))
}

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
