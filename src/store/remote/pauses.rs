use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Growing pauses between attempts to connect, none of two nodes alike.
pub(in crate::store) struct Pauses {
    next: Duration,
}

impl Pauses {
    const MIN: Duration = Duration::from_millis(50);
    pub(in crate::store) const MAX: Duration = Duration::from_secs(1);

    /// A connection that lasted for as long is not part of the trouble before it.
    const STABLE: Duration = Duration::from_secs(10);

    pub(in crate::store) fn new() -> Self {
        Self { next: Self::MIN }
    }

    /// Begins anew after a connection that lasted for so long, if that is long enough.
    pub(super) fn after(&mut self, lasted: Duration) {
        if lasted >= Self::STABLE {
            *self = Self::new();
        }
    }

    /// Half of it at least, so that a fleet that lost its server at once does not come back at
    /// once.
    pub(in crate::store) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(Self::MAX);
        // Hashers are keyed at random.
        let random = RandomState::new().hash_one(()) as u32;
        pause.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_are_not_all_alike() {
        let mut pauses = Pauses::new();
        let mut bound = Pauses::MIN;
        for _ in 0..20 {
            let pause = pauses.next();
            assert!((bound / 2..=bound).contains(&pause), "{pause:?} {bound:?}");
            bound = (bound * 2).min(Pauses::MAX);
        }
        assert_ne!(pauses.next(), pauses.next());
    }

    #[test]
    fn they_are_short_again_after_a_connection_that_lasted() {
        for (lasted, bound) in [(9_999, Pauses::MIN * 4), (10_000, Pauses::MIN)] {
            let mut pauses = Pauses::new();
            pauses.next();
            pauses.next();
            pauses.after(Duration::from_millis(lasted));
            let pause = pauses.next();
            assert!((bound / 2..=bound).contains(&pause), "{pause:?} {bound:?}");
        }
    }
}
