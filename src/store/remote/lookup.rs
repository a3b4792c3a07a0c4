use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::runtime::Handle;

use super::backend::Redirection;
use super::in_flight::Permit;
use crate::store::StoreError;

/// A look-up under way, which may be awaited on any thread: it goes straight to the connection,
/// and is woken by whoever reads from that.
///
/// One that is dropped midway ends on the store's thread. So the breaker hears how it ended, and it
/// counts as in flight until then, whether or not its client waited.
pub(super) struct Lookup {
    asked: Option<Asked>,
    is_under_way: bool,
    store: Handle,
}

type Asked = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What a server is asked.
pub(super) struct Question {
    pub(super) key: String,
    pub(super) claim: bool,
    pub(super) asking: bool,
    pub(super) until: Instant,
    pub(super) _in_flight: Permit,
}

pub(super) type Answer = Result<Option<Vec<u8>>, Unanswered>;

/// Why there was no answer to a look-up.
pub(in crate::store) enum Unanswered {
    Failed(StoreError),
    /// Another server has the key, and this one did nothing.
    Redirected(Redirection),
}

impl Lookup {
    pub(super) fn new(asked: impl Future<Output = Answer> + Send + 'static, store: Handle) -> Self {
        Self {
            asked: Some(Box::pin(asked)),
            is_under_way: false,
            store,
        }
    }
}

impl Future for Lookup {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(asked) = &mut self.asked else {
            return Poll::Ready(Err(Unanswered::Failed(StoreError::Unavailable)));
        };
        let polled = asked.as_mut().poll(cx);
        self.is_under_way = polled.is_pending();
        if polled.is_ready() {
            self.asked = None;
        }
        polled
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if let Some(asked) = self.asked.take_if(|_| self.is_under_way) {
            drop(self.store.spawn(asked));
        }
    }
}
