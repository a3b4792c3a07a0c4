use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::breaker::Breaker;
use super::queue::{Queue, Write};
use crate::clock::instant_in;
use crate::stats::StoreHealth;
use crate::store::{DEFAULT_STORE_DEADLINE, StoreError, StoreLookup};

/// A handle on one server, cheap to clone.
#[derive(Clone)]
pub(in crate::store) struct Node {
    state: Arc<State>,
    /// A permit is a look-up in flight.
    in_flight: Arc<Semaphore>,
    lookups: UnboundedSender<Lookup>,
    writes: Queue,
}

/// What its handles and its driver share.
pub(super) struct State {
    pub(super) breaker: Breaker,
    /// The deadline of the last look-up, in milliseconds: the server is up if it answers by then.
    deadline: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) connections: AtomicU64,
}

/// A look-up on its way to the driver.
pub(super) struct Lookup {
    pub(super) key: String,
    pub(super) claim: bool,
    pub(super) until: Instant,
    pub(super) reply: oneshot::Sender<Result<Option<Vec<u8>>, StoreError>>,
    _in_flight: OwnedSemaphorePermit,
}

/// What a driver needs to serve a node.
pub(super) struct Requests {
    pub(super) state: Arc<State>,
    pub(super) lookups: UnboundedReceiver<Lookup>,
    pub(super) writes: UnboundedReceiver<Write>,
}

impl Node {
    /// How many bytes of values may wait to be written.
    pub(in crate::store) const MAX_QUEUED: usize = 16 * 1024 * 1024;

    /// How many look-ups may be in flight.
    pub(in crate::store) const MAX_LOOKUPS: usize = 1024;

    pub(super) fn new() -> (Self, Requests) {
        let state = Arc::<State>::default();
        let (lookups, asked) = mpsc::unbounded_channel();
        let (writes, queued) = Queue::new(Self::MAX_QUEUED);
        let node = Self {
            state: Arc::clone(&state),
            in_flight: Arc::new(Semaphore::new(Self::MAX_LOOKUPS)),
            lookups,
            writes,
        };
        let requests = Requests {
            state,
            lookups: asked,
            writes: queued,
        };
        (node, requests)
    }

    pub(super) fn look_up(&self, key: String, deadline: Duration, claim: bool) -> StoreLookup {
        self.state.note_deadline(deadline);
        if self.state.breaker.is_open() {
            return Box::pin(ready(Err(StoreError::Unavailable)));
        }
        let Some(in_flight) = self.admit() else {
            return Box::pin(ready(Err(StoreError::Busy)));
        };
        let (reply, answer) = oneshot::channel();
        let lookup = Lookup {
            key,
            claim,
            // Slightly early, so that the breaker hears of it before the caller gives up.
            until: instant_in(deadline.mul_f64(0.9)),
            reply,
            _in_flight: in_flight,
        };
        let lookups = self.lookups.clone();
        Box::pin(async move {
            // Not before it is polled: a claim that nobody waits for would lose the session.
            lookups.send(lookup).map_err(|_| StoreError::Unavailable)?;
            answer.await.unwrap_or(Err(StoreError::Unavailable))
        })
    }

    fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.in_flight).try_acquire_owned().ok()
    }

    pub(super) fn write(&self, key: String, value: Vec<u8>, ttl: Duration) -> bool {
        !self.state.breaker.is_open() && self.writes.push(key, value, ttl)
    }

    pub(super) fn health(&self) -> StoreHealth {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let state = &*self.state;
        StoreHealth {
            written: count(&state.written),
            dropped: count(&state.dropped),
            refused: count(&state.refused),
            unknown: count(&state.unknown),
            connections: count(&state.connections),
            outages: state.breaker.outages(),
            is_down: state.breaker.is_open(),
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            breaker: Breaker::default(),
            deadline: AtomicU64::new(millis(DEFAULT_STORE_DEADLINE)),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }
}

impl State {
    fn note_deadline(&self, deadline: Duration) {
        self.deadline.store(millis(deadline), Ordering::Relaxed);
    }

    pub(super) fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline.load(Ordering::Relaxed))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_to_be_written_stays_within_its_bound() {
        let (node, mut requests) = Node::new();
        let write = |len| node.write("key".into(), vec![7; len], DEFAULT_STORE_DEADLINE);
        assert!(!write(1), "before there is a connection");
        node.state.breaker.close();
        let rest = "key".len() + size_of::<Write>();
        let room = 16 * 1024 * 1024;
        assert!(!write(room - rest + 1));
        assert!(write(1_000));
        assert!(
            write(room - 1_000 - rest - rest),
            "what was refused took none"
        );
        assert!(!write(0));
        let first = requests.writes.try_recv().unwrap();
        assert_eq!((first.key.as_str(), first.value.len()), ("key", 1_000));
        drop(first);
        assert!(write(1_000), "its room is free again");
        assert!(!write(0), "and no more");
        drop(requests);
        assert!(!write(1), "after its driver has ended");
        assert!(node.writes.room_for(room).is_some(), "it left no trace");
    }

    #[test]
    fn so_many_look_ups_are_in_flight_and_no_more() {
        let (node, _requests) = Node::new();
        let in_flight: Vec<_> = (0..Node::MAX_LOOKUPS)
            .map(|_| node.admit().unwrap())
            .collect();
        assert!(node.admit().is_none());
        drop(in_flight);
        assert!(node.admit().is_some());
        assert_eq!(Node::MAX_LOOKUPS, 1024);
    }

    #[test]
    fn the_last_deadline_is_noted_to_the_millisecond() {
        let (node, _requests) = Node::new();
        node.state.note_deadline(Duration::from_millis(70));
        assert_eq!(node.state.deadline(), Duration::from_millis(70));
        assert_eq!(millis(Duration::MAX), u64::MAX);
    }

    #[test]
    fn a_deadline_beyond_all_time_is_only_a_long_one() {
        let (node, _requests) = Node::new();
        drop(node.look_up("key".into(), Duration::MAX, false));
        assert_eq!(node.state.deadline(), Duration::from_millis(u64::MAX));
        // And past the breaker.
        node.state.breaker.close();
        drop(node.look_up("key".into(), Duration::MAX, false));
    }
}
