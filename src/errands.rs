use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fmt, thread};

use tracing::dispatcher;

use crate::clock::instant_in;
use crate::sync::lock::{Condvar, Mutex};

/// Calls of foreign code that nobody may wait for: a log subscriber, a metrics recorder. They are
/// made in order, on a thread that exists only while there are any. If one of them hangs, those
/// behind it wait; when too many do, further ones are dropped and counted.
#[derive(Clone)]
pub(crate) struct Errands(Option<Arc<Shared>>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Those that were dropped, and those that panicked.
    failed: AtomicU64,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Errand>,
    is_running: bool,
    /// How many were queued and done in all.
    queued: u64,
    done: u64,
}

type Errand = Box<dyn FnOnce() + Send>;

/// How many may wait.
const MAX_WAITING: usize = 1_024;

impl Errands {
    /// Without a thread.
    pub(crate) const AT_ONCE: Self = Self(None);

    /// Without a thread they are run by whoever has them, as in tests on a fake clock.
    pub(crate) fn new(on_thread: bool) -> Self {
        Self(on_thread.then(Arc::default))
    }

    /// Has this done. Neither waits nor panics.
    pub(crate) fn run(&self, errand: impl FnOnce() + Send + 'static) {
        let Some(shared) = &self.0 else {
            guarded(errand);
            return;
        };
        let must_start = {
            let mut state = shared.state.lock();
            if state.queue.len() >= MAX_WAITING {
                drop(state);
                shared.failed.fetch_add(1, Ordering::Relaxed);
                guarded(|| drop(errand));
                return;
            }
            state.queue.push_back(Box::new(errand));
            state.queued = state.queued.saturating_add(1);
            !std::mem::replace(&mut state.is_running, true)
        };
        if must_start {
            let theirs = Arc::clone(shared);
            let started = thread::Builder::new()
                .name("resumption-tell".into())
                .spawn(move || theirs.work());
            if started.is_err() {
                // The next one tries again, and takes along what waits.
                shared.state.lock().is_running = false;
            }
        }
    }

    /// Has this logged by the subscriber that hears this thread: one may be set for it alone.
    pub(crate) fn tell(&self, line: impl FnOnce() + Send + 'static) {
        if !dispatcher::has_been_set() {
            // To set even none would keep the line from the facade `log`.
            return self.run(line);
        }
        let subscriber = dispatcher::get_default(Clone::clone);
        self.run(move || dispatcher::with_default(&subscriber, line));
    }

    /// Waits until what was queued by now is done. False if the deadline passed first.
    pub(crate) fn settle(&self, deadline: Duration) -> bool {
        let Some(shared) = &self.0 else {
            return true;
        };
        let until = instant_in(deadline);
        let mut state = shared.state.lock();
        let goal = state.queued;
        while state.done < goal && state.is_running {
            let (after, is_late) = shared.changed.wait_until(state, until);
            state = after;
            if is_late {
                return state.done >= goal;
            }
        }
        state.done >= goal
    }

    /// How many were dropped or panicked.
    pub(crate) fn failed(&self) -> u64 {
        let failed = |shared: &Arc<Shared>| shared.failed.load(Ordering::Relaxed);
        self.0.as_ref().map_or(0, failed)
    }
}

impl fmt::Debug for Errands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errands").finish_non_exhaustive()
    }
}

impl Shared {
    fn work(&self) {
        while let Some(errand) = self.next() {
            if guarded(errand).is_none() {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            let mut state = self.state.lock();
            state.done = state.done.saturating_add(1);
            drop(state);
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<Errand> {
        let mut state = self.state.lock();
        let next = state.queue.pop_front();
        state.is_running = next.is_some();
        next
    }
}

/// Calls foreign code, whose panic must not end what we do. `None` if it panicked.
pub(crate) fn guarded<R>(call: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(returned) => Some(returned),
        Err(payload) => {
            // Its drop is foreign too.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn they_are_done_in_order_and_one_that_panics_does_not_keep_the_others_back() {
        let errands = Errands::new(true);
        let (done, told) = mpsc::channel();
        for number in 0..10 {
            let done = done.clone();
            errands.run(move || {
                done.send(number).unwrap();
                assert_ne!(number, 4, "on purpose");
            });
        }
        assert!(errands.settle(LONG));
        drop(done);
        assert_eq!(told.iter().collect::<Vec<_>>(), Vec::from_iter(0..10));
        assert_eq!(errands.failed(), 1);
    }

    #[test]
    fn an_errand_that_hangs_delays_nobody_and_its_queue_is_bounded() {
        let errands = Errands::new(true);
        let (release, hang) = mpsc::channel::<()>();
        let (started, has_started) = mpsc::channel();
        errands.run(move || {
            started.send(()).unwrap();
            let _ = hang.recv();
        });
        has_started.recv_timeout(LONG).unwrap();
        assert!(!errands.settle(Duration::from_millis(1)));
        let (done, told) = mpsc::channel();
        for number in 0..MAX_WAITING + 3 {
            let done = done.clone();
            errands.run(move || done.send(number).unwrap());
        }
        assert_eq!(errands.failed(), 3);
        drop((release, done));
        assert_eq!(told.iter().count(), MAX_WAITING);
        assert!(errands.settle(LONG));
        errands.run(|| {});
        assert!(errands.settle(LONG), "on another thread");
    }

    #[test]
    fn without_a_thread_they_are_done_at_once() {
        let errands = Errands::new(false);
        let (done, told) = mpsc::channel();
        errands.run(move || done.send(()).unwrap());
        told.try_recv().unwrap();
        errands.run(|| panic!("on purpose"));
        assert!(errands.settle(Duration::ZERO));
    }
}
