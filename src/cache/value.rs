#![expect(
    clippy::arithmetic_side_effects,
    reason = "counts the few values that there is room for"
)]

use zeroize::{Zeroize, Zeroizing};

use super::certificates::{Issuers, TRAILER_LEN};

/// A session as the cache keeps it, whole or with a part of its chain [cut out](Issuers::cut):
/// exactly as large as it must be, wiped when dropped.
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

    /// A session, or what is left of it and the part that was cut out.
    pub(crate) fn of(
        mut session: Vec<u8>,
        cut: Option<(Box<[u8]>, Issuers)>,
    ) -> (Self, Option<Issuers>) {
        match cut {
            None => (Self::new(session), None),
            Some((left, issuers)) => {
                session.zeroize();
                (Self(Zeroizing::new(left)), Some(issuers))
            }
        }
    }

    /// Says which part it was.
    pub(crate) fn set_issuers(&mut self, number: u32) {
        if let Some(place) = self.0.last_chunk_mut() {
            *place = number.to_ne_bytes();
        }
    }

    /// Which part it was, where one was cut out.
    pub(crate) fn issuers(&self) -> u32 {
        const { assert!(TRAILER_LEN == 8) };
        self.0.last_chunk().copied().map_or(0, u32::from_ne_bytes)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What leaves a shard: a value, the part that was cut out of it if somebody wants it or nobody has it
/// any more, or both.
#[derive(Default)]
pub(crate) struct Leaving {
    pub(crate) value: Value,
    pub(crate) issuers: Option<Issuers>,
}

impl Leaving {
    /// The session. Copies nothing unless a part was cut out.
    pub(crate) fn into_session(self) -> Zeroizing<Vec<u8>> {
        let Self { mut value, issuers } = self;
        match issuers {
            None => Zeroizing::new(std::mem::take(&mut *value.0).into_vec()),
            Some(issuers) => {
                let mut session = Zeroizing::new(Vec::new());
                issuers.put_back(&value.0, &mut session);
                session
            }
        }
    }
}

/// Values that were removed from a shard, to be wiped outside its lock. Few are removed at once;
/// who may remove more makes room for them before.
#[derive(Default)]
pub(crate) struct Removed {
    values: [Option<Leaving>; 2],
    count: usize,
    more: Vec<Leaving>,
    total: usize,
}

impl Removed {
    /// With room for so many.
    pub(crate) fn with_room(count: u32) -> Self {
        Self {
            more: Vec::with_capacity(count as usize),
            ..Self::default()
        }
    }

    /// How many values were removed.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// What does not fit is wiped on the spot.
    pub(crate) fn push(&mut self, value: Leaving) {
        self.total += 1;
        if let Some(place) = self.values.get_mut(self.count) {
            *place = Some(value);
            self.count += 1;
        } else if self.more.len() < self.more.capacity() {
            self.more.push(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaving(value: Value) -> Leaving {
        let issuers = None;
        Leaving { value, issuers }
    }

    #[test]
    fn a_value_is_the_session_and_no_larger() {
        for capacity in [7, 100] {
            let mut session = Vec::with_capacity(capacity);
            session.extend_from_slice(b"session");
            let value = Value::new(session);
            assert_eq!((value.len(), value.bytes()), (7, &b"session"[..]));
            let session = leaving(value).into_session();
            assert_eq!((session.capacity(), &**session), (7, &b"session"[..]));
        }
        assert_eq!(Value::default().len(), 0);
    }

    #[test]
    fn the_first_few_that_leave_are_kept_for_the_caller_to_wipe() {
        let mut removed = Removed::default();
        for number in 0..6 {
            removed.push(leaving(Value::new(vec![number; 4])));
        }
        let kept = removed.values.iter().flatten();
        let kept = kept.map(|leaving| leaving.value.0[0]);
        assert_eq!(kept.collect::<Vec<_>>(), [0, 1]);
        assert_eq!(removed.more.len(), 0);
        let mut removed = Removed::with_room(256);
        for _ in 0..260 {
            removed.push(leaving(Value::new(vec![1; 4])));
        }
        assert_eq!(removed.more.len(), 256, "a whole step of sweeping");
    }
}
