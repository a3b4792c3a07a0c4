//! Sessions that a server issued, kept to be offered on demand.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

use crate::wire::TicketFacts;

/// One way to resume a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mechanism {
    SessionId,
    Tls12Ticket,
    Tls13Ticket,
}

impl Mechanism {
    pub(crate) const ALL: [Self; 3] = [Self::SessionId, Self::Tls12Ticket, Self::Tls13Ticket];

    /// Its name in JSON.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::SessionId => "tls1.2-session-id",
            Self::Tls12Ticket => "tls1.2-ticket",
            Self::Tls13Ticket => "tls1.3-ticket",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SessionId => "1.2 session ID",
            Self::Tls12Ticket => "1.2 ticket",
            Self::Tls13Ticket => "1.3 ticket",
        })
    }
}

/// A session that can be offered to a server.
pub(crate) enum Session {
    Tls12(Tls12ClientSessionValue),
    Tls13(Tls13ClientSessionValue),
}

/// What a server issued in one connection.
#[derive(Default)]
pub(crate) struct Issued {
    /// Set only if the client supports session IDs.
    pub(crate) session_id_length: usize,
    pub(crate) tickets: Vec<TicketFacts>,
    /// Copies of one session: that of the first of [`Issued::tickets`], or of the session ID. Empty
    /// if there is none.
    pub(crate) copies: Vec<Session>,
}

/// Offers at most one session, once, to any server, and keeps all sessions that servers issue.
pub(crate) struct Shelf {
    offer: Mutex<Option<Session>>,
    kept: Mutex<Vec<Session>>,
}

impl Shelf {
    pub(crate) fn offering(session: Option<Session>) -> Self {
        Self {
            offer: Mutex::new(session),
            kept: Mutex::new(Vec::new()),
        }
    }

    /// Takes what was kept since the last call.
    pub(crate) fn take_kept(&self) -> Vec<Session> {
        std::mem::take(&mut *lock(&self.kept))
    }
}

/// Poisoning is ignored: nothing panics while it holds the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Server names are ignored: the survey decides which session is offered where.
impl ClientSessionStore for Shelf {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        lock(&self.kept).push(Session::Tls12(session));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        match lock(&self.offer).take() {
            Some(Session::Tls12(session)) => Some(session),
            _ => None,
        }
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, session: Tls13ClientSessionValue) {
        lock(&self.kept).push(Session::Tls13(session));
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let offer = &mut *lock(&self.offer);
        match offer.take() {
            Some(Session::Tls13(session)) => Some(session),
            other => {
                *offer = other;
                None
            }
        }
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}
