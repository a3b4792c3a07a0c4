use std::sync::Arc;
use std::time::Duration;

use crate::client_auth::{DEFAULT_INTERVAL, Rechecks};
use crate::clock::{Basis, Clock, Moment, Now, Time};
use crate::lineage::Lineage;
use crate::pulse::Pulse;
use crate::scope::{Generations, ScopeState, UnderWay};

/// On what terms sessions resume, wherever they are kept: by which clock, and for how long after
/// their full handshake. Cache, ring and shared store are handed the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) clock: Clock,
    /// Which reading of the clock decides over births and windows.
    pub(crate) basis: Basis,
    pub(crate) max_session_age: Duration,
    /// The longest session that is kept anywhere, in bytes of rustls's encoding.
    pub(crate) max_session_len: usize,
    /// How long a handshake is under way, at most, as far as the operator can tell.
    pub(crate) incident_window: Duration,
    /// How far the clock of a host may be off, to either side.
    pub(crate) max_skew: Duration,
    /// What is remembered of clients' certificates.
    pub(crate) client_auth: Arc<Rechecks>,
    /// What was forgotten, here and by other processes.
    pub(crate) generations: Arc<Generations>,
    /// Of the housekeeping.
    pub(crate) pulse: Arc<Pulse>,
}

/// The longest that any session may resume after its full handshake, by default: 24 hours.
pub(crate) const DEFAULT_MAX_SESSION_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest session that is kept, by default: 16 KiB, as of tickets.
pub(crate) const DEFAULT_MAX_SESSION_LEN: usize = 16 * 1024;

/// How long handshakes are under way, by default at most: 60 seconds.
pub(crate) const DEFAULT_INCIDENT_WINDOW: Duration = Duration::from_secs(60);

/// How long another process takes, at most, to learn of what was withdrawn, while the source
/// answers.
const LEARNING: Duration = Duration::from_secs(5);

/// How far the clock of a host may be off: 5 minutes, or as far as the schedule publishes keys
/// ahead if that is more.
pub(crate) const MAX_SKEW: Duration = Duration::from_secs(5 * 60);

impl Default for Terms {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            basis: Basis::Steady,
            max_session_age: DEFAULT_MAX_SESSION_AGE,
            max_session_len: DEFAULT_MAX_SESSION_LEN,
            incident_window: DEFAULT_INCIDENT_WINDOW,
            max_skew: MAX_SKEW,
            client_auth: Arc::new(Rechecks::new(DEFAULT_INTERVAL)),
            generations: Arc::default(),
            pulse: Arc::default(),
        }
    }
}

impl Terms {
    /// The time that births and windows go by.
    #[inline(always)]
    pub(crate) fn now(&self) -> Time {
        self.read().on(self.basis)
    }

    /// Both readings of the clock. Whoever reads it for a handshake sees to it that housekeeping
    /// that is overdue is done.
    #[inline(always)]
    pub(crate) fn read(&self) -> Now {
        let now = self.clock.now();
        self.pulse.check(now.on(self.basis));
        now
    }

    /// The same terms in a process that was forked: nothing that another thread may have locked.
    pub(crate) fn afresh(&self) -> Self {
        Self {
            client_auth: Arc::new(self.client_auth.afresh()),
            generations: self.generations.heir(self.clock.now().on(self.basis)),
            pulse: Arc::default(),
            ..self.clone()
        }
    }

    /// When that is.
    pub(crate) fn moment(&self) -> Moment {
        self.read().moment(self.basis)
    }

    /// How long after a session's scope was forgotten a handshake may make it that began before, here
    /// or in another process.
    pub(crate) fn under_way(&self) -> Duration {
        match self.basis {
            Basis::Steady => self.incident_window,
            Basis::Wall => {
                let elsewhere = LEARNING.saturating_add(self.max_skew);
                self.incident_window.saturating_add(elsewhere)
            }
        }
    }

    /// Whether a session must not be made now because its scope was forgotten since its handshake
    /// began.
    #[inline(always)]
    pub(crate) fn withholds(&self, scope: &ScopeState, lineage: Lineage, now: Time) -> bool {
        scope.withholds(lineage, now, || UnderWay {
            here: self.incident_window,
            anywhere: self.under_way(),
            now: self.clock.monotonic(),
        })
    }

    /// Whether a session that was made at this time must not resume because its scope was forgotten
    /// since its birth, where times decide over that.
    #[inline(always)]
    pub(crate) fn has_forgotten(&self, scope: &ScopeState, lineage: Lineage, made: Time) -> bool {
        scope.has_forgotten(lineage, made, || self.under_way())
    }

    /// Whether a session of this birth may no longer resume.
    #[inline(always)]
    pub(crate) fn is_too_old(&self, birth: Time, now: Time) -> bool {
        if birth <= now {
            return now >= birth.plus(self.max_session_age);
        }
        // The clocks of two hosts may be off to either side.
        birth > now.plus(self.max_skew.saturating_mul(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_what_they_say() {
        let hour = Duration::from_secs(60 * 60);
        assert_eq!(Terms::default().max_session_age, 24 * hour);
        assert_eq!(Terms::default().max_session_len, 16_384);
        assert_eq!(Terms::default().max_skew, hour / 12);
    }

    #[test]
    fn a_birth_may_lie_as_far_ahead_as_clocks_may_differ() {
        let terms = Terms::default();
        let (now, moment) = (terms.now(), Duration::from_millis(1));
        assert!(!terms.is_too_old(now, now));
        assert!(!terms.is_too_old(now.plus(2 * MAX_SKEW), now));
        assert!(terms.is_too_old(now.plus(2 * MAX_SKEW + moment), now));
        let age = terms.max_session_age;
        assert_eq!(age, DEFAULT_MAX_SESSION_AGE);
        assert!(!terms.is_too_old(now.minus(age - moment), now));
        assert!(terms.is_too_old(now.minus(age), now));
    }

    #[test]
    fn the_terms_of_a_forked_process_are_the_same_and_share_nothing_that_was_locked() {
        let terms = Terms {
            max_session_len: 77,
            ..Terms::default()
        };
        let heir = terms.afresh();
        assert_eq!(heir.max_session_len, 77);
        assert!(!Arc::ptr_eq(&heir.client_auth, &terms.client_auth));
        assert!(!Arc::ptr_eq(&heir.generations, &terms.generations));
    }
}
