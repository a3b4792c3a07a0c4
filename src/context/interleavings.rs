//! Two handshakes that threads work on in turn, on every schedule that there is time for.

use std::sync::Arc;

use shuttle::thread;

use super::*;
use crate::clock::Moment;
use crate::scope::{NoSessions, Scope, Scopes};
use crate::session::Version;
use crate::session::tests::encoded;
use crate::sync::{Mutex, try_schedules};

const TRIES: usize = 1_000;

fn session(suite: u8) -> Vec<u8> {
    let mut session = encoded(Version::Tls13, &[7; 48], b"");
    session[14] ^= suite;
    session
}

fn given(birth: Time) -> Given {
    Given {
        by: ResumedBy::Ticket,
        lineage: Lineage::of_full_handshake(birth),
        at: birth,
        key_name: None,
        after: 0,
    }
}

fn scope() -> Arc<ScopeState> {
    Scopes::default().state(Scope::default(), Moment::default(), &NoSessions)
}

/// A task: what is left of its handshake, and the context between two polls.
struct Task {
    birth: Time,
    polls: u8,
    context: Option<Box<Context>>,
}

impl Task {
    fn new(birth: Time) -> Mutex<Self> {
        Mutex::new(Self {
            birth,
            polls: 0,
            context: Some(Context::new(Time(1_000))),
        })
    }

    /// First rustls opens a session, then it makes two.
    fn poll(&mut self) {
        let session = session(0);
        let parsed = Session::parse(&session);
        within(&mut self.context, || {
            if self.polls == 0 {
                give(parsed.as_ref(), given(self.birth));
            } else {
                thread::yield_now();
                let (lineage, _) = lineage_of_sealed(parsed.as_ref(), &scope(), Time(2_000));
                assert_eq!((lineage.birth, lineage.is_known()), (self.birth, true));
            }
        });
        self.polls += 1;
    }
}

#[test]
fn shuttle_two_handshakes_polled_by_threads_in_turn_keep_their_own_sessions() {
    try_schedules(TRIES, || {
        let tasks = Arc::new([Task::new(Time(1)), Task::new(Time(2))]);
        let workers = [(); 3].map(|()| {
            let tasks = Arc::clone(&tasks);
            thread::spawn(move || {
                for task in &*tasks {
                    task.lock().poll();
                    // Nothing of it is left on this thread.
                    let session = session(0);
                    let parsed = Session::parse(&session);
                    let (lineage, _) = lineage(parsed.as_ref(), &scope(), Time(3_000));
                    assert_eq!((lineage.birth, lineage.is_known()), (Time(3_000), false));
                }
            })
        });
        for worker in workers {
            worker.join().unwrap();
        }
        for task in &*tasks {
            let mut task = task.lock();
            assert_eq!(task.polls, 3);
            assert!(
                !task
                    .context
                    .take()
                    .is_some_and(|context| context.was_declined())
            );
        }
    });
}

#[test]
fn shuttle_a_handshake_polled_within_another_does_not_touch_it() {
    try_schedules(TRIES, || {
        let tasks = Arc::new([Task::new(Time(1)), Task::new(Time(2))]);
        let workers = [(); 2].map(|()| {
            let tasks = Arc::clone(&tasks);
            thread::spawn(move || {
                // Whoever comes first takes the outer one, and polls the inner one within it.
                let mut outer = tasks[0].lock();
                let mut context = outer.context.take();
                within(&mut context, || tasks[1].lock().poll());
                outer.context = context;
                outer.poll();
            })
        });
        for worker in workers {
            worker.join().unwrap();
        }
    });
}
