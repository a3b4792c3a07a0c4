//! Calls of an operator among the handshakes of many threads.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Error, HandshakeKind, ServerConfig, ServerConnection,
};
use rustls_resumption::acceptor::Outcome;
use rustls_resumption::{KeyName, Resumption};
use test_support::handshake::{RESUMED, VERSIONS, carry, client, server_config};

const WORKERS: usize = 4;
const HANDSHAKES: u64 = 80;
const ALL: u64 = WORKERS as u64 * HANDSHAKES;

/// A server, and how many calls have begun and ended.
struct World {
    resumption: Resumption,
    config: Arc<ServerConfig>,
    begun: AtomicU64,
    ended: AtomicU64,
    revoked: Mutex<HashSet<KeyName>>,
    handshakes: AtomicU64,
}

/// Lets those who wait for handshakes go on if there will be none.
struct EndOnPanic<'a>(&'a World);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.handshakes.store(ALL, Ordering::SeqCst);
        }
    }
}

impl World {
    /// One call after another, each when some more handshakes have ended.
    fn call(&self) {
        for number in 0.. {
            let next = (number + 1) * 6;
            while self.handshakes.load(Ordering::SeqCst) < next.min(ALL) {
                thread::yield_now();
            }
            if next >= ALL {
                break;
            }
            match (number % 3, self.resumption.stats().steks.active) {
                (0, Some(name)) => {
                    let _ = self.resumption.revoke(&name);
                    self.revoked.lock().unwrap().insert(name);
                    continue;
                }
                (1, _) => drop(self.counted(|| self.resumption.forget("api"))),
                _ => drop(self.counted(|| self.resumption.revoke_all())),
            }
        }
    }

    /// A call after which nothing of before may resume.
    fn counted<T>(&self, call: impl FnOnce() -> T) -> T {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let done = call();
        self.ended.fetch_add(1, Ordering::SeqCst);
        done
    }

    /// Handshakes of one client, of which some stay half open for a while. Returns how many resumed,
    /// and how many had to be full ones.
    fn work(&self, worker: usize) -> (u64, u64) {
        let _end = EndOnPanic(self);
        let client = client(VERSIONS[worker % 2]);
        let mut born = None;
        let (mut resumed, mut had_to_fail) = (0, 0);
        for number in 0..HANDSHAKES {
            let ended = self.ended.load(Ordering::SeqCst);
            let revoked = self.revoked.lock().unwrap().clone();
            let idle = [0, 20, 2_000][(worker + number as usize) % 3];
            let met = self
                .resumption
                .follow_blocking(|| self.meet(&client, idle))
                .unwrap();
            let ((kind, begun), told) = met;
            let must_fail = born.is_some_and(|born| ended > born);
            had_to_fail += u64::from(must_fail);
            if kind == RESUMED {
                resumed += 1;
                assert!(!must_fail, "of before the last call");
            } else {
                born = Some(begun);
            }
            if let Outcome::Resumed {
                key_name: Some(name),
                ..
            } = told.outcome
            {
                assert!(!revoked.contains(&name), "of a revoked STEK");
            }
            self.handshakes.fetch_add(1, Ordering::SeqCst);
        }
        (resumed, had_to_fail)
    }

    /// A handshake, and how many calls had begun when its ClientHello had been met.
    fn meet(&self, client: &Arc<ClientConfig>, idle: u32) -> Result<(HandshakeKind, u64), Error> {
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::clone(client), name)?;
        let mut server = ServerConnection::new(Arc::clone(&self.config))?;
        carry(&mut client, &mut server)?;
        let begun = self.begun.load(Ordering::SeqCst);
        (0..idle).for_each(|_| thread::yield_now());
        while client.is_handshaking() || server.is_handshaking() {
            carry(&mut server, &mut client)?;
            carry(&mut client, &mut server)?;
        }
        carry(&mut server, &mut client)?; // the tickets
        Ok((server.handshake_kind().unwrap(), begun))
    }
}

#[test]
fn nothing_born_before_a_call_resumes_after_it_whoever_renews_meanwhile() {
    for builder in [Resumption::builder(), Resumption::builder().stateful(1_000)] {
        let resumption = builder.build().unwrap();
        let mut config = server_config();
        resumption.install(&mut config, "api");
        let world = World {
            resumption,
            config: Arc::new(config),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            revoked: Mutex::default(),
            handshakes: AtomicU64::new(0),
        };
        let (resumed, had_to_fail) = thread::scope(|scope| {
            scope.spawn(|| world.call());
            let work = |worker| {
                let world = &world;
                scope.spawn(move || world.work(worker))
            };
            let workers: Vec<_> = (0..WORKERS).map(work).collect();
            let done = workers.into_iter().map(|worker| worker.join().unwrap());
            done.fold((0, 0), |sum, (a, b)| (sum.0 + a, sum.1 + b))
        });
        println!("figure: {resumed} resumed, none of {had_to_fail} that had to be full");
        assert!(resumed > 0 && had_to_fail > 0);
    }
}
