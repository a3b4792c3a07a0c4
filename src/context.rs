//! What one call of rustls leaves for the next on its thread.
//!
//! rustls asks for sessions and hands over new ones without saying for which connection, nor which
//! session a new one renews. So what must be known from one call to the next lies in thread-locals:
//!
//! * **The last session** that rustls was given, for [`inherit`]. TLS 1.2 renewals wrap the *same*
//!   master secret again, back to back on one thread: `decrypt` or `get`, then `encrypt`. What was
//!   returned leaves its birth and a fingerprint of its secret, and the very next `encrypt` takes
//!   them.
//! * **The claimed session**, for [`take`]. Whoever makes the call that processes a ClientHello lends
//!   what was claimed for its connection to the thread for as long as the call takes, so no other
//!   connection can get it.
//! * **The search** for the session storage in a configuration, for [`search`]. rustls hides the type
//!   of its storage, so the storage is asked a harmless question and shows itself while it answers.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use foldhash::quality::RandomState;
use zeroize::Zeroizing;

use crate::clock::Time;
use crate::counters::Counters;
use crate::scope::ScopeState;
use crate::session::{Session, Version};
use crate::stats::{StoreCount, StoreStats};
use crate::sync::thread_local;

thread_local! {
    static LAST: Cell<Option<Trace>> = const { Cell::new(None) };

    /// `Some` while a ClientHello is processed whose sessions were looked up.
    static CLAIMED: RefCell<Option<Option<ClaimedSession>>> = const { RefCell::new(None) };

    /// `Some` while somebody searches.
    static SEARCH: RefCell<Option<Option<Found>>> = const { RefCell::new(None) };
}

type Found = Arc<dyn Any + Send + Sync>;

/// What a session that was just handed to rustls leaves for the next `encrypt` on this thread.
#[derive(Clone, Copy)]
struct Trace {
    birth: Time,
    /// `None` if the session could not be parsed: then whatever comes next is its descendant.
    fingerprint: Option<u64>,
}

/// Whether there ever was a ring in this process: nothing else reads what is left here.
static IS_READ: AtomicBool = AtomicBool::new(false);

/// Has births left from now on.
pub(crate) fn read() {
    IS_READ.store(true, Ordering::Relaxed);
}

/// Leaves the birth of a session that rustls is about to see.
pub(crate) fn leave(session: &[u8], birth: Time) {
    if !IS_READ.load(Ordering::Relaxed) {
        return;
    }
    let fingerprint = match Session::parse(session) {
        // A resumed TLS 1.3 session gets a new secret; its age travels in a birth record.
        Some(session) if session.version == Version::Tls13 => return set(None),
        Some(session) => Some(fingerprint(session.secret)),
        None => None,
    };
    set(Some(Trace { birth, fingerprint }));
}

fn set(trace: Option<Trace>) {
    // While a thread ends the slot may be gone; then nothing follows on it either.
    let _ = LAST.try_with(|last| last.set(trace));
}

/// Takes what was left, and says when the session that is now to be sealed was born, if it descends
/// from it. Wherever that is in doubt it does, so that doubt ends in a full handshake.
pub(crate) fn inherit(session: Option<&Session<'_>>) -> Option<Time> {
    let trace = LAST.try_with(Cell::take).ok()??;
    match (session, trace.fingerprint) {
        (Some(session), _) if session.version == Version::Tls13 => None,
        (Some(session), Some(left)) => (fingerprint(session.secret) == left).then_some(trace.birth),
        (None, _) | (_, None) => Some(trace.birth),
    }
}

/// It stays on the thread when nothing takes it, so it must not give the secret away: of 64 bits it
/// can say no more than 64 bits of the 384. Equal secrets are always equal here; unequal ones by
/// chance only make a session older than it is. A third of the secret will do, because each bit of
/// it is as random as the next.
fn fingerprint(secret: &[u8]) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    match secret.first_chunk() {
        Some(chunk) => KEY.hash_one(u128::from_ne_bytes(*chunk)),
        None => KEY.hash_one(secret),
    }
}

/// What was claimed for one connection: one session at most, because claiming ends at the first
/// hit. Wiped and counted on drop if it was not used.
///
/// The default is for a connection for which nothing was found, or nothing looked up yet.
#[derive(Default)]
pub(crate) struct Claimed {
    session: Option<ClaimedSession>,
}

pub(crate) struct ClaimedSession {
    /// Where it is counted if it is not used.
    pub(crate) counts: Arc<Counters<StoreStats>>,
    pub(crate) scope: Arc<ScopeState>,
    pub(crate) id: [u8; 32],
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

impl From<ClaimedSession> for Claimed {
    fn from(session: ClaimedSession) -> Self {
        Self {
            session: Some(session),
        }
    }
}

impl Claimed {
    /// Does what may make rustls take the session. What it leaves is there for the next time, as
    /// after a HelloRetryRequest.
    pub(crate) fn during<R>(&mut self, call: impl FnOnce() -> R) -> R {
        let _lent = Lent::new(&mut self.session);
        call()
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            session.counts.add(StoreCount::Unused);
        }
    }
}

struct Lent<'a>(&'a mut Option<ClaimedSession>);

impl<'a> Lent<'a> {
    fn new(session: &'a mut Option<ClaimedSession>) -> Self {
        // While a thread ends there is nothing to lend it to; then nothing is found.
        let _ = CLAIMED.try_with(|current| current.replace(Some(session.take())));
        Self(session)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let _ = CLAIMED.try_with(|current| *self.0 = current.take().flatten());
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
pub(crate) fn take(scope: &ScopeState, id: &[u8]) -> Taken {
    let taken = CLAIMED.try_with(|current| {
        let mut current = current.borrow_mut();
        let session = current.as_mut()?;
        let is_meant = |session: &mut ClaimedSession| {
            session.scope.scope == scope.scope && session.id.as_slice() == id
        };
        Some(session.take_if(is_meant))
    });
    match taken {
        Ok(Some(Some(mut session))) => Taken::Session(std::mem::take(&mut *session.bytes)),
        Ok(Some(None)) => Taken::NotFound,
        Ok(None) | Err(_) => Taken::NotClaimed,
    }
}

/// Asks a storage a harmless question, and returns what shows itself in the answer. One that is
/// wrapped in another, which passes questions on, is found too.
pub(crate) fn search(ask: impl FnOnce()) -> Option<Found> {
    SEARCH.try_with(|search| search.replace(Some(None))).ok()?;
    ask();
    SEARCH.try_with(RefCell::take).ok()??
}

/// Shows this to whoever searches on this thread.
pub(crate) fn answer_search<T: Any + Send + Sync>(found: &Arc<T>) {
    let _ = SEARCH.try_with(|search| {
        if let Some(answer) = &mut *search.borrow_mut() {
            *answer = Some(Arc::<T>::clone(found));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::encoded;

    fn leave(session: &[u8], birth: Time) {
        read();
        super::leave(session, birth);
    }

    fn inherit(session: &[u8]) -> Option<Time> {
        super::inherit(Session::parse(session).as_ref())
    }

    fn tls12(secret: &[u8]) -> Vec<u8> {
        encoded(Version::Tls12, secret, b"")
    }

    fn tls13(secret: &[u8]) -> Vec<u8> {
        encoded(Version::Tls13, secret, b"")
    }

    #[test]
    fn the_same_secret_inherits_once() {
        leave(&tls12(b"secret"), Time(7));
        assert_eq!(inherit(&tls12(b"secret")), Some(Time(7)));
        assert_eq!(inherit(&tls12(b"secret")), None);
    }

    #[test]
    fn another_secret_is_another_session_and_ends_the_trace() {
        leave(&tls12(b"secret"), Time(7));
        assert_eq!(inherit(&tls12(b"other")), None);
        assert_eq!(inherit(&tls12(b"secret")), None);
    }

    #[test]
    fn what_cannot_be_parsed_is_taken_for_a_renewal() {
        leave(b"unheard of", Time(7));
        assert_eq!(inherit(&tls12(b"any")), Some(Time(7)));
        leave(&tls12(b"secret"), Time(8));
        assert_eq!(inherit(b"unheard of"), Some(Time(8)));
    }

    #[test]
    fn tls13_neither_leaves_nor_inherits() {
        leave(&tls13(b"secret"), Time(7));
        assert_eq!(inherit(b"unheard of"), None);
        leave(&tls12(b"secret"), Time(7));
        assert_eq!(inherit(&tls13(b"secret")), None);
    }
}
