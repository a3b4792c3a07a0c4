use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::clock::instant_in;
use crate::errands::guarded;
use crate::sync::lock::{Condvar, Mutex};

/// A thread that does a job again and again, until this is dropped.
pub(crate) struct Housekeeper(Alarm);

/// Wakes a housekeeper.
#[derive(Clone, Default)]
pub(crate) struct Alarm(Arc<Signal>);

/// Tells when a second has passed since it last did: for what is done less often than a housekeeper
/// may wake.
#[derive(Default)]
pub(crate) struct EverySecond {
    last: Option<Duration>,
}

impl EverySecond {
    /// By monotonic time.
    pub(crate) fn is_due(&mut self, now: Duration) -> bool {
        let has_passed = |last| now.saturating_sub(last) >= Duration::from_secs(1);
        let is_due = self.last.is_none_or(has_passed);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[derive(Default)]
struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    rung: bool,
    stopped: bool,
    ended: bool,
}

/// The longest sleep. The thread must notice a wall clock that was stepped and a machine that was
/// suspended, of which no condition variable tells.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// The shortest, so that a schedule of milliseconds does not become a busy loop.
const MIN_SLEEP: Duration = Duration::from_millis(1);

impl Housekeeper {
    /// Starts the thread, which this wakes. The job returns how long it may sleep, or `None` if
    /// there is nothing more to do. One that panics is done again after the longest sleep.
    pub(crate) fn start(
        alarm: Alarm,
        mut job: impl FnMut() -> Option<Duration> + Send + 'static,
    ) -> io::Result<Self> {
        let theirs = Arc::clone(&alarm.0);
        thread::Builder::new()
            .name("resumption".into())
            .spawn(move || {
                // What the job owns, keys among it, is dropped before the end is told.
                let end = EndOnDrop(theirs);
                while let Some(idle) = guarded(&mut job).unwrap_or(Some(MAX_SLEEP)) {
                    if !end.0.sleep(idle) {
                        break;
                    }
                }
                drop(job);
            })?;
        Ok(Self(alarm))
    }

    /// Stops the thread and waits for its end. False if the deadline passed first.
    pub(crate) fn stop(&self, deadline: Duration) -> bool {
        let signal = &*self.0.0;
        signal.stop();
        let until = instant_in(deadline.min(Duration::from_secs(3600)));
        let mut state = signal.state.lock();
        while !state.ended {
            let (after, is_late) = signal.changed.wait_until(state, until);
            state = after;
            if is_late {
                return state.ended;
            }
        }
        true
    }
}

impl Drop for Housekeeper {
    fn drop(&mut self) {
        // Not joined: the last handle may go anywhere, on a thread that must not wait. Nor for ever
        // for the lock, which in a process that was forked nobody may be there to release.
        if let Some(mut state) = self.0.0.state.try_lock_for(Duration::from_millis(100)) {
            state.stopped = true;
        }
        self.0.0.changed.notify_all();
    }
}

impl fmt::Debug for Housekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Housekeeper")
    }
}

impl Alarm {
    /// Has the job done now, or once more if it is being done.
    pub(crate) fn ring(&self) {
        self.0.state.lock().rung = true;
        self.0.changed.notify_all();
    }
}

impl Signal {
    /// False when the thread must end.
    fn sleep(&self, duration: Duration) -> bool {
        let until = instant_in(duration.clamp(MIN_SLEEP, MAX_SLEEP));
        let mut state = self.state.lock();
        while !(state.stopped || state.rung) {
            let (after, is_late) = self.changed.wait_until(state, until);
            state = after;
            if is_late {
                break;
            }
        }
        state.rung = false;
        !state.stopped
    }

    fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }
}

struct EndOnDrop(Arc<Signal>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.state.lock().ended = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn the_job_is_done_at_once_and_again_when_it_asked_to() {
        let (done, told) = mpsc::channel();
        let _housekeeper = Housekeeper::start(Alarm::default(), move || {
            let _ = done.send(());
            Some(Duration::ZERO)
        })
        .unwrap();
        for _ in 0..3 {
            told.recv_timeout(LONG).unwrap();
        }
    }

    #[test]
    fn stopping_waits_for_the_end_and_drops_what_the_job_owns() {
        let owned = Arc::new(());
        let theirs = Arc::clone(&owned);
        let housekeeper = Housekeeper::start(Alarm::default(), move || {
            let _ = &theirs;
            Some(MAX_SLEEP)
        })
        .unwrap();
        assert!(housekeeper.stop(LONG));
        assert_eq!(Arc::strong_count(&owned), 1);
        assert!(housekeeper.stop(Duration::ZERO), "it has ended already");
    }

    #[test]
    fn dropping_the_housekeeper_ends_the_thread() {
        let (done, told) = mpsc::channel::<()>();
        let housekeeper = Housekeeper::start(Alarm::default(), move || {
            let _ = &done;
            Some(MAX_SLEEP)
        })
        .unwrap();
        drop(housekeeper);
        assert_eq!(
            told.recv_timeout(LONG),
            Err(mpsc::RecvTimeoutError::Disconnected)
        );
    }
}
