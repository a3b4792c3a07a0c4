use std::fmt;

use redis::{ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, ServerErrorKind};

/// Where a server is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    pub(crate) fn of(info: &ConnectionInfo) -> Option<Self> {
        match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Self {
                    host: host.clone(),
                    port: *port,
                })
            }
            _ => None,
        }
    }

    /// `host:port`, as a redirection names it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self {
            host: host.into(),
            port: port.parse().ok()?,
        })
    }

    /// This server, spoken with as another.
    pub(crate) fn in_place_of(&self, like: &ConnectionInfo) -> ConnectionInfo {
        let mut addr = like.addr().clone();
        match &mut addr {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                (*host, *port) = (self.host.clone(), self.port);
            }
            other => *other = ConnectionAddr::Tcp(self.host.clone(), self.port),
        }
        like.clone().set_addr(addr)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where to go with a command that a node of a cluster did not execute, and whether to say `ASKING`
/// first.
pub(crate) fn redirection(error: &RedisError) -> Option<(Address, bool)> {
    let (address, _) = error.redirect_node()?;
    let asking = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
    Some((Address::parse(address)?, asking))
}

/// What is wrong with the address of a server that only a client for another topology can use.
pub(crate) fn misplaced(right: &str) -> RedisError {
    let is = match right {
        "cluster" => "this server is a node of a Cluster",
        _ => "this server is a Sentinel",
    };
    let why = format!("{is}: use RedisClient::{right}");
    (ErrorKind::InvalidClientConfig, "wrong kind of address", why).into()
}
