use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::sync::lock::Mutex;
use tokio::sync::Notify;

use crate::stats::StoreTrouble;

/// A circuit breaker: while it is open nobody asks the server, and nobody waits for it.
///
/// It is open until a connection has been tried out, and opens again once that connection is lost
/// or of no use, after several questions in a row without an answer, or after several refusals in a
/// row of one function: that a server reads well says nothing of its writing.
///
/// Each connection has a generation, and what comes late of an earlier one counts for nothing.
pub(super) struct Breaker {
    is_open: AtomicBool,
    outages: AtomicU64,
    state: Mutex<State>,
    /// That a connection was made, or could not be.
    tried: Notify,
}

#[derive(Clone, Default)]
struct State {
    generation: Generation,
    unanswered: u32,
    refused: Refused,
    trouble: Option<StoreTrouble>,
}

/// In a row, by function.
#[derive(Clone, Default)]
struct Refused {
    claims: u32,
    fetches: u32,
    writes: u32,
}

impl Refused {
    fn of(&mut self, function: Function) -> &mut u32 {
        match function {
            Function::Claim => &mut self.claims,
            Function::Fetch => &mut self.fetches,
            Function::Write => &mut self.writes,
        }
    }
}

/// The number of a connection.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Generation(u64);

/// What a store needs a server for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Function {
    Claim,
    Fetch,
    Write,
}

/// The failures in a row that open it.
pub(super) const MAX_FAILURES: u32 = 3;

impl Default for Breaker {
    fn default() -> Self {
        Self {
            is_open: AtomicBool::new(true),
            outages: AtomicU64::new(0),
            state: Mutex::default(),
            tried: Notify::new(),
        }
    }
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// How often it has opened.
    pub(super) fn outages(&self) -> u64 {
        self.outages.load(Ordering::Relaxed)
    }

    pub(super) fn trouble(&self) -> Option<StoreTrouble> {
        self.state.lock().trouble
    }

    /// A new connection serves. Everything of earlier ones counts for nothing from now on.
    pub(super) fn close(&self, trouble: Option<StoreTrouble>) -> Generation {
        let mut state = self.state.lock();
        *state = State {
            generation: Generation(state.generation.0.wrapping_add(1)),
            trouble,
            ..State::default()
        };
        self.is_open.store(false, Ordering::Release);
        self.tried.notify_waiters();
        state.generation
    }

    /// There is no connection, for this reason.
    pub(super) fn note(&self, trouble: StoreTrouble) {
        self.state.lock().trouble = Some(trouble);
        self.tried.notify_waiters();
    }

    /// Whether nothing is known of the server yet.
    pub(super) fn is_new(&self) -> bool {
        let state = self.state.lock();
        state.generation == Generation::default() && state.trouble.is_none()
    }

    /// Waits for the first attempt to connect.
    pub(super) async fn first_tried(&self) {
        let tried = self.tried.notified();
        if self.is_new() {
            tried.await;
        }
    }

    /// The server did what it was asked. This alone does not close an open breaker. True if it was
    /// full, and has room again.
    pub(super) fn succeeded(&self, connection: Generation, function: Function) -> bool {
        let mut has_room = false;
        self.count(connection, |state| {
            state.unanswered = 0;
            *state.refused.of(function) = 0;
            if state.trouble == Some(StoreTrouble::Full) && matches!(function, Function::Write) {
                state.trouble = None;
                has_room = true;
            }
            None
        });
        has_room
    }

    /// The server is full: it answers, and serves what it has. True if that is new.
    pub(super) fn full(&self, connection: Generation) -> bool {
        let mut is_new = false;
        self.count(connection, |state| {
            state.unanswered = 0;
            state.refused.writes = 0;
            is_new = state.trouble.replace(StoreTrouble::Full) != Some(StoreTrouble::Full);
            None
        });
        is_new
    }

    /// The server answered, with an error. True if this opened the breaker.
    pub(super) fn refused(
        &self,
        connection: Generation,
        function: Function,
        trouble: StoreTrouble,
    ) -> bool {
        self.count(connection, |state| {
            state.unanswered = 0;
            let refused = state.refused.of(function);
            *refused = refused.saturating_add(1);
            (*refused >= MAX_FAILURES).then_some(trouble)
        })
    }

    /// The server did not answer. True if this opened the breaker.
    pub(super) fn timed_out(&self, connection: Generation) -> bool {
        self.count(connection, |state| {
            state.unanswered = state.unanswered.saturating_add(1);
            (state.unanswered >= MAX_FAILURES).then_some(StoreTrouble::TimedOut)
        })
    }

    /// The connection is of no use any more. True if this opened the breaker.
    pub(super) fn useless(&self, connection: Generation, trouble: StoreTrouble) -> bool {
        self.count(connection, |_| Some(trouble))
    }

    /// Opens if there is reason to.
    fn count(
        &self,
        connection: Generation,
        count: impl FnOnce(&mut State) -> Option<StoreTrouble>,
    ) -> bool {
        let mut state = self.state.lock();
        if state.generation != connection || self.is_open() {
            return false;
        }
        let trouble = count(&mut state);
        if trouble.is_some() {
            state.trouble = trouble;
            self.is_open.store(true, Ordering::Release);
            self.outages.fetch_add(1, Ordering::Relaxed);
        }
        trouble.is_some()
    }
}

/// For models, which go on from one standing in several ways.
#[cfg(test)]
impl Breaker {
    pub(super) fn twin(&self) -> Self {
        Self {
            is_open: AtomicBool::new(self.is_open()),
            outages: AtomicU64::new(self.outages()),
            state: Mutex::new(self.state.lock().clone()),
            tried: Notify::new(),
        }
    }

    /// What decides over what it does next.
    pub(super) fn standing(&self) -> impl std::hash::Hash {
        let is_new = self.is_new();
        let state = self.state.lock();
        let Refused {
            claims,
            fetches,
            writes,
        } = state.refused;
        let in_a_row = [state.unanswered, claims, fetches, writes];
        (self.is_open(), is_new, state.generation, in_a_row)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const READ_ONLY: StoreTrouble = StoreTrouble::ReadOnly;

    #[test]
    fn it_begins_down_and_one_answer_is_not_enough() {
        let breaker = Breaker::default();
        breaker.succeeded(Generation::default(), Function::Claim);
        assert!(breaker.is_open());
        breaker.close(None);
        assert!(!breaker.is_open());
        assert_eq!(breaker.outages(), 0);
    }

    #[test]
    fn a_server_is_new_until_a_connection_was_made_or_could_not_be() {
        let tries: [fn(&Breaker); 2] = [
            |breaker| _ = breaker.close(None),
            |breaker| breaker.note(StoreTrouble::Unreachable),
        ];
        for tried in tries {
            let breaker = Breaker::default();
            let context = &mut Context::from_waker(Waker::noop());
            let mut first = pin!(breaker.first_tried());
            assert!(breaker.is_new() && first.as_mut().poll(context).is_pending());
            tried(&breaker);
            assert!(!breaker.is_new() && first.poll(context).is_ready());
            assert!(pin!(breaker.first_tried()).poll(context).is_ready());
        }
    }

    #[test]
    fn failures_running_take_it_down_and_any_answer_between_does_not_let_them() {
        let breaker = Breaker::default();
        let first = breaker.close(None);
        for _ in 0..5 {
            for _ in 1..MAX_FAILURES {
                assert!(!breaker.timed_out(first));
            }
            breaker.succeeded(first, Function::Fetch);
        }
        assert!(!breaker.is_open());
        for _ in 1..MAX_FAILURES {
            assert!(!breaker.timed_out(first));
        }
        assert!(breaker.timed_out(first));
        assert!(!breaker.timed_out(first), "told once");
        assert!(breaker.is_open());
        assert_eq!(breaker.trouble(), Some(StoreTrouble::TimedOut));
        assert_eq!(breaker.outages(), 1);
        let second = breaker.close(None);
        assert_eq!(breaker.trouble(), None);
        assert!(!breaker.timed_out(second), "it starts anew");
    }

    #[test]
    fn successes_of_one_function_do_not_offset_refusals_of_another() {
        let breaker = Breaker::default();
        let connection = breaker.close(None);
        for _ in 1..MAX_FAILURES {
            assert!(!breaker.refused(connection, Function::Claim, READ_ONLY));
            breaker.succeeded(connection, Function::Fetch);
            breaker.succeeded(connection, Function::Write);
        }
        assert!(breaker.refused(connection, Function::Claim, READ_ONLY));
        assert_eq!(breaker.trouble(), Some(READ_ONLY));
    }

    #[test]
    fn late_outcomes_of_an_earlier_connection_are_ignored() {
        let breaker = Breaker::default();
        let old = breaker.close(None);
        assert!(breaker.useless(old, StoreTrouble::Unreachable));
        let new = breaker.close(None);
        for _ in 0..3 * MAX_FAILURES {
            assert!(!breaker.timed_out(old));
            assert!(!breaker.refused(old, Function::Claim, READ_ONLY));
            assert!(!breaker.useless(old, READ_ONLY));
        }
        assert!(!breaker.is_open());
        for _ in 1..MAX_FAILURES {
            assert!(!breaker.timed_out(new));
        }
        breaker.succeeded(old, Function::Claim);
        assert!(breaker.timed_out(new), "an old answer is no answer");
        assert_eq!(breaker.outages(), 2);
    }

    #[test]
    fn a_full_server_is_reported_until_it_accepts_a_write() {
        let breaker = Breaker::default();
        let connection = breaker.close(None);
        assert!(breaker.full(connection), "that is new");
        for _ in 0..2 * MAX_FAILURES {
            breaker.full(connection);
        }
        assert!(!breaker.full(connection), "that is not new");
        breaker.succeeded(connection, Function::Claim);
        assert!(!breaker.is_open());
        assert_eq!(breaker.trouble(), Some(StoreTrouble::Full));
        breaker.succeeded(connection, Function::Write);
        assert_eq!(breaker.trouble(), None);
    }

    #[test]
    fn a_useless_connection_takes_it_down_at_once() {
        let breaker = Breaker::default();
        let connection = breaker.close(None);
        assert!(breaker.useless(connection, READ_ONLY));
        assert!(!breaker.useless(connection, READ_ONLY));
        assert_eq!(breaker.outages(), 1);
    }
}
