use std::sync::Mutex;
use std::time::Duration;

use rustls_resumption::stats::StoreHealth;
use rustls_resumption::store::{SharedStore, StoreKey, StoreLookup};

/// A store that remembers which keys were written.
pub(crate) struct Observed<S> {
    store: S,
    keys: Mutex<Vec<StoreKey>>,
}

impl<S> Observed<S> {
    pub(crate) fn new(store: S) -> Self {
        let keys = Mutex::default();
        Self { store, keys }
    }

    pub(crate) fn written(&self) -> Vec<StoreKey> {
        self.keys.lock().unwrap().clone()
    }
}

impl<S: SharedStore> SharedStore for Observed<S> {
    fn fetch(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.store.fetch(key, deadline)
    }

    fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.store.claim(key, deadline)
    }

    fn write(&self, key: StoreKey, value: Vec<u8>, ttl: Duration) -> bool {
        self.keys.lock().unwrap().push(key);
        self.store.write(key, value, ttl)
    }

    fn health(&self) -> StoreHealth {
        self.store.health()
    }
}
