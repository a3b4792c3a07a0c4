use crate::clock::Time;

/// What is known of a session's descent. It travels with the session, sealed, wherever that goes: in
/// a ticket, in the cache, in a shared store.
///
/// ```text
///  0       6       7
///  | birth | flags |
/// ```
///
/// The birth is in milliseconds since the Unix epoch, big-endian.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Lineage {
    /// When the full handshake began that the session descends from, or the oldest time at which its
    /// age was not known.
    pub(crate) birth: Time,
    /// False if some handshake on the way had no context: the session may be older than its birth.
    pub(crate) is_known: bool,
    /// Whether the session renews one that was resumed, which shows that its client comes back.
    pub(crate) is_renewal: bool,
}

const UNKNOWN: u8 = 1;
const RENEWAL: u8 = 2;

impl Lineage {
    pub(crate) const LEN: usize = Time::LEN + 1;

    /// Of a session that a full handshake makes.
    pub(crate) fn of_full_handshake(birth: Time) -> Self {
        Self {
            birth,
            is_known: true,
            is_renewal: false,
        }
    }

    /// Whether it begins at a handshake that had no context.
    pub(crate) fn begins_unknown(self) -> bool {
        !self.is_known && !self.is_renewal
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let [a, b, c, d, e, f] = self.birth.to_bytes();
        let unknown = if self.is_known { 0 } else { UNKNOWN };
        let renewal = if self.is_renewal { RENEWAL } else { 0 };
        [a, b, c, d, e, f, unknown | renewal]
    }

    pub(crate) fn from_bytes([a, b, c, d, e, f, flags]: [u8; Self::LEN]) -> Self {
        Self {
            birth: Time::from_bytes([a, b, c, d, e, f]),
            is_known: flags & UNKNOWN == 0,
            is_renewal: flags & RENEWAL != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_lineage() {
        let birth = Time(0x0102_0304_0506);
        for (is_known, is_renewal, flags) in [
            (true, false, 0),
            (false, false, 1),
            (true, true, 2),
            (false, true, 3),
        ] {
            let lineage = Lineage {
                birth,
                is_known,
                is_renewal,
            };
            let bytes = lineage.to_bytes();
            assert_eq!(bytes, [1, 2, 3, 4, 5, 6, flags]);
            assert_eq!(Lineage::from_bytes(bytes), lineage);
        }
    }
}
