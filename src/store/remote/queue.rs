use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Values that wait to be written, bounded by the bytes they take.
#[derive(Clone)]
pub(super) struct Queue {
    /// A permit is a byte.
    room: Arc<Semaphore>,
    writes: UnboundedSender<Write>,
}

/// A value that waits to be written. It takes its room in the queue until it is dropped.
pub(in crate::store) struct Write {
    pub(in crate::store) key: String,
    pub(in crate::store) value: Vec<u8>,
    pub(in crate::store) ttl: Duration,
    /// Whether another server sent it here, and this one must be told so.
    pub(in crate::store) asking: bool,
    /// Whether another server sent it here: it is not sent anywhere else.
    pub(super) is_redirected: bool,
    _room: OwnedSemaphorePermit,
}

impl Queue {
    pub(super) fn new(max_bytes: usize) -> (Self, UnboundedReceiver<Write>) {
        let (writes, queued) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(max_bytes));
        (Self { room, writes }, queued)
    }

    /// False if there is no room, or nobody left to write it.
    pub(super) fn push(&self, key: String, value: Vec<u8>, ttl: Duration) -> bool {
        self.try_push(key, value, ttl, None)
    }

    /// Takes over a write from the queue of another server.
    pub(super) fn take_over(&self, write: Write, asking: bool) -> bool {
        let Write {
            key, value, ttl, ..
        } = write;
        self.try_push(key, value, ttl, Some(asking))
    }

    fn try_push(&self, key: String, value: Vec<u8>, ttl: Duration, asking: Option<bool>) -> bool {
        let size = key.len().saturating_add(value.len());
        let Some(room) = self.room_for(size.saturating_add(size_of::<Write>())) else {
            return false;
        };
        let write = Write {
            key,
            value,
            ttl,
            asking: asking.unwrap_or_default(),
            is_redirected: asking.is_some(),
            _room: room,
        };
        self.writes.send(write).is_ok()
    }

    /// What does not fit takes no room from others meanwhile.
    pub(super) fn room_for(&self, size: usize) -> Option<OwnedSemaphorePermit> {
        let size = u32::try_from(size).ok()?;
        Arc::clone(&self.room).try_acquire_many_owned(size).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn writes_that_fit_are_queued_and_others_change_nothing() {
        let queue = Queue::new(100).0;
        let first = queue.room_for(60).unwrap();
        assert!(queue.room_for(41).is_none());
        assert!(queue.room_for(usize::MAX).is_none());
        let _second = queue.room_for(40).unwrap();
        assert!(queue.room_for(1).is_none());
        drop(first);
        let _third = queue.room_for(60).unwrap();
        assert!(queue.room_for(1).is_none());
    }

    #[test]
    fn a_write_that_does_not_fit_blocks_no_other() {
        for _ in 0..500 {
            let queue = Queue::new(100).0;
            let takers = [60, 60, 40].map(|size| {
                let queue = queue.clone();
                thread::spawn(move || queue.room_for(size))
            });
            let [one, other, small] = takers.map(|taker| taker.join().unwrap());
            assert!(small.is_some() && one.is_some() != other.is_some());
            assert_eq!(queue.room.available_permits(), 0);
        }
    }

    #[test]
    fn a_queue_keeps_its_bound_and_each_write_is_sent_or_dropped() {
        const ROOM: usize = 2 * size_of::<Write>();
        for _ in 0..500 {
            let (queue, mut queued) = Queue::new(ROOM);
            let writers = [3, 5].map(|len| {
                let queue = queue.clone();
                thread::spawn(move || {
                    let write = |_: &i32| queue.push(String::new(), vec![7; len], Duration::ZERO);
                    3 - (0..3).filter(write).count()
                })
            });
            let room = Arc::clone(&queue.room);
            drop(queue);
            let mut sent = 0;
            while queued.blocking_recv().is_some() {
                assert!(room.available_permits() <= ROOM);
                sent += 1;
            }
            let dropped: usize = writers.map(|writer| writer.join().unwrap()).iter().sum();
            assert_eq!(sent + dropped, 6);
            assert_eq!(room.available_permits(), ROOM);
        }
    }
}
