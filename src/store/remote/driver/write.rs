use std::sync::Weak;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::{Line, Link, add};
use crate::store::remote::backend::{Connection, Failure, FailureKind};
use crate::store::remote::breaker::{Function, Generation};
use crate::store::remote::queue::Write;
use crate::store::remote::route::Route;

/// The most values that are written at once.
const BATCH: usize = 256;

impl<C: Connection> Line<C> {
    pub(super) async fn write_all(
        &self,
        mut writes: UnboundedReceiver<Write>,
        route: &Weak<dyn Route>,
    ) {
        let mut batch = Vec::with_capacity(BATCH);
        while writes.recv_many(&mut batch, BATCH).await > 0 {
            self.write(&mut batch, route).await;
            batch.clear(); // gives back its room in the queue
        }
    }

    /// Writes a batch, once.
    pub(super) async fn write(&self, batch: &mut Vec<Write>, route: &Weak<dyn Route>) {
        self.breaker.first_tried().await;
        let Some(Link {
            mut connection,
            generation,
        }) = self.link()
        else {
            return add(&self.common.dropped, batch.len());
        };
        let writing = connection.write(batch);
        match timeout(self.write_timeout, writing).await {
            Ok(Ok(outcomes)) => self.settle(batch, outcomes, generation, route),
            Ok(Err(failure)) => {
                add(&self.common.unknown, batch.len());
                self.failed(generation, Function::Write, &failure);
            }
            Err(_) => {
                add(&self.common.unknown, batch.len());
                self.timed_out(generation);
            }
        }
    }

    /// Counts what became of each write. If any was refused for a reason other than lack of room,
    /// that is the outcome of all, so that a server is not well for half a batch.
    fn settle(
        &self,
        batch: &mut Vec<Write>,
        outcomes: Vec<Result<(), Failure>>,
        generation: Generation,
        route: &Weak<dyn Route>,
    ) {
        let mut worst: Option<Failure> = None;
        for (write, outcome) in batch.drain(..).zip(outcomes) {
            let failure = match outcome {
                Ok(()) => {
                    add(&self.common.written, 1);
                    continue;
                }
                Err(failure) => failure,
            };
            if let FailureKind::Redirected(to) = &failure.kind {
                let route = route.upgrade().filter(|_| !write.is_redirected);
                let node = route.and_then(|route| route.redirected(to));
                if !node.is_some_and(|node| node.take_over(write, to.asking)) {
                    add(&self.common.dropped, 1);
                }
                continue;
            }
            add(&self.common.refused, 1);
            if worst
                .as_ref()
                .is_none_or(|worst| worst.kind == FailureKind::Full)
            {
                worst = Some(failure);
            }
        }
        match worst {
            Some(failure) => self.failed(generation, Function::Write, &failure),
            None => self.answered(generation, Function::Write),
        }
    }
}
