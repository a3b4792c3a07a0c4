use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::AsyncDNSResolver;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue,
    RedisFuture, RedisResult,
};
use tokio::runtime::Handle;

use super::words::without_password;

/// Makes connections to single servers and gives commands, each step within a limit of its own.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    /// For resolving a name.
    pub(crate) name_timeout: Duration,
    /// For TCP, TLS and authentication together.
    pub(crate) connect_timeout: Duration,
    /// For a command that no handshake waits for.
    pub(crate) command_timeout: Duration,
    pub(super) resolve: Resolve,
    /// By which names are resolved, if not by whichever runtime connects: one that somebody waits for
    /// when it ends would wait for a name that hangs.
    pub(super) resolver: Option<Handle>,
}

/// Asks the system for the addresses of a host, for as long as that takes.
type Resolve = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

impl Dialer {
    /// A second name server is asked after 5 seconds by default.
    pub(super) const NAME_TIMEOUT: Duration = Duration::from_secs(6);
    /// Five round trips to another continent.
    pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
    pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

    /// A connection that many tasks may use at once; needs a tokio runtime. Its commands have no
    /// timeouts: callers give up on what takes too long. A thousand may wait to be sent, so that
    /// none waits until its caller is polled again.
    pub(super) async fn dial(&self, info: &ConnectionInfo) -> RedisResult<MultiplexedConnection> {
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(1024);
        if let ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } =
            info.addr()
        {
            config = config.set_dns_resolver(Resolved(self.addresses(host, *port).await?));
        }
        let client = Client::open(prompt(info))?;
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        let connected = within(self.connect_timeout, "no connection", connecting).await;
        let password = info.redis_settings().password();
        connected.map_err(|error| without_password(error, password))
    }

    /// Gives a command and waits for the answer.
    pub(crate) async fn ask<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
        command: &Cmd,
    ) -> RedisResult<T> {
        let answer = command.query_async(connection);
        within(self.command_timeout, "no answer", answer).await
    }

    /// How long connecting and a command may take.
    pub(crate) fn limit(&self) -> Duration {
        let connected = self.name_timeout.saturating_add(self.connect_timeout);
        connected.saturating_add(self.command_timeout)
    }

    /// The system's look-up blocks, and may do so for longer than anybody waits: its thread is left
    /// to end by itself.
    async fn addresses(&self, host: &str, port: u16) -> RedisResult<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        let (resolve, name) = (self.resolve, host.to_owned());
        let resolver = self.resolver.clone().unwrap_or_else(Handle::current);
        let asking = resolver.spawn_blocking(move || resolve(&name, port));
        let what = format!("no address of {host}");
        let found = within(self.name_timeout, &what, async {
            Ok(asking.await.map_err(io::Error::other)??)
        });
        match found.await? {
            none if none.is_empty() => Err(io::Error::other(what).into()),
            found => Ok(found),
        }
    }
}

impl Default for Dialer {
    fn default() -> Self {
        Self {
            name_timeout: Self::NAME_TIMEOUT,
            connect_timeout: Self::CONNECT_TIMEOUT,
            command_timeout: Self::COMMAND_TIMEOUT,
            resolve: |host, port| Ok((host, port).to_socket_addrs()?.collect()),
            resolver: None,
        }
    }
}

/// A server that is sent each command at once: with Nagle's algorithm one waits until the one before
/// is acknowledged, which takes a round trip.
fn prompt(info: &ConnectionInfo) -> ConnectionInfo {
    let settings = info.tcp_settings().clone().set_nodelay(true);
    info.clone().set_tcp_settings(settings)
}

/// The outcome, or a timeout that says what there was not.
pub(super) async fn within<T>(
    limit: Duration,
    what: &str,
    outcome: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    let outcome = tokio::time::timeout(limit, outcome).await;
    outcome.unwrap_or_else(|_| {
        let why = format!("{what} within {limit:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, why).into())
    })
}

/// Addresses that were looked up before, so that each step has its own limit.
struct Resolved(Vec<SocketAddr>);

impl AsyncDNSResolver for Resolved {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _host: &'b str,
        _port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async { Ok(Box::new(self.0.iter().copied()) as Box<_>) })
    }
}

#[cfg(all(test, unix))]
pub(crate) mod tests {
    use std::net::Ipv4Addr;
    use std::thread;

    use test_support::redis::RedisServer;
    use tokio::runtime::RuntimeFlavor;

    use super::*;

    /// A first name server that is dead.
    pub(crate) fn slow(_host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        thread::sleep(Duration::from_millis(1_500));
        Ok(vec![(Ipv4Addr::LOCALHOST, port).into()])
    }

    /// Of a runtime with one thread alone.
    pub(crate) fn by_one_thread(_host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match Handle::current().runtime_flavor() {
            RuntimeFlavor::CurrentThread => Ok(vec![(Ipv4Addr::LOCALHOST, port).into()]),
            _ => Err(io::Error::other("another runtime")),
        }
    }

    #[test]
    fn a_command_is_sent_while_others_are_not_acknowledged() {
        for url in ["redis://127.0.0.1", "rediss://127.0.0.1"] {
            let info: ConnectionInfo = url.parse().unwrap();
            assert!(!info.tcp_settings().nodelay() && prompt(&info).tcp_settings().nodelay());
        }
    }

    #[tokio::test]
    async fn each_step_has_a_limit_of_its_own_and_says_when_it_is_reached() {
        let server = RedisServer::start();
        let info = |host: &str| format!("redis://{host}:{}", server.port()).parse().unwrap();
        let mut dialer = Dialer {
            resolve: slow,
            connect_timeout: Duration::from_millis(500),
            ..Dialer::default()
        };
        let named: ConnectionInfo = info("redis.test");
        // Longer than the limit of the steps that follow.
        let mut connection = dialer.dial(&named).await.unwrap();
        dialer.name_timeout = Duration::from_millis(20);
        let error = dialer.dial(&named).await.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert_eq!(error.to_string(), "no address of redis.test within 20ms");
        dialer.resolve = |_, _| Ok(Vec::new());
        let error = dialer.dial(&named).await.unwrap_err();
        assert_eq!(error.to_string(), "no address of redis.test");

        server.pause();
        dialer.connect_timeout = Duration::from_millis(20);
        dialer.command_timeout = Duration::from_millis(30);
        let error = dialer.ask::<()>(&mut connection, &Cmd::ping()).await;
        assert_eq!(error.unwrap_err().to_string(), "no answer within 30ms");
        let with_password: ConnectionInfo = format!("redis://:p@127.0.0.1:{}", server.port())
            .parse()
            .unwrap();
        let error = dialer.dial(&with_password).await.unwrap_err();
        assert_eq!(error.to_string(), "no connection within 20ms");
    }
}
