use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisResult,
    TlsCertificates, Value, cmd,
};
use rustls::crypto::CryptoProvider;
use tokio::runtime::Handle;

use crate::error::Error;

mod address;
mod cluster;
mod dial;
mod finder;
mod sentinels;
mod words;

pub(crate) use address::{Address, misplaced, redirection};
pub(crate) use cluster::{Cluster, Slots, slot_of};
pub(crate) use dial::Dialer;

pub(crate) use finder::Finder;
pub(crate) use words::harmless;

use sentinels::Sentinels;

/// The default prefix of the keys in Redis.
pub(crate) const DEFAULT_PREFIX: &str = "rustls-resumption";

/// How to reach Redis: one server, the master behind Sentinels, or a Cluster. Needs the feature
/// `redis`.
///
/// ```
/// use rustls_resumption::store::RedisClient;
///
/// let sentinels = ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379", "redis://10.0.0.3:26379"];
/// let client = RedisClient::sentinels(sentinels, "sessions")?
///     .master_like("redis://user:password@master")?;
///
/// let client = RedisClient::cluster(["redis://10.0.0.1:6379", "redis://10.0.0.2:6379"])?;
/// # Ok::<(), rustls_resumption::Error>(())
/// ```
///
/// Addresses are whatever the [`redis`] crate reads as one. A URL is
/// `redis://[user][:password@]host[:port][/database]`, or `rediss://` for TLS, which uses the
/// process's default crypto provider, and trusts the system's certificates unless told
/// [otherwise](RedisClient::certificates). With `?protocol=resp3` at its end RESP3 is spoken.
///
/// Each step has a limit of its own, and the defaults suit a Redis on another continent. How long a
/// handshake waits for a look-up is another matter:
/// [`store_deadline`](crate::ResumptionBuilder::store_deadline).
#[derive(Clone)]
pub struct RedisClient {
    topology: Topology,
    dialer: Dialer,
}

#[derive(Clone)]
enum Topology {
    One(ConnectionInfo),
    Sentinels(Sentinels),
    Cluster(Vec<ConnectionInfo>),
}

impl RedisClient {
    /// How long it may take to resolve a name, by default: 6 seconds, in which a second name server
    /// is asked.
    pub const DEFAULT_NAME_TIMEOUT: Duration = Dialer::NAME_TIMEOUT;

    /// How long TCP, TLS and authentication may take together, by default: 2 seconds.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Dialer::CONNECT_TIMEOUT;

    /// How long a command may take that no handshake waits for, by default: 2 seconds.
    pub const DEFAULT_COMMAND_TIMEOUT: Duration = Dialer::COMMAND_TIMEOUT;

    /// One server.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the address cannot be used.
    pub fn open(address: impl IntoConnectionInfo) -> Result<Self, Error> {
        Ok(Topology::One(read("url", address)?).into())
    }

    /// The master of this name behind Sentinels, given as many of these as there are. All are asked
    /// at once before each connection, and the first server that one of them names, and that
    /// considers itself the master, is taken.
    ///
    /// Whoever answers in place of a Sentinel chooses to whom the master's password is sent: where the
    /// network is not trusted, give the Sentinels by `rediss://` too, and
    /// [`certificates`](RedisClient::certificates) of a CA of your own.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if an address cannot be used, or there is none.
    pub fn sentinels<A: IntoConnectionInfo>(
        addresses: impl IntoIterator<Item = A>,
        master: &str,
    ) -> Result<Self, Error> {
        let sentinels = read_all("sentinels", addresses)?;
        let unknown = ConnectionAddr::Tcp(String::new(), 0);
        Ok(Topology::Sentinels(Sentinels {
            sentinels,
            name: master.into(),
            master: read("sentinels", unknown)?,
        })
        .into())
    }

    /// How the master behind Sentinels is spoken with: as a server at this address would be. User,
    /// password, database, protocol and whether TLS is used are taken from it; host and port are
    /// not.
    ///
    /// Defaults to neither TLS nor a password. Without effect unless there are
    /// [Sentinels](RedisClient::sentinels).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the address cannot be used.
    pub fn master_like(mut self, address: impl IntoConnectionInfo) -> Result<Self, Error> {
        let like = read("master_like", address)?;
        if let Topology::Sentinels(sentinels) = &mut self.topology {
            sentinels.master = like;
        }
        Ok(self)
    }

    /// A Cluster, given some of its nodes; they tell of the others. All are spoken with as the
    /// first.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if an address cannot be used, or there is none.
    pub fn cluster<A: IntoConnectionInfo>(
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<Self, Error> {
        Ok(Topology::Cluster(read_all("cluster", addresses)?).into())
    }

    /// Trusts another authority than the system's, shows a certificate of its own, or both, to all
    /// servers given so far that are spoken with over TLS.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a certificate or key cannot be read.
    pub fn certificates(mut self, certificates: &TlsCertificates) -> Result<Self, Error> {
        let infos: Vec<_> = match &mut self.topology {
            Topology::One(info) => vec![info],
            Topology::Sentinels(Sentinels {
                sentinels, master, ..
            }) => sentinels.iter_mut().chain([master]).collect(),
            Topology::Cluster(seeds) => seeds.iter_mut().collect(),
        };
        for info in infos {
            if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
                let client = Client::build_with_tls(info.clone(), certificates.clone())
                    .map_err(|error| Error::config("certificates", error.to_string()))?;
                *info = client.get_connection_info().clone();
            }
        }
        Ok(self)
    }

    /// Bounds how long it may take to resolve a name.
    ///
    /// Defaults to [`RedisClient::DEFAULT_NAME_TIMEOUT`].
    #[must_use]
    pub fn name_timeout(mut self, timeout: Duration) -> Self {
        self.dialer.name_timeout = timeout;
        self
    }

    /// Bounds how long TCP, TLS and authentication may take together.
    ///
    /// Defaults to [`RedisClient::DEFAULT_CONNECT_TIMEOUT`].
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.dialer.connect_timeout = timeout;
        self
    }

    /// Bounds how long a command may take that no handshake waits for: reading and writing STEKs,
    /// writing sessions, asking a Sentinel.
    ///
    /// Defaults to [`RedisClient::DEFAULT_COMMAND_TIMEOUT`].
    #[must_use]
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.dialer.command_timeout = timeout;
        self
    }

    /// As where the first name server is dead: any name is that of this host, after a while.
    #[cfg(all(test, unix))]
    pub(crate) fn with_slow_names(mut self) -> Self {
        self.dialer.resolve = dial::tests::slow;
        self
    }

    /// Any name is that of this host, for a runtime with one thread alone.
    #[cfg(all(test, unix))]
    pub(crate) fn with_names_by_one_thread(mut self) -> Self {
        self.dialer.resolve = dial::tests::by_one_thread;
        self
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Has names resolved by this runtime, whichever connects.
    pub(crate) fn resolved_by(mut self, resolver: &Handle) -> Self {
        self.dialer.resolver = Some(resolver.clone());
        self
    }

    /// The nodes of a Cluster, if it is one.
    pub(crate) fn as_cluster(&self) -> Option<Cluster> {
        match &self.topology {
            Topology::Cluster(seeds) => Some(Cluster {
                seeds: seeds.clone(),
                dialer: self.dialer.clone(),
            }),
            Topology::One(_) | Topology::Sentinels(_) => None,
        }
    }

    /// Refuses a client of redis that cannot connect: all other addresses are checked as they are
    /// read.
    pub(crate) fn checked(self) -> Result<Self, Error> {
        if let Topology::One(info) = &self.topology {
            check_provider("client", info)?;
        }
        Ok(self)
    }

    /// A connection to the one server, or to the master behind the Sentinels.
    pub(crate) async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        match &self.topology {
            Topology::One(info) => {
                let mut connection = self.dialer.dial(info).await?;
                self.check_mode(&mut connection).await?;
                Ok(connection)
            }
            Topology::Sentinels(sentinels) => sentinels.connect(&self.dialer).await,
            Topology::Cluster(_) => {
                let why = "a Cluster has no single server";
                Err((ErrorKind::InvalidClientConfig, why).into())
            }
        }
    }

    /// Refuses a server that is not alone. One that does not tell may be an old one.
    async fn check_mode(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let told: RedisResult<HashMap<String, Value>> =
            self.dialer.ask(connection, &cmd("HELLO")).await;
        let told = match told {
            Err(error) if error.is_io_error() => return Err(error),
            told => told.unwrap_or_default(),
        };
        let right = match told.get("mode") {
            Some(Value::BulkString(mode)) if mode == b"cluster" => "cluster",
            Some(Value::BulkString(mode)) if mode == b"sentinel" => "sentinels",
            _ => return Ok(()),
        };
        Err(misplaced(right))
    }
}

fn read(field: &'static str, address: impl IntoConnectionInfo) -> Result<ConnectionInfo, Error> {
    let info = address.into_connection_info().map_err(|error| {
        let right = "redis://[user][:password@]host[:port][/database], or rediss:// for TLS";
        Error::config(field, format!("{error}: expected {right}"))
    })?;
    check_provider(field, &info)?;
    Ok(info)
}

/// Without one redis panics while it connects, where rustls has a choice of two.
fn check_provider(field: &'static str, info: &ConnectionInfo) -> Result<(), Error> {
    let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    if is_tls && CryptoProvider::get_default().is_none() {
        let why = "TLS to Redis needs a default crypto provider, and none is installed: \
                   call `rustls::crypto::aws_lc_rs::default_provider().install_default()` first";
        return Err(Error::config(field, why));
    }
    Ok(())
}

fn read_all<A: IntoConnectionInfo>(
    field: &'static str,
    addresses: impl IntoIterator<Item = A>,
) -> Result<Vec<ConnectionInfo>, Error> {
    let infos = addresses.into_iter().map(|address| read(field, address));
    let infos: Vec<_> = infos.collect::<Result<_, _>>()?;
    match infos.is_empty() {
        true => Err(Error::config(
            field,
            "none is given: at least one is needed",
        )),
        false => Ok(infos),
    }
}

impl From<Topology> for RedisClient {
    fn from(topology: Topology) -> Self {
        Self {
            topology,
            dialer: Dialer::default(),
        }
    }
}

/// One server, at an address that is checked by whoever takes the client.
impl From<Client> for RedisClient {
    fn from(client: Client) -> Self {
        Topology::One(client.get_connection_info().clone()).into()
    }
}

/// The addresses, without users and passwords.
impl fmt::Display for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.topology {
            Topology::One(info) => info.addr().fmt(f),
            Topology::Sentinels(Sentinels { name, .. }) => write!(f, "master {name}"),
            Topology::Cluster(seeds) => {
                f.write_str("cluster")?;
                for (i, seed) in seeds.iter().enumerate() {
                    write!(f, "{}{}", if i == 0 { ' ' } else { ',' }, seed.addr())?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisClient({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::RedisSource;
    use crate::store::RedisStore;

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_showing_its_password() {
        for url in [
            "",
            "redis:",
            "http://:hunter2@localhost",
            "redis://:hunter2@localhost/zero",
            "redis://:hunter2@0.0.0.0",
            "redis://:hunter2@localhost?protocol=4",
        ] {
            let error = RedisClient::open(url).unwrap_err().to_string();
            assert!(error.starts_with("url: "), "{error}");
            assert!(error.contains("expected redis://"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_client_is_shown_by_its_address_alone() {
        let client = RedisClient::open("redis://user:hunter2@localhost:1234/5").unwrap();
        assert_eq!(format!("{client:?}"), "RedisClient(localhost:1234)");
    }

    #[test]
    fn the_defaults_are_what_the_documentation_says() {
        let client = RedisClient::open("redis://localhost").unwrap();
        let limits = |client: RedisClient| {
            let Dialer {
                name_timeout,
                connect_timeout,
                command_timeout,
                ..
            } = client.dialer;
            [name_timeout, connect_timeout, command_timeout].map(|limit| limit.as_secs())
        };
        assert_eq!(limits(client.clone()), [6, 2, 2]);
        let set = client
            .name_timeout(Duration::from_secs(7))
            .connect_timeout(Duration::from_secs(8))
            .command_timeout(Duration::from_secs(9));
        assert_eq!(limits(set), [7, 8, 9]);
    }

    #[test]
    fn several_addresses_are_checked_and_shown_like_one() {
        let none: [&str; 0] = [];
        let error = RedisClient::cluster(none).unwrap_err().to_string();
        assert_eq!(error, "cluster: none is given: at least one is needed");
        let error = RedisClient::sentinels(["redis://:hunter2@a", "http://:hunter2@b"], "m");
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("sentinels: ") && !error.contains("hunter2"),
            "{error}"
        );
        let cluster = RedisClient::cluster(["redis://u:hunter2@a:1", "redis://u:hunter2@b"]);
        assert_eq!(
            format!("{:?}", cluster.unwrap()),
            "RedisClient(cluster a:1,b:6379)"
        );
        let sentinels = RedisClient::sentinels(["redis://:hunter2@a"], "sessions").unwrap();
        let like = sentinels.master_like("redis://:hunter2@b").unwrap();
        assert_eq!(format!("{like:?}"), "RedisClient(master sessions)");
    }

    #[test]
    fn tls_without_a_crypto_provider_is_refused_and_says_what_to_call() {
        assert!(CryptoProvider::get_default().is_none());
        let url = "rediss://localhost";
        let made_by_redis = || Client::open(url).unwrap();
        for (error, field) in [
            (RedisClient::open(url).unwrap_err(), "url: "),
            (
                RedisStore::with_client(made_by_redis()).unwrap_err(),
                "client: ",
            ),
            (
                RedisSource::with_client(made_by_redis(), &[7; 32]).unwrap_err(),
                "client: ",
            ),
        ] {
            let error = error.to_string();
            assert!(error.starts_with(field), "{error}");
            assert!(error.contains("install_default()"), "{error}");
        }
    }
}
