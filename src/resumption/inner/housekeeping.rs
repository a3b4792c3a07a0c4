//! What is done in time, by a thread of this crate's or by whoever steps, and how that ends.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::Inner;
use crate::clock::instant_in;
use crate::errands::guarded;
use crate::error::Error;
use crate::housekeeper::{EverySecond, Housekeeper};
use crate::ring::Ring;

/// The longest time between two steps: a stepped wall clock must not go unnoticed for longer.
const MAX_STEP: Duration = Duration::from_secs(1);

impl Inner {
    /// Starts the thread that does what is due until this is dropped. It holds this weakly.
    pub(crate) fn start_housekeeper(self: &Arc<Self>) -> Result<(), Error> {
        self.beat();
        let weak = Arc::downgrade(self);
        self.terms.pulse.arm(move || {
            if let Some(inner) = Weak::upgrade(&weak) {
                inner.rescue();
            }
        });
        let weak = Arc::downgrade(self);
        let mut every_second = EverySecond::default();
        let job = move || Some(Weak::upgrade(&weak)?.keep_house(&mut every_second));
        let alarm = self.outside.alarm.clone();
        let housekeeper = Housekeeper::start(alarm, job).map_err(Error::Thread)?;
        let _ = self.life.housekeeper.set(housekeeper); // it is started once
        Ok(())
    }

    fn keep_house(self: &Arc<Self>, every_second: &mut EverySecond) -> Duration {
        let is_due = every_second.is_due(self.terms.clock.monotonic());
        self.beat(); // or what follows would find it overdue
        // Keys first: what the rest does takes time.
        let idle = self.step_ring();
        self.beat();
        if is_due {
            self.cache.sweep(&self.terms);
            self.have_published();
        }
        idle
    }

    fn beat(&self) {
        let now = self.terms.clock.now().on(self.terms.basis);
        self.terms.pulse.beat(&self.terms.clock, now);
    }

    /// Sees to it that housekeeping is done which is overdue, without doing it: a handshake found
    /// it so, and must not wait.
    fn rescue(self: &Arc<Self>) {
        let is_needed =
            self.heir_if_forked().is_none() && !self.life.is_closed.load(Ordering::Acquire);
        if !is_needed || self.life.is_rescued.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::clone(self);
        let started = thread::Builder::new()
            .name("resumption-late".into())
            .spawn(move || {
                guarded(|| inner.keep_house(&mut EverySecond::default()));
                inner.life.is_rescued.store(false, Ordering::Release);
            });
        if started.is_err() {
            self.life.is_rescued.store(false, Ordering::Release);
        }
    }

    /// Does what the housekeeper does.
    pub(crate) fn step(self: &Arc<Self>) -> Duration {
        let idle = self.step_ring();
        self.beat();
        self.cache.sweep(&self.terms);
        self.have_published();
        idle.min(MAX_STEP)
    }

    pub(crate) fn step_ring(&self) -> Duration {
        let step = |ring: &Arc<Ring>| ring.step(&self.terms, &self.outside);
        let idle = self.ring.as_ref().map_or(Duration::MAX, step);
        self.follow_others();
        idle
    }

    /// Publishes on this thread.
    #[cfg(feature = "metrics")]
    pub(crate) fn publish(&self) {
        guarded(|| self.tell_recorder());
    }

    fn tell_recorder(&self) {
        if let Some(publisher) = &self.outside.publisher {
            publisher.publish(|| self.stats());
        }
    }

    /// Has the metrics published, as they are when the recorder gets to it.
    fn have_published(self: &Arc<Self>) {
        // A recorder that hangs is not to be waited for by more than one.
        let is_publishing = &self.life.is_publishing;
        if self.outside.publisher.is_none() || is_publishing.swap(true, Ordering::AcqRel) {
            return;
        }
        let weak = Arc::downgrade(self);
        self.outside.metrics.run(move || {
            if let Some(inner) = Weak::upgrade(&weak) {
                inner.life.is_publishing.store(false, Ordering::Release);
                inner.tell_recorder(); // a panic is counted there
            }
        });
    }

    /// Wipes everything for good.
    pub(super) fn close(&self) {
        self.life.is_closed.store(true, Ordering::Release);
        if let Some(ring) = &self.ring {
            ring.close();
        }
        self.cache.close();
        self.forget_all();
    }

    /// Ends everything for good. False if anything was still busy at the deadline.
    pub(crate) fn shut_down(self: &Arc<Self>, deadline: Duration) -> bool {
        let until = instant_in(deadline);
        let left = || until.saturating_duration_since(Instant::now());
        self.close();
        let housekeeper = self.life.housekeeper.get();
        let ended = housekeeper.is_none_or(|housekeeper| housekeeper.stop(left()));
        let answered = self
            .ring
            .as_ref()
            .is_none_or(|ring| ring.wait_for_source(left()));
        self.have_published();
        let told = self.outside.log.settle(left()) && self.outside.metrics.settle(left());
        ended && answered && told
    }
}
