//! What a claim from Redis costs beyond the round trip that it is.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

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

/// What claims cost, and round trips on a blocking socket, in this order.
pub struct Costs {
    /// How long they took, in turns: sorted.
    pub times: [Vec<Duration>; 2],
    /// How often a thread of this process slept for one, or was interrupted: however busy the
    /// machine is, that is much the same. None where the system does not tell.
    pub switches: [Option<f64>; 2],
}

/// Claims what is not there from a server of Redis that is started for it.
pub fn costs(program: &str, effort: Effort) -> io::Result<Costs> {
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
    let claim = || {
        let found = runtime.block_on(store.claim(&key, DEADLINE));
        found.map_err(io::Error::other)?.map_or(Ok(()), |_| {
            Err(io::Error::other("it found what was never written"))
        })
    };
    let mut round_trip = || {
        socket.write_all(command.as_bytes())?;
        let mut answer = [0; 5];
        socket.read_exact(&mut answer)?;
        match &answer {
            b"$-1\r\n" => Ok(()),
            _ => Err(io::Error::other("it found what was never written")),
        }
    };
    let operations = effort.operations(5_000);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..operations {
        times[0].push(timed(claim)?);
        times[1].push(timed(&mut round_trip)?);
    }
    times.iter_mut().for_each(|times| times.sort());
    let switches = [
        switches_of(operations / 10, claim)?,
        switches_of(operations / 10, round_trip)?,
    ];
    Ok(Costs { times, switches })
}

fn timed(mut operation: impl FnMut() -> io::Result<()>) -> io::Result<Duration> {
    thread::sleep(PAUSE);
    let start = Instant::now();
    operation()?;
    Ok(start.elapsed())
}

/// Context switches for each operation, but for the pause before.
fn switches_of(
    operations: usize,
    mut operation: impl FnMut() -> io::Result<()>,
) -> io::Result<Option<f64>> {
    let before = switches();
    for _ in 0..operations {
        timed(&mut operation)?;
    }
    let made = switches().zip(before).map(|(after, before)| after - before);
    Ok(made.map(|made| made as f64 / operations as f64 - 1.0))
}

/// Context switches of all threads so far.
fn switches() -> Option<u64> {
    let mut sum = 0;
    for thread in fs::read_dir("/proc/self/task").ok()? {
        let status = fs::read_to_string(thread.ok()?.path().join("status")).ok()?;
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        let counts = counts.filter_map(|line| line.rsplit('\t').next()?.parse::<u64>().ok());
        sum += counts.sum::<u64>();
    }
    Some(sum)
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
