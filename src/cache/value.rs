#![expect(
    clippy::arithmetic_side_effects,
    reason = "counts the few values that there is room for"
)]

use zeroize::{Zeroize, Zeroizing};

/// A session as the cache keeps it: exactly as large as it must be, wiped when dropped.
#[derive(Default)]
pub(crate) struct Value(Zeroizing<Box<[u8]>>);

impl Value {
    /// If the buffer that the session came in has spare capacity, it is copied, and the buffer is
    /// wiped, spare capacity included.
    pub(crate) fn new(mut session: Vec<u8>) -> Self {
        if session.len() == session.capacity() {
            return Self(Zeroizing::new(session.into_boxed_slice()));
        }
        let exact: Box<[u8]> = session.as_slice().into();
        session.zeroize();
        Self(Zeroizing::new(exact))
    }

    /// The length of the session.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn session(&self) -> &[u8] {
        &self.0
    }

    /// Copies nothing.
    pub(crate) fn into_session(mut self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(std::mem::take(&mut *self.0).into_vec())
    }
}

/// Values that were removed from a shard, to be wiped outside its lock. Few are removed at once;
/// who may remove more makes room for them before.
#[derive(Default)]
pub(crate) struct Removed {
    values: [Value; 4],
    count: usize,
    more: Vec<Value>,
}

impl Removed {
    /// With room for so many.
    pub(crate) fn with_room(count: u32) -> Self {
        Self {
            more: Vec::with_capacity(count as usize),
            ..Self::default()
        }
    }

    /// What does not fit is wiped on the spot.
    pub(crate) fn push(&mut self, value: Value) {
        if let Some(place) = self.values.get_mut(self.count) {
            *place = value;
            self.count += 1;
        } else if self.more.len() < self.more.capacity() {
            self.more.push(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_session_and_no_larger() {
        for capacity in [7, 100] {
            let mut session = Vec::with_capacity(capacity);
            session.extend_from_slice(b"session");
            let value = Value::new(session);
            assert_eq!((value.len(), value.session()), (7, &b"session"[..]));
            let session = value.into_session();
            assert_eq!((session.capacity(), &**session), (7, &b"session"[..]));
        }
        assert_eq!(Value::default().len(), 0);
    }

    #[test]
    fn the_first_few_that_leave_are_kept_for_the_caller_to_wipe() {
        let mut removed = Removed::default();
        for number in 0..6 {
            removed.push(Value::new(vec![number; 4]));
        }
        let kept = removed.values.iter().map(|value| value.0[0]);
        assert_eq!(kept.collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(removed.more.len(), 0);
        let mut removed = Removed::with_room(256);
        for _ in 0..260 {
            removed.push(Value::new(vec![1; 4]));
        }
        assert_eq!(removed.more.len(), 256, "a whole step of sweeping");
    }
}
