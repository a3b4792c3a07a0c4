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
//! Wherever it is in doubt whether a session is a renewal, it is one and as old, so that doubt ends in
//! a full handshake.
//!
//! A server without contexts has, for TLS 1.2, the slot `LAST`: there the renewal is sealed back to
//! back with the look-up, on one thread, so the very next `encrypt` takes what was left. A TLS 1.3
//! session made without a context says that its birth is not known.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use foldhash::quality::RandomState;
use zeroize::Zeroizing;

use crate::clock::Time;
use crate::counters::Counters;
use crate::lineage::Lineage;
use crate::scope::ScopeState;
use crate::session::{Session, Version};
use crate::stats::{StoreCount, StoreStats};
use crate::stek::KeyName;
use crate::sync::thread_local;

thread_local! {
    /// The context of the handshake that this thread works on.
    static CURRENT: Cell<Option<Box<Context>>> = const { Cell::new(None) };

    /// A context that is over, for the next handshake that begins on this thread: allocating one
    /// would be a fifth of what following costs.
    static SPARE: Cell<Option<Box<Context>>> = const { Cell::new(None) };

    /// The last session that rustls was given without a context.
    static LAST: Cell<Option<Trace>> = const { Cell::new(None) };

    /// Fresh verifications of client certificates without a context that ended in refusals, and
    /// when the last one did.
    static REFUSALS: Cell<(u8, Time)> = const { Cell::new((0, Time(0))) };

    /// `Some` while somebody searches.
    static SEARCH: RefCell<Option<Option<Found>>> = const { RefCell::new(None) };
}

/// What is known of one handshake.
pub(crate) struct Context {
    began: Time,
    given: Option<(Given, Trace)>,
    /// Why rustls was given nothing when it asked last.
    missed: Option<&'static str>,
    /// Whether the last session that was made is a renewal.
    made_renewal: Option<bool>,
    /// `None` if nobody looked; else what was found and is not used yet.
    claimed: Option<Option<Claimed>>,
    from_store: bool,
    /// Fresh verifications of client certificates.
    verified: u8,
}

/// A session that rustls was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given {
    pub(crate) by: ResumedBy,
    pub(crate) lineage: Lineage,
    pub(crate) age: Duration,
    pub(crate) key_name: Option<KeyName>,
}

/// How a session was kept until it was resumed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ResumedBy {
    /// In this process's cache.
    Cache,
    /// By a session storage or ticketer that is not of this crate.
    Other,
    /// In a [`SharedStore`](crate::store::SharedStore).
    SharedStore,
    /// By the client, in a ticket.
    Ticket,
}

impl ResumedBy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Other => "other",
            Self::SharedStore => "shared_store",
            Self::Ticket => "ticket",
        }
    }
}

/// What tells a renewal of a session from another session.
#[derive(Clone, Copy)]
struct Trace {
    lineage: Lineage,
    /// `None` if the session could not be parsed: then whatever comes next is its renewal.
    mark: Option<Mark>,
}

/// What a session and its renewal have in common.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Mark {
    Tls12 {
        secret: u64,
    },
    Tls13 {
        cipher_suite: [u8; 2],
        server_name: Option<u64>,
    },
}

impl Context {
    /// Of a handshake that begins now.
    pub(crate) fn new(began: Time) -> Box<Self> {
        let context = Self {
            began,
            given: None,
            missed: None,
            made_renewal: None,
            claimed: None,
            from_store: false,
            verified: 0,
        };
        match SPARE.try_with(Cell::take) {
            Ok(Some(mut spare)) => {
                *spare = context;
                spare
            }
            Ok(None) | Err(_) => Box::new(context),
        }
    }

    /// Ends it. What was claimed and not used is wiped.
    pub(crate) fn retire(mut self: Box<Self>) {
        self.claimed = None;
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

    /// What rustls was given last.
    pub(crate) fn given(&self) -> Option<Given> {
        self.given.map(|(given, _)| given)
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

    fn give(&mut self, mut given: Given, trace: Trace) {
        if self.from_store && given.by == ResumedBy::Cache {
            given.by = ResumedBy::SharedStore;
        }
        self.given = Some((given, trace));
    }

    fn lineage(&mut self, session: Option<&Session<'_>>, now: Time) -> Lineage {
        let renewed = self.given.as_ref().map(|(_, trace)| trace);
        let renewed = renewed.filter(|trace| trace.is_renewed_by(session));
        self.made_renewal = Some(renewed.is_some());
        renewed.map_or_else(
            || Lineage::of_full_handshake(self.began.min(now)),
            Trace::renewal,
        )
    }
}

impl Trace {
    fn new(session: Option<&Session<'_>>, lineage: Lineage) -> Self {
        let mark = session.map(Mark::of);
        Self { lineage, mark }
    }

    fn is_renewed_by(&self, session: Option<&Session<'_>>) -> bool {
        match (self.mark, session) {
            (Some(mark), Some(session)) => mark == Mark::of(session),
            (None, _) | (_, None) => true,
        }
    }

    fn renewal(&self) -> Lineage {
        Lineage {
            is_renewal: true,
            ..self.lineage
        }
    }
}

impl Mark {
    fn of(session: &Session<'_>) -> Self {
        match session.version {
            Version::Tls12 => Self::Tls12 {
                secret: fingerprint(session.secret),
            },
            Version::Tls13 => Self::Tls13 {
                cipher_suite: session.cipher_suite,
                server_name: session.server_name.map(|name| HASH_KEY.hash_one(name)),
            },
        }
    }
}

/// It may stay on the thread when nothing takes it, so it must not give the secret away: of 64 bits
/// it can say no more than 64 bits of the 384. Equal secrets are always equal here; unequal ones by
/// chance only make a session older than it is. A third of the secret will do, because each bit of
/// it is as random as the next.
fn fingerprint(secret: &[u8]) -> u64 {
    match secret.first_chunk() {
        Some(chunk) => HASH_KEY.hash_one(u128::from_ne_bytes(*chunk)),
        None => HASH_KEY.hash_one(secret),
    }
}

static HASH_KEY: LazyLock<RandomState> = LazyLock::new(RandomState::default);

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
    // While a thread ends it may have no slot; then a handshake on it has no context.
    let _ = CURRENT.try_with(|current| *slot = current.replace(slot.take()));
}

/// Works on the context of this thread, if there is one.
fn with<R>(work: impl FnOnce(&mut Context) -> R) -> Option<R> {
    let done = CURRENT.try_with(|current| {
        let mut context = current.take()?;
        let result = work(&mut context);
        current.set(Some(context));
        Some(result)
    });
    done.ok()?
}

/// Whether there ever was a ring in this process: nothing else reads what is left in `LAST`.
static IS_READ: AtomicBool = AtomicBool::new(false);

/// Enables what servers without contexts have.
pub(crate) fn read() {
    IS_READ.store(true, Ordering::Relaxed);
}

/// Notes a session that rustls is about to see.
pub(crate) fn give(session: Option<&Session<'_>>, given: Given) {
    let noted = with(|context| context.give(given, Trace::new(session, given.lineage)));
    if noted.is_none() && IS_READ.load(Ordering::Relaxed) {
        // Nothing is left of a TLS 1.3 session: its renewals are made later, perhaps elsewhere.
        let is_tls13 = session.is_some_and(|session| session.version == Version::Tls13);
        let trace = (!is_tls13).then(|| Trace::new(session, given.lineage));
        // While a thread ends the slot may be gone; then nothing follows on it either.
        let _ = LAST.try_with(|last| last.set(trace));
    }
}

/// How many clients' certificates may be verified afresh for one ClientHello. A client that comes
/// back has one chain; only an attacker offers many, to have them verified.
const MAX_VERIFICATIONS: u8 = 2;

/// Without a context nothing tells one ClientHello from the next. There that many refusals of a
/// thread stop it from verifying for a moment.
const PAUSE: Duration = Duration::from_millis(20);

/// Takes one of the fresh verifications that this ClientHello may cost. False if none is left.
pub(crate) fn may_verify(now: Time) -> bool {
    let within_bounds = with(|context| {
        context.verified = context.verified.saturating_add(1);
        context.verified <= MAX_VERIFICATIONS
    });
    within_bounds.unwrap_or_else(|| {
        let (count, last) = REFUSALS.try_with(Cell::get).unwrap_or((0, Time(0)));
        count < MAX_VERIFICATIONS || !(last..last.plus(PAUSE)).contains(&now)
    })
}

/// Notes that a fresh verification ended in a refusal.
pub(crate) fn refused_afresh(now: Time) {
    if with(|_| ()).is_none() {
        let _ = REFUSALS.try_with(|refusals| {
            let (count, last) = refusals.get();
            let is_running = (last..last.plus(PAUSE)).contains(&now);
            let running = if is_running { count } else { 0 };
            refusals.set((running.saturating_add(1), now));
        });
    }
}

/// Notes that rustls asked for a session and is given none.
pub(crate) fn miss(why: &'static str) {
    with(|context| context.missed = Some(why));
}

/// What is known of the descent of a session that rustls hands over now.
pub(crate) fn lineage(session: Option<&Session<'_>>, now: Time) -> Lineage {
    with(|context| context.lineage(session, now))
        .unwrap_or_else(|| without_context(session, None, now))
}

/// The same where the session is sealed, which takes what a look-up left just before.
pub(crate) fn lineage_of_sealed(session: Option<&Session<'_>>, now: Time) -> Lineage {
    with(|context| context.lineage(session, now)).unwrap_or_else(|| {
        let last = LAST.try_with(Cell::take).ok().flatten();
        without_context(session, last, now)
    })
}

fn without_context(session: Option<&Session<'_>>, last: Option<Trace>, now: Time) -> Lineage {
    let version = session.map(|session| session.version);
    let renewed =
        last.filter(|trace| version != Some(Version::Tls13) && trace.is_renewed_by(session));
    match renewed {
        Some(trace) => trace.renewal(),
        None => Lineage {
            is_known: version == Some(Version::Tls12),
            ..Lineage::of_full_handshake(now)
        },
    }
}

/// A session that was claimed for one connection. Wiped and counted on drop if rustls did not take
/// it.
pub(crate) struct Claimed {
    pub(crate) counts: Arc<Counters<StoreStats>>,
    pub(crate) scope: Arc<ScopeState>,
    pub(crate) id: [u8; 32],
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) given: Given,
    pub(crate) is_used: bool,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if !self.is_used {
            self.counts.add(StoreCount::Unused);
        }
    }
}

/// What becomes of rustls's wish for a session.
pub(crate) enum Taken {
    Session(Vec<u8>),
    /// An acceptor looked before, and there is no such session.
    NotFound,
    /// Nobody looked.
    NotClaimed,
}

/// Takes the session of this ID that was claimed for the connection which this thread serves now.
pub(crate) fn take_claimed(scope: &ScopeState, id: &[u8]) -> Taken {
    let taken = with(|context| {
        let claimed = context.claimed.as_mut()?;
        let is_meant = |claimed: &mut Claimed| {
            claimed.scope.scope == scope.scope && claimed.id.as_slice() == id
        };
        let mut taken = claimed.take_if(is_meant);
        let session = taken.as_mut().map(|claimed| {
            claimed.is_used = true;
            let bytes = std::mem::take(&mut *claimed.bytes);
            let parsed = Session::parse(&bytes);
            let trace = Trace::new(parsed.as_ref(), claimed.given.lineage);
            context.give(claimed.given, trace);
            bytes
        });
        Some(session)
    });
    match taken.flatten() {
        Some(Some(session)) => Taken::Session(session),
        Some(None) => Taken::NotFound,
        None => Taken::NotClaimed,
    }
}

pub(crate) type Found = Arc<dyn Any + Send + Sync>;

/// Finds what is behind a trait object of rustls's: it is asked a harmless question, and shows itself
/// while it answers. One that is wrapped in another, which passes questions on, is found too.
pub(crate) fn search(ask: impl FnOnce()) -> Option<Found> {
    SEARCH.try_with(|search| search.replace(Some(None))).ok()?;
    ask();
    SEARCH.try_with(RefCell::take).ok()??
}

/// Shows this to whoever searches on this thread.
pub(crate) fn answer_search(found: impl FnOnce() -> Found) {
    let _ = SEARCH.try_with(|search| {
        if let Some(answer) = &mut *search.borrow_mut() {
            *answer = Some(found());
        }
    });
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    use super::*;
    use crate::session::tests::encoded;

    const BORN: Time = Time(7);
    const BEGAN: Time = Time(1_000);
    const NOW: Time = Time(1_010);

    fn tls12(secret: &[u8]) -> Vec<u8> {
        encoded(Version::Tls12, secret, b"")
    }

    fn tls13(secret: &[u8]) -> Vec<u8> {
        encoded(Version::Tls13, secret, b"")
    }

    fn give(session: &[u8]) {
        read();
        let given = Given {
            by: ResumedBy::Cache,
            lineage: Lineage::of_full_handshake(BORN),
            age: Duration::from_millis(1),
            key_name: None,
        };
        super::give(Session::parse(session).as_ref(), given);
    }

    /// Its birth, and whether that is known.
    fn sealed(session: &[u8]) -> (Time, bool) {
        let lineage = lineage_of_sealed(Session::parse(session).as_ref(), NOW);
        (lineage.birth, lineage.is_known)
    }

    fn stored(session: &[u8]) -> (Time, bool) {
        let lineage = lineage(Session::parse(session).as_ref(), NOW);
        (lineage.birth, lineage.is_known)
    }

    fn context() -> Option<Box<Context>> {
        Some(Context::new(BEGAN))
    }

    #[test]
    fn without_a_context_the_same_secret_inherits_once() {
        give(&tls12(b"secret"));
        assert_eq!(sealed(&tls12(b"secret")), (BORN, true));
        assert_eq!(sealed(&tls12(b"secret")), (NOW, true));
    }

    #[test]
    fn without_a_context_another_secret_ends_the_trace() {
        give(&tls12(b"secret"));
        assert_eq!(sealed(&tls12(b"other")), (NOW, true));
        assert_eq!(sealed(&tls12(b"secret")), (NOW, true));
    }

    #[test]
    fn what_cannot_be_parsed_is_taken_for_a_renewal() {
        give(b"unheard of");
        assert_eq!(sealed(&tls12(b"any")), (BORN, true));
        give(&tls12(b"secret"));
        assert_eq!(sealed(b"unheard of"), (BORN, true));
        assert_eq!(sealed(b"unheard of"), (NOW, false));
        for (given, made) in [
            (&b"unheard of"[..], &tls13(b"any")[..]),
            (&tls13(b"secret"), b"unheard of"),
        ] {
            let mut context = context();
            within(&mut context, || {
                give(given);
                assert_eq!(stored(made), (BORN, true));
            });
        }
    }

    #[test]
    fn without_a_context_tls13_has_no_known_birth() {
        give(&tls13(b"secret"));
        assert_eq!(sealed(&tls13(b"secret")), (NOW, false));
        assert_eq!(stored(&tls13(b"secret")), (NOW, false));
        give(&tls12(b"secret"));
        assert_eq!(sealed(&tls13(b"secret")), (NOW, false));
    }

    #[test]
    fn a_full_handshake_is_as_old_as_its_context() {
        let mut context = context();
        within(&mut context, || {
            for session in [tls12(b"secret"), tls13(b"secret")] {
                assert_eq!(stored(&session), (BEGAN, true));
                assert_eq!(sealed(&session), (BEGAN, true));
            }
        });
        let context = context.unwrap();
        assert!(context.given().is_none() && !context.was_declined());
    }

    #[test]
    fn in_a_context_every_session_of_the_same_name_and_suite_inherits() {
        let mut context = context();
        within(&mut context, || give(&tls13(b"secret")));
        within(&mut context, || {
            assert_eq!(sealed(&tls13(b"one")), (BORN, true));
            assert_eq!(stored(&tls13(b"two")), (BORN, true));
            let mut other_suite = tls13(b"three");
            other_suite[14] ^= 1;
            assert_eq!(sealed(&other_suite), (BEGAN, true));
            let mut other_name = tls13(b"three");
            other_name[2] ^= 1;
            assert_eq!(sealed(&other_name), (BEGAN, true));
            assert_eq!(sealed(&tls12(b"secret")), (BEGAN, true), "another version");
        });
        assert!(context.unwrap().was_declined());
    }

    #[test]
    fn what_was_of_unknown_birth_stays_so() {
        let mut context = context();
        let lineage = Lineage {
            is_known: false,
            ..Lineage::of_full_handshake(BORN)
        };
        let given = Given {
            by: ResumedBy::Ticket,
            lineage,
            age: Duration::ZERO,
            key_name: None,
        };
        within(&mut context, || {
            super::give(Session::parse(&tls13(b"secret")).as_ref(), given);
            assert_eq!(sealed(&tls13(b"other")), (BORN, false));
        });
    }

    #[test]
    fn contexts_nest_and_a_panic_mixes_nothing_up() {
        let (mut outer, mut inner) = (context(), context());
        within(&mut outer, || {
            give(&tls13(b"secret"));
            let result = catch_unwind(AssertUnwindSafe(|| {
                within(&mut inner, || {
                    assert_eq!(stored(&tls13(b"other")), (BEGAN, true));
                    panic!("on purpose");
                });
            }));
            assert!(result.is_err());
            assert_eq!(stored(&tls13(b"other")), (BORN, true));
        });
        assert_eq!(stored(&tls13(b"other")), (NOW, false), "nothing is left");
        assert!(inner.unwrap().given().is_none());
        assert!(outer.unwrap().given().is_some());
    }

    #[test]
    fn a_context_goes_from_thread_to_thread() {
        let mut context = context();
        within(&mut context, || give(&tls13(b"secret")));
        let context = thread::spawn(move || {
            assert_eq!(stored(&tls13(b"other")), (NOW, false));
            within(&mut context, || {
                assert_eq!(stored(&tls13(b"other")), (BORN, true));
            });
            context
        });
        assert!(!context.join().unwrap().unwrap().was_declined());
    }
}
