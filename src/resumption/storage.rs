use std::fmt;
use std::sync::Arc;

use rustls::server::StoresServerSessions;
use tracing::trace;
use zeroize::Zeroizing;

use crate::cache::{NOT_FOUND, SessionCache};
use crate::context::{self, Taken};
use crate::counters::Counters;
use crate::ring::StekRing;
use crate::session::{Session, Version};
use crate::stats::AcceptorStats;
use crate::store::Sharing;

/// What [`Resumption::install`](crate::Resumption::install) makes the `session_storage` of a
/// configuration: the cache, or cache and shared store.
pub(crate) struct Storage(Arc<Installed>);

/// All that an acceptor must know of the [`Resumption`](crate::Resumption) in a configuration.
pub(crate) struct Installed {
    /// In the configuration's scope.
    pub(crate) cache: SessionCache,
    /// With the ring whose store keys seal what is shared.
    pub(crate) sharing: Option<(Arc<Sharing>, StekRing)>,
    pub(crate) counts: Arc<Counters<AcceptorStats>>,
}

impl Storage {
    pub(crate) fn new(installed: Installed) -> Self {
        Self(Arc::new(installed))
    }

    pub(crate) fn store(&self, id: Vec<u8>, value: Vec<u8>) -> bool {
        let Installed { cache, sharing, .. } = &*self.0;
        let fixed = <&[u8; 32]>::try_from(id.as_slice());
        let (Some((sharing, ring)), Ok(fixed)) = (sharing, fixed) else {
            return cache.store(id, value);
        };
        let shared = sharing.write(ring, cache.scope(), fixed, &value);
        match Session::parse(&value).map(|session| session.version) {
            Some(Version::Tls12) => cache.store(id, value) || shared,
            // Another node may claim a TLS 1.3 session, so it must not be found here.
            Some(Version::Tls13) | None => {
                drop((Zeroizing::new(id), Zeroizing::new(value)));
                shared
            }
        }
    }

    pub(crate) fn fetch(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.0.cache.fetch(id)
    }

    pub(crate) fn claim(&self, id: &[u8]) -> Option<Vec<u8>> {
        let Installed { cache, sharing, .. } = &*self.0;
        if sharing.is_none() {
            return cache.claim(id);
        }
        let taken = context::take_claimed(cache.scope(), id);
        trace!(hit = matches!(taken, Taken::Session(_)), "session taken");
        match taken {
            Taken::Session(session) => Some(session),
            Taken::NotFound => {
                context::miss(NOT_FOUND);
                None
            }
            Taken::NotClaimed => {
                cache.count_not_claimed();
                context::miss("not_claimed");
                None
            }
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.0.cache.has_room()
    }

    /// Shows itself to an acceptor that searches on this thread.
    pub(crate) fn answer_search(&self) {
        context::answer_search(&self.0);
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.cache.fmt(f)
    }
}

impl Installed {
    /// What is installed in a configuration, if anything is.
    pub(crate) fn find(storage: &dyn StoresServerSessions) -> Option<Arc<Self>> {
        let found = context::search(|| {
            storage.can_cache();
        });
        found?.downcast().ok()
    }
}
