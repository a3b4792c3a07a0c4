//! A plain TCP load balancer: each connection goes to the next node.
//!
//! It also plays an attacker on the path, who replays a connection's first flight to every node at
//! the same moment.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The random of a ClientHello: two with the same random are replays of one.
pub(crate) type HelloRandom = [u8; 32];

/// Where the nodes listen; `None` for one that gets no connections.
#[derive(Default)]
pub(crate) struct Balancer {
    nodes: Mutex<[Option<SocketAddr>; 3]>,
    next: AtomicUsize,
    /// By node, and the port that the connection to it comes from.
    hellos: Mutex<HashMap<(usize, u16), HelloRandom>>,
    pub(crate) replays: AtomicUsize,
}

/// What to do with connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Treatment {
    PassedOn,
    /// The first flight goes to every node at once.
    Replayed,
}

impl Balancer {
    pub(crate) fn set(&self, node: usize, address: Option<SocketAddr>) {
        self.nodes.lock().expect("nobody panicked")[node] = address;
    }

    /// The ClientHello of a connection that a node has from this port.
    pub(crate) fn hello(&self, node: usize, port: u16) -> Option<HelloRandom> {
        let hellos = self.hellos.lock().expect("nobody panicked");
        hellos.get(&(node, port)).copied()
    }

    /// Listens and forwards connections. Returns the address.
    pub(crate) async fn listen(self: &Arc<Self>, treatment: Treatment) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let balancer = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let balancer = Arc::clone(&balancer);
                tokio::spawn(async move {
                    // The client and the node notice errors themselves.
                    let _ = balancer.serve(client, treatment).await;
                });
            }
        });
        Ok(address)
    }

    async fn serve(&self, mut client: TcpStream, treatment: Treatment) -> io::Result<()> {
        client.set_nodelay(true)?;
        let flight = first_flight(&mut client, treatment).await?;
        let (node, mut server) = self.connect().await?;
        self.note(node, &server, &flight)?;
        if treatment == Treatment::Replayed {
            self.replay(node, &flight).await?;
        }
        server.write_all(&flight).await?;
        copy_bidirectional(&mut client, &mut server).await?;
        Ok(())
    }

    /// Connects to the next node that accepts.
    async fn connect(&self) -> io::Result<(usize, TcpStream)> {
        for _ in 0..6 {
            let node = self.next.fetch_add(1, Ordering::Relaxed) % 3;
            if let Some(stream) = self.connect_to(node).await? {
                return Ok((node, stream));
            }
        }
        Err(io::ErrorKind::NotConnected.into())
    }

    async fn connect_to(&self, node: usize) -> io::Result<Option<TcpStream>> {
        let address = self.nodes.lock().expect("nobody panicked")[node];
        let Some(address) = address else {
            return Ok(None);
        };
        match TcpStream::connect(address).await {
            Ok(stream) => stream.set_nodelay(true).map(|()| Some(stream)),
            Err(_) => Ok(None),
        }
    }

    fn note(&self, node: usize, stream: &TcpStream, flight: &[u8]) -> io::Result<()> {
        // record header (5), handshake header (4), legacy_version (2), random (32)
        if let Some(random) = flight.get(11..43).and_then(|random| random.try_into().ok()) {
            let key = (node, stream.local_addr()?.port());
            let mut hellos = self.hellos.lock().expect("nobody panicked");
            hellos.insert(key, random);
        }
        Ok(())
    }

    /// Sends the same to the other nodes, and reads their answers for a while.
    async fn replay(&self, own: usize, flight: &[u8]) -> io::Result<()> {
        for node in (0..3).filter(|node| *node != own) {
            let Some(mut stream) = self.connect_to(node).await? else {
                continue;
            };
            self.note(node, &stream, flight)?;
            self.replays.fetch_add(1, Ordering::Relaxed);
            let flight = flight.to_vec();
            tokio::spawn(async move {
                let _ = stream.write_all(&flight).await;
                let mut answer = vec![0; 4_096];
                let listen = async { while matches!(stream.read(&mut answer).await, Ok(1..)) {} };
                let _ = timeout(Duration::from_secs(1), listen).await;
            });
        }
        Ok(())
    }
}

/// The client's first flight; including early data if it is to be replayed.
async fn first_flight(client: &mut TcpStream, treatment: Treatment) -> io::Result<Vec<u8>> {
    let mut flight = vec![0; 32 * 1024];
    let mut len = client.read(&mut flight).await?;
    if treatment == Treatment::Replayed {
        // Then it waits for an answer.
        let pause = Duration::from_millis(20);
        while let Ok(more) = timeout(pause, client.read(&mut flight[len..])).await {
            match more? {
                0 => break,
                more => len += more,
            }
        }
    }
    flight.truncate(len);
    Ok(flight)
}
