use std::sync::Arc;

use shuttle::sync::MutexGuard;

/// Tries `count` random schedules, then as many that probabilistic concurrency testing chooses with
/// a depth of 3.
pub(crate) fn try_schedules(count: usize, test: fn()) {
    shuttle::check_random(test, count);
    shuttle::check_pct(test, count, 3);
}

/// With the interface of `parking_lot`'s.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }

    pub(crate) fn try_lock_for(&self, _: std::time::Duration) -> Option<MutexGuard<'_, T>> {
        self.0.lock().ok()
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// With the interface of `arc_swap`'s: a load sees one whole value, and holds no lock afterwards.
pub(crate) struct ArcSwap<T>(Mutex<Arc<T>>);

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        Self(Mutex::new(Arc::new(value)))
    }

    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        self.load()
    }

    pub(crate) fn load(&self) -> Arc<T> {
        Arc::clone(&self.0.lock())
    }

    pub(crate) fn store(&self, value: Arc<T>) {
        // The previous value may hold keys: it is dropped after unlocking.
        let _before = std::mem::replace(&mut *self.0.lock(), value);
    }
}
