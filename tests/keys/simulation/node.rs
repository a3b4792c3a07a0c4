//! A ring, its clock, and its connection to the source of its STEKs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::server::ProducesTickets;
use rustls_resumption::source::{DerivedSource, StekSource, source_fn};
use rustls_resumption::{FakeClock, Resumption, Rotation};

use super::store::Store;
use super::{AHEAD, INTERVAL, LIFETIME, SKEW, wall};

/// Where the nodes of a fleet have their STEKs from.
#[derive(Clone)]
pub(crate) enum Origin {
    Secret([u8; 32]),
    Store(Arc<Mutex<Store>>),
}

pub(crate) struct Node {
    origin: Origin,
    line: Arc<Mutex<Line>>,
    /// By how much its clock is ahead, plus [`SKEW`].
    skew: Duration,
    time: FakeClock,
    resumption: Resumption,
    ticketer: Arc<dyn ProducesTickets>,
    pub(crate) restarts: u64,
}

/// What befalls the questions of a node.
#[derive(Default)]
pub(crate) struct Line {
    pub(crate) fails_until: Duration,
    pub(crate) delay: Duration,
    answered: Option<Duration>,
    pub(crate) failures: u64,
}

impl Node {
    /// The clock of a node is up to [`SKEW`] behind or ahead: `skew` is from 0 to twice that.
    pub(crate) fn start(origin: &Origin, now: Duration, skew: Duration) -> Self {
        let line = Arc::default();
        let (time, resumption) = boot(origin, &line, now + skew - SKEW);
        Self {
            origin: origin.clone(),
            line,
            skew,
            ticketer: resumption.ticketer("simulated"),
            time,
            resumption,
            restarts: 0,
        }
    }

    /// Its memory is lost; its clock goes on as it was.
    pub(crate) fn restart(&mut self, now: Duration) {
        self.line().answered = None;
        let (time, resumption) = boot(&self.origin, &self.line, now + self.skew - SKEW);
        self.ticketer = resumption.ticketer("simulated");
        (self.time, self.resumption) = (time, resumption);
        self.restarts += 1;
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.time.advance(time);
    }

    /// What its timer thread would do.
    pub(crate) fn step(&self) {
        self.resumption.step();
    }

    /// Somebody sets its clock.
    pub(crate) fn set_clock(&mut self, skew: Duration) {
        match skew.checked_sub(self.skew) {
            Some(by) => self.time.step_forward(by),
            None => self.time.step_back(self.skew - skew),
        }
        self.skew = skew;
    }

    /// The time since the beginning, by its own clock.
    pub(crate) fn reads(&self) -> Duration {
        let since = self.time.wall().duration_since(wall(Duration::ZERO));
        since.expect("no clock is set to before the beginning")
    }

    pub(crate) fn line(&self) -> std::sync::MutexGuard<'_, Line> {
        self.line.lock().unwrap()
    }

    /// Whether its source answered within the last hour, or needs none to answer.
    pub(crate) fn is_well(&self, now: Duration) -> bool {
        match self.origin {
            Origin::Secret(_) => true,
            Origin::Store(_) => {
                let answered = self.line().answered;
                answered.is_some_and(|at| now - at <= Duration::from_secs(60 * 60))
            }
        }
    }

    pub(crate) fn seal(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.ticketer.encrypt(session)
    }

    pub(crate) fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.ticketer.decrypt(ticket)
    }

    pub(crate) fn keys(&self) -> u64 {
        self.resumption.stats().steks.keys
    }
}

fn boot(origin: &Origin, line: &Arc<Mutex<Line>>, reads: Duration) -> (FakeClock, Resumption) {
    let time = FakeClock::starting_at(wall(reads));
    let rotation = Rotation::new()
        .interval(INTERVAL)
        .ticket_lifetime(LIFETIME)
        .publish_ahead(AHEAD);
    let resumption = Resumption::builder()
        .stek_source(source(origin, line))
        .rotation(rotation)
        .max_session_age(Duration::from_secs(7 * 24 * 60 * 60))
        .cache_entries(0)
        .clock(time.clock())
        .build();
    (time, resumption.unwrap())
}

fn source(origin: &Origin, line: &Arc<Mutex<Line>>) -> Box<dyn StekSource> {
    match origin {
        Origin::Secret(secret) => {
            let origin = wall(Duration::ZERO) - 10_000 * INTERVAL;
            Box::new(DerivedSource::new(secret).unwrap().origin(origin))
        }
        Origin::Store(store) => {
            let (store, line) = (Arc::clone(store), Arc::clone(line));
            Box::new(source_fn("store", move |query| {
                let (mut store, mut line) = (store.lock().unwrap(), line.lock().unwrap());
                let answer = match store.now < line.fails_until {
                    true => Err("the line is down".into()),
                    false => store.answer(query, line.delay),
                };
                match answer {
                    Ok(_) => line.answered = Some(store.now),
                    Err(_) => line.failures += 1,
                }
                answer
            }))
        }
    }
}
