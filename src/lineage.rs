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
/// In memory the flags stay one byte too: they are set one at a time, and written all at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Lineage {
    /// When the full handshake began that the session descends from, or the oldest time at which
    /// its age was not known.
    pub(crate) birth: Time,
    flags: u8,
}

const UNKNOWN: u8 = 1;
const RENEWAL: u8 = 2;
const ASKED: u8 = 4;
const UNSEEN: u8 = 8;
const LATE: u8 = 16;

const ALL: u8 = UNKNOWN | RENEWAL | ASKED | UNSEEN | LATE;

impl Lineage {
    pub(crate) const LEN: usize = Time::LEN + 1;

    /// Of a session that a full handshake makes.
    pub(crate) fn of_full_handshake(birth: Time) -> Self {
        Self { birth, flags: 0 }
    }

    /// The same with some handshake on the way that had no context: the session may be older than
    /// its birth.
    pub(crate) fn of_unknown_age(self) -> Self {
        self.with(UNKNOWN)
    }

    /// Of a session of this birth that renews this one, which shows that its client comes back.
    pub(crate) fn renewed(self, birth: Time) -> Self {
        Self {
            birth,
            ..self.with(RENEWAL)
        }
    }

    /// The same where the full handshake asked for a client certificate.
    pub(crate) fn asked(self) -> Self {
        self.with(ASKED)
    }

    /// The same where it is not known what the full handshake asked for, because no configuration
    /// was seen.
    pub(crate) fn unseen(self) -> Self {
        self.with(UNSEEN)
    }

    /// The same where the birth is when the session was made, some moments after its handshake
    /// began, because nobody saw that begin.
    pub(crate) fn late(self) -> Self {
        self.with(LATE)
    }

    pub(crate) fn is_known(self) -> bool {
        !self.has(UNKNOWN)
    }

    pub(crate) fn is_renewal(self) -> bool {
        self.has(RENEWAL)
    }

    pub(crate) fn was_asked(self) -> bool {
        self.has(ASKED)
    }

    pub(crate) fn is_unseen(self) -> bool {
        self.has(UNSEEN)
    }

    /// Whether it begins at a handshake that had no context.
    pub(crate) fn begins_unknown(self) -> bool {
        self.flags & (UNKNOWN | RENEWAL) == UNKNOWN
    }

    /// Whether its handshake began at its birth, not before.
    pub(crate) fn is_exact(self) -> bool {
        self.flags & (UNKNOWN | LATE) == 0
    }

    fn with(self, flag: u8) -> Self {
        Self {
            flags: self.flags | flag,
            ..self
        }
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let [a, b, c, d, e, f] = self.birth.to_bytes();
        [a, b, c, d, e, f, self.flags]
    }

    pub(crate) fn from_bytes([a, b, c, d, e, f, flags]: [u8; Self::LEN]) -> Self {
        Self {
            birth: Time::from_bytes([a, b, c, d, e, f]),
            flags: flags & ALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_lineage() {
        let birth = Time(0x0102_0304_0506);
        let lineage = Lineage::of_full_handshake(birth);
        let renewal = Lineage::of_full_handshake(Time(0)).renewed(birth);
        let all = |lineage: Lineage| {
            lineage
                .of_unknown_age()
                .renewed(lineage.birth)
                .asked()
                .unseen()
                .late()
        };
        for (lineage, flags) in [
            (lineage, 0),
            (lineage.of_unknown_age(), 1),
            (renewal, 2),
            (lineage.asked(), 4),
            (lineage.unseen(), 8),
            (lineage.late(), 16),
            (all(lineage), 31),
            (all(all(lineage)), 31),
        ] {
            let bytes = lineage.to_bytes();
            assert_eq!(bytes, [1, 2, 3, 4, 5, 6, flags]);
            assert_eq!(Lineage::from_bytes(bytes), lineage);
        }
    }

    #[test]
    fn each_flag_is_told_by_its_own_name() {
        for flags in 0..=u8::MAX {
            let lineage = Lineage::from_bytes([0, 0, 0, 0, 0, 0, flags]);
            let is_set = |flag| flags & flag != 0;
            assert_eq!(lineage.is_known(), !is_set(1));
            assert_eq!(lineage.is_renewal(), is_set(2));
            assert_eq!(lineage.was_asked(), is_set(4));
            assert_eq!(lineage.is_unseen(), is_set(8));
            assert_eq!(lineage.begins_unknown(), is_set(1) && !is_set(2));
            assert_eq!(lineage.is_exact(), !is_set(1) && !is_set(16));
            // Bits of others, as where a ticket has a generation.
            assert_eq!(lineage.to_bytes()[6], flags & 31);
        }
    }
}
