use std::sync::Arc;

use shuttle::sync::MutexGuard;

/// Tries so many schedules at random, and as many in which the few worst switches are chosen with
/// care.
pub(crate) fn try_schedules(count: usize, test: fn()) {
    shuttle::check_random(test, count);
    shuttle::check_pct(test, count, 3);
}

/// As `parking_lot`'s.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// As `arc_swap`'s: each load sees one value as a whole, and holds no lock after.
pub(crate) struct ArcSwap<T>(Mutex<Arc<T>>);

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        Self(Mutex::new(Arc::new(value)))
    }

    pub(crate) fn load(&self) -> Arc<T> {
        Arc::clone(&self.0.lock())
    }

    pub(crate) fn store(&self, value: Arc<T>) {
        // Dropped, and with it perhaps keys, once it is unlocked.
        let _before = std::mem::replace(&mut *self.0.lock(), value);
    }
}
