//! A small TLS echo server with rustls's own session storage.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ServerSessionMemoryCache;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::Certificates;

pub fn server_config(certificates: &Certificates) -> ServerConfig {
    with_provider(certificates, aws_lc_rs::default_provider())
}

/// rustls's own session storage, large enough for every test, and early data.
pub fn with_provider(certificates: &Certificates, provider: CryptoProvider) -> ServerConfig {
    let chain = CertificateDer::pem_file_iter(certificates.certificate())
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates.key()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.session_storage = ServerSessionMemoryCache::new(10_000);
    config.max_early_data_size = EARLY_DATA_LIMIT;
    config
}

/// A TLS server that sends back what it gets, early data first, until it is dropped.
pub struct EchoServer {
    pub address: SocketAddr,
    pub runtime: Runtime,
}

impl EchoServer {
    pub fn start(config: ServerConfig) -> Self {
        Self::answering(config, |bytes| bytes)
    }

    /// Sends back what `answer` makes of each piece that arrives.
    pub fn answering(config: ServerConfig, answer: fn(Vec<u8>) -> Vec<u8>) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), tcp, answer));
            }
        });
        Self { address, runtime }
    }
}

async fn serve(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    answer: fn(Vec<u8>) -> Vec<u8>,
) -> std::io::Result<()> {
    let mut stream = acceptor.accept(tcp).await?;
    let mut early = Vec::new();
    if let Some(mut reader) = stream.get_mut().1.early_data() {
        reader.read_to_end(&mut early)?;
    }
    stream.write_all(&early).await?;
    let mut buffer = vec![0; 16_384];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&answer(buffer[..length].to_vec())).await?;
        stream.flush().await?;
    }
}

/// How many bytes of early data a session of [`server_config()`] allows.
pub const EARLY_DATA_LIMIT: u32 = 2048;
