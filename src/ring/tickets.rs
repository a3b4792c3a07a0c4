use std::sync::Arc;

use tracing::trace;
use zeroize::Zeroize;

use super::Ring;
use super::slots::{HeldKey, Slot};
use super::snapshot::Snapshot;
use crate::clock::Time;
use crate::context::{self, Given};
use crate::handshake::ResumedBy;
use crate::installation::Installation;
use crate::scope::Bound;
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
    pub(crate) fn seal(&self, terms: &Terms, at: &Installation, session: &[u8]) -> Option<Vec<u8>> {
        match self.try_seal(terms, at, session) {
            Ok((ticket, count)) => {
                trace!(len = ticket.len(), "ticket sealed");
                self.counters.add(count);
                Some(ticket)
            }
            Err(why) => {
                trace!(?why, "no ticket");
                context::not_kept();
                self.counters.add(why);
                None
            }
        }
    }

    pub(crate) fn open(&self, terms: &Terms, at: &Installation, ticket: &[u8]) -> Option<Vec<u8>> {
        match self.try_open(terms, at, ticket) {
            Ok(session) => {
                trace!("ticket opened");
                self.counters.add(TicketCount::Opened);
                Some(session)
            }
            Err(why) => {
                match why {
                    // Of that more is known already.
                    TicketCount::ClientAuth => trace!("ticket of a client that is not admitted"),
                    why => {
                        trace!(?why, "ticket refused");
                        context::miss(reason(why));
                    }
                }
                self.counters.add(why);
                None
            }
        }
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
        let (held, _) = opening(&snapshot, name, || terms.now()).ok()?;
        Some(Arc::clone(&held.key.stek))
    }

    /// A ticket, and what to count it under.
    #[inline(always)]
    fn try_seal(
        &self,
        terms: &Terms,
        at: &Installation,
        session: &[u8],
    ) -> Result<(Vec<u8>, TicketCount), TicketCount> {
        let generation = at.scope.generation(); // before its times
        let parsed = Session::parse(session);
        let overhead = ticket::overhead(generation);
        if session.len().saturating_add(overhead) > self.settings.max_ticket_len {
            return Err(TicketCount::TooLongToSeal);
        }
        // First the snapshot, then the clock: so the time is never before the snapshot's, in which
        // what had retired by then no longer seals.
        let snapshot = self.snapshot.load();
        let now = terms.now();
        let (lineage, renewed_key) = context::lineage_of_sealed(parsed.as_ref(), &at.scope, now);
        let lineage = at.mark(lineage);
        if !at.keeps(terms, parsed.as_ref()) {
            return Err(TicketCount::ClientAuthToSeal);
        }
        if terms.is_too_old(lineage.birth, now) {
            return Err(TicketCount::TooOldToSeal);
        }
        if at.scope.has_forgotten(lineage, now, terms.under_way()) {
            return Err(TicketCount::RevokedToSeal);
        }
        let stek = snapshot.sealing(now).ok_or(TicketCount::NoKeyToSeal)?;
        // What seals is not revoked, and need not be looked for.
        if snapshot.has_revoked(renewed_key.filter(|name| name != stek.name())) {
            return Err(TicketCount::RevokedToSeal);
        }
        // What it renews is not known, if it does. It may be what a STEK sealed that is revoked.
        let monotonic = || terms.clock.monotonic();
        if lineage.begins_unknown() && snapshot.may_renew_revoked(terms.incident_window, monotonic)
        {
            return Err(TicketCount::RevokedToSeal);
        }
        let trailer = Trailer {
            issued: now,
            lineage,
            generation,
        };
        let ticket = ticket::seal(stek, at.scope.scope.digest(), &trailer, session);
        let ticket = ticket.ok_or(TicketCount::NoKeyToSeal)?;
        let is_tls13 = parsed.is_some_and(|session| session.version == Version::Tls13);
        let count = match is_tls13 && lineage.begins_unknown() {
            true => TicketCount::SealedAgeUnknown,
            false => TicketCount::Sealed,
        };
        Ok((ticket, count))
    }

    #[inline(always)]
    fn try_open(
        &self,
        terms: &Terms,
        at: &Installation,
        ticket: &[u8],
    ) -> Result<Vec<u8>, TicketCount> {
        if ticket.len() > self.settings.max_ticket_len {
            return Err(TicketCount::TooLong);
        }
        let name = ticket::key_name(ticket).ok_or(TicketCount::Malformed)?;
        let snapshot = self.snapshot.load();
        let (held, now) = opening(&snapshot, &name, || terms.now())?;
        let opened = ticket::open(&held.key.stek, at.scope.scope.digest(), ticket);
        let (trailer, mut session) = opened.map_err(|unopened| match unopened {
            Unopened::Forged => TicketCount::Forged,
            Unopened::WrongScope => TicketCount::WrongScope,
        })?;
        let parsed = Session::parse(&session);
        if let Err(why) = admit(terms, at, &trailer, parsed.as_ref(), now) {
            session.zeroize();
            return Err(why);
        }
        let given = Given {
            by: ResumedBy::Ticket,
            lineage: trailer.lineage,
            age: now.since(trailer.lineage.birth),
            key_name: Some(name),
        };
        let is_known_later = context::give(parsed.as_ref(), given);
        if !is_known_later {
            held.opened.note(terms.clock.monotonic());
        }
        let tag = parsed.and_then(|session| session.tag);
        Session::untag(tag, &mut session);
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
        Bound::Never => at
            .scope
            .has_forgotten(trailer.lineage, trailer.issued, terms.under_way()),
    };
    if is_forgotten {
        return Err(TicketCount::Revoked);
    }
    if terms.is_too_old(trailer.lineage.birth, now) {
        return Err(TicketCount::TooOld);
    }
    match at.admits(terms, session, trailer.lineage) {
        true => Ok(()),
        false => Err(TicketCount::ClientAuth),
    }
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

/// The STEK of this name, if it opens now, and the time. The clock is not read for a name that
/// means nothing.
#[inline(always)]
fn opening<'a>(
    snapshot: &'a Snapshot,
    name: &KeyName,
    now: impl FnOnce() -> Time,
) -> Result<(&'a HeldKey, Time), TicketCount> {
    let held = match snapshot.find(name) {
        Some(Slot::Key(held)) => held,
        Some(Slot::Expired) => return Err(TicketCount::ExpiredKey),
        Some(Slot::Revoked) => return Err(TicketCount::Revoked),
        None => return Err(TicketCount::UnknownKeyName),
    };
    let now = now();
    if now < held.key.window.published {
        return Err(TicketCount::UnknownKeyName);
    }
    match held.key.window.opens(now) {
        true => Ok((held, now)),
        false => Err(TicketCount::ExpiredKey),
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
