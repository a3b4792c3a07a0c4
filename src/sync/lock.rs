//! The standard library's locks, without poison. Not `parking_lot`'s: that keeps the threads which
//! wait in one table of the process. A forked child inherits the table with threads that it has not,
//! and whoever waits there next follows pointers to their reused stacks.

use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use std::sync::MutexGuard;

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    /// For locks that are held for moments, unless by a thread that a forked child has not: gives the
    /// processor away again and again, and up after that time.
    pub(crate) fn try_lock_for(&self, duration: Duration) -> Option<MutexGuard<'_, T>> {
        const SPINS: u32 = 64;
        const YIELDS: u32 = 128;
        if let Some(guard) = self.try_lock() {
            return Some(guard); // without a look at the clock
        }
        let until = Instant::now().checked_add(duration);
        for round in 0_u32.. {
            if let Some(guard) = self.try_lock() {
                return Some(guard);
            }
            match round {
                0..SPINS => std::hint::spin_loop(),
                SPINS..YIELDS => thread::yield_now(),
                _ if until.is_some_and(|until| Instant::now() >= until) => return None,
                _ => thread::sleep(Duration::from_micros(50)),
            }
        }
        None
    }
}

#[derive(Default)]
pub(crate) struct Condvar(std::sync::Condvar);

impl Condvar {
    /// True after that time.
    pub(crate) fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        until: Instant,
    ) -> (MutexGuard<'a, T>, bool) {
        let left = until.saturating_duration_since(Instant::now());
        let (guard, result) = self
            .0
            .wait_timeout(guard, left)
            .unwrap_or_else(PoisonError::into_inner);
        (guard, result.timed_out())
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_never_released_is_given_up() {
        let mutex = Mutex::new(7);
        let held = mutex.lock();
        assert!(mutex.try_lock_for(Duration::from_millis(1)).is_none());
        drop(held);
        assert_eq!(*mutex.try_lock_for(Duration::ZERO).unwrap(), 7);
    }

    #[test]
    fn a_lock_that_is_released_in_time_is_had_however_long_that_takes() {
        let mutex = Mutex::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..3 {
                        let mut held = mutex.try_lock_for(Duration::from_secs(3_600)).unwrap();
                        // Far longer than anybody spins, and shorter than anybody waits.
                        thread::sleep(Duration::from_millis(20));
                        *held += 1;
                    }
                });
            }
        });
        assert_eq!(*mutex.lock(), 12);
    }

    #[test]
    fn a_panic_while_it_is_held_changes_nothing() {
        let mutex = Mutex::new(7);
        thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let _held = mutex.lock();
                panic!("on purpose");
            });
            assert!(holder.join().is_err());
        });
        assert_eq!(*mutex.lock(), 7);
        assert_eq!(*mutex.try_lock().unwrap(), 7);
    }

    #[test]
    fn many_wait_for_one_lock() {
        let mutex = Mutex::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        *mutex.try_lock_for(Duration::from_secs(60)).unwrap() += 1;
                    }
                });
            }
        });
        assert_eq!(*mutex.lock(), 4_000);
    }
}
