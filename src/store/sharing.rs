use std::sync::Arc;
use std::time::Duration;

use tracing::trace;
use zeroize::Zeroizing;

use super::claimed::{Claimed, ClaimedSession};
use super::value::{self, Header, Place};
use super::{SharedStore, StoreError};
use crate::cache::SessionCache;
use crate::clock::Time;
use crate::counters::Counters;
use crate::lineage::BirthRecord;
use crate::ring::{SharingKey, StekRing};
use crate::rustls::{Session, Version};
use crate::scope::ScopeState;
use crate::stats::{NotShared, StoreMisses, StoreStats};

/// A [`SharedStore`], and the ring whose store keys seal what goes into it.
pub(crate) struct Sharing {
    store: Box<dyn SharedStore>,
    ring: StekRing,
    settings: SharingSettings,
    counters: Counters<COUNTS>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SharingSettings {
    pub(crate) ttl: Duration,
    pub(crate) deadline: Duration,
}

/// What is counted, by index.
#[derive(Clone, Copy, Debug)]
enum Count {
    Shared,
    AgeUnknown,
    FallenBack,
    NoKey,
    NotTaken,
    TooOldToShare,
    Malformed,
    Claimed,
    Fetched,
    Unused,
    NotFound,
    TimedOut,
    Unavailable,
    Busy,
    Failed,
    Garbage,
    UnknownKeyName,
    Forged,
    Expired,
    TooOld,
    Forgotten,
}

const COUNTS: usize = Count::Forgotten as usize + 1;

/// What came of looking for a client's session.
pub(crate) enum LookedUp {
    Found,
    NotFound,
    /// The store gave no answer.
    Unavailable,
}

/// A session that came from the store.
struct Opened {
    header: Header,
    bytes: Zeroizing<Vec<u8>>,
}

impl Sharing {
    pub(crate) fn new(
        store: Box<dyn SharedStore>,
        ring: StekRing,
        settings: SharingSettings,
    ) -> Self {
        Self {
            store,
            ring,
            settings,
            counters: Counters::new(),
        }
    }

    /// How long a handshake waits, at most and in all.
    pub(crate) fn deadline(&self) -> Duration {
        self.settings.deadline
    }

    /// Hands a session to the store. Never waits.
    pub(crate) fn write(&self, scope: &ScopeState, id: &[u8; 32], session: &[u8]) -> bool {
        let written = self.try_write(scope, id, session);
        match written {
            Ok(()) => trace!("session shared"),
            Err(why) => trace!(?why, "session not shared"),
        }
        self.count(written.err().unwrap_or(Count::Shared));
        written.is_ok()
    }

    fn try_write(&self, scope: &ScopeState, id: &[u8; 32], bytes: &[u8]) -> Result<(), Count> {
        let session = Session::parse(bytes).ok_or(Count::Malformed)?;
        if bytes.len() > value::MAX_SESSION_LEN {
            return Err(Count::Malformed);
        }
        let key = match self.ring.sharing_key() {
            SharingKey::Key(key) => key,
            SharingKey::FallenBack => return Err(Count::FallenBack),
            SharingKey::NoKey => return Err(Count::NoKey),
        };
        let now = self.ring.now();
        let birth = self.birth(&session, now);
        if self.ring.is_too_old(birth, now) {
            return Err(Count::TooOldToShare);
        }
        let expires = now
            .plus(self.settings.ttl)
            .min(birth.plus(self.ring.max_session_age()))
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
            self.count(Count::AgeUnknown);
        }
        record.map_or(now, |record| record.birth)
    }

    /// Claims the first of these TLS 1.3 sessions that there is.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        scope: &Arc<ScopeState>,
        ids: &[[u8; 32]],
    ) -> (LookedUp, Claimed) {
        for id in ids {
            let place = Place {
                scope: scope.scope.digest(),
                version: Version::Tls13,
                id,
            };
            let claim = self.store.claim(&place.key(), self.settings.deadline);
            match self.answer(claim.await) {
                Err(()) => return (LookedUp::Unavailable, Claimed::nothing(self)),
                Ok(None) => {}
                Ok(Some(value)) => {
                    // A value that does not open is a miss like any other.
                    let Some(opened) = self.open(scope, &place, &value) else {
                        continue;
                    };
                    self.count(Count::Claimed);
                    let session = ClaimedSession {
                        scope: Arc::clone(scope),
                        id: *id,
                        bytes: opened.bytes,
                    };
                    let claimed = Claimed::new(Arc::clone(self), Some(session));
                    return (LookedUp::Found, claimed);
                }
            }
        }
        (LookedUp::NotFound, Claimed::nothing(self))
    }

    /// Fetches a TLS 1.2 session into the local cache, where rustls will find it.
    pub(crate) async fn fetch(&self, cache: &SessionCache, id: &[u8; 32]) -> LookedUp {
        let scope = cache.scope();
        let place = Place {
            scope: scope.scope.digest(),
            version: Version::Tls12,
            id,
        };
        let fetch = self.store.fetch(&place.key(), self.settings.deadline);
        let value = match self.answer(fetch.await) {
            Err(()) => return LookedUp::Unavailable,
            Ok(None) => return LookedUp::NotFound,
            Ok(Some(value)) => value,
        };
        let Some(mut opened) = self.open(scope, &place, &value) else {
            return LookedUp::NotFound;
        };
        self.count(Count::Fetched);
        let bytes = std::mem::take(&mut *opened.bytes);
        cache.keep(id, bytes, opened.header.birth, opened.header.expires);
        LookedUp::Found
    }

    fn answer(&self, answer: Result<Option<Vec<u8>>, StoreError>) -> Result<Option<Vec<u8>>, ()> {
        let failed = match answer {
            Ok(found) => {
                if found.is_none() {
                    self.count(Count::NotFound);
                }
                return Ok(found);
            }
            Err(StoreError::Busy) => Count::Busy,
            Err(StoreError::Failed(_)) => Count::Failed,
            Err(StoreError::TimedOut) => Count::TimedOut,
            Err(StoreError::Unavailable) => Count::Unavailable,
        };
        self.count(failed);
        Err(())
    }

    fn open(&self, scope: &ScopeState, place: &Place<'_>, value: &[u8]) -> Option<Opened> {
        let opened = self.try_open(scope, place, value);
        if let Err(why) = &opened {
            trace!(?why, "stored session refused");
            self.count(*why);
        }
        opened.ok()
    }

    fn try_open(
        &self,
        scope: &ScopeState,
        place: &Place<'_>,
        value: &[u8],
    ) -> Result<Opened, Count> {
        let name = value::key_name(value).ok_or(Count::Garbage)?;
        let stek = self.ring.opening_key(&name).ok_or(Count::UnknownKeyName)?;
        let (header, bytes) = value::open(&stek, place, value).ok_or(Count::Forged)?;
        let now = self.ring.now();
        if header.issued <= scope.forgotten() {
            return Err(Count::Forgotten);
        }
        if header.expires <= now {
            return Err(Count::Expired);
        }
        if self.ring.is_too_old(header.birth, now) {
            return Err(Count::TooOld);
        }
        match Session::parse(&bytes) {
            Some(session) if session.version == place.version => Ok(Opened { header, bytes }),
            _ => Err(Count::Garbage),
        }
    }

    /// The look-ups for a connection took longer than the deadline.
    pub(crate) fn count_timed_out(&self) {
        self.count(Count::TimedOut);
    }

    pub(super) fn count_unused(&self) {
        self.count(Count::Unused);
    }

    fn count(&self, count: Count) {
        self.counters.add(count as usize);
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let count = |counter| self.counters.sum(counter as usize);
        StoreStats {
            store: self.store.name(),
            shared: count(Count::Shared),
            not_shared: NotShared {
                fallen_back: count(Count::FallenBack),
                no_key: count(Count::NoKey),
                not_taken: count(Count::NotTaken),
                too_old: count(Count::TooOldToShare),
                malformed: count(Count::Malformed),
            },
            age_unknown: count(Count::AgeUnknown),
            claimed: count(Count::Claimed),
            unused: count(Count::Unused),
            fetched: count(Count::Fetched),
            misses: StoreMisses {
                not_found: count(Count::NotFound),
                timed_out: count(Count::TimedOut),
                unavailable: count(Count::Unavailable),
                busy: count(Count::Busy),
                failed: count(Count::Failed),
                malformed: count(Count::Garbage),
                unknown_key_name: count(Count::UnknownKeyName),
                forged: count(Count::Forged),
                expired: count(Count::Expired),
                too_old: count(Count::TooOld),
                forgotten: count(Count::Forgotten),
            },
            health: self.store.health(),
        }
    }
}

#[cfg(test)]
mod tests;
