//! A server whose handshakes have no context.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::given::Given;
use super::trace::Trace;
use crate::clock::Time;
use crate::lineage::Lineage;
use crate::scope::ScopeState;
use crate::session::{Session, Version};
use crate::stek::KeyName;
use crate::sync::thread_local;

thread_local! {
    /// The last session that rustls was given.
    static LAST: Cell<Option<Last>> = const { Cell::new(None) };

    /// Fresh verifications of client certificates that ended in refusals, and when the last one
    /// did.
    static REFUSALS: Cell<(u8, Time)> = const { Cell::new((0, Time(0))) };

    /// All fresh verifications of a moment, and when it began.
    static VERIFIED: Cell<(u8, Time)> = const { Cell::new((0, Time(0))) };
}

#[derive(Clone, Copy)]
struct Last {
    trace: Trace,
    /// The STEK that had sealed it, if one had.
    key_name: Option<KeyName>,
    /// How often anything had been forgotten before.
    after: u64,
}

/// Whether there ever was a ring in this process: nothing else reads what is left in `LAST`.
static IS_READ: AtomicBool = AtomicBool::new(false);

/// Enables it.
pub(crate) fn read() {
    IS_READ.store(true, Ordering::Relaxed);
}

/// Notes a session that rustls is about to see. False of a TLS 1.3 session, whose renewals are made
/// later, perhaps on another thread.
#[inline(always)]
pub(super) fn give(session: Option<&Session<'_>>, given: &Given) -> bool {
    let version = session.map(|session| session.version);
    let is_known_later = version == Some(Version::Tls12);
    if !IS_READ.load(Ordering::Relaxed) {
        return is_known_later;
    }
    // While a thread ends the slot may be gone; then nothing follows on it either.
    let _ = LAST.try_with(|last| match version {
        // Nothing is left of it: its renewals are made later, perhaps elsewhere.
        Some(Version::Tls13) => last.set(None),
        Some(Version::Tls12) | None => last.set(Some(Last {
            trace: Trace::new(session, given.lineage),
            key_name: given.key_name,
            after: given.after,
        })),
    });
    is_known_later
}

/// What is known of the descent of a session that is sealed now, which takes what a look-up left.
#[inline]
pub(super) fn lineage_of_sealed(
    session: Option<&Session<'_>>,
    scope: &ScopeState,
    now: Time,
) -> (Lineage, Option<KeyName>) {
    let is_tls13 = session.is_some_and(|session| session.version == Version::Tls13);
    let renewed = LAST.try_with(|last| match is_tls13 {
        true => {
            last.set(None);
            None
        }
        false => last.take().filter(|last| last.trace.is_renewed_by(session)),
    });
    match renewed.ok().flatten() {
        Some(last) => (last.trace.renewal(scope, last.after), last.key_name),
        None => (lineage(session, now), None),
    }
}

/// The same of a session that is stored.
pub(super) fn lineage(session: Option<&Session<'_>>, now: Time) -> Lineage {
    let lineage = Lineage::of_full_handshake(now).late();
    match session.is_some_and(|session| session.version == Version::Tls12) {
        true => lineage,
        false => lineage.of_unknown_age(),
    }
}

/// Nothing tells one ClientHello from the next, so that many refusals of a thread stop it from
/// verifying for a moment.
const PAUSE: Duration = Duration::from_millis(20);

/// How many a thread verifies in such a moment, however they end: rustls may decline a session whose
/// client was found good, and ask for the next of the ninety that a ClientHello has room for. Honest
/// clients of whom nothing is remembered are rarely so many.
const MAX_IN_A_MOMENT: u8 = 32;

/// Takes one of the fresh verifications that there may be. False if none is left, or if `max` were
/// refused just before.
pub(super) fn may_verify(now: Time, max: u8) -> bool {
    let (refused, last) = REFUSALS.try_with(Cell::get).unwrap_or((0, Time(0)));
    if refused >= max && is_within(last, now) {
        return false;
    }
    let verify = VERIFIED.try_with(|verified| {
        let (count, began) = match verified.get() {
            running @ (_, began) if is_within(began, now) => running,
            _ => (0, now),
        };
        verified.set((count.saturating_add(1), began));
        count < MAX_IN_A_MOMENT
    });
    verify.unwrap_or(true) // the thread ends, and verifies no more after that
}

/// Notes that a fresh verification ended in a refusal.
pub(super) fn refused_afresh(began: Time, ended: Time) {
    let _ = REFUSALS.try_with(|refusals| {
        let (count, last) = refusals.get();
        let running = if is_within(last, began) { count } else { 0 };
        refusals.set((running.saturating_add(1), ended));
    });
}

fn is_within(moment: Time, now: Time) -> bool {
    (moment..moment.plus(PAUSE)).contains(&now)
}
