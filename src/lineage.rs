use crate::clock::Time;

/// What is known of a session's descent. It travels with the session, sealed, wherever that goes:
/// in a ticket, in the cache, in a shared store.
///
/// ```text
///  0       6       7
///  | birth | flags |
/// ```
///
/// The birth is in milliseconds since the Unix epoch, big-endian.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Lineage {
    /// When the full handshake began that the session descends from, or the oldest time at which
    /// its age was not known.
    pub(crate) birth: Time,
    /// False if some handshake on the way had no context: the session may be older than its birth.
    pub(crate) is_known: bool,
    /// Whether the session renews one that was resumed, which shows that its client comes back.
    pub(crate) is_renewal: bool,
    /// Whether the full handshake asked for a client certificate.
    pub(crate) was_asked: bool,
    /// Whether it is not known what the full handshake asked for, because no configuration was
    /// seen.
    pub(crate) is_unseen: bool,
    /// Whether the birth is when the session was made, some moments after its handshake began,
    /// because nobody saw that begin.
    pub(crate) is_late: bool,
}

const UNKNOWN: u8 = 1;
const RENEWAL: u8 = 2;
const ASKED: u8 = 4;
const UNSEEN: u8 = 8;
const LATE: u8 = 16;

impl Lineage {
    pub(crate) const LEN: usize = Time::LEN + 1;

    /// Of a session that a full handshake makes.
    pub(crate) fn of_full_handshake(birth: Time) -> Self {
        Self {
            birth,
            is_known: true,
            is_renewal: false,
            was_asked: false,
            is_unseen: false,
            is_late: false,
        }
    }

    /// Whether it begins at a handshake that had no context.
    pub(crate) fn begins_unknown(self) -> bool {
        !self.is_known && !self.is_renewal
    }

    /// Whether its handshake began at its birth, not before.
    pub(crate) fn is_exact(self) -> bool {
        self.is_known && !self.is_late
    }

    #[inline(always)]
    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let [a, b, c, d, e, f] = self.birth.to_bytes();
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(!self.is_known, UNKNOWN)
            | flag(self.is_renewal, RENEWAL)
            | flag(self.was_asked, ASKED)
            | flag(self.is_unseen, UNSEEN)
            | flag(self.is_late, LATE);
        [a, b, c, d, e, f, flags]
    }

    pub(crate) fn from_bytes([a, b, c, d, e, f, flags]: [u8; Self::LEN]) -> Self {
        Self {
            birth: Time::from_bytes([a, b, c, d, e, f]),
            is_known: flags & UNKNOWN == 0,
            is_renewal: flags & RENEWAL != 0,
            was_asked: flags & ASKED != 0,
            is_unseen: flags & UNSEEN != 0,
            is_late: flags & LATE != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_lineage() {
        let birth = Time(0x0102_0304_0506);
        for (is_known, is_renewal, was_asked, is_unseen, is_late, flags) in [
            (true, false, false, false, false, 0),
            (false, false, false, false, false, 1),
            (true, true, false, false, false, 2),
            (true, false, true, false, false, 4),
            (true, false, false, true, false, 8),
            (true, false, false, false, true, 16),
            (false, true, true, true, true, 31),
        ] {
            let lineage = Lineage {
                birth,
                is_known,
                is_renewal,
                was_asked,
                is_unseen,
                is_late,
            };
            let bytes = lineage.to_bytes();
            assert_eq!(bytes, [1, 2, 3, 4, 5, 6, flags]);
            assert_eq!(Lineage::from_bytes(bytes), lineage);
        }
    }
}
