//! The session that was claimed for a connection, on its way to rustls.
//!
//! rustls asks its session storage for a session within the call that processes the ClientHello,
//! and does not say for which connection. So whoever makes that call lends what was claimed to the
//! thread for as long as the call takes: nobody else can come by it.

use std::cell::RefCell;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::counts::{Count, Counts};
use crate::scope::ScopeState;
use crate::sync::thread_local;

/// What was claimed for one connection: one session at most, because claiming ends at the first
/// hit. Wiped and counted on drop if it was not used.
///
/// The default is for a connection for which nothing was found, or nothing looked up yet.
#[derive(Default)]
pub(crate) struct Claimed {
    session: Option<ClaimedSession>,
}

pub(super) struct ClaimedSession {
    /// Where it is counted if it is not used.
    pub(super) counts: Arc<Counts>,
    pub(super) scope: Arc<ScopeState>,
    pub(super) id: [u8; 32],
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

thread_local! {
    /// `Some` while a ClientHello is processed whose sessions were looked up.
    static CURRENT: RefCell<Option<Option<ClaimedSession>>> = const { RefCell::new(None) };
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
            session.counts.add(Count::Unused);
        }
    }
}

struct Lent<'a>(&'a mut Option<ClaimedSession>);

impl<'a> Lent<'a> {
    fn new(session: &'a mut Option<ClaimedSession>) -> Self {
        // While a thread ends there is nothing to lend it to; then nothing is found.
        let _ = CURRENT.try_with(|current| current.replace(Some(session.take())));
        Self(session)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let _ = CURRENT.try_with(|current| *self.0 = current.take().flatten());
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
    let taken = CURRENT.try_with(|current| {
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
