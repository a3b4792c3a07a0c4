//! Whoever hangs, panics or is slow, whatever is called or due meanwhile.

use std::time::UNIX_EPOCH;

use rustls_resumption::stats::{StekState, StoreHealth};
use rustls_resumption::store::{SharedStore, StoreKey, StoreLookup};
use rustls_resumption::{KeyName, ResumptionBuilder};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Source,
    Store,
    Recorder,
    Subscriber,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Hangs,
    Panics,
    IsSlow,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    AllIsRevoked,
    AStekExpires,
    TheSourceIsAway,
    ItIsShutDown,
}

/// What foreign code does once its wheel is stopped.
#[derive(Clone)]
struct Trouble {
    what: What,
    wheel: Wheel,
}

impl Trouble {
    fn strike(&self) {
        if !self.wheel.is_stopped.load(Ordering::Acquire) {
            return;
        }
        match self.what {
            What::Hangs => self.wheel.turn(),
            What::Panics => panic!("on purpose"),
            What::IsSlow => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn strike(trouble: Option<&Trouble>) {
    if let Some(trouble) = trouble {
        trouble.strike();
    }
}

/// STEKs that seal for a second each, and open for one more.
struct Seconds {
    trouble: Option<Trouble>,
    is_away: Arc<AtomicBool>,
    /// Another for each revocation.
    salt: u64,
}

impl StekSource for Seconds {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        strike(self.trouble.as_ref());
        if self.is_away.load(Ordering::Acquire) {
            return Err("away".into());
        }
        let second = query.now().duration_since(UNIX_EPOCH)?.as_secs();
        loop {
            let made = [second, second + 1].map(|second| {
                let mut secret = *SECRET;
                secret[..8].copy_from_slice(&second.to_be_bytes());
                secret[8..16].copy_from_slice(&self.salt.to_be_bytes());
                let begin = UNIX_EPOCH + Duration::from_secs(second);
                let stek = query.stek(&secret)?;
                let is_revoked = query.revoked().contains(stek.name());
                let published = begin - SECOND;
                let (retires, expires) = (begin + SECOND, begin + 2 * SECOND);
                let key = SourceKey::scheduled(stek, published, begin, retires, expires)?;
                Ok::<_, SourceError>((key, is_revoked))
            });
            let made = made.into_iter().collect::<Result<Vec<_>, _>>()?;
            if !made.iter().any(|(_, is_revoked)| *is_revoked) {
                return Ok(made.into_iter().map(|(key, _)| key).collect());
            }
            self.salt += 1;
        }
    }

    fn poll_interval(&self) -> Duration {
        SECOND / 10
    }
}

/// A store that has nothing.
struct Hollow(Option<Trouble>);

impl SharedStore for Hollow {
    fn fetch(&self, _: &StoreKey, _: Duration) -> StoreLookup {
        strike(self.0.as_ref());
        Box::pin(async { Ok(None) })
    }

    fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.fetch(key, deadline)
    }

    fn write(&self, _: StoreKey, _: Vec<u8>, _: Duration) -> bool {
        strike(self.0.as_ref());
        true
    }

    fn health(&self) -> StoreHealth {
        strike(self.0.as_ref());
        StoreHealth::default()
    }
}

/// The trouble of the one recorder that a process has.
static RECORDER: Mutex<Option<Trouble>> = Mutex::new(None);

struct Case {
    who: Who,
    what: What,
    when: When,
}

impl Case {
    fn run(&self) {
        let (brake, wheel) = brake();
        let trouble = Trouble {
            what: self.what,
            wheel,
        };
        let of = |who| (self.who == who).then(|| trouble.clone());
        *RECORDER.lock().unwrap() = of(Who::Recorder);
        let subscriber = of(Who::Subscriber);
        let reader = Reader(move || strike(subscriber.as_ref()));
        let is_away = Arc::new(AtomicBool::new(false));
        let source = Seconds {
            trouble: of(Who::Source),
            is_away: Arc::clone(&is_away),
            salt: 0,
        };
        let builder = Resumption::builder().stek_source(source);
        let builder = builder.shared_store(Hollow(of(Who::Store)));
        tracing::subscriber::with_default(reader, || self.meet(builder, &brake, &is_away));
    }

    fn meet(&self, builder: ResumptionBuilder, brake: &Brake, is_away: &AtomicBool) {
        let resumption = builder.build().unwrap();
        let ticketer = resumption.ticketer("api");
        let seal = || followed(&resumption, || ticketer.encrypt(b"session"));
        let mut ticket = None;
        wait_until("sealing", || {
            ticket = seal();
            ticket.is_some()
        });
        let ticket = ticket.unwrap();
        let name = KeyName::from_bytes(ticket[..KeyName::LEN].try_into().unwrap());
        brake.stop();
        // A handshake that the store keeps waiting is the server's own.
        let storage = resumption.session_storage("api");
        thread::spawn(move || storage.put(vec![7; 32], vec![0; 100]));
        let theirs = resumption.clone();
        match self.when {
            When::AllIsRevoked => {
                let _ = returns(move || theirs.revoke_all());
                assert!(ticketer.decrypt(&ticket).is_none());
                wait_until("sealing again", || seal().is_some());
            }
            When::AStekExpires => wait_until("expired", || {
                let steks = resumption.steks();
                ticketer.decrypt(&ticket).is_none() && !steks.iter().any(|it| it.name == name)
            }),
            When::TheSourceIsAway => {
                is_away.store(true, Ordering::Release);
                wait_until("fallen back", || {
                    let mut steks = resumption.steks().into_iter();
                    steks.any(|stek| stek.is_local && stek.state == StekState::Current)
                });
                assert!(seal().is_some());
            }
            When::ItIsShutDown => {
                returns(move || theirs.shutdown(Duration::from_millis(10)));
                assert!(ticketer.decrypt(&ticket).is_none() && seal().is_none());
            }
        }
    }
}

fn in_every_combination(what: What) {
    alone(|| {
        let scribe = Scribe(|| {
            let trouble = RECORDER.lock().unwrap().clone();
            strike(trouble.as_ref());
        });
        assert!(metrics::set_global_recorder(scribe).is_ok());
        for who in [Who::Source, Who::Store, Who::Recorder, Who::Subscriber] {
            for when in [
                When::AllIsRevoked,
                When::AStekExpires,
                When::TheSourceIsAway,
                When::ItIsShutDown,
            ] {
                println!("{who:?} {what:?}, {when:?}");
                Case { who, what, when }.run();
            }
        }
    });
}

#[test]
fn whoever_hangs_what_is_due_is_done_and_calls_return() {
    in_every_combination(What::Hangs);
}

#[test]
fn whoever_panics_what_is_due_is_done_and_calls_return() {
    in_every_combination(What::Panics);
}

#[test]
fn whoever_is_slow_what_is_due_is_done_and_calls_return() {
    in_every_combination(What::IsSlow);
}
