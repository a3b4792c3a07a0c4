//! What a claim from Redis costs beyond the round trip that it is.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustls_resumption::store::{RedisStore, SharedStore, StoreKey, StoreLookup};
use rustls_resumption::{Resumption, ResumptionAcceptor};
use tokio::runtime::Builder;

use crate::acceptors::{Redis, shared_source, visit};
use crate::handshakes::{ServerKey, Site, Way};
use crate::timing::Effort;

/// How long nothing happens before each: as on a server that is not busy, threads and the
/// connection have gone to sleep.
const PAUSE: Duration = Duration::from_millis(1);

const DEADLINE: Duration = Duration::from_secs(5);

/// How long claims took, and round trips on a blocking socket, in turns: sorted.
pub fn latencies(program: &str, effort: Effort) -> io::Result<[Vec<Duration>; 2]> {
    let redis = Redis::start(program)?;
    let store = RedisStore::new(&redis.url).map_err(io::Error::other)?;
    while store.health().is_down {
        thread::sleep(PAUSE);
    }
    let key = some_key()?;
    let command = format!("GETDEL rustls-resumption:session:{key}\r\n");
    let mut socket = TcpStream::connect(&redis.address)?;
    socket.set_nodelay(true)?;
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..effort.operations(5_000) {
        thread::sleep(PAUSE);
        let start = Instant::now();
        let found = runtime.block_on(store.claim(&key, DEADLINE));
        times[0].push(start.elapsed());
        assert!(found.map_err(io::Error::other)?.is_none());

        thread::sleep(PAUSE);
        let start = Instant::now();
        socket.write_all(command.as_bytes())?;
        let mut answer = [0; 5];
        socket.read_exact(&mut answer)?;
        times[1].push(start.elapsed());
        assert_eq!(&answer, b"$-1\r\n");
    }
    times.iter_mut().for_each(|times| times.sort());
    Ok(times)
}

/// The key of a session: only a handshake makes one.
fn some_key() -> io::Result<StoreKey> {
    let written = Arc::<Written>::default();
    let resumption = Resumption::builder()
        .stateful(100)
        .stek_source(shared_source())
        .shared_store(Arc::clone(&written))
        .build()
        .map_err(io::Error::other)?;
    let site = Site::new(Way::Tls13Stateful.version(), ServerKey::P256);
    let mut config = site.default_server();
    resumption.install(&mut config, "benches");
    let acceptor = ResumptionAcceptor::from(Arc::new(config));
    let runtime = Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(visit(&acceptor, &site.client()));
    let key = written.0.lock().expect("nobody panicked").take();
    key.ok_or_else(|| io::Error::other("no session was stored"))
}

/// A store that keeps but a key.
#[derive(Default)]
struct Written(Mutex<Option<StoreKey>>);

impl SharedStore for Written {
    fn fetch(&self, _key: &StoreKey, _deadline: Duration) -> StoreLookup {
        Box::pin(async { Ok(None) })
    }

    fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.fetch(key, deadline)
    }

    fn write(&self, key: StoreKey, _value: Vec<u8>, _ttl: Duration) -> bool {
        *self.0.lock().expect("nobody panicked") = Some(key);
        true
    }
}
