//! What following a handshake costs, apart from the handshake.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rustls::server::ProducesTickets;
use rustls_resumption::Resumption;

/// A stand-in for handshakes by TLS 1.3: of rustls there is what it asks of a ticketer and when,
/// and nothing else, so that no key exchange hides what is to be counted.
pub struct Workload {
    resumption: Resumption,
    ticketer: Arc<dyn ProducesTickets>,
    session: Vec<u8>,
    ticket: Vec<u8>,
}

impl Workload {
    /// Each handshake resumes this session.
    pub fn new(session: &[u8]) -> Self {
        let resumption = Resumption::tickets().expect("the system's randomness failed");
        let ticketer = resumption.ticketer("benches");
        let ticket = ticketer.encrypt(session);
        Self {
            resumption,
            session: session.to_vec(),
            ticket: ticket.expect("a session that cannot be sealed"),
            ticketer,
        }
    }

    /// Handshakes in two polls, as when the client's Finished is waited for: one look-up before,
    /// two tickets after.
    pub fn resumes(&self, handshakes: usize, follows: bool) {
        self.repeat(handshakes, follows, || async {
            let opened = self.ticketer.decrypt(&self.ticket);
            assert!(black_box(opened).is_some());
            once_pending().await;
            black_box(self.ticketer.encrypt(&self.session));
            black_box(self.ticketer.encrypt(&self.session));
            Ok(())
        });
    }

    /// Handshakes in two polls that ask for nothing and make nothing.
    pub fn asks_nothing(&self, handshakes: usize, follows: bool) {
        self.repeat(handshakes, follows, || async {
            once_pending().await;
            Ok(())
        });
    }

    fn repeat<F>(&self, handshakes: usize, follows: bool, accept: impl Fn() -> F)
    where
        F: Future<Output = Result<(), Infallible>>,
    {
        for _ in 0..handshakes {
            match follows {
                true => drop(black_box(finish(self.resumption.follow(&accept)))),
                false => drop(black_box(finish(accept()))),
            }
        }
    }
}

async fn once_pending() {
    let mut is_ready = false;
    poll_fn(|_| match std::mem::replace(&mut is_ready, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

fn finish<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}
