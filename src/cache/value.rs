#![expect(
    clippy::arithmetic_side_effects,
    reason = "counts the few values that there is room for"
)]

use zeroize::{Zeroize, Zeroizing};

/// A session as the cache keeps it: exactly as large as it must be, wiped when dropped.
pub(crate) type Value = Zeroizing<Box<[u8]>>;

/// Makes a value of exactly its size, and wipes the buffer it came in, spare capacity included.
pub(crate) fn value_of(mut buffer: Vec<u8>) -> Value {
    if buffer.len() == buffer.capacity() {
        return Zeroizing::new(buffer.into_boxed_slice());
    }
    let exact: Box<[u8]> = buffer.as_slice().into();
    buffer.zeroize();
    Zeroizing::new(exact)
}

/// Values that were removed from a shard, to be wiped outside its lock. Few are removed at once;
/// what does not fit is wiped on the spot.
#[derive(Default)]
pub(crate) struct Removed {
    values: [Value; 4],
    count: usize,
}

impl Removed {
    pub(crate) fn push(&mut self, value: Value) {
        if let Some(place) = self.values.get_mut(self.count) {
            *place = value;
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_few_that_leave_are_kept_for_the_caller_to_wipe() {
        let mut removed = Removed::default();
        for number in 0..6 {
            removed.push(value_of(vec![number; 4]));
        }
        let kept = removed.values.iter().map(|value| value[0]);
        assert_eq!(kept.collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
