//! Finds out from two snapshots of [`Stats`] what happened between them.

use std::fmt;

use rustls_resumption::Stats;

/// Why a handshake was full or resumed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Why {
    ExpiredKey,
    NoSuchSession,
    NothingOffered,
    Revoked,
    SessionExpired,
    SessionFound,
    /// None of these alone.
    Something,
    TicketOpened,
    WrongScope,
}

impl Why {
    /// Looks for the one counter that grew by one.
    pub(crate) fn read(before: &Stats, after: &Stats) -> Self {
        let refused = |stats: &Stats| stats.tickets.refused;
        let misses = |stats: &Stats| stats.cache.misses;
        type Counter = fn(&Stats) -> u64;
        let counters: [(Self, Counter); 7] = [
            (Self::ExpiredKey, |stats| stats.tickets.refused.expired_key),
            (Self::NoSuchSession, |stats| stats.cache.misses.unknown),
            (Self::Revoked, |stats| stats.tickets.refused.revoked),
            (Self::SessionExpired, |stats| stats.cache.misses.expired),
            (Self::SessionFound, |stats| stats.cache.hits),
            (Self::TicketOpened, |stats| stats.tickets.opened),
            (Self::WrongScope, |stats| stats.tickets.refused.wrong_scope),
        ];
        let grown: Vec<_> = counters
            .iter()
            .filter(|(_, count)| count(after) > count(before))
            .collect();
        match grown[..] {
            [] if refused(after) == refused(before) && misses(after) == misses(before) => {
                Self::NothingOffered
            }
            [(why, count)] if count(after) == count(before) + 1 => *why,
            _ => Self::Something,
        }
    }

    pub(crate) fn resumes(self) -> bool {
        matches!(self, Self::SessionFound | Self::TicketOpened)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ExpiredKey => "ticket refused: expired key",
            Self::NoSuchSession => "cache miss: unknown in this scope",
            Self::NothingOffered => "no session offered",
            Self::Revoked => "ticket refused: revoked",
            Self::SessionExpired => "cache miss: expired",
            Self::SessionFound => "cache hit",
            Self::Something => "something else: see Stats",
            Self::TicketOpened => "ticket opened",
            Self::WrongScope => "ticket refused: wrong scope",
        })
    }
}
