use std::sync::Weak;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::{Line, Link, add};
use crate::store::remote::backend::{Connection, Failure, FailureKind, unless_it_panics};
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
        let writing = unless_it_panics(connection.write(batch));
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

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use tokio::runtime::Handle;

    use super::*;
    use crate::stats::{StoreHealth, StoreTrouble};
    use crate::store::remote::backend::{Backend, Redirection};
    use crate::store::remote::breaker::MAX_FAILURES;
    use crate::store::remote::node::tests::idle;
    use crate::store::remote::node::{Common, Node};

    const REFUSED: FailureKind = FailureKind::Refused(StoreTrouble::NotPermitted);

    /// A server that answers the writes of each batch so.
    #[derive(Clone)]
    struct Answers(Vec<FailureKind>);

    impl fmt::Display for Answers {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("test")
        }
    }

    impl Backend for Answers {
        type Connection = Self;

        async fn connect(&mut self) -> Result<Self, Failure> {
            unreachable!("it is connected")
        }

        fn write_timeout(&self) -> Duration {
            Duration::from_secs(30)
        }
    }

    impl Connection for Answers {
        async fn try_out(&mut self, _: &str) -> Result<(), Failure> {
            unreachable!("it is tried out")
        }

        async fn get(&mut self, _: &str, _: bool) -> Result<Option<Vec<u8>>, Failure> {
            unreachable!("it is only written to")
        }

        async fn get_and_delete(&mut self, _: &str, _: bool) -> Result<Option<Vec<u8>>, Failure> {
            unreachable!("it is only written to")
        }

        async fn write(&mut self, _: &[Write]) -> Result<Vec<Result<(), Failure>>, Failure> {
            let failed = |kind: &FailureKind| {
                Err(Failure {
                    kind: kind.clone(),
                    cause: "told to".into(),
                })
            };
            Ok(self.0.iter().map(failed).collect())
        }
    }

    /// All that is redirected goes to this node.
    struct To(Node);

    impl Route for To {
        fn node(&self, _: &str) -> Option<Node> {
            None
        }

        fn redirected(&self, _: &Redirection) -> Option<Node> {
            Some(self.0.clone())
        }

        fn health(&self) -> StoreHealth {
            StoreHealth::default()
        }
    }

    /// A line to a server that answers so.
    fn line(answers: &[FailureKind]) -> Line<Answers> {
        let server = Answers(answers.to_vec());
        let common = Arc::new(Common::new("test:session:".into()));
        let line = Line::new(&server, common, Handle::current(), false);
        line.serve_with(server, None);
        line
    }

    fn new_write() -> Write {
        let (node, mut queued) = idle();
        node.serves();
        assert!(node.write("key".into(), vec![7], Duration::from_secs(1)));
        queued.try_recv().unwrap()
    }

    #[tokio::test]
    async fn a_write_is_redirected_once_and_counted_if_that_was_in_vain() {
        let (node, mut queued) = idle();
        let to = Arc::new(To(node.clone()));
        let route: Weak<dyn Route> = Arc::downgrade(&to) as _;
        let line = line(&[FailureKind::Redirected(Redirection {
            address: "there".into(),
            asking: true,
        })]);
        let dropped = || line.common.dropped.load(Ordering::Relaxed);
        line.write(&mut vec![new_write()], &route).await;
        let redirected = queued.try_recv().unwrap();
        assert_eq!((redirected.asking, dropped()), (true, 0));
        line.write(&mut vec![redirected], &route).await;
        assert!(queued.try_recv().is_err());
        assert_eq!(dropped(), 1);
        node.fails();
        line.write(&mut vec![new_write()], &route).await;
        assert_eq!(dropped(), 2);
        assert!(!line.breaker.is_open(), "the server that redirects is well");
    }

    #[tokio::test]
    async fn a_server_is_not_well_for_being_full_for_half_a_batch() {
        for (answers, trouble) in [
            ([FailureKind::Full, REFUSED], StoreTrouble::NotPermitted),
            ([REFUSED, FailureKind::Full], StoreTrouble::NotPermitted),
            ([FailureKind::Full, FailureKind::Full], StoreTrouble::Full),
        ] {
            let line = line(&answers);
            let nowhere: Weak<dyn Route> = Weak::<To>::new();
            for _ in 0..MAX_FAILURES {
                let mut batch = vec![new_write(), new_write()];
                line.write(&mut batch, &nowhere).await;
            }
            assert_eq!(line.breaker.trouble(), Some(trouble));
            assert_eq!(line.breaker.is_open(), trouble != StoreTrouble::Full);
        }
    }
}
