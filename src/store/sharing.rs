use std::sync::Arc;
use std::time::Duration;

use tracing::trace;
use zeroize::Zeroizing;

use super::guarded::GuardedStore;
use super::value::{self, Binding, Times};
use super::{SharedStore, StoreError};
use crate::clock::Time;
use crate::context::{self, Claimed, Given};
use crate::counters::Counters;
use crate::handshake::ResumedBy;
use crate::installation::Installation;
use crate::ring::{Ring, SharingKey};
use crate::scope::{ScopeState, times_forgotten};
use crate::session::{Session, Version};
use crate::stats::{StoreCount, StoreStats};
use crate::stek::KeyName;
use crate::terms::Terms;

/// Seals sessions for a [`SharedStore`] and opens what comes back, under the store keys of the ring
/// that each call is given.
pub(crate) struct Sharing {
    store: GuardedStore,
    settings: SharingSettings,
    counts: Arc<Counters<StoreStats>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SharingSettings {
    pub(crate) ttl: Duration,
    /// Of sessions whose client has not come back yet.
    pub(crate) first_ttl: Duration,
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
    pub(crate) expires: Time,
    pub(crate) given: Given,
}

impl Sharing {
    pub(crate) fn new(store: Box<dyn SharedStore>, settings: SharingSettings) -> Self {
        let store = GuardedStore::new(store);
        store.prepare(settings.deadline);
        Self {
            store,
            settings,
            counts: Arc::new(Counters::new()),
        }
    }

    /// The longest that a handshake may wait for the store in all.
    pub(crate) fn deadline(&self) -> Duration {
        self.settings.deadline
    }

    /// Queues a session to be written to the store. Never blocks. Returns the name of the STEK that
    /// sealed it, if it was.
    pub(crate) fn write(
        &self,
        ring: &Ring,
        terms: &Terms,
        at: &Installation,
        id: &[u8; 32],
        session: &[u8],
    ) -> Option<KeyName> {
        let written = self.try_write(ring, terms, at, id, session);
        match written {
            Ok(_) => trace!("session shared"),
            Err(why) => trace!(?why, "session not shared"),
        }
        self.counts.add(written.err().unwrap_or(StoreCount::Shared));
        written.ok()
    }

    fn try_write(
        &self,
        ring: &Ring,
        terms: &Terms,
        at: &Installation,
        id: &[u8; 32],
        bytes: &[u8],
    ) -> Result<KeyName, StoreCount> {
        let generation = at.scope.generation(); // before its times
        let session = Session::parse(bytes).ok_or(StoreCount::MalformedToShare)?;
        if bytes.len() > terms.max_session_len {
            return Err(StoreCount::TooLongToShare);
        }
        let key = match ring.sharing_key(terms) {
            SharingKey::Key(key) => key,
            SharingKey::FallenBack => return Err(StoreCount::FallenBack),
            SharingKey::NoKey => return Err(StoreCount::NoKey),
        };
        let now = terms.now();
        let (lineage, renewed_key) = context::lineage(Some(&session), &at.scope, now);
        let lineage = at.mark(lineage);
        if !at.keeps(terms, Some(&session)) {
            return Err(StoreCount::ClientAuthToShare);
        }
        if session.version == Version::Tls13 && lineage.begins_unknown() {
            self.counts.add(StoreCount::AgeUnknown);
        }
        if terms.withholds(&at.scope, lineage, now) || ring.has_revoked(renewed_key) {
            return Err(StoreCount::RevokedToShare);
        }
        if terms.is_too_old(lineage.birth, now) {
            return Err(StoreCount::TooOldToShare);
        }
        let SharingSettings { ttl, first_ttl, .. } = self.settings;
        let ttl = match lineage.is_renewal() {
            true => ttl,
            false => first_ttl.min(ttl),
        };
        let expires = now
            .plus(ttl)
            .min(lineage.birth.plus(terms.max_session_age))
            .min(key.window.expires);
        let times = Times {
            issued: now,
            expires,
            lineage,
        };
        let binding = Binding {
            scope: &at.scope.binding(generation),
            version: session.version,
            id,
        };
        let value = value::seal(&key.stek, &binding, &times, bytes).ok_or(StoreCount::NoKey)?;
        match self.store.write(binding.key(), value, expires.since(now)) {
            true => Ok(*key.stek.name()),
            false => Err(StoreCount::NotTaken),
        }
    }

    /// Claims the first of these TLS 1.3 sessions that the store has.
    pub(crate) async fn claim(
        &self,
        ring: &Ring,
        terms: &Terms,
        scope: &Arc<ScopeState>,
        ids: &[[u8; 32]],
    ) -> Result<Claimed, Miss> {
        let scope_number = scope.number(); // before anything that may be forgotten meanwhile
        let scope_binding = scope.binding(scope.opening());
        for id in ids {
            let binding = Binding {
                scope: &scope_binding,
                version: Version::Tls13,
                id,
            };
            let claim = self.store.claim(&binding.key(), self.settings.deadline);
            let Some(value) = self.answer(claim.await)? else {
                continue;
            };
            // A value that does not open is a miss like any other.
            let Some(opened) = self.open(ring, terms, scope, &binding, &value) else {
                continue;
            };
            self.counts.add(StoreCount::Claimed);
            return Ok(Claimed {
                counts: Arc::clone(&self.counts),
                scope: Arc::clone(scope),
                scope_number,
                id: *id,
                expires: opened.expires,
                bytes: opened.bytes,
                given: opened.given,
                is_used: false,
            });
        }
        Err(Miss::NotFound)
    }

    /// Whether a claimed session may still resume. Its handshake may have been half open for long, and
    /// what was withdrawn or ended meanwhile has ended it too.
    pub(crate) fn may_resume(&self, ring: &Ring, terms: &Terms, claimed: &Claimed) -> bool {
        let now = terms.now();
        let Given {
            lineage, key_name, ..
        } = claimed.given;
        let is_open = key_name.is_some_and(|name| ring.opening_key(terms, &name).is_some());
        let why = if claimed.scope.number() != claimed.scope_number {
            StoreCount::Forgotten
        } else if !is_open {
            StoreCount::UnknownKeyName
        } else if claimed.expires <= now {
            StoreCount::Expired
        } else if terms.is_too_old(lineage.birth, now) {
            StoreCount::TooOld
        } else {
            return true;
        };
        trace!(?why, "claimed session refused");
        self.counts.add(why);
        false
    }

    /// Whether what this STEK sealed may still resume.
    pub(crate) fn opens(&self, ring: &Ring, terms: &Terms, name: &KeyName) -> bool {
        let opens = ring.opening_key(terms, name).is_some();
        if !opens {
            self.counts.add(StoreCount::UnknownKeyName);
        }
        opens
    }

    /// Fetches a TLS 1.2 session, which stays in the store.
    pub(crate) async fn fetch(
        &self,
        ring: &Ring,
        terms: &Terms,
        scope: &ScopeState,
        id: &[u8; 32],
    ) -> Result<Opened, Miss> {
        let scope_binding = scope.binding(scope.opening());
        let binding = Binding {
            scope: &scope_binding,
            version: Version::Tls12,
            id,
        };
        let fetch = self.store.fetch(&binding.key(), self.settings.deadline);
        let value = self.answer(fetch.await)?.ok_or(Miss::NotFound)?;
        let opened = self.open(ring, terms, scope, &binding, &value);
        let opened = opened.ok_or(Miss::NotFound)?;
        self.counts.add(StoreCount::Fetched);
        Ok(opened)
    }

    fn answer(&self, answer: Result<Option<Vec<u8>>, StoreError>) -> Result<Option<Vec<u8>>, Miss> {
        let failed = match answer {
            Ok(found) => {
                if found.is_none() {
                    self.counts.add(StoreCount::NotFound);
                }
                return Ok(found);
            }
            Err(StoreError::Busy) => StoreCount::Busy,
            Err(StoreError::Failed(_)) => StoreCount::Failed,
            Err(StoreError::TimedOut) => StoreCount::TimedOut,
            Err(StoreError::Unavailable) => StoreCount::Unavailable,
        };
        self.counts.add(failed);
        Err(Miss::Unavailable)
    }

    fn open(
        &self,
        ring: &Ring,
        terms: &Terms,
        scope: &ScopeState,
        binding: &Binding<'_>,
        value: &[u8],
    ) -> Option<Opened> {
        let opened = try_open(ring, terms, scope, binding, value);
        if let Err(why) = &opened {
            trace!(?why, "stored session refused");
            self.counts.add(*why);
        }
        opened.ok()
    }

    /// The look-ups for a connection took longer than the deadline.
    pub(crate) fn count_timed_out(&self) {
        self.counts.add(StoreCount::TimedOut);
    }

    pub(crate) fn stats(&self) -> StoreStats {
        StoreStats {
            store: self.store.name(),
            health: self.store.health(),
            ..self.counts.read()
        }
    }
}

fn try_open(
    ring: &Ring,
    terms: &Terms,
    scope: &ScopeState,
    binding: &Binding<'_>,
    value: &[u8],
) -> Result<Opened, StoreCount> {
    let after = times_forgotten();
    let name = value::key_name(value).ok_or(StoreCount::Malformed)?;
    let stek = ring
        .opening_key(terms, &name)
        .ok_or(StoreCount::UnknownKeyName)?;
    let (times, bytes) = value::open(&stek, binding, value).ok_or(StoreCount::Forged)?;
    let now = terms.now();
    // What is bound to an earlier generation has another key, and does not open.
    if scope.opening() == 0 && terms.has_forgotten(scope, times.lineage, times.issued) {
        return Err(StoreCount::Forgotten);
    }
    if times.expires <= now {
        return Err(StoreCount::Expired);
    }
    if terms.is_too_old(times.lineage.birth, now) {
        return Err(StoreCount::TooOld);
    }
    match Session::parse(&bytes) {
        Some(session) if session.version == binding.version => Ok(Opened {
            bytes,
            expires: times.expires,
            given: Given {
                by: ResumedBy::SharedStore,
                lineage: times.lineage,
                at: now,
                key_name: Some(name),
                after,
            },
        }),
        _ => Err(StoreCount::Malformed),
    }
}

#[cfg(test)]
mod tests;
