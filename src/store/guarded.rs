use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{SharedStore, StoreError, StoreKey, StoreLookup};
use crate::errands::guarded;
use crate::stats::StoreHealth;

/// A store whose panics go no further: rustls calls it in the middle of a handshake, which must
/// not fail because of resumption. One that panics has failed.
pub(super) struct GuardedStore {
    /// Here until this is dropped.
    store: Option<Box<dyn SharedStore>>,
    name: &'static str,
}

impl GuardedStore {
    pub(super) fn new(store: Box<dyn SharedStore>) -> Self {
        Self {
            name: guarded(|| store.name()).unwrap_or("custom"),
            store: Some(store),
        }
    }

    pub(super) fn prepare(&self, deadline: Duration) {
        self.ask(|store| store.prepare(deadline));
    }

    pub(super) fn fetch(&self, key: &StoreKey, deadline: Duration) -> GuardedLookup {
        GuardedLookup(self.ask(|store| store.fetch(key, deadline)))
    }

    pub(super) fn claim(&self, key: &StoreKey, deadline: Duration) -> GuardedLookup {
        GuardedLookup(self.ask(|store| store.claim(key, deadline)))
    }

    pub(super) fn write(&self, key: StoreKey, value: Vec<u8>, ttl: Duration) -> bool {
        self.ask(|store| store.write(key, value, ttl))
            .unwrap_or(false)
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn health(&self) -> StoreHealth {
        self.ask(|store| store.health()).unwrap_or_default()
    }

    fn ask<R>(&self, question: impl FnOnce(&dyn SharedStore) -> R) -> Option<R> {
        let store = self.store.as_deref()?;
        guarded(|| question(store))
    }
}

impl Drop for GuardedStore {
    fn drop(&mut self) {
        let store = self.store.take();
        guarded(|| drop(store));
    }
}

/// A look-up whose panic counts as a failure. `None` once it has panicked.
pub(super) struct GuardedLookup(Option<StoreLookup>);

impl Future for GuardedLookup {
    type Output = Result<Option<Vec<u8>>, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let lookup = self.0.as_mut();
        let polled = lookup.and_then(|lookup| guarded(|| lookup.as_mut().poll(cx)));
        polled.unwrap_or_else(|| Poll::Ready(Err(StoreError::Failed("it panicked".into()))))
    }
}

impl Drop for GuardedLookup {
    fn drop(&mut self) {
        let lookup = self.0.take();
        guarded(|| drop(lookup));
    }
}
