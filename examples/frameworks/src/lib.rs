//! As in `examples/manual`, of what needs crates that nothing else in this repository does.

#![allow(unused, reason = "the lines are for readers, who go on from there")]

use std::error::Error;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// The lines of this name.
macro_rules! lines {
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"))
    };
}

pub mod installed {
    use std::sync::Arc;

    use axum_server::tls_rustls::RustlsConfig;
    use pgwire::api::PgWireServerHandlers;
    use pgwire::tokio::process_socket;
    use rustls::ServerConfig;
    use rustls_acme::AcmeState;
    use rustls_resumption::Resumption;
    use tokio::net::TcpStream;
    use tokio_rustls::TlsAcceptor;

    pub async fn each<C: 'static + std::fmt::Debug, A: 'static + std::fmt::Debug>(
        resumption: Resumption,
        config: Arc<ServerConfig>,
        acceptor: TlsAcceptor,
        tls: RustlsConfig,
        state: AcmeState<C, A>,
    ) -> super::Outcome {
        lines!("installed");
        Ok(())
    }

    /// What pgwire is handed is the acceptor of the block above.
    pub async fn pgwire(
        tcp: TcpStream,
        acceptor: TlsAcceptor,
        handlers: impl PgWireServerHandlers,
    ) -> super::Outcome {
        Ok(process_socket(tcp, Some(acceptor), handlers).await?)
    }
}

pub mod actix_web {
    use std::net::SocketAddr;

    use actix_web::{App, HttpServer};
    use rustls::ServerConfig;

    pub async fn serve(config: ServerConfig, address: SocketAddr) -> super::Outcome {
        let app = App::new;
        lines!("actix-web");
        Ok(())
    }
}

pub mod poem {
    use std::io;
    use std::net::SocketAddr;

    use poem::http::uri::Scheme;
    use poem::web::{LocalAddr, RemoteAddr};
    use rustls_resumption::acceptor::Incoming;
    use tokio::net::TcpStream;
    use tokio_rustls::server::TlsStream;

    pub async fn serve(
        address: SocketAddr,
        incoming: Incoming,
        app: poem::Route,
    ) -> super::Outcome {
        lines!("poem");
        Ok(())
    }
}

pub mod salvo {
    use std::time::Duration;

    use futures_core::Stream;
    use rustls::ServerConfig;
    use salvo::conn::rustls::RustlsListener;
    use salvo::conn::{Acceptor, IntoConfigStream, Listener, TcpListener};

    fn load_config() -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
        Err("there is none".into())
    }

    pub async fn serve() -> super::Outcome {
        lines!("salvo");
        Ok(())
    }
}

pub mod subscriber {
    use tracing_subscriber::EnvFilter;

    pub fn install() {
        lines!("subscriber");
    }
}
