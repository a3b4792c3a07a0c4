use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

use super::inner::{Inner, Root};
use super::withdrawn::Withdrawn;
use crate::cache::CacheSettings;
use crate::context;
use crate::error::Error;
use crate::installation::Installation;
use crate::ring::{Introduced, RingSettings};
use crate::rotation::Rotation;
use crate::scope::{Scope, Which};
use crate::source::StekSource;
use crate::stats::{StekStats, TicketStats};
use crate::stek::KeyName;
use crate::terms::Terms;

/// Stateless session tickets: a ring of [STEKs](crate::docs::glossary) on a schedule.
///
/// Implements [`rustls::server::ProducesTickets`]. Sealing and opening take no lock: they read one
/// immutable snapshot of the ring. A small thread publishes, activates, retires and wipes STEKs on
/// time, also without traffic; it ends with the last handle. Every seal and open checks the STEK's
/// window against the clock as well, so a late or missing step stretches no life.
///
/// A handle is cheap to clone, and [`StekRing::scoped`] gives one for another [`Scope`]: a ticket
/// opens only in the scope that sealed it. Used alone it is for servers that ask no client for a
/// certificate, because it sees no configuration: sessions with client certificates are not sealed.
/// [`Resumption::install`](crate::Resumption::install) serves the others.
///
/// Set the other field too. rustls stores a session ID beside the ticket of each TLS 1.2 client that
/// offers none, and its own storage knows neither a lifetime nor
/// [`revoke_all`](StekRing::revoke_all): what is in it would resume for as long as the process lives.
///
/// ```
/// use std::sync::Arc;
/// use rustls_resumption::{SessionCache, StekRing};
/// # fn f(mut config: rustls::ServerConfig) -> Result<(), rustls_resumption::Error> {
/// let (ring, cache) = (StekRing::new()?, SessionCache::new(20_000));
/// config.ticketer = Arc::new(ring.clone());
/// config.session_storage = Arc::new(cache.clone());
/// // After an incident both:
/// let _ = ring.revoke_all();
/// cache.clear();
/// # Ok(()) }
/// ```
///
/// [`Resumption::tickets`](crate::Resumption::tickets) and
/// [`install`](crate::Resumption::install) are both in one, and shorter.
///
/// A ticket is sealed with AES-256-GCM-SIV unless [`Sealing`](crate::Sealing) says otherwise, and
/// is 56 bytes longer than the session in it (64 once the scope was forgotten, where other processes
/// follow). With random 96-bit nonces one STEK can seal 2³²
/// tickets and still have less than one chance in 2³² that a nonce repeats; and a repeated one
/// would only show that two equal sessions are equal.
#[derive(Clone)]
pub struct StekRing {
    /// Always with a ring.
    pub(crate) inner: Root,
    pub(crate) at: Installation,
}

impl StekRing {
    /// A ring of random STEKs on the default [`Rotation`], in the default scope.
    ///
    /// # Errors
    ///
    /// [`Error::Random`] or [`Error::Thread`] if the system gives no random bytes or no thread.
    pub fn new() -> Result<Self, Error> {
        Self::with_rotation(Rotation::new())
    }

    /// The same on another schedule. A ticket lifetime of more than
    /// [`ResumptionBuilder::DEFAULT_MAX_SESSION_AGE`](crate::ResumptionBuilder::DEFAULT_MAX_SESSION_AGE)
    /// is cut to that: no session resumes later.
    ///
    /// # Errors
    ///
    /// [`Error::Duration`] if the schedule cannot work, else as [`StekRing::new`].
    pub fn with_rotation(rotation: Rotation) -> Result<Self, Error> {
        let settings = RingSettings {
            rotation,
            ..RingSettings::default()
        };
        settings.validate()?;
        let ring = Self::with(settings, None, Terms::default())?;
        ring.inner.start_housekeeper()?;
        Ok(ring)
    }

    /// A ring that nobody steps yet. It has asked its source once: the random one if `None`.
    pub(crate) fn with(
        settings: RingSettings,
        source: Option<Box<dyn StekSource>>,
        terms: Terms,
    ) -> Result<Self, Error> {
        let mut inner = Inner::new(terms, CacheSettings::of(0), None);
        let time_passes = inner.terms.clock.runs();
        let source = source.map(|source| Introduced::new(source, time_passes));
        inner.add_ring(settings, source.transpose()?)?;
        Ok(Self::on(Root::from(inner.shared())))
    }

    /// A handle on the ring of this, in the default scope.
    pub(crate) fn on(inner: Root) -> Self {
        Self {
            at: inner.unseen(Scope::default()),
            inner,
        }
    }

    /// The same ring in another scope.
    #[must_use]
    pub fn scoped(&self, scope: impl Into<Scope>) -> Self {
        Self {
            inner: self.inner.clone(),
            at: self.inner.unseen(scope.into()),
        }
    }

    /// Does what is due: asks the source, publishes, activates, retires, wipes. Returns the longest
    /// time to wait before the next step. For those who run a scheduler of their own; the
    /// housekeeping thread does nothing else.
    pub fn step(&self) -> Duration {
        self.inner.here().step_ring()
    }

    /// Makes another STEK seal from now on. What the retired one sealed still opens for the ticket
    /// lifetime: after an incident, call [`StekRing::revoke_all`]. It waits as
    /// [`Resumption::rotate_now`](crate::Resumption::rotate_now) does.
    ///
    /// # Errors
    ///
    /// As of [`Resumption::rotate_now`](crate::Resumption::rotate_now).
    pub fn rotate_now(&self) -> Result<(), Error> {
        self.inner.here().rotate_now()
    }

    /// Drops and wipes one STEK and refuses what it sealed, from the next handshake on. If it was
    /// the one that seals, another takes over. For a key that nobody has used: after an incident,
    /// call [`StekRing::revoke_all`].
    pub fn revoke(&self, name: &KeyName) -> Withdrawn {
        self.inner.here().revoke(name)
    }

    /// Drops and wipes every STEK and refuses all tickets made so far, from the next handshake on.
    pub fn revoke_all(&self) -> Withdrawn {
        self.inner.here().revoke_all()
    }

    /// Refuses what all scopes of this name sealed up to now, from the next handshake on.
    pub fn forget(&self, scope: impl Into<Scope>) -> Withdrawn {
        self.inner.here().forget(Which::Named(&scope.into()))
    }

    /// Whether the source has answered and a STEK seals: a readiness probe. Never in a forked child
    /// that [lost its source](crate::docs::operating#how-do-i-fork-workers).
    pub fn ready(&self) -> bool {
        self.inner.here().ready()
    }

    /// Counters of the tickets.
    pub fn ticket_stats(&self) -> TicketStats {
        self.inner.here().ticket_stats()
    }

    /// The state of the STEKs.
    pub fn stek_stats(&self) -> StekStats {
        self.inner.here().stek_stats()
    }

    pub(crate) fn ticket_lifetime(&self) -> Duration {
        self.inner
            .ring
            .as_ref()
            .map_or(Duration::ZERO, |ring| ring.ticket_lifetime())
    }

    pub(crate) fn seal(&self, session: &[u8]) -> Option<Vec<u8>> {
        let inner = &**self.inner;
        let ring = inner.ring.as_ref()?;
        let tagged = inner.keeps_tags.then(|| tagged(session)).flatten();
        let session = tagged.as_ref().map_or(session, |tagged| tagged.as_slice());
        ring.seal(&inner.terms, &self.at, session)
    }

    pub(crate) fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let inner = &**self.inner;
        let ring = inner.ring.as_ref()?;
        ring.open(&inner.terms, &self.at, ticket)
    }
}

/// A session with the tag that it has in common with what it renews, if it is to have one.
#[cold]
fn tagged(session: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let tag = context::tag(session)?;
    Some(Zeroizing::new([session, &tag].concat()))
}

impl fmt::Debug for StekRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("StekRing");
        f.field("scope", &self.at.scope.scope);
        if let Some(ring) = &self.inner.ring {
            f.field("rotation", ring.rotation());
        }
        f.field("active", &self.stek_stats().active);
        f.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_scope_the_schedule_and_the_active_name_alone() {
        let rotation = Rotation::new().interval(Duration::from_secs(77));
        let ring = StekRing::with_rotation(rotation).unwrap();
        let active = ring.stek_stats().active;
        let scope = Scope::default();
        assert_eq!(
            format!("{ring:?}"),
            format!(
                "StekRing {{ scope: {scope:?}, rotation: {rotation:?}, active: {active:?}, .. }}"
            )
        );
    }

    #[test]
    fn no_ticket_is_said_to_last_longer_than_sessions_do() {
        let week = Rotation::new().ticket_lifetime(Rotation::MAX_TICKET_LIFETIME);
        let ring = StekRing::with_rotation(week).unwrap();
        assert_eq!(ring.ticket_lifetime(), Duration::from_secs(24 * 60 * 60));
    }
}
