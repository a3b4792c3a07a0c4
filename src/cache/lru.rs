#![expect(
    clippy::arithmetic_side_effects,
    reason = "lengths of lists: nothing is subtracted that was not added"
)]

use super::slab::{Link, NONE, Slab};

/// In which order a shard's sessions are evicted: a segmented LRU.
///
/// A session enters on *probation*. One that is read moves to the *protected* segment, which holds
/// at most four fifths of the shard; what it pushes out goes back on probation. Eviction takes the
/// least recently used on probation. So sessions that are stored and never asked for again, however
/// many, push out only each other.
///
/// A protected session that is read again is only marked, which touches none of its neighbours. It
/// moves to the front when it would be pushed out, one at a time.
#[derive(Default)]
pub(crate) struct Lru {
    probation: List,
    protected: List,
}

/// Flags of a slot that are this policy's.
const PROTECTED: u64 = 1 << 60;
const READ_AGAIN: u64 = 1 << 61;

impl Lru {
    pub(crate) fn len(&self) -> usize {
        self.probation.len + self.protected.len
    }

    /// Enters a new session. One whose client is known to come back is protected at once. The
    /// shard has room for so many.
    pub(crate) fn insert(&mut self, index: u32, is_renewal: bool, room: usize, slab: &mut Slab) {
        match is_renewal {
            true => self.protect(index, room, slab),
            false => self.probation.push_front(index, slab),
        }
    }

    /// Remembers that a session was read.
    pub(crate) fn touch(&mut self, index: u32, room: usize, slab: &mut Slab) {
        if slab.slot(index).has(PROTECTED) {
            slab.slot_mut(index).set(READ_AGAIN);
        } else {
            self.probation.unlink(index, slab);
            self.protect(index, room, slab);
        }
    }

    /// Forgets a session, before its slot is freed.
    pub(crate) fn remove(&mut self, index: u32, slab: &mut Slab) {
        match slab.slot(index).has(PROTECTED) {
            true => self.protected.unlink(index, slab),
            false => self.probation.unlink(index, slab),
        }
    }

    /// The least valuable session, of one at least.
    pub(crate) fn victim(&mut self, slab: &mut Slab) -> u32 {
        match self.probation.tail {
            NONE => {
                self.spare_if_read_again(slab);
                self.protected.tail
            }
            tail => tail,
        }
    }

    /// Demotes a session if more are protected than may be where there is room for so many.
    pub(crate) fn demote_beyond(&mut self, room: usize, slab: &mut Slab) {
        if self.protected.len > protected_of(room) {
            self.demote(slab);
        }
    }

    /// Puts an unlinked session at the front of the protected segment.
    fn protect(&mut self, index: u32, room: usize, slab: &mut Slab) {
        slab.slot_mut(index).set(PROTECTED);
        self.protected.push_front(index, slab);
        self.demote_beyond(room, slab);
    }

    /// Puts the last of the protected segment back on probation.
    fn demote(&mut self, slab: &mut Slab) {
        self.spare_if_read_again(slab);
        let demoted = self.protected.tail;
        self.protected.unlink(demoted, slab);
        slab.slot_mut(demoted).clear(PROTECTED | READ_AGAIN);
        self.probation.push_front(demoted, slab);
    }

    /// Moves a session that was read again from the end of the protected segment to its front.
    fn spare_if_read_again(&mut self, slab: &mut Slab) {
        let tail = self.protected.tail;
        if slab.slot(tail).has(READ_AGAIN) {
            slab.slot_mut(tail).clear(READ_AGAIN);
            self.protected.unlink(tail, slab);
            self.protected.push_front(tail, slab);
        }
    }

    /// How many are protected, and how many on probation.
    #[cfg(test)]
    pub(crate) fn lens(&self) -> (usize, usize) {
        (self.protected.len, self.probation.len)
    }
}

/// How many sessions may be protected where there is room for so many.
fn protected_of(room: usize) -> usize {
    (room.saturating_mul(4) / 5).max(1)
}

#[derive(Clone, Copy, Default)]
struct List {
    head: u32,
    tail: u32,
    len: usize,
}

impl List {
    fn push_front(&mut self, index: u32, slab: &mut Slab) {
        let head = self.head;
        let link = slab.link_mut(index);
        (link.previous, link.next) = (NONE, head);
        match head {
            NONE => self.tail = index,
            head => slab.link_mut(head).previous = index,
        }
        self.head = index;
        self.len += 1;
    }

    fn unlink(&mut self, index: u32, slab: &mut Slab) {
        let Link { previous, next, .. } = slab.link(index);
        match previous {
            NONE => self.head = next,
            previous => slab.link_mut(previous).next = next,
        }
        match next {
            NONE => self.tail = previous,
            next => slab.link_mut(next).previous = previous,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::KeyHasher;
    use crate::cache::slab::Entry;
    use crate::cache::value::Value;
    use crate::clock::Time;
    use crate::lineage::Lineage;
    use crate::session::Version;

    #[test]
    fn flags_leave_each_other_and_the_expiry_alone() {
        let (mut slab, mut lru) = (Slab::default(), Lru::default());
        let mut insert = |number| {
            let entry = Entry {
                value: Value::new(vec![number]),
                issuers: None,
                lineage: Lineage::of_full_handshake(Time(0)),
                version: Some(Version::Tls12),
                expires: Time(1_000),
                is_renewal: false,
            };
            let index = slab.insert(KeyHasher::random().key(1, &[number; 32]), entry, false);
            lru.insert(index, false, 10, &mut slab);
            index
        };
        let (first, second) = (insert(1), insert(2));
        let flags = |slab: &Slab, index| {
            let slot = slab.slot(index);
            (slot.has(PROTECTED), slot.has(READ_AGAIN))
        };
        assert_eq!(flags(&slab, first), (false, false));
        lru.touch(first, 10, &mut slab);
        assert_eq!(flags(&slab, first), (true, false));
        lru.touch(first, 10, &mut slab);
        assert_eq!(flags(&slab, first), (true, true));
        lru.touch(second, 10, &mut slab);
        lru.touch(second, 10, &mut slab);
        assert_eq!(lru.lens(), (2, 0));
        lru.demote(&mut slab);
        assert_eq!(flags(&slab, first), (true, false), "spared once");
        assert_eq!(
            flags(&slab, second),
            (false, false),
            "that of the protected ends too"
        );
        assert_eq!(lru.lens(), (1, 1));
        for index in [first, second] {
            let slot = slab.slot(index);
            assert!(slot.is_used());
            assert_eq!(slot.version(), Some(Version::Tls12));
            assert_eq!(slot.expires(), Time(1_000));
        }
    }
}
