use crate::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes wait to be written, within a bound.
pub(in crate::store) struct Backlog {
    bytes: AtomicUsize,
    max: usize,
}

impl Backlog {
    pub(in crate::store) fn new(max: usize) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            max,
        }
    }

    /// Adds so many bytes if there is room for them. What does not fit takes no room from others
    /// meanwhile.
    pub(in crate::store) fn add(&self, size: usize) -> bool {
        let sum = |bytes: usize| bytes.checked_add(size).filter(|sum| *sum <= self.max);
        let added = self
            .bytes
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, sum);
        added.is_ok()
    }

    /// So many that were added wait no longer.
    pub(in crate::store) fn remove(&self, size: usize) {
        self.bytes.fetch_sub(size, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_added_and_what_does_not_changes_nothing() {
        let backlog = Backlog::new(100);
        assert!(backlog.add(60));
        assert!(!backlog.add(41));
        assert!(!backlog.add(usize::MAX));
        assert!(backlog.add(40));
        assert!(!backlog.add(1));
        backlog.remove(60);
        assert!(backlog.add(60));
        assert!(!backlog.add(1));
    }

    #[cfg(rustls_resumption_shuttle)]
    mod schedules {
        use std::sync::Arc;

        use shuttle::sync::mpsc::channel;
        use shuttle::thread;

        use super::*;
        use crate::sync::try_schedules;

        #[test]
        fn shuttle_what_does_not_fit_keeps_nothing_else_out() {
            try_schedules(5_000, || {
                let backlog = Arc::new(Backlog::new(100));
                let writers = [60, 60, 40].map(|size| {
                    let backlog = Arc::clone(&backlog);
                    thread::spawn(move || backlog.add(size))
                });
                let [one, other, small] = writers.map(|writer| writer.join().unwrap());
                assert!(small && one != other);
                assert_eq!(backlog.bytes.load(Ordering::Acquire), 100);
            });
        }

        #[test]
        fn shuttle_a_queue_keeps_its_bound_and_each_write_is_sent_or_dropped() {
            try_schedules(5_000, || {
                let backlog = Arc::new(Backlog::new(100));
                let (queue, queued) = channel();
                let writers = [30, 50].map(|size| {
                    let (backlog, queue) = (Arc::clone(&backlog), queue.clone());
                    thread::spawn(move || {
                        let mut dropped = 0;
                        for _ in 0..3 {
                            match backlog.add(size) {
                                true => queue.send(size).unwrap(),
                                false => dropped += 1,
                            }
                            assert!(backlog.bytes.load(Ordering::Acquire) <= 100);
                        }
                        dropped
                    })
                });
                drop(queue);
                let mut sent = 0;
                while let Ok(size) = queued.recv() {
                    sent += 1;
                    backlog.remove(size);
                }
                let dropped: i32 = writers.map(|writer| writer.join().unwrap()).iter().sum();
                assert_eq!(sent + dropped, 6);
                assert_eq!(backlog.bytes.load(Ordering::Acquire), 0);
            });
        }
    }
}
