use std::sync::Arc;

use tracing::trace;
use zeroize::Zeroize;

use super::Ring;
use super::slots::{HeldKey, Slot};
use super::snapshot::Snapshot;
use crate::clock::{Now, Time};
use crate::context::{self, Given};
use crate::handshake::ResumedBy;
use crate::installation::Installation;
use crate::scope::{Bound, times_forgotten};
use crate::session::{Session, Version};
use crate::source::SourceKey;
use crate::stats::TicketCount;
use crate::stek::{KeyName, Stek};
use crate::terms::Terms;
use crate::ticket::{self, Trailer, Unopened};

/// Which STEK seals for other processes.
pub(crate) enum SharingKey {
    Key(SourceKey),
    /// The active one is a local fallback, which no other process has.
    FallenBack,
    NoKey,
}

// Here and in what is called from here `inline(always)` stands where there is one caller, and where
// counting showed that the compiler, left to itself, makes a call of it, or does so now and then.

/// What handshakes do: they read the snapshot and the clock, and take no lock.
impl Ring {
    #[inline(always)]
    pub(crate) fn seal(&self, terms: &Terms, at: &Installation, session: &[u8]) -> Option<Vec<u8>> {
        let sealed = self.try_seal(terms, at, session);
        sealed.map_err(|why| self.note_unsealed(why)).ok()
    }

    #[cold]
    fn note_unsealed(&self, why: TicketCount) {
        trace!(?why, "no ticket");
        context::not_kept();
        self.counters.add(why);
    }

    #[inline(always)]
    pub(crate) fn open(&self, terms: &Terms, at: &Installation, ticket: &[u8]) -> Option<Vec<u8>> {
        let opened = self.try_open(terms, at, ticket);
        opened.map_err(|why| self.note_unopened(why)).ok()
    }

    #[cold]
    fn note_unopened(&self, why: TicketCount) {
        match why {
            // Of that more is known already.
            TicketCount::ClientAuth => trace!("ticket of a client that is not admitted"),
            why => {
                trace!(?why, "ticket refused");
                context::miss(reason(why));
            }
        }
        self.counters.add(why);
    }

    /// The STEK under which a shared store's values are sealed now.
    pub(crate) fn sharing_key(&self, terms: &Terms) -> SharingKey {
        let snapshot = self.snapshot.load();
        match snapshot.active(terms.now()) {
            Some(key) if snapshot.is_local(key.stek.name()) => SharingKey::FallenBack,
            Some(key) => SharingKey::Key(key.clone()),
            None => SharingKey::NoKey,
        }
    }

    /// Whether the STEK of this name, if one is given, is revoked.
    pub(crate) fn has_revoked(&self, name: Option<KeyName>) -> bool {
        self.snapshot.load().has_revoked(name)
    }

    /// The STEK that opens a shared store's values of this key name.
    pub(crate) fn opening_key(&self, terms: &Terms, name: &KeyName) -> Option<Arc<Stek>> {
        let snapshot = self.snapshot.load();
        let (held, _) = opening(&snapshot, name, terms).ok()?;
        Some(Arc::clone(&held.key.stek))
    }

    #[inline(always)]
    fn try_seal(
        &self,
        terms: &Terms,
        at: &Installation,
        session: &[u8],
    ) -> Result<Vec<u8>, TicketCount> {
        let generation = at.scope.generation(); // before its times
        let parsed = Session::parse(session);
        let overhead = ticket::overhead(generation);
        if session.len().saturating_add(overhead) > self.settings.max_ticket_len {
            return refused(TicketCount::TooLongToSeal);
        }
        // First the snapshot, then the clock: so the time is never before the snapshot's, in which
        // what had retired by then no longer seals.
        let snapshot = self.snapshot.load();
        let now = terms.now();
        let (lineage, renewed_key) = context::lineage_of_sealed(parsed.as_ref(), &at.scope, now);
        let lineage = at.mark(lineage);
        if !at.keeps(terms, parsed.as_ref()) {
            return refused(TicketCount::ClientAuthToSeal);
        }
        if terms.withholds(&at.scope, lineage, now) {
            return refused(TicketCount::RevokedToSeal);
        }
        if terms.is_too_old(lineage.birth, now) {
            return refused(TicketCount::TooOldToSeal);
        }
        let Some(stek) = snapshot.sealing(now) else {
            return refused(TicketCount::NoKeyToSeal);
        };
        // What seals is not revoked, and need not be looked for.
        if snapshot.has_revoked(renewed_key.filter(|name| name != stek.name())) {
            return refused(TicketCount::RevokedToSeal);
        }
        // What it renews is not known, if it does. It may be what a STEK sealed that is revoked.
        let monotonic = || terms.clock.monotonic();
        if lineage.begins_unknown() && snapshot.may_renew_revoked(terms.incident_window, monotonic)
        {
            return refused(TicketCount::RevokedToSeal);
        }
        let trailer = Trailer {
            issued: now,
            lineage,
            generation,
        };
        let Some(ticket) = ticket::seal(stek, at.scope.scope.digest(), &trailer, session) else {
            return refused(TicketCount::NoKeyToSeal);
        };
        let is_tls13 = parsed.is_some_and(|session| session.version == Version::Tls13);
        trace!(len = ticket.len(), "ticket sealed");
        self.counters
            .add(match is_tls13 && lineage.begins_unknown() {
                true => TicketCount::SealedAgeUnknown,
                false => TicketCount::Sealed,
            });
        Ok(ticket)
    }

    #[inline(always)]
    fn try_open(
        &self,
        terms: &Terms,
        at: &Installation,
        ticket: &[u8],
    ) -> Result<Vec<u8>, TicketCount> {
        if ticket.len() > self.settings.max_ticket_len {
            return refused(TicketCount::TooLong);
        }
        let Some(name) = ticket::key_name(ticket) else {
            return refused(TicketCount::Malformed);
        };
        let name = KeyName::from_bytes(*name);
        let after = times_forgotten(); // before anything that a call puts out of reach
        let snapshot = self.snapshot.load();
        let (held, read) = opening(&snapshot, &name, terms)?;
        let now = read.on(terms.basis);
        let opened = ticket::open(&held.key.stek, at.scope.scope.digest(), ticket);
        let (trailer, mut session) = match opened {
            Ok(opened) => opened,
            Err(Unopened::Forged) => return refused(TicketCount::Forged),
            Err(Unopened::WrongScope) => return refused(TicketCount::WrongScope),
        };
        let parsed = Session::parse(&session);
        if let Err(why) = admit(terms, at, &trailer, parsed.as_ref(), now) {
            session.zeroize();
            return refused(why);
        }
        let given = Given {
            by: ResumedBy::Ticket,
            lineage: trailer.lineage,
            at: now,
            key_name: Some(name),
            after,
        };
        let is_known_later = context::give(parsed.as_ref(), given);
        if !is_known_later {
            held.opened.note(read.monotonic);
        }
        let tag = parsed.and_then(|session| session.tag);
        Session::untag(tag, &mut session);
        trace!("ticket opened");
        self.counters.add(TicketCount::Opened);
        Ok(session)
    }
}

/// Whether an opened ticket may be used here and now.
#[inline(always)]
fn admit(
    terms: &Terms,
    at: &Installation,
    trailer: &Trailer,
    session: Option<&Session<'_>>,
    now: Time,
) -> Result<(), TicketCount> {
    let is_forgotten = match at.scope.bound(trailer.generation) {
        Bound::Current => false,
        Bound::Earlier => true,
        Bound::Never => terms.has_forgotten(&at.scope, trailer.lineage, trailer.issued),
    };
    if is_forgotten {
        return refused(TicketCount::Revoked);
    }
    if terms.is_too_old(trailer.lineage.birth, now) {
        return refused(TicketCount::TooOld);
    }
    match at.admits(terms, session, trailer.lineage) {
        true => Ok(()),
        false => refused(TicketCount::ClientAuth),
    }
}

/// A way out of the usual way, said to be rare: otherwise the compiler takes what comes after a few
/// of them for rare, and does not optimise it.
#[cold]
#[inline(never)]
fn refused<T>(why: TicketCount) -> Result<T, TicketCount> {
    Err(why)
}

/// Why a ticket was refused, as the metrics have it.
fn reason(refused: TicketCount) -> &'static str {
    match refused {
        TicketCount::UnknownKeyName => "unknown_key_name",
        TicketCount::TooLong => "too_long",
        TicketCount::Malformed => "malformed",
        TicketCount::Forged => "forged",
        TicketCount::WrongScope => "wrong_scope",
        TicketCount::ExpiredKey => "expired_key",
        TicketCount::TooOld => "too_old",
        TicketCount::Revoked => "revoked",
        _ => "refused",
    }
}

/// The STEK of this name, if it opens now, and what the clock reads. It is not read for a name that
/// means nothing.
#[inline(always)]
fn opening<'a>(
    snapshot: &'a Snapshot,
    name: &KeyName,
    terms: &Terms,
) -> Result<(&'a HeldKey, Now), TicketCount> {
    let held = match snapshot.find(name) {
        Some(Slot::Key(held)) => held,
        Some(Slot::Expired) => return refused(TicketCount::ExpiredKey),
        Some(Slot::Revoked) => return refused(TicketCount::Revoked),
        None => return refused(TicketCount::UnknownKeyName),
    };
    let read = terms.read();
    let now = read.on(terms.basis);
    if now < held.key.window.published {
        return refused(TicketCount::UnknownKeyName);
    }
    match held.key.window.opens(now) {
        true => Ok((held, read)),
        false => refused(TicketCount::ExpiredKey),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_refused_under_the_name_that_its_counter_has() {
        for (refused, name) in [
            (TicketCount::UnknownKeyName, "unknown_key_name"),
            (TicketCount::TooLong, "too_long"),
            (TicketCount::Malformed, "malformed"),
            (TicketCount::Forged, "forged"),
            (TicketCount::WrongScope, "wrong_scope"),
            (TicketCount::ExpiredKey, "expired_key"),
            (TicketCount::TooOld, "too_old"),
            (TicketCount::Revoked, "revoked"),
            (TicketCount::ClientAuth, "refused"),
        ] {
            assert_eq!(reason(refused), name);
        }
    }
}
