//! The context of a handshake: what one call of rustls leaves for the next.
//!
//! rustls asks for sessions and hands over new ones without saying for which connection, nor which
//! session a new one renews. So whoever drives a handshake makes a [`Context`] for it, and puts it
//! into a slot of the thread around every call that may process messages: each poll of an accept
//! future, or a blocking call. There
//!
//! * [`give`] and [`miss`] note what rustls was given when it asked (`decrypt`, `get`, `take`);
//! * [`lineage`] reads it when rustls hands a new session over (`encrypt`, `put`): the new one is a
//!   renewal if it has the server name and cipher suite of the one that was given (TLS 1.3, and
//!   rustls resumes no other), or its master secret (TLS 1.2);
//! * [`take_claimed`] hands out what was claimed for this connection, and for no other.
//!
//! Wherever it is in doubt whether a session is a renewal, it is one and as old, so that doubt ends
//! in a full handshake.
//!
//! A server without contexts has, for TLS 1.2, the slot of [`last`]: there the renewal is sealed
//! back to back with the look-up, on one thread, so the very next `encrypt` takes what was left. A
//! TLS 1.3 session made without a context says that its birth is not known.

mod given;
mod last;
mod search;
mod tags;
mod trace;

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::time::Duration;

use crate::clock::Time;
use crate::handshake::{Handshake, ResumedBy};
use crate::lineage::Lineage;
use crate::scope::{self, ScopeState};
use crate::session::{Session, Tag, Version};
use crate::session_lineage::SessionLineage;
use crate::stek::KeyName;
use crate::sync::thread_local;

pub(crate) use given::{Claimed, Given, NO_TICKETS, Taken};
pub(crate) use last::read;
pub(crate) use search::{answer_search, search};
use tags::Tags;
use trace::Trace;

thread_local! {
    /// The context of the handshake that this thread works on. Without a destructor, so that no
    /// access asks whether it has run: who puts a context here takes it away again.
    static CURRENT: Cell<Option<ManuallyDrop<Box<Context>>>> = const { Cell::new(None) };

    /// A blank context, for the next handshake that begins on this thread: allocating one would be a
    /// fifth of what following costs.
    static SPARE: Cell<Option<Box<Context>>> = const { Cell::new(None) };
}

/// What is known of one handshake.
pub(crate) struct Context {
    began: Time,
    /// How often anything had been forgotten when it began: the clock may not tell which came first.
    after: u64,
    given: Option<(Given, Trace)>,
    /// Why rustls was given nothing when it asked last.
    missed: Option<&'static str>,
    /// Whether the last session that was made is a renewal.
    made_renewal: Option<bool>,
    made_tls12: bool,
    /// Whether a session that rustls handed over was not kept.
    not_kept: bool,
    /// `None` if nobody looked; else what was found and is not used yet.
    claimed: Option<Option<Claimed>>,
    from_store: bool,
    /// A shared store was asked, and gave nothing.
    not_in_store: bool,
    /// Kept where the owner wants to tell connections of one session.
    tags: Option<Tags>,
    /// Fresh verifications of client certificates.
    verified: u8,
    /// How long ago those of a session were found good that rustls is about to be given.
    found_good: Option<Duration>,
    /// The same of the session that rustls was given last.
    verified_ago: Option<Duration>,
    /// Whether the handshake is followed once more within, by an acceptor of ours, say. That one
    /// counts it, and knows more.
    inner: Inner,
}

/// A handshake that is followed within another.
#[derive(Clone, Copy)]
enum Inner {
    None,
    Begun,
    Ended(Handshake),
}

impl Context {
    /// Of a handshake that begins now.
    #[inline(always)]
    pub(crate) fn new(began: Time) -> Box<Self> {
        let mut context = match SPARE.try_with(Cell::take) {
            Ok(Some(spare)) => spare,
            Ok(None) | Err(_) => Box::new(Self::blank()),
        };
        context.began = began;
        context.after = scope::times_forgotten();
        context
    }

    fn blank() -> Self {
        Self {
            began: Time(0),
            after: 0,
            given: None,
            missed: None,
            made_renewal: None,
            made_tls12: false,
            not_kept: false,
            claimed: None,
            from_store: false,
            not_in_store: false,
            tags: None,
            verified: 0,
            found_good: None,
            verified_ago: None,
            inner: Inner::None,
        }
    }

    /// Makes it blank, field by field: as a whole it would be made elsewhere and copied.
    #[inline(always)]
    fn wipe(&mut self) {
        let Self {
            began: _,
            after: _,
            given,
            missed,
            made_renewal,
            made_tls12,
            not_kept,
            claimed,
            from_store,
            not_in_store,
            tags,
            verified,
            found_good,
            verified_ago,
            inner,
        } = self;
        *given = None;
        *missed = None;
        *made_renewal = None;
        *made_tls12 = false;
        *not_kept = false;
        *claimed = None;
        *from_store = false;
        *not_in_store = false;
        *tags = None;
        *verified = 0;
        *found_good = None;
        *verified_ago = None;
        *inner = Inner::None;
    }

    /// Keeps tags, from now on.
    pub(crate) fn keep_tags(&mut self) {
        self.tags = Some(Tags::default());
    }

    /// Of the session that the connection has, if lineages are told.
    pub(crate) fn session_lineage(&self, is_resumed: impl Fn() -> bool) -> Option<SessionLineage> {
        self.tags.as_ref()?.lineage(is_resumed())
    }

    /// Ends it. What was claimed and not used is wiped.
    #[inline(always)]
    pub(crate) fn retire(mut self: Box<Self>) {
        self.wipe();
        let _ = SPARE.try_with(|spare| spare.set(Some(self)));
    }

    /// Sessions are looked up for this handshake: rustls finds what is claimed, and nothing else.
    pub(crate) fn looked_up(&mut self, claimed: Option<Claimed>) {
        self.claimed = Some(claimed);
    }

    /// A session came from a shared store into the cache.
    pub(crate) fn fetched(&mut self) {
        self.from_store = true;
    }

    /// A shared store had nothing, and counted that.
    pub(crate) fn not_in_store(&mut self) {
        self.not_in_store = true;
    }

    /// What rustls was given last.
    pub(crate) fn given(&self) -> Option<&Given> {
        self.given.as_ref().map(|(given, _)| given)
    }

    /// How long ago the client certificates of what rustls was given last were verified.
    pub(crate) fn verified_ago(&self) -> Option<Duration> {
        self.verified_ago
    }

    /// Why rustls was given nothing, if it asked.
    pub(crate) fn missed(&self) -> Option<&'static str> {
        self.missed
    }

    /// Whether rustls was given a session and made one that does not renew it, or did not take what
    /// was claimed for it.
    pub(crate) fn was_declined(&self) -> bool {
        let made_another = self.given.is_some() && self.made_renewal == Some(false);
        made_another || matches!(self.claimed, Some(Some(_)))
    }

    /// Whether what rustls made, or did not make, shows that it resumed what it was given. A full
    /// handshake need not show: in TLS 1.3 a client can see to it that none makes a session. By session
    /// ID it resumes without making one, and never does all else without.
    pub(crate) fn shows_resumption(&self) -> bool {
        let Some((given, _)) = &self.given else {
            return false;
        };
        self.made_renewal.unwrap_or_else(|| {
            let by_id = match given.by {
                ResumedBy::SessionId => true,
                ResumedBy::SharedStore => self.from_store, // one that was fetched, not claimed
                _ => false,
            };
            by_id && !self.not_kept
        })
    }

    /// Whether rustls had a session to hand over, kept or not.
    pub(crate) fn was_handed_one(&self) -> bool {
        self.made_renewal.is_some() || self.not_kept
    }

    /// Whether a TLS 1.2 session was made.
    pub(crate) fn made_tls12(&self) -> bool {
        self.made_tls12
    }

    /// Whether a context within this one counts the handshake.
    pub(crate) fn has_inner(&self) -> bool {
        !matches!(self.inner, Inner::None)
    }

    /// What the context within this one told.
    pub(crate) fn told(&self) -> Option<&Handshake> {
        match &self.inner {
            Inner::Ended(handshake) => Some(handshake),
            Inner::None | Inner::Begun => None,
        }
    }

    #[inline(always)]
    fn give(&mut self, session: Option<&Session<'_>>, mut given: Given) {
        let trace = Trace::new(session, given.lineage);
        if let Some(tags) = &mut self.tags {
            tags.give(session);
        }
        if self.from_store && matches!(given.by, ResumedBy::Cache | ResumedBy::SessionId) {
            given.by = ResumedBy::SharedStore;
        }
        // Of this session: an earlier one, of another client, may have been found good and declined.
        self.verified_ago = self.found_good.take();
        self.given = Some((given, trace));
    }

    /// The STEK too that had sealed what it renews, if one had.
    #[inline(always)]
    fn lineage(
        &mut self,
        session: Option<&Session<'_>>,
        scope: &ScopeState,
        now: Time,
    ) -> (Lineage, Option<KeyName>) {
        self.made_tls12 = session.is_some_and(|session| session.version == Version::Tls12);
        match &self.given {
            Some((given, trace)) if trace.is_renewed_by(session) => {
                self.made_renewal = Some(true);
                (trace.renewal(scope, self.after), given.key_name)
            }
            Some(_) | None => {
                self.made_renewal = Some(false);
                let birth = scope.birth(self.began.min(now), self.after);
                (Lineage::of_full_handshake(birth), None)
            }
        }
    }
}

/// Makes a call in which this is the context of the handshake. What was there before is there again
/// afterwards, also if the call panics.
pub(crate) fn within<R>(context: &mut Option<Box<Context>>, call: impl FnOnce() -> R) -> R {
    let _swapped = Swapped::new(context);
    call()
}

/// While it lives, the slot of the thread and this one have changed places.
struct Swapped<'a>(&'a mut Option<Box<Context>>);

impl<'a> Swapped<'a> {
    #[inline]
    fn new(slot: &'a mut Option<Box<Context>>) -> Self {
        swap(slot);
        if let Some(outer) = slot {
            outer.inner = Inner::Begun;
        }
        Self(slot)
    }
}

impl Drop for Swapped<'_> {
    #[inline]
    fn drop(&mut self) {
        swap(self.0);
    }
}

#[inline]
fn swap(slot: &mut Option<Box<Context>>) {
    // On some platforms a thread that ends has no slot; then a handshake on it has no context.
    let _ = CURRENT.try_with(|current| {
        let before = current.replace(slot.take().map(ManuallyDrop::new));
        *slot = before.map(ManuallyDrop::into_inner);
    });
}

/// Tells the context around the one that has ended, if there is one, what happened.
pub(crate) fn tell_outer(handshake: &Handshake) {
    with(|outer| outer.inner = Inner::Ended(*handshake));
}

/// Works on the context of this thread, if there is one.
#[inline(always)]
fn with<R>(work: impl FnOnce(&mut Context) -> R) -> Option<R> {
    let done = CURRENT.try_with(|current| {
        let mut context = ManuallyDrop::into_inner(current.take()?);
        let result = work(&mut context);
        current.set(Some(ManuallyDrop::new(context)));
        Some(result)
    });
    done.ok()?
}

/// Notes a session that rustls is about to see. False if it cannot be told later which one renews it.
#[inline(always)]
pub(crate) fn give(session: Option<&Session<'_>>, given: Given) -> bool {
    let noted = with(|context| context.give(session, given));
    noted.is_some() || last::give(session, &given)
}

/// How many clients' certificates may be verified afresh for one ClientHello. A client that comes
/// back has one chain; only an attacker offers many, to have them verified.
const MAX_VERIFICATIONS: u8 = 2;

/// Takes one of the fresh verifications that this ClientHello may cost. False if none is left.
pub(crate) fn may_verify(now: Time) -> bool {
    let within_bounds = with(|context| {
        context.verified = context.verified.saturating_add(1);
        context.verified <= MAX_VERIFICATIONS
    });
    within_bounds.unwrap_or_else(|| last::may_verify(now, MAX_VERIFICATIONS))
}

/// Notes that the client certificates of a session were found good that rustls is given next, and how
/// long ago.
pub(crate) fn verified(ago: Duration) {
    with(|context| context.found_good = Some(ago));
}

/// Notes that a fresh verification ended in a refusal.
pub(crate) fn refused_afresh(began: Time, ended: Time) {
    if with(|_| ()).is_none() {
        last::refused_afresh(began, ended);
    }
}

/// Notes that rustls asked for a session and is given none.
pub(crate) fn miss(why: &'static str) {
    with(|context| context.missed = Some(why));
}

/// Whether a shared store was asked for this handshake, and gave nothing.
pub(crate) fn is_not_in_store() -> bool {
    with(|context| context.not_in_store).unwrap_or(false)
}

/// What is to be added to a session that rustls hands over, if it is of TLS 1.3 and tags are kept.
pub(crate) fn tag(session: &[u8]) -> Option<Tag> {
    let tag = with(|context| {
        let tags = context.tags.as_mut()?;
        let session = Session::parse(session)?;
        let given = context.given.as_ref();
        tags.make(
            &session,
            given.is_some_and(|(_, trace)| trace.is_renewed_by(Some(&session))),
        )
    });
    tag.flatten()
}

/// Notes that a session is not kept that rustls handed over.
pub(crate) fn not_kept() {
    with(|context| context.not_kept = true);
}

/// What is known of the descent of a session that rustls hands over now, and the STEK that had sealed
/// what it renews, if one had.
pub(crate) fn lineage(
    session: Option<&Session<'_>>,
    scope: &ScopeState,
    now: Time,
) -> (Lineage, Option<KeyName>) {
    with(|context| context.lineage(session, scope, now))
        .unwrap_or_else(|| (last::lineage(session, now), None))
}

/// The same where the session is sealed, which takes what a look-up left just before.
#[inline]
pub(crate) fn lineage_of_sealed(
    session: Option<&Session<'_>>,
    scope: &ScopeState,
    now: Time,
) -> (Lineage, Option<KeyName>) {
    with(|context| context.lineage(session, scope, now))
        .unwrap_or_else(|| last::lineage_of_sealed(session, scope, now))
}

/// Takes the session of this ID that was claimed for the connection which this thread serves now.
pub(crate) fn take_claimed(scope: &ScopeState, id: &[u8]) -> Taken {
    let taken = with(|context| {
        let claimed = context.claimed.as_mut()?;
        let is_meant = |claimed: &mut Claimed| {
            claimed.scope.scope == scope.scope && claimed.id.as_slice() == id
        };
        Some(claimed.take_if(is_meant))
    });
    match taken.flatten() {
        Some(Some(claimed)) => Taken::Claimed(claimed),
        Some(None) => Taken::NotFound,
        None => Taken::NotClaimed,
    }
}

/// Makes a call in the context of a full handshake that began then.
#[cfg(test)]
pub(crate) fn in_handshake<R>(began: Time, call: impl FnOnce() -> R) -> R {
    within(&mut Some(Context::new(began)), call)
}

#[cfg(any(test, rustls_resumption_fuzzing))]
#[path = "../fuzz/bodies/private/lineage.rs"]
mod fuzzed;
#[cfg(any(test, rustls_resumption_fuzzing))]
pub use fuzzed::run as fuzzed;

#[cfg(all(test, rustls_resumption_shuttle))]
mod interleavings;
#[cfg(test)]
mod tests;
