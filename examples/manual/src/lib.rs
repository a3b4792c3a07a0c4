//! The lines that the manual shows for each framework, compiled as they stand there. What they
//! presume is what stands here as a parameter or a `use`.
//!
//! Those that need a crate which nothing else in this repository does are in `examples/frameworks`.

#![allow(
    clippy::type_complexity,
    unused,
    unused_qualifications,
    reason = "the lines are for readers, who go on from there"
)]

use std::error::Error;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// The lines of this name.
macro_rules! lines {
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"))
    };
}

pub mod axum_server {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use axum::Router;
    use axum_server::tls_rustls::RustlsConfig;
    use rustls::ServerConfig;
    use rustls_resumption::Resumption;
    use rustls_resumption::acceptor::AxumAcceptor;

    pub async fn field(
        app: Router,
        address: SocketAddr,
        config: ServerConfig,
        renewed: ServerConfig,
    ) -> super::Outcome {
        lines!("axum-server");
        Ok(())
    }

    pub async fn acceptor(app: Router, address: SocketAddr, tls: RustlsConfig) -> super::Outcome {
        lines!("axum-acceptor");
        Ok(())
    }
}

pub mod hyper {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::time::Duration;

    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use rustls::ServerConfig;
    use rustls_resumption::Resumption;
    use tokio::net::TcpListener;
    use tokio::time::timeout;
    use tokio_rustls::TlsAcceptor;

    async fn answer(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
        Ok(Response::default())
    }

    pub async fn serve(
        config: ServerConfig,
        listener: TcpListener,
        resumption: Resumption,
    ) -> super::Outcome {
        lines!("hyper")
    }
}

pub mod tonic {
    use std::sync::Arc;

    use rustls::ServerConfig;
    use rustls_resumption::ResumptionAcceptor;
    use rustls_resumption::acceptor::Incoming;
    use tokio::net::TcpListener;
    use tonic::transport::Server;

    pub async fn serve(
        config: ServerConfig,
        renewed: ServerConfig,
        listener: TcpListener,
    ) -> super::Outcome {
        let (_, service) = tonic_health::server::health_reporter();
        lines!("tonic");
        Ok(())
    }
}

pub mod quinn {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use rustls::ServerConfig;
    use rustls_resumption::Resumption;

    pub async fn serve(
        mut config: ServerConfig,
        resumption: Resumption,
        address: SocketAddr,
    ) -> super::Outcome {
        lines!("quinn");
        Ok(())
    }
}

pub mod threads {
    use std::io;
    use std::net::TcpStream;
    use std::sync::Arc;

    use rustls::ServerConfig;
    use rustls_resumption::Resumption;

    pub fn serve(
        config: Arc<ServerConfig>,
        resumption: Resumption,
        mut tcp: TcpStream,
    ) -> super::Outcome {
        lines!("threads");
        Ok(())
    }
}

pub mod shared_sessions {
    use std::sync::Arc;

    use rustls::ServerConfig;
    use rustls_resumption::source::RedisSource;
    use rustls_resumption::store::RedisStore;
    use rustls_resumption::{Resumption, ResumptionAcceptor};
    use tokio::net::TcpStream;
    use tokio::runtime::Handle;

    pub async fn serve(
        mut config: ServerConfig,
        tcp: TcpStream,
        url: &str,
        kek: [u8; 32],
    ) -> super::Outcome {
        lines!("shared-sessions");
        Ok(())
    }
}

pub mod observed {
    use std::net::SocketAddr;

    use rustls_resumption::Resumption;
    use tokio::net::TcpStream;
    use tokio_rustls::TlsAcceptor;
    use tracing::field::Empty;
    use tracing::{Instrument as _, info_span};

    pub async fn span(
        resumption: Resumption,
        acceptor: TlsAcceptor,
        tcp: TcpStream,
        peer: SocketAddr,
    ) -> super::Outcome {
        lines!("span");
        Ok(())
    }

    pub fn metrics() -> super::Outcome {
        lines!("exporter");
        Ok(())
    }
}

pub mod hook {
    use std::sync::Arc;

    use rustls::ServerConfig;

    struct Settings {
        configure: Option<Arc<dyn Fn(&mut ServerConfig) + Send + Sync>>,
    }

    impl Settings {
        fn finish(&self, mut config: ServerConfig) -> Arc<ServerConfig> {
            let () = lines!("hook");
            Arc::new(config)
        }
    }
}
