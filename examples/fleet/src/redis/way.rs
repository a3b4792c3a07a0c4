//! The network between Redis servers and whoever speaks with them, from which one can be cut off.

use std::net::{IpAddr, Ipv4Addr};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Each server has an address of its own, from which it connects to others.
#[derive(Clone, Default)]
pub(crate) struct Network(watch::Sender<Option<Ipv4Addr>>);

impl Network {
    /// Connections from and to this server stay open, and new ones are accepted, but nothing comes
    /// through. `None` ends that.
    pub(crate) fn cut(&self, server: Option<Ipv4Addr>) {
        self.0.send_replace(server);
    }

    /// Listens for whoever wants to speak with a server, which is at a port. Returns where.
    pub(crate) async fn way_to(&self, server: Ipv4Addr, port: u16) -> std::io::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let way = listener.local_addr()?.port();
        let cut = self.0.subscribe();
        tokio::spawn(async move {
            while let Ok((near, peer)) = listener.accept().await {
                let ends = [IpAddr::V4(server), peer.ip()];
                let cut = cut.clone();
                tokio::spawn(pass(near, port, Passage { ends, cut }));
            }
        });
        Ok(way)
    }
}

/// What a connection needs to know of the network.
#[derive(Clone)]
struct Passage {
    ends: [IpAddr; 2],
    cut: watch::Receiver<Option<Ipv4Addr>>,
}

impl Passage {
    /// Waits until it is open. False if it will never be.
    async fn is_open(&mut self) -> bool {
        let is_free =
            |cut: &Option<Ipv4Addr>| cut.is_none_or(|cut| !self.ends.contains(&cut.into()));
        self.cut.wait_for(is_free).await.is_ok()
    }
}

async fn pass(near: TcpStream, port: u16, mut passage: Passage) {
    if passage.is_open().await
        && let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await
        && near.set_nodelay(true).and(far.set_nodelay(true)).is_ok()
    {
        let (near, far) = (near.into_split(), far.into_split());
        let there = copy(near.0, far.1, passage.clone());
        tokio::join!(there, copy(far.0, near.1, passage));
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut passage: Passage,
) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(len @ 1..) = from.read(&mut bytes).await {
        if !passage.is_open().await || to.write_all(&bytes[..len]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
