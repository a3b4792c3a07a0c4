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

/// Who serves the connection on which the server is asked, and so whose threads a claim wakes.
pub const BY: [&str; 4] = [
    "the store's thread",
    "the caller's runtime",
    "the caller's runtime of two threads",
    "nobody: a blocking socket",
];

/// What a claim costs.
pub struct Cost {
    /// The median.
    pub time: Duration,
    /// How often a thread of this process slept for one, or was interrupted: however busy the
    /// machine is, that is much the same. None where the system does not tell.
    pub switches: Option<f64>,
}

/// Waits for the pause, and then claims if it is told to. Returns how long the claim took.
type Operation = Box<dyn FnMut(bool) -> io::Result<Duration>>;

/// Claims what is not there from a server of Redis that is started for it, in turns.
pub fn costs(program: &str, effort: Effort) -> io::Result<[Cost; BY.len()]> {
    let redis = Redis::start(program)?;
    let key = some_key()?;
    let mut operations = [
        claims(&redis, key, Builder::new_current_thread(), false)?,
        claims(&redis, key, Builder::new_current_thread(), true)?,
        claims(&redis, key, two_threads(), true)?,
        round_trips(&redis, key)?,
    ];
    let rounds = effort.operations(5_000);
    let mut times = [const { Vec::new() }; BY.len()];
    for _ in 0..rounds {
        // At the same rank, so that whatever else the machine does affects all alike.
        for (times, operation) in times.iter_mut().zip(&mut operations) {
            times.push(operation(true)?);
        }
    }
    let mut costs = times.map(|mut times| {
        times.sort();
        Cost {
            time: times[times.len() / 2],
            switches: None,
        }
    });
    for (cost, operation) in costs.iter_mut().zip(&mut operations) {
        let [with, without] = [true, false].map(|claim| switches_of(rounds / 10, claim, operation));
        cost.switches = with?.zip(without?).map(|(with, without)| with - without);
    }
    Ok(costs)
}

fn two_threads() -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2);
    builder
}

/// Claims by a task of this runtime, by which the store's look-ups are served if it is told.
fn claims(redis: &Redis, key: StoreKey, mut runtime: Builder, tell: bool) -> io::Result<Operation> {
    let runtime = runtime.enable_all().build()?;
    let mut store = RedisStore::new(&redis.url).map_err(io::Error::other)?;
    if tell {
        store = store.lookup_runtime(runtime.handle().clone());
    }
    store.prepare(DEADLINE); // by which an idle server has to answer, too
    while store.health().connections < 1 + u64::from(tell) {
        runtime.block_on(async { tokio::time::sleep(PAUSE).await });
    }
    Ok(Box::new(move |claim| {
        let store = store.clone();
        let operation = async move {
            tokio::time::sleep(PAUSE).await;
            let start = Instant::now();
            let found = match claim {
                true => store.claim(&key, DEADLINE).await,
                false => Ok(None),
            };
            let took = start.elapsed();
            let nothing = |_| Err(io::Error::other("it found what was never written"));
            found.map_err(io::Error::other)?.map_or(Ok(took), nothing)
        };
        runtime.block_on(runtime.spawn(operation))?
    }))
}

fn round_trips(redis: &Redis, key: StoreKey) -> io::Result<Operation> {
    let command = format!("GETDEL rustls-resumption:session:{key}\r\n");
    let mut socket = TcpStream::connect(&redis.address)?;
    socket.set_nodelay(true)?;
    Ok(Box::new(move |claim| {
        thread::sleep(PAUSE);
        let start = Instant::now();
        let mut answer = *b"$-1\r\n";
        if claim {
            socket.write_all(command.as_bytes())?;
            socket.read_exact(&mut answer)?;
        }
        match &answer {
            b"$-1\r\n" => Ok(start.elapsed()),
            _ => Err(io::Error::other("it found what was never written")),
        }
    }))
}

/// Context switches for each operation.
fn switches_of(rounds: usize, claim: bool, operation: &mut Operation) -> io::Result<Option<f64>> {
    let before = switches();
    for _ in 0..rounds {
        operation(claim)?;
    }
    let made = switches().zip(before).map(|(after, before)| after - before);
    Ok(made.map(|made| made as f64 / rounds as f64))
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
