use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::sentinel::SentinelClient;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionLike, ErrorKind, RedisResult,
};
use rustls::crypto::CryptoProvider;

use crate::error::Error;

/// The default prefix of the keys in Redis.
pub(crate) const DEFAULT_PREFIX: &str = "rustls-resumption";

/// How to reach Redis: one server, the master behind Sentinels, or a cluster. Needs the feature
/// `redis`.
///
/// Made from a client of the [`redis`] crate, for what a URL cannot express: certificates, a
/// cluster, Sentinels. This crate sets its own timeouts; only the look-up at a Sentinel has none
/// but those of the client's [`TcpSettings`](::redis::io::tcp::TcpSettings).
pub struct RedisClient(Kind);

enum Kind {
    One(Client),
    Sentinel(Box<SentinelClient>),
    Cluster(ClusterClient),
}

impl RedisClient {
    /// One server, by a URL as the `redis` crate reads it:
    /// `redis://[user][:password@]host[:port][/database]`, with `rediss` for TLS.
    pub(crate) fn open(url: &str) -> Result<Self, Error> {
        let client = Client::open(url).map_err(|error| {
            let right = "redis://[user][:password@]host[:port][/database], or rediss:// for TLS";
            Error::config("url", format!("{error}: expected {right}"))
        })?;
        let addr = client.get_connection_info().addr();
        if matches!(addr, ConnectionAddr::TcpTls { .. }) && CryptoProvider::get_default().is_none()
        {
            let why = "TLS to Redis needs a default crypto provider, and none is installed: \
                       call `rustls::crypto::aws_lc_rs::default_provider().install_default()` first";
            return Err(Error::config("url", why));
        }
        Ok(client.into())
    }

    /// A blocking connection, every command of which has this timeout.
    pub(crate) fn connect(
        &mut self,
        timeout: Duration,
    ) -> RedisResult<Box<dyn ConnectionLike + Send>> {
        let client = match &mut self.0 {
            Kind::One(client) => client,
            Kind::Sentinel(client) => &mut client.get_client()?,
            Kind::Cluster(client) => {
                let connection = client.get_connection()?;
                connection.set_read_timeout(Some(timeout))?;
                connection.set_write_timeout(Some(timeout))?;
                return Ok(Box::new(connection));
            }
        };
        let connection = client.get_connection_with_timeout(timeout)?;
        connection.set_read_timeout(Some(timeout))?;
        connection.set_write_timeout(Some(timeout))?;
        Ok(Box::new(connection))
    }

    /// A connection that many tasks may use at once; needs a tokio runtime. It has no timeouts of
    /// its own: callers give up on what takes too long. Fails for a cluster.
    pub(crate) async fn connect_async(&mut self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(1024);
        let client = match &mut self.0 {
            Kind::One(client) => client,
            Kind::Sentinel(client) => &mut client.async_get_client().await?,
            Kind::Cluster(_) => {
                let why = "a cluster has no multiplexed connection";
                return Err((ErrorKind::InvalidClientConfig, why).into());
            }
        };
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.0, Kind::Cluster(_))
    }
}

impl From<Client> for RedisClient {
    fn from(client: Client) -> Self {
        Self(Kind::One(client))
    }
}

impl From<SentinelClient> for RedisClient {
    fn from(client: SentinelClient) -> Self {
        Self(Kind::Sentinel(Box::new(client)))
    }
}

impl From<ClusterClient> for RedisClient {
    fn from(client: ClusterClient) -> Self {
        Self(Kind::Cluster(client))
    }
}

/// The address, without user and password.
impl fmt::Display for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::One(client) => client.get_connection_info().addr().fmt(f),
            Kind::Sentinel(_) => f.write_str("the Sentinels' master"),
            Kind::Cluster(_) => f.write_str("the cluster"),
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
    fn tls_without_a_crypto_provider_is_refused_and_says_what_to_call() {
        assert!(CryptoProvider::get_default().is_none());
        let error = RedisClient::open("rediss://localhost").unwrap_err();
        assert!(error.to_string().contains("install_default()"), "{error}");
    }
}
