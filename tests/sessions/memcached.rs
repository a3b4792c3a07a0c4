//! A store that somebody else might write, on the example of memcached.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};
use rustls_resumption::store::{SharedStore, contract};
use test_support::acceptor::{acceptor, kind};
use test_support::fleet::sharing;
use test_support::free_address;
use test_support::handshake::{FULL, RESUMED, client, server_config};
use tokio::task::JoinSet;

use crate::observed::Observed;
use store::Memcached;

#[path = "../../examples/memcached/store.rs"]
mod store;

const PATIENT: Duration = Duration::from_secs(30);

/// A server of the test's own, which ends with this value.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        // Another program may take a port between the choice and the use.
        for _ in 0..10 {
            let address = free_address();
            let mut child = Command::new("memcached")
                .args(["-l", "127.0.0.1", "-p", &address.port().to_string()])
                .args(["-U", "0", "-u", "nobody"])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| {
                    panic!("this test needs memcached ({error}): apt-get install memcached")
                });
            while child.try_wait().unwrap().is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Self { child, address };
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
        panic!("memcached found no port that it could listen on");
    }

    fn store(&self) -> Memcached {
        Memcached::new(self.address).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn memcached_keeps_the_contract_and_of_eight_claims_exactly_one_wins() {
    let server = Server::start();
    let observed = Observed::new(server.store());
    contract::check(&observed).unwrap();

    let keys: BTreeSet<_> = observed.written().into_iter().collect();
    let keys: Vec<_> = keys.into_iter().take(250).collect();
    let nodes = [(); 8].map(|()| server.store());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let rounds = 10_000_u32.div_ceil(u32::try_from(keys.len()).unwrap());
        for round in 0..rounds {
            let value = round.to_be_bytes();
            for key in &keys {
                assert!(nodes[0].write(*key, value.to_vec(), PATIENT));
            }
            for key in &keys {
                while nodes[0].fetch(key, PATIENT).await.unwrap().is_none() {}
            }
            // A race for each key.
            let claims = keys.iter().flat_map(|key| {
                let claims = nodes.iter().map(|node| node.claim(key, PATIENT));
                claims.map(|claim| {
                    let key = *key;
                    async move { (key, claim.await.unwrap()) }
                })
            });
            let mut claims: JoinSet<_> = claims.collect();
            let mut won = BTreeSet::new();
            while let Some(claimed) = claims.join_next().await {
                let (key, claimed) = claimed.unwrap();
                if let Some(claimed) = claimed {
                    assert_eq!(claimed, value);
                    assert!(won.insert(key), "two won in round {round}");
                }
            }
            assert_eq!(won.len(), keys.len(), "nobody won in round {round}");
        }
    });
}

#[tokio::test]
async fn nodes_share_sessions_through_memcached() {
    let server = Server::start();
    let nodes = [(); 2].map(|()| {
        let node = sharing(&Arc::new(server.store())).store_deadline(PATIENT / 3);
        acceptor(&node.build().unwrap(), server_config())
    });
    for version in [&TLS12, &TLS13] {
        let client = client(version);
        assert_eq!(kind(&client, &nodes[0]).await, FULL);
        let start = Instant::now();
        // The sessions may still be on their way.
        for node in nodes.iter().cycle().skip(1) {
            if kind(&client, node).await == RESUMED {
                break;
            }
            assert!(start.elapsed() < PATIENT);
        }
    }
}
