use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::sync::lock::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::breaker::Breaker;
use super::in_flight::{InFlight, Permit};
use super::lookup::{Answer, Lookup, Question, Unanswered};
use super::queue::{Queue, Write};
use crate::clock::{instant_in, millis};
use crate::errands::Errands;
use crate::stats::{StoreHealth, StoreTrouble, Trouble};
use crate::store::{DEFAULT_STORE_DEADLINE, StoreError};

/// A handle on one server, cheap to clone.
#[derive(Clone)]
pub(in crate::store) struct Node {
    breaker: Arc<Breaker>,
    in_flight: Arc<InFlight>,
    server: Arc<dyn Server>,
    writes: Queue,
}

/// Who asks the server.
pub(super) trait Server: Send + Sync {
    /// Nothing is asked before the look-up is polled.
    fn look_up(self: Arc<Self>, question: Question) -> Lookup;
}

/// What all nodes of a store share.
pub(in crate::store) struct Common {
    /// In milliseconds: a server is up if it answers by then.
    deadline: AtomicU64,
    /// What all keys begin with.
    prefix: Mutex<Arc<str>>,
    lookup_runtime: Mutex<Option<Handle>>,
    has_begun: AtomicBool,
    begun: Notify,
    /// That something happened which whoever finds the nodes has to look at.
    pub(in crate::store) wake: Notify,
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) lookup_runtime_outages: AtomicU64,
    last_trouble: Mutex<Option<(Arc<str>, Instant)>>,
    /// Through which all is logged: a subscriber that panics or hangs must stop neither the store's
    /// thread nor a look-up.
    pub(in crate::store) log: Errands,
    /// Of nodes that are gone.
    pub(in crate::store) earlier_outages: AtomicU64,
}

impl Node {
    /// How many bytes of values may wait to be written.
    pub(in crate::store) const MAX_QUEUED: usize = 16 * 1024 * 1024;

    /// How many look-ups may be in flight.
    pub(in crate::store) const MAX_LOOKUPS: usize = 1024;

    pub(super) fn new(breaker: Arc<Breaker>, server: Arc<dyn Server>, writes: Queue) -> Self {
        Self {
            breaker,
            in_flight: Arc::new(InFlight::new(Self::MAX_LOOKUPS)),
            server,
            writes,
        }
    }

    /// Gets a value, and deletes it if it is to be claimed. `asking` if another server sent us here
    /// and this one must be told so.
    pub(in crate::store) fn look_up(
        &self,
        key: String,
        deadline: Duration,
        claim: bool,
        asking: bool,
    ) -> impl Future<Output = Answer> + Send + 'static {
        // Slightly early, so that the breaker hears of it before the caller gives up.
        let until = instant_in(deadline.mul_f64(0.9));
        let question = self.admit(until).map(|in_flight| Question {
            key,
            claim,
            asking,
            until,
            _in_flight: in_flight,
        });
        let server = Arc::clone(&self.server);
        async move {
            let question = question.map_err(Unanswered::Failed)?;
            server.look_up(question).await
        }
    }

    fn admit(&self, until: Instant) -> Result<Permit, StoreError> {
        if self.breaker.is_open() {
            return Err(StoreError::Unavailable);
        }
        self.in_flight.admit(until).ok_or(StoreError::Busy)
    }

    pub(in crate::store) fn write(&self, key: String, value: Vec<u8>, ttl: Duration) -> bool {
        !self.breaker.is_open() && self.writes.push(key, value, ttl)
    }

    /// Takes over a write that another server did not do because this one has the key.
    pub(in crate::store) fn take_over(&self, write: Write, asking: bool) -> bool {
        let may_serve = !self.breaker.is_open() || self.breaker.is_new();
        may_serve && self.writes.take_over(write, asking)
    }

    /// Waits until it was tried to connect to the server: one of which another just told.
    pub(in crate::store) fn first_tried(&self) -> impl Future<Output = ()> + Send + 'static {
        let breaker = Arc::clone(&self.breaker);
        async move { breaker.first_tried().await }
    }

    pub(in crate::store) fn is_down(&self) -> bool {
        self.breaker.is_open()
    }

    /// Whether it was up and is down.
    pub(in crate::store) fn has_failed(&self) -> bool {
        self.is_down() && self.trouble().is_some()
    }

    pub(in crate::store) fn trouble(&self) -> Option<StoreTrouble> {
        self.breaker.trouble()
    }

    pub(in crate::store) fn outages(&self) -> u64 {
        self.breaker.outages()
    }
}

#[cfg(test)]
impl Node {
    /// As if it had been connected to.
    pub(in crate::store) fn serves(&self) {
        self.breaker.close(None);
    }

    /// As if it had been connected to, and the connection were lost.
    pub(in crate::store) fn fails(&self) {
        let connection = self.breaker.close(None);
        self.breaker.useless(connection, StoreTrouble::Unreachable);
    }
}

impl Common {
    pub(in crate::store) fn new(prefix: Arc<str>) -> Self {
        Self {
            deadline: AtomicU64::new(millis(DEFAULT_STORE_DEADLINE)),
            prefix: Mutex::new(prefix),
            lookup_runtime: Mutex::default(),
            has_begun: AtomicBool::new(false),
            begun: Notify::new(),
            wake: Notify::new(),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            lookup_runtime_outages: AtomicU64::new(0),
            last_trouble: Mutex::default(),
            log: Errands::new(true),
            earlier_outages: AtomicU64::new(0),
        }
    }

    /// Has the store connect, now that it is used: whoever made it could still set it up before.
    pub(in crate::store) fn begin(&self) {
        if !self.has_begun.load(Ordering::Relaxed) && !self.has_begun.swap(true, Ordering::AcqRel) {
            self.begun.notify_waiters();
            self.wake.notify_one();
        }
    }

    pub(in crate::store) async fn begun(&self) {
        let begun = self.begun.notified();
        if !self.has_begun() {
            begun.await;
        }
    }

    pub(in crate::store) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    pub(in crate::store) fn note_deadline(&self, deadline: Duration) {
        self.deadline.store(millis(deadline), Ordering::Relaxed);
    }

    pub(in crate::store) fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline.load(Ordering::Relaxed))
    }

    pub(in crate::store) fn set_prefix(&self, prefix: Arc<str>) {
        *self.prefix.lock() = prefix;
    }

    pub(super) fn prefix(&self) -> Arc<str> {
        Arc::clone(&self.prefix.lock())
    }

    pub(in crate::store) fn set_lookup_runtime(&self, runtime: Handle) {
        *self.lookup_runtime.lock() = Some(runtime);
    }

    /// What the look-ups are polled on, as far as the store was told.
    pub(super) fn lookup_runtime(&self) -> Option<Handle> {
        self.lookup_runtime.lock().clone()
    }

    /// Remembers what went wrong, as it is logged.
    pub(in crate::store) fn note_trouble(&self, what: &str) {
        *self.last_trouble.lock() = Some((what.into(), Instant::now()));
    }

    /// All but what differs from node to node.
    pub(in crate::store) fn health(&self) -> StoreHealth {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreHealth {
            written: count(&self.written),
            dropped: count(&self.dropped),
            refused: count(&self.refused),
            unknown: count(&self.unknown),
            connections: count(&self.connections),
            outages: count(&self.earlier_outages),
            lookup_runtime_outages: count(&self.lookup_runtime_outages),
            is_down: true,
            trouble: None,
            last_trouble: self.last_trouble.lock().as_ref().map(|(what, at)| Trouble {
                what: Arc::clone(what),
                ago: at.elapsed(),
                is_over: false,
            }),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::sync::mpsc::UnboundedReceiver;

    use super::*;

    /// Has no connection.
    struct Nobody;

    impl Server for Nobody {
        fn look_up(self: Arc<Self>, _question: Question) -> Lookup {
            unreachable!("nobody is asked")
        }
    }

    /// A node that nothing drives.
    pub(in super::super) fn idle() -> (Node, UnboundedReceiver<Write>) {
        let (writes, queued) = Queue::new(Node::MAX_QUEUED);
        (Node::new(Arc::default(), Arc::new(Nobody), writes), queued)
    }

    #[test]
    fn queued_writes_stay_within_their_bound() {
        let (node, mut queued) = idle();
        let write = |len| node.write("key".into(), vec![7; len], DEFAULT_STORE_DEADLINE);
        assert!(!write(1), "before there is a connection");
        node.breaker.close(None);
        let rest = "key".len() + size_of::<Write>();
        let room = 16 * 1024 * 1024;
        assert!(!write(room - rest + 1));
        assert!(write(1_000));
        assert!(
            write(room - 1_000 - rest - rest),
            "what was refused took none"
        );
        assert!(!write(0));
        let first = queued.try_recv().unwrap();
        assert_eq!((first.key.as_str(), first.value.len()), ("key", 1_000));
        drop(first);
        assert!(write(1_000), "its room is free again");
        assert!(!write(0), "and no more");
        drop(queued);
        assert!(!write(1), "after its driver has ended");
        assert!(node.writes.room_for(room).is_some(), "it left no trace");
    }

    #[test]
    fn a_node_has_failed_if_it_was_up_and_is_down() {
        let (node, _queued) = idle();
        assert!(node.is_down() && !node.has_failed());
        node.serves();
        assert!(!node.has_failed());
        node.breaker.close(Some(StoreTrouble::Full));
        assert!(!node.has_failed(), "it serves what it has");
        node.fails();
        assert!(node.has_failed());
    }

    #[test]
    fn a_write_is_taken_over_by_a_node_that_is_new_or_up_and_has_room() {
        let written = || {
            let (other, mut queued) = idle();
            other.serves();
            assert!(other.write("key".into(), vec![7], DEFAULT_STORE_DEADLINE));
            queued.try_recv().unwrap()
        };
        let (node, mut queued) = idle();
        for asking in [true, false] {
            assert!(node.take_over(written(), asking));
            let write = queued.try_recv().unwrap();
            assert_eq!(
                (write.key.as_str(), write.value.as_slice()),
                ("key", &[7][..])
            );
            assert!(write.asking == asking && write.is_redirected);
            node.serves();
        }
        let all = node.writes.room_for(Node::MAX_QUEUED);
        assert!(!node.take_over(written(), false), "it has no room");
        drop(all);
        assert!(node.take_over(written(), false));
        node.fails();
        assert!(!node.take_over(written(), false), "it is down");
        queued.try_recv().unwrap();
        assert!(queued.try_recv().is_err(), "what was refused is not queued");
    }

    #[test]
    fn so_many_look_ups_are_in_flight_and_no_more() {
        let (node, _queued) = idle();
        let until = instant_in(DEFAULT_STORE_DEADLINE * 1_000);
        assert!(matches!(node.admit(until), Err(StoreError::Unavailable)));
        node.breaker.close(None);
        let in_flight: Vec<_> = (0..Node::MAX_LOOKUPS)
            .map(|_| node.admit(until).unwrap())
            .collect();
        assert!(matches!(node.admit(until), Err(StoreError::Busy)));
        drop(in_flight);
        assert!(node.admit(until).is_ok());
        assert_eq!(Node::MAX_LOOKUPS, 1024);
    }

    #[test]
    fn the_last_deadline_is_noted_to_the_millisecond() {
        let common = Common::new("test:session:".into());
        common.note_deadline(Duration::from_millis(70));
        assert_eq!(common.deadline(), Duration::from_millis(70));
        assert_eq!(millis(Duration::MAX), u64::MAX);
    }

    #[test]
    fn a_deadline_beyond_all_time_is_only_a_long_one() {
        let common = Common::new("test:session:".into());
        common.note_deadline(Duration::MAX);
        assert_eq!(common.deadline(), Duration::from_millis(u64::MAX));
        let (node, _queued) = idle();
        drop(node.look_up("key".into(), Duration::MAX, false, false));
        // And past the breaker.
        node.breaker.close(None);
        drop(node.look_up("key".into(), Duration::MAX, false, false));
    }
}
