//! Prometheus metrics, for `--metrics`:
//! `cargo run --release --example echo_server --features metrics`.

use std::net::SocketAddr;

#[cfg(feature = "metrics")]
mod exporter {
    use std::io;
    use std::net::SocketAddr;
    use std::time::Duration;

    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    /// How long a scrape may take.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// The longest request that is read.
    const MAX_REQUEST: usize = 8192;

    pub(crate) async fn serve(address: SocketAddr) -> Result<SocketAddr, String> {
        let refuse = |error: &dyn ToString| format!("--metrics {address}: {}", error.to_string());
        let recorder = PrometheusBuilder::new().install_recorder();
        let handle = recorder.map_err(|error| refuse(&error))?;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| refuse(&error))?;
        let address = listener.local_addr().map_err(|error| refuse(&error))?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let handle = handle.clone();
                // If a scrape fails, the next one makes up for it.
                tokio::spawn(async move { timeout(PATIENCE, answer(stream, &handle)).await });
            }
        });
        Ok(address)
    }

    /// Answers every request with the metrics.
    async fn answer(mut stream: TcpStream, handle: &PrometheusHandle) -> io::Result<()> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await? == 0 || request.len() > MAX_REQUEST {
                return Ok(());
            }
        }
        handle.run_upkeep();
        let body = handle.render();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.shutdown().await
    }
}

/// Starts to serve metrics. Returns the address, with the port that was picked for port 0.
///
/// # Errors
///
/// A sentence about what is wrong and how to correct it.
#[cfg(feature = "metrics")]
pub(crate) async fn serve(address: SocketAddr) -> Result<SocketAddr, String> {
    exporter::serve(address).await
}

/// The same, without the feature.
#[cfg(not(feature = "metrics"))]
#[allow(clippy::unused_async)]
pub(crate) async fn serve(address: SocketAddr) -> Result<SocketAddr, String> {
    Err(format!(
        "--metrics {address} needs a feature: cargo run --release --example echo_server \
         --features metrics -- --metrics {address}"
    ))
}
