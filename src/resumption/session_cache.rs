use std::fmt;
use std::time::Duration;

use super::inner::{Inner, Root};
use crate::cache::{CacheSettings, DEFAULT_BYTES_PER_ENTRY, DEFAULT_ENTRIES, DEFAULT_TTL};
use crate::installation::Installation;
use crate::scope::{Scope, Which};
use crate::stats::CacheStats;
use crate::terms::Terms;

/// Stateful resumption: the server remembers sessions.
///
/// Implements [`rustls::server::StoresServerSessions`] over shards of a segmented LRU. `get`,
/// `take` and `put` take constant time under one shard's lock. It never holds more than its budget,
/// never returns what has expired, and wipes each session when it leaves. A TLS 1.2 session is
/// never `take`n and a TLS 1.3 session never `get`.
///
/// A session costs its value's bytes and at most 100 more: 1,000,000 sessions of 200 bytes, 300 MB.
/// TLS 1.3 stores two per handshake, so provide for twice the clients.
///
/// A handle is cheap to clone, and [`SessionCache::scoped`] gives one for another [`Scope`]:
/// sessions are found only in the scope that stored them. Used alone it is for servers that ask no
/// client for a certificate, because it sees no configuration: sessions with client certificates
/// are not stored. [`Resumption::install`](crate::Resumption::install) serves the others.
///
/// ```
/// use std::sync::Arc;
/// use rustls_resumption::SessionCache;
/// # fn f(mut config: rustls::ServerConfig) {
/// config.session_storage = Arc::new(SessionCache::new(100_000));
/// # }
/// ```
///
/// Used alone it sweeps expired sessions out in small steps as others are stored; within a
/// [`Resumption`](crate::Resumption) the housekeeping thread does so without traffic too, within
/// about a minute.
#[derive(Clone)]
pub struct SessionCache {
    pub(crate) inner: Root,
    pub(crate) at: Installation,
}

impl SessionCache {
    /// How many sessions the cache of a [`Resumption`](crate::Resumption) holds, by default:
    /// 20,000.
    pub const DEFAULT_ENTRIES: usize = DEFAULT_ENTRIES;

    /// How many bytes the sessions may have in all, by default, for each that the cache may hold: 1
    /// KiB.
    pub const DEFAULT_BYTES_PER_ENTRY: usize = DEFAULT_BYTES_PER_ENTRY;

    /// How long a session is kept, by default: 24 hours.
    pub const DEFAULT_TTL: Duration = DEFAULT_TTL;

    /// A cache of so many sessions, all else at its default, in the default scope. With 0 it stores
    /// nothing, and rustls tells clients so.
    pub fn new(entries: usize) -> Self {
        Self::with(CacheSettings::of(entries), Terms::default())
    }

    pub(crate) fn with(settings: CacheSettings, terms: Terms) -> Self {
        Self::on(Root::from(Inner::new(terms, settings, None).shared()))
    }

    /// A handle on the cache of this, in the default scope.
    pub(crate) fn on(inner: Root) -> Self {
        Self {
            at: inner.unseen(Scope::default()),
            inner,
        }
    }

    /// The same cache in another scope.
    #[must_use]
    pub fn scoped(&self, scope: impl Into<Scope>) -> Self {
        Self {
            inner: self.inner.clone(),
            at: self.inner.unseen(scope.into()),
        }
    }

    /// Drops and wipes what all scopes of this name stored up to now; no handshake finds it any
    /// more. Takes time in proportion to the cache, in small steps between which handshakes go on.
    pub fn forget(&self, scope: impl Into<Scope>) {
        // What it returns says nothing of a cache that no process shares.
        let _ = self.inner.here().forget(Which::Named(&scope.into()));
    }

    /// The same for every scope.
    pub fn clear(&self) {
        self.inner.here().clear();
    }

    /// For a process that was forked from the one that made the cache: call it in the child, first of
    /// all. The child's cache starts empty, so that no single-use session is used in two processes.
    ///
    /// A cache used alone has no thread that would find out, and handshakes do not ask the system:
    /// without this call the child goes on with the sessions that it inherited, until another method
    /// is called. Within a [`Resumption`](crate::Resumption) it does
    /// [find out](crate::Resumption::after_fork).
    pub fn after_fork(&self) {
        let _ = self.inner.here();
    }

    /// Counters of the cache.
    pub fn stats(&self) -> CacheStats {
        self.inner.here().cache.stats()
    }
}

impl fmt::Debug for SessionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCache")
            .field("scope", &self.at.scope.scope)
            .field("max_entries", &self.inner.cache.max_entries())
            .finish_non_exhaustive()
    }
}
