//! Timing: contenders take turns in rounds, and are compared round by round.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

/// How thorough a measurement is.
#[derive(Clone, Copy, PartialEq)]
pub enum Effort {
    /// Enough rounds for a median that holds on a quiet machine.
    Full,
    /// A few rounds, to check that everything still runs. The figures mean nothing.
    Quick,
}

impl Effort {
    /// Quick or full.
    pub fn new(quick: bool) -> Self {
        if quick { Self::Quick } else { Self::Full }
    }

    /// How many rounds to run where the full measurement takes `full`.
    pub fn rounds(self, full: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Quick => 2,
        }
    }

    /// How many operations a round has where the full measurement takes `full`.
    pub fn operations(self, full: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Quick => full.div_ceil(10),
        }
    }
}

/// One contender's cost in each round, in nanoseconds per operation.
#[derive(Clone, Debug, Default)]
pub struct Costs(Vec<f64>);

impl Costs {
    /// The median of all rounds.
    pub fn median(&self) -> f64 {
        median(self.0.clone())
    }

    /// This cost divided by `other`'s in the same round, for each round.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }
}

/// Runs each contender once per round, in turns, so that other load on the machine affects all of
/// them alike. A contender returns its cost in that round.
pub fn turn_about<const N: usize, F: FnMut() -> f64>(
    rounds: usize,
    mut contenders: [F; N],
) -> [Costs; N] {
    let mut costs = [const { Costs(Vec::new()) }; N];
    // A first round, which does not count, warms up caches, branch predictors and allocators.
    for contender in &mut contenders {
        contender();
    }
    for round in 0..rounds {
        for turn in 0..N {
            let i = (round + turn) % N;
            costs[i].0.push(contenders[i]());
        }
    }
    costs
}

/// Runs `work` on all items at the same time, each on its own thread.
pub fn at_once<T: Send, R: Send>(items: &mut [T], work: impl Fn(&mut T) -> R + Sync) -> Vec<R> {
    if let [only] = items {
        return vec![work(only)];
    }
    let start = Barrier::new(items.len());
    thread::scope(|scope| {
        let threads: Vec<_> = items
            .iter_mut()
            .map(|item| {
                scope.spawn(|| {
                    start.wait();
                    work(item)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a measuring thread panicked"))
            .collect()
    })
}

/// Runs `work` on all items at the same time and returns how long the slowest took.
pub fn slowest<T: Send>(items: &mut [T], work: impl Fn(&mut T) -> Duration + Sync) -> Duration {
    at_once(items, work).into_iter().max().unwrap_or_default()
}

/// Nanoseconds per operation.
pub fn each(total: Duration, operations: usize) -> f64 {
    total.as_nanos() as f64 / operations.max(1) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_are_compared_round_by_round() {
        let mut drift = (1..=6).map(f64::from);
        let mut same_drift = drift.clone();
        let contenders: [&mut dyn FnMut() -> f64; 2] =
            [&mut || 3.0 * drift.next().unwrap(), &mut || {
                same_drift.next().unwrap()
            }];
        let [slow, fast] = turn_about(5, contenders);
        assert_eq!(fast.median(), 4.0);
        assert_eq!(slow.over(&fast).median(), 3.0);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(median(vec![9.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn every_item_is_processed_and_results_keep_their_order() {
        let mut items = [1, 2, 3];
        assert_eq!(at_once(&mut items, |item| *item * 10), [10, 20, 30]);
        assert_eq!(at_once(&mut items[..1], |item| *item * 10), [10]);
    }
}
