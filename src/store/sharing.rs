use std::sync::Arc;
use std::time::Duration;

use tracing::trace;
use zeroize::Zeroizing;

use super::counts::{Count, Counts};
use super::value::{self, Header, Place};
use super::{SharedStore, StoreError};
use crate::clock::Time;
use crate::context::{Claimed, ClaimedSession};
use crate::lineage::BirthRecord;
use crate::ring::{SharingKey, StekRing};
use crate::scope::ScopeState;
use crate::session::{Session, Version};
use crate::stats::StoreStats;

/// Seals sessions for a [`SharedStore`] and opens what comes back, under the store keys of the ring
/// that each call is given.
pub(crate) struct Sharing {
    store: Box<dyn SharedStore>,
    settings: SharingSettings,
    counts: Arc<Counts>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SharingSettings {
    pub(crate) ttl: Duration,
    pub(crate) deadline: Duration,
}

/// Why a look-up gave no session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Miss {
    NotFound,
    /// The store gave no answer.
    Unavailable,
}

/// A session that came from the store.
pub(crate) struct Opened {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) birth: Time,
    pub(crate) expires: Time,
}

impl Sharing {
    pub(crate) fn new(store: Box<dyn SharedStore>, settings: SharingSettings) -> Self {
        Self {
            store,
            settings,
            counts: Arc::new(Counts::new()),
        }
    }

    /// How long a handshake waits, at most and in all.
    pub(crate) fn deadline(&self) -> Duration {
        self.settings.deadline
    }

    /// Hands a session to the store. Never waits.
    pub(crate) fn write(
        &self,
        ring: &StekRing,
        scope: &ScopeState,
        id: &[u8; 32],
        session: &[u8],
    ) -> bool {
        let written = self.try_write(ring, scope, id, session);
        match written {
            Ok(()) => trace!("session shared"),
            Err(why) => trace!(?why, "session not shared"),
        }
        self.counts.add(written.err().unwrap_or(Count::Shared));
        written.is_ok()
    }

    fn try_write(
        &self,
        ring: &StekRing,
        scope: &ScopeState,
        id: &[u8; 32],
        bytes: &[u8],
    ) -> Result<(), Count> {
        let session = Session::parse(bytes).ok_or(Count::Malformed)?;
        if bytes.len() > value::MAX_SESSION_LEN {
            return Err(Count::Malformed);
        }
        let key = match ring.sharing_key() {
            SharingKey::Key(key) => key,
            SharingKey::FallenBack => return Err(Count::FallenBack),
            SharingKey::NoKey => return Err(Count::NoKey),
        };
        let now = ring.now();
        let birth = self.birth(&session, now);
        if ring.is_too_old(birth, now) {
            return Err(Count::TooOldToShare);
        }
        let expires = now
            .plus(self.settings.ttl)
            .min(birth.plus(ring.max_session_age()))
            .min(key.window.expires);
        let header = Header {
            // What was forgotten at this very moment was issued before it; this is issued after.
            issued: now.max(Time(scope.forgotten().0.saturating_add(1))),
            birth,
            expires,
        };
        let place = Place {
            scope: scope.scope.digest(),
            version: session.version,
            id,
        };
        let value = value::seal(&key.stek, &place, &header, bytes).ok_or(Count::NoKey)?;
        match self.store.write(place.key(), value, expires.since(now)) {
            true => Ok(()),
            false => Err(Count::NotTaken),
        }
    }

    /// The time of a session's full handshake. TLS 1.2 stores right after it; of TLS 1.3 an
    /// acceptor tells. Where none did the age counts from here, and that is counted.
    fn birth(&self, session: &Session<'_>, now: Time) -> Time {
        if session.version == Version::Tls12 {
            return now;
        }
        let record = BirthRecord::split(session.application_data).0;
        if record.is_none() {
            self.counts.add(Count::AgeUnknown);
        }
        record.map_or(now, |record| record.birth)
    }

    /// Claims the first of these TLS 1.3 sessions that there is.
    pub(crate) async fn claim(
        &self,
        ring: &StekRing,
        scope: &Arc<ScopeState>,
        ids: &[[u8; 32]],
    ) -> Result<Claimed, Miss> {
        for id in ids {
            let place = Place {
                scope: scope.scope.digest(),
                version: Version::Tls13,
                id,
            };
            let claim = self.store.claim(&place.key(), self.settings.deadline);
            let Some(value) = self.answer(claim.await)? else {
                continue;
            };
            // A value that does not open is a miss like any other.
            let Some(opened) = self.open(ring, scope, &place, &value) else {
                continue;
            };
            self.counts.add(Count::Claimed);
            return Ok(Claimed::from(ClaimedSession {
                counts: Arc::clone(&self.counts),
                scope: Arc::clone(scope),
                id: *id,
                bytes: opened.bytes,
            }));
        }
        Err(Miss::NotFound)
    }

    /// Fetches a TLS 1.2 session, which stays in the store.
    pub(crate) async fn fetch(
        &self,
        ring: &StekRing,
        scope: &ScopeState,
        id: &[u8; 32],
    ) -> Result<Opened, Miss> {
        let place = Place {
            scope: scope.scope.digest(),
            version: Version::Tls12,
            id,
        };
        let fetch = self.store.fetch(&place.key(), self.settings.deadline);
        let value = self.answer(fetch.await)?.ok_or(Miss::NotFound)?;
        let opened = self.open(ring, scope, &place, &value);
        let opened = opened.ok_or(Miss::NotFound)?;
        self.counts.add(Count::Fetched);
        Ok(opened)
    }

    fn answer(&self, answer: Result<Option<Vec<u8>>, StoreError>) -> Result<Option<Vec<u8>>, Miss> {
        let failed = match answer {
            Ok(found) => {
                if found.is_none() {
                    self.counts.add(Count::NotFound);
                }
                return Ok(found);
            }
            Err(StoreError::Busy) => Count::Busy,
            Err(StoreError::Failed(_)) => Count::Failed,
            Err(StoreError::TimedOut) => Count::TimedOut,
            Err(StoreError::Unavailable) => Count::Unavailable,
        };
        self.counts.add(failed);
        Err(Miss::Unavailable)
    }

    fn open(
        &self,
        ring: &StekRing,
        scope: &ScopeState,
        place: &Place<'_>,
        value: &[u8],
    ) -> Option<Opened> {
        let opened = try_open(ring, scope, place, value);
        if let Err(why) = &opened {
            trace!(?why, "stored session refused");
            self.counts.add(*why);
        }
        opened.ok()
    }

    /// The look-ups for a connection took longer than the deadline.
    pub(crate) fn count_timed_out(&self) {
        self.counts.add(Count::TimedOut);
    }

    pub(crate) fn stats(&self) -> StoreStats {
        self.counts.stats(self.store.name(), self.store.health())
    }
}

fn try_open(
    ring: &StekRing,
    scope: &ScopeState,
    place: &Place<'_>,
    value: &[u8],
) -> Result<Opened, Count> {
    let name = value::key_name(value).ok_or(Count::Garbage)?;
    let stek = ring.opening_key(&name).ok_or(Count::UnknownKeyName)?;
    let (header, bytes) = value::open(&stek, place, value).ok_or(Count::Forged)?;
    let now = ring.now();
    if header.issued <= scope.forgotten() {
        return Err(Count::Forgotten);
    }
    if header.expires <= now {
        return Err(Count::Expired);
    }
    if ring.is_too_old(header.birth, now) {
        return Err(Count::TooOld);
    }
    match Session::parse(&bytes) {
        Some(session) if session.version == place.version => Ok(Opened {
            bytes,
            birth: header.birth,
            expires: header.expires,
        }),
        _ => Err(Count::Garbage),
    }
}

#[cfg(test)]
mod tests;
