use std::sync::LazyLock;
use std::sync::atomic::AtomicUsize;
use std::thread;

use crossbeam_utils::CachePadded;

use crate::sync::atomic::{AtomicU64, Ordering};

/// A group of counters.
pub(crate) trait Counted: Sized {
    /// The enum that names them.
    type Count: Copy;
    /// As many cells as there are counters.
    type Cells: AsRef<[AtomicU64]> + Default;

    /// Numbers them from 0. One out of range counts nothing.
    fn index(count: Self::Count) -> usize;

    /// What they are now, each by its sum. What is not counted by name is 0.
    fn read(sum: impl Fn(Self::Count) -> u64) -> Self;

    /// Adds what was counted elsewhere.
    fn add(&mut self, other: &Self);
}

/// Counters that every thread may increase without sharing a cache line with another: each adds to
/// a stripe of its own, and reading sums them.
pub(crate) struct Counters<G: Counted> {
    stripes: Box<[CachePadded<G::Cells>]>,
}

impl<G: Counted> Counters<G> {
    pub(crate) fn new() -> Self {
        let stripes = cores().saturating_mul(2).next_power_of_two();
        Self {
            stripes: (0..stripes).map(|_| CachePadded::default()).collect(),
        }
    }

    pub(crate) fn add(&self, count: G::Count) {
        // There is a power of two of them.
        let number = thread_number() & self.stripes.len().wrapping_sub(1);
        let stripe = self.stripes.get(number);
        let cells = stripe.map(|stripe| G::Cells::as_ref(stripe));
        if let Some(cell) = cells.and_then(|cells| cells.get(G::index(count))) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> G {
        G::read(|count| self.sum(count))
    }

    fn sum(&self, count: G::Count) -> u64 {
        let cells = self.stripes.iter().map(|stripe| G::Cells::as_ref(stripe));
        let counted = cells.filter_map(|cells| cells.get(G::index(count)));
        counted.map(|cell| cell.load(Ordering::Relaxed)).sum()
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

    /// Two counters.
    struct Two;

    impl Counted for Two {
        type Count = usize;
        type Cells = [AtomicU64; 2];

        fn index(count: usize) -> usize {
            count
        }

        fn read(_: impl Fn(usize) -> u64) -> Self {
            Self
        }

        fn add(&mut self, _: &Self) {}
    }

    #[cfg(rustls_resumption_shuttle)]
    #[test]
    fn shuttle_nothing_is_lost_and_what_was_counted_before_is_seen() {
        use std::sync::Arc;

        crate::sync::try_schedules(2_000, || {
            let counters = Arc::new(Counters::<Two>::new());
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
        let counters = Counters::<Two>::new();
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
