//! Processes that are forked while other threads are busy, as prefork servers do.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitStatus, abort};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fork::{Fork, fork, waitpid_nohang};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ProducesTickets, StoresServerSessions};
use rustls::version::TLS13;
use rustls_resumption::source::{KeyDirectory, RedisSource};
use rustls_resumption::store::{RedisClient, RedisStore, SharedStore, contract};
use rustls_resumption::{KeyName, Reach, Resumption, ResumptionBuilder, Rotation};

use test_support::alone::alone;
use test_support::client_auth::{Authority, Date, client, config};
use test_support::handshake::{FULL, RESUMED, followed, try_handshake};
use test_support::redis::{RedisCluster, RedisServer, Replicated};
use test_support::session::{id, tls12, tls13};
use tokio::runtime::Runtime;

const LONG: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

/// What a process has installed.
struct Server {
    resumption: Resumption,
    ticketer: Arc<dyn ProducesTickets>,
    storage: Arc<dyn StoresServerSessions>,
    /// Whether other processes have its STEKs too.
    is_shared: bool,
}

impl Server {
    fn new(builder: ResumptionBuilder) -> Self {
        let rotation = Rotation::new().interval(SECOND).ticket_lifetime(SECOND);
        let builder = builder.rotation(rotation).cache_entries(1_000);
        let resumption = builder.build().unwrap();
        Self {
            ticketer: resumption.ticketer("api"),
            storage: resumption.session_storage("api"),
            resumption,
            is_shared: false,
        }
    }

    fn active(&self) -> Option<KeyName> {
        self.resumption.stats().steks.active
    }

    /// Seals, opens, stores and fetches, in a handshake. False if a ticket does not open.
    fn serve(&self, number: u8) -> bool {
        followed(&self.resumption, || self.serve_handshake(number))
    }

    fn serve_handshake(&self, number: u8) -> bool {
        let session = tls12(&[number; 48]);
        let id = vec![number; 32];
        let opens = match self.ticketer.encrypt(&session) {
            Some(ticket) => self.ticketer.decrypt(&ticket) == Some(session.clone()),
            None => true, // between two keys
        };
        self.storage.put(id.clone(), session);
        self.storage.get(&id);
        opens
    }

    /// What a child must do. Returns the number of the line where it does not, or 0.
    fn lives_on(&self, tells: bool) -> u32 {
        if tells {
            self.resumption.after_fork();
        }
        let start = Instant::now();
        // As handshakes do, which ask nobody for the state of things.
        while start.elapsed() < 3 * SECOND {
            // What an earlier child withdrew for all processes may be heard of just between the two.
            let serves = || self.serve(7) || self.is_shared && self.serve(7);
            if !serves() {
                return line!();
            }
            thread::sleep(Duration::from_millis(1));
        }
        let ticket = loop {
            let encrypt = || self.ticketer.encrypt(b"session");
            if let Some(ticket) = followed(&self.resumption, encrypt) {
                break ticket;
            }
            // Between two keys, which a busy machine can be for long.
            if start.elapsed() > LONG {
                return line!();
            }
            thread::sleep(Duration::from_millis(10));
        };
        let first = self.active();
        let rotations = self.resumption.stats().steks.rotations;
        while self.active() == first || self.resumption.stats().steks.rotations == rotations {
            if start.elapsed() > LONG {
                return line!();
            }
            thread::sleep(Duration::from_millis(10));
        }
        // Expired, and wiped.
        while self.ticketer.decrypt(&ticket).is_some() || self.resumption.stats().steks.keys > 4 {
            if start.elapsed() > LONG {
                return line!();
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.resumption.forget("api");
        // Its parent has them too, and maybe others of its parent's children.
        let reach = self.resumption.revoke_all().reach;
        if !self.is_shared && reach != Reach::Each {
            return line!();
        }
        if !self.serve(8) || self.resumption.stats().cache.entries != 1 {
            return line!();
        }
        if self.resumption.stats().housekeeper.age > Some(10 * SECOND) {
            return line!();
        }
        match self.resumption.shutdown(LONG) {
            true => 0,
            false => line!(),
        }
    }
}

/// Forks so many children while threads are at everything, and waits for each.
fn fork_under_load(builder: ResumptionBuilder, children: usize) {
    let server = Server::new(builder);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..3 {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    assert!(server.serve(number));
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = server.resumption.forget("another");
                server.resumption.session_storage("yet another");
                let _ = server.resumption.rotate_now();
                server.resumption.stats();
            }
        });
        let fork_one = |number| {
            thread::sleep(Duration::from_millis(20));
            in_child(|| server.lives_on(number % 2 == 1))
        };
        let outcomes: Vec<_> = (0..children).map(fork_one).collect();
        stop.store(true, Ordering::Relaxed); // first of all, or the threads are waited for without end
        assert_eq!(outcomes, vec![Ok(()); children]);
    });
    assert!(server.resumption.ready());
}

/// Runs this in a child, and waits for it. It returns the number of the line where it failed, or 0.
fn in_child(run: impl FnOnce() -> u32) -> Result<(), String> {
    let child = match fork().map_err(|error| error.to_string())? {
        Fork::Child => {
            // It must not unwind into what waits for threads that only its parent has.
            let line = catch_unwind(AssertUnwindSafe(run)).unwrap_or(line!());
            if line != 0 {
                eprintln!("the child failed at line {line}");
            }
            end(line == 0);
        }
        Fork::Parent(child) => child,
    };
    let start = Instant::now();
    loop {
        match waitpid_nohang(child).map_err(|error| error.to_string())? {
            Some(0) => return Ok(()),
            Some(status) => return Err(ExitStatus::from_raw(status).to_string()),
            None if start.elapsed() < 3 * LONG => thread::sleep(Duration::from_millis(10)),
            None => break,
        }
    }
    let pid = child.to_string();
    let _ = Command::new("kill").args(["-9", &pid]).status();
    Err("hangs".into())
}

/// Ends a child as `_exit` does, without what is to be done when a process exits: there AWS-LC waits
/// for threads that only the parent has, if they were drawing random numbers at the fork.
fn end(is_well: bool) -> ! {
    let error = Command::new(if is_well { "true" } else { "false" }).exec();
    eprintln!("{error}");
    abort()
}

#[test]
fn a_forked_child_rotates_expires_and_wipes_like_its_parent() {
    alone(|| fork_under_load(Resumption::builder(), 6));
}

#[test]
fn a_verifier_that_a_child_installs_does_not_go_by_the_verdicts_of_one_before() {
    alone(|| {
        let resumption = Resumption::tickets().unwrap();
        let ca = Authority::make();
        let evil = ca.issue();
        let installed = |verifier: Arc<dyn ClientCertVerifier>| {
            let mut config = config(Some(Arc::clone(&verifier)), &Date::start());
            resumption.install_with_client_verifier(&mut config, "api", verifier);
            Arc::new(config)
        };
        let before = installed(ca.verifier());
        let child = in_child(|| {
            resumption.after_fork();
            let client = client(&TLS13, Some(&evil));
            for kind in [FULL, RESUMED] {
                if try_handshake(&client, &before, b"").unwrap().kind != kind {
                    return line!();
                }
            }
            let after = installed(ca.verifier_with(false, Some(ca.revoke(&[&evil]))));
            match try_handshake(&client, &after, b"") {
                Err(_) => 0, // not resumed, and then revoked
                Ok(_) => line!(),
            }
        });
        assert_eq!(child, Ok(()));
    });
}

#[test]
fn forked_children_share_a_key_directory() {
    alone(|| {
        let directory = tempfile::tempdir().unwrap();
        let source = KeyDirectory::new(directory.path().join("steks")).unwrap();
        let server = Server {
            is_shared: true,
            ..Server::new(Resumption::builder().stek_source(source))
        };
        for number in 0..2 {
            in_child(|| server.lives_on(number == 1)).unwrap();
        }
    });
}

/// Shares a session. Returns the number of the line where that fails, or 0.
fn shares(resumption: &Resumption, store: &RedisStore, number: u64) -> u32 {
    let start = Instant::now();
    let storage = resumption.session_storage("api");
    let before = store.health().written;
    while store.health().written == before {
        if start.elapsed() > LONG {
            return line!();
        }
        if !store.health().is_down {
            storage.put(id(number).to_vec(), tls13(b"secret", b""));
        }
        thread::sleep(Duration::from_millis(10));
    }
    0
}

/// Rotates for all. Returns the number of the line where that fails, or 0.
fn rotates(resumption: &Resumption) -> u32 {
    let start = Instant::now();
    while let Err(error) = resumption.rotate_now() {
        if error.to_string().contains("is lost here") {
            break; // it was being asked when this process was forked
        }
        if start.elapsed() > LONG {
            return line!();
        }
        thread::sleep(Duration::from_millis(10));
    }
    0
}

#[test]
fn a_forked_child_has_connections_to_redis_of_its_own() {
    alone(|| {
        let redis = RedisServer::start();
        share_and_rotate_in_children(&RedisClient::open(redis.url()).unwrap());
    });
}

#[test]
fn a_forked_child_asks_sentinels_itself() {
    alone(|| {
        let redis = Replicated::start();
        let client = RedisClient::sentinels(redis.sentinel_urls(), Replicated::NAME);
        share_and_rotate_in_children(&client.unwrap());
    });
}

#[test]
fn a_forked_child_has_connections_to_a_cluster_of_its_own() {
    alone(|| {
        let redis = RedisCluster::start();
        share_and_rotate_in_children(&RedisClient::cluster(redis.urls()).unwrap());
    });
}

#[test]
fn a_forked_child_looks_up_without_the_runtime_of_its_parent() {
    alone(|| {
        let redis = RedisServer::start();
        let runtime = Runtime::new().unwrap();
        let store = RedisStore::new(&redis.url()).unwrap();
        let store = store.lookup_runtime(runtime.handle().clone());
        let start = Instant::now();
        while store.health().connections < 2 {
            assert!(start.elapsed() < LONG, "{:?}", store.health());
        }
        let child = in_child(|| match contract::check(&store) {
            Ok(()) if store.health().connections == 1 => 0,
            kept => {
                eprintln!("{kept:?}, {:?}", store.health());
                line!()
            }
        });
        child.unwrap();
        let health = store.health();
        assert_eq!((health.connections, health.outages), (2, 0), "{health:?}");
    });
}

fn share_and_rotate_in_children(client: &RedisClient) {
    let kek: Vec<u8> = (100..132).collect();
    let store = Arc::new(RedisStore::with_client(client.clone()).unwrap());
    let source = RedisSource::with_client(client.clone(), &kek).unwrap();
    let resumption = Resumption::builder()
        .stateful(1_000)
        .stek_source(source)
        .shared_store(Arc::clone(&store))
        .build()
        .unwrap();
    assert_eq!(shares(&resumption, &store, 0), 0);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // So that the store's thread is busy at each fork.
            let storage = resumption.session_storage("api");
            for number in 1_000.. {
                storage.put(id(number).to_vec(), tls13(b"secret", b""));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let fork_one = |number: u64| {
            in_child(|| {
                if number % 2 == 1 {
                    resumption.after_fork();
                }
                match shares(&resumption, &store, number) {
                    0 => rotates(&resumption),
                    line => line,
                }
            })
        };
        let outcomes: Vec<_> = (1..5).map(fork_one).collect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(outcomes, [(); 4].map(Ok));
    });
    assert_eq!(shares(&resumption, &store, 5), 0, "the parent's goes on");
}
