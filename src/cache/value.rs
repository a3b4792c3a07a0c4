#![expect(
    clippy::arithmetic_side_effects,
    reason = "counts the few values that there is room for"
)]

use zeroize::{Zeroize, Zeroizing};

use crate::lineage::Lineage;

/// A session as the cache keeps it, its lineage behind it: exactly as large as it must be, wiped when
/// dropped.
#[derive(Default)]
pub(crate) struct Value(Zeroizing<Box<[u8]>>);

impl Value {
    /// Wipes the buffer that the session came in, spare capacity included.
    pub(crate) fn new(mut session: Vec<u8>, lineage: Lineage) -> Self {
        let mut exact = Vec::with_capacity(session.len() + Lineage::LEN);
        exact.extend_from_slice(&session);
        exact.extend_from_slice(&lineage.to_bytes());
        session.zeroize();
        Self(Zeroizing::new(exact.into_boxed_slice()))
    }

    /// The length of the session.
    pub(crate) fn len(&self) -> usize {
        self.0.len().saturating_sub(Lineage::LEN)
    }

    /// The session and its lineage. `None` only for the default.
    pub(crate) fn parts(&self) -> Option<(&[u8], Lineage)> {
        let (session, lineage) = self.0.split_last_chunk()?;
        Some((session, Lineage::from_bytes(*lineage)))
    }

    /// The same. Copies nothing.
    pub(crate) fn into_parts(mut self) -> Option<(Vec<u8>, Lineage)> {
        let (session, lineage) = self.parts()?;
        let len = session.len();
        let mut session = std::mem::take(&mut *self.0).into_vec();
        session.truncate(len);
        Some((session, lineage))
    }
}

/// Values that were removed from a shard, to be wiped outside its lock. Few are removed at once; who
/// may remove more makes room for them before.
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
    use crate::clock::Time;

    fn lineage() -> Lineage {
        Lineage::of_full_handshake(Time(7))
    }

    #[test]
    fn a_value_is_the_session_and_its_lineage_and_no_larger() {
        let mut session = Vec::with_capacity(100);
        session.extend_from_slice(b"session");
        let value = Value::new(session, lineage());
        assert_eq!(value.len(), 7);
        assert_eq!(value.0.len(), 7 + Lineage::LEN);
        assert_eq!(value.parts(), Some((&b"session"[..], lineage())));
        assert_eq!(value.into_parts(), Some((b"session".to_vec(), lineage())));
        assert_eq!(
            (Value::default().len(), Value::default().parts()),
            (0, None)
        );
    }

    #[test]
    fn the_first_few_that_leave_are_kept_for_the_caller_to_wipe() {
        let mut removed = Removed::default();
        for number in 0..6 {
            removed.push(Value::new(vec![number; 4], lineage()));
        }
        let kept = removed.values.iter().map(|value| value.0[0]);
        assert_eq!(kept.collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(removed.more.len(), 0);
        let mut removed = Removed::with_room(256);
        for _ in 0..260 {
            removed.push(Value::new(vec![1; 4], lineage()));
        }
        assert_eq!(removed.more.len(), 256, "a whole step of sweeping");
    }
}
