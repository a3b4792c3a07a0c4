use std::array;
use std::sync::LazyLock;
use std::sync::atomic::AtomicUsize;
use std::thread;

use crate::sync::atomic::{AtomicU64, Ordering};

/// Counters that every thread may increase without sharing a cache line with another: each adds to
/// a stripe of its own, and reading sums them.
///
/// `N` counters are named by the variants of an enum cast to `usize`; one out of range counts
/// nothing.
pub(crate) struct Counters<const N: usize> {
    stripes: Box<[Stripe<N>]>,
}

/// Two cache lines, because processors fetch them in pairs.
#[repr(align(128))]
struct Stripe<const N: usize>([AtomicU64; N]);

impl<const N: usize> Counters<N> {
    pub(crate) fn new() -> Self {
        let stripes = cores().saturating_mul(2).next_power_of_two();
        Self {
            stripes: (0..stripes)
                .map(|_| Stripe(array::from_fn(|_| AtomicU64::new(0))))
                .collect(),
        }
    }

    pub(crate) fn add(&self, counter: usize) {
        // There is a power of two of them.
        let number = thread_number() & self.stripes.len().wrapping_sub(1);
        let stripe = self.stripes.get(number);
        if let Some(counter) = stripe.and_then(|stripe| stripe.0.get(counter)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn sum(&self, counter: usize) -> u64 {
        let counters = self.stripes.iter().filter_map(|s| s.0.get(counter));
        counters.map(|c| c.load(Ordering::Relaxed)).sum()
    }
}

/// How many threads run at once. Asked once, for Linux reads several files to answer.
pub(crate) fn cores() -> usize {
    static CORES: LazyLock<usize> =
        LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));
    *CORES
}

/// Threads are numbered as they come, so that any few of them have stripes of their own.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.try_with(|number| *number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(rustls_resumption_shuttle)]
    #[test]
    fn shuttle_nothing_is_lost_and_what_was_counted_before_is_seen() {
        use std::sync::Arc;

        crate::sync::try_schedules(2_000, || {
            let counters = Arc::new(Counters::<2>::new());
            let threads = [(); 3].map(|()| {
                let counters = Arc::clone(&counters);
                shuttle::thread::spawn(move || {
                    for done in 1..=2 {
                        counters.add(1);
                        assert!((done..=6).contains(&counters.sum(1)));
                    }
                })
            });
            let mut seen = 0;
            for thread in threads {
                let sum = counters.sum(1);
                assert!(sum >= seen, "they only grow");
                seen = sum;
                thread.join().unwrap();
            }
            assert_eq!((counters.sum(0), counters.sum(1)), (0, 6));
        });
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let counters = Counters::<2>::new();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1_000).for_each(|_| counters.add(1)));
            }
        });
        assert_eq!((counters.sum(0), counters.sum(1)), (0, 8_000));
        counters.add(2);
        assert_eq!(counters.sum(2), 0, "there is no such counter");
    }
}
