use std::fmt;
use std::sync::Arc;

use rustls::server::StoresServerSessions;
use tracing::trace;
use zeroize::Zeroizing;

use super::inner::{Followed, Inner, Root};
use crate::cache::{Fetched, NOT_FOUND, copies};
use crate::context::{self, Claimed, Taken};
use crate::installation::Installation;
use crate::session::{Session, Tag, Version};
use crate::stek::KeyName;
use crate::store::{Miss, Opened, Sharing};

/// What [`Resumption::install`](crate::Resumption::install) makes the `session_storage` of a
/// configuration: the cache, or cache and shared store, in the configuration's scope. It is also
/// all that an acceptor must know of the [`Resumption`](crate::Resumption).
#[derive(Clone)]
pub(crate) struct Storage {
    inner: Root,
    at: Installation,
}

impl Storage {
    pub(crate) fn new(inner: Root, at: Installation) -> Self {
        Self { inner, at }
    }

    pub(super) fn shares_cache_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn put(&self, id: Vec<u8>, value: Vec<u8>) -> bool {
        let tag = self
            .inner
            .keeps_tags
            .then(|| context::tag(&value))
            .flatten();
        let is_kept = self.try_put(id, tagged(value, tag));
        if !is_kept {
            context::not_kept();
        }
        is_kept
    }

    fn try_put(&self, id: Vec<u8>, value: Vec<u8>) -> bool {
        let Inner { cache, terms, .. } = &**self.inner;
        let fixed = <&[u8; 32]>::try_from(id.as_slice());
        let (Some((sharing, ring)), Ok(fixed)) = (self.inner.sharing(), fixed) else {
            return cache.put(terms, &self.at, id, value);
        };
        let sealed_by = sharing.write(ring, terms, &self.at, fixed, &value);
        let is_shared = sealed_by.is_some();
        match Session::parse(&value).map(|session| session.version) {
            Some(Version::Tls12) => {
                let copy = copies::with_name(value, sealed_by);
                cache.put(terms, &self.at, id, copy) || is_shared
            }
            // Another node may claim a TLS 1.3 session, so it must not be found here.
            Some(Version::Tls13) | None => {
                drop((Zeroizing::new(id), Zeroizing::new(value)));
                is_shared
            }
        }
    }

    pub(crate) fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        // The store was asked because the cache does not have it, and has counted the miss.
        if self.is_shared() && context::is_not_in_store() {
            context::miss(NOT_FOUND);
            return None;
        }
        let Inner { cache, terms, .. } = &**self.inner;
        let opens = |name: &KeyName| {
            let sharing = self.inner.sharing();
            let opens = sharing.is_none_or(|(sharing, ring)| sharing.opens(ring, terms, name));
            if !opens {
                context::miss("unknown_key_name");
            }
            opens
        };
        cache.get(terms, &self.at, id, opens)
    }

    pub(crate) fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        let Inner { cache, terms, .. } = &**self.inner;
        if !self.is_shared() {
            return cache.take(terms, &self.at, id);
        }
        let taken = context::take_claimed(&self.at.scope, id);
        let found = match taken {
            Taken::Claimed(claimed) => self.give(claimed),
            Taken::NotFound => {
                context::miss(NOT_FOUND);
                None
            }
            Taken::NotClaimed => {
                cache.count_not_claimed();
                context::miss("not_claimed");
                None
            }
        };
        trace!(hit = found.is_some(), "session taken");
        found
    }

    /// What rustls is given of what was claimed, if it may still resume.
    fn give(&self, mut claimed: Claimed) -> Option<Vec<u8>> {
        let (sharing, ring) = self.inner.sharing()?;
        let terms = &self.inner.terms;
        if !sharing.may_resume(ring, terms, &claimed) {
            context::miss(NOT_FOUND);
            return None;
        }
        let given = claimed.given;
        let session = Session::parse(&claimed.bytes);
        if !self.at.admits(terms, session.as_ref(), given.lineage) {
            return None;
        }
        context::give(session.as_ref(), given);
        let tag = session.and_then(|session| session.tag);
        claimed.is_used = true;
        let mut bytes = std::mem::take(&mut *claimed.bytes);
        Session::untag(tag, &mut bytes);
        Some(bytes)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.inner.cache.has_room()
    }

    /// Shows itself to an acceptor that searches on this thread.
    pub(crate) fn answer_search(&self) {
        context::answer_search(|| Arc::new(self.clone()));
    }

    /// What is installed in a configuration, if anything is.
    pub(crate) fn find(storage: &dyn StoresServerSessions) -> Option<Arc<Self>> {
        let found = context::search(|| {
            storage.can_cache();
        });
        found?.downcast().ok()
    }

    /// Whether there is a shared store.
    pub(crate) fn is_shared(&self) -> bool {
        self.inner.sharing().is_some()
    }

    /// The shared store, if there is one.
    pub(crate) fn sharing(&self) -> Option<&Sharing> {
        self.inner.sharing().map(|(sharing, _)| sharing)
    }

    /// Whether a TLS 1.2 session of this ID is in the cache.
    pub(crate) fn holds(&self, id: &[u8; 32]) -> bool {
        self.inner
            .cache
            .holds(&self.inner.terms, &self.at.scope, id)
    }

    /// Claims the first of these TLS 1.3 sessions that is in the shared store.
    pub(crate) async fn claim(&self, ids: &[[u8; 32]]) -> Result<Claimed, Miss> {
        let (sharing, ring) = self.inner.sharing().ok_or(Miss::NotFound)?;
        let terms = &self.inner.terms;
        sharing.claim(ring, terms, &self.at.scope, ids).await
    }

    /// Fetches a TLS 1.2 session from the shared store into the cache, where rustls will find it.
    pub(crate) async fn fetch(&self, id: &[u8; 32]) -> Result<(), Miss> {
        let (sharing, ring) = self.inner.sharing().ok_or(Miss::NotFound)?;
        let Inner { cache, terms, .. } = &**self.inner;
        let scope = &self.at.scope;
        let scope_number = scope.number();
        let opened = sharing.fetch(ring, terms, scope, id).await?;
        let Opened {
            mut bytes,
            given,
            expires,
        } = opened;
        let bytes = std::mem::take(&mut *bytes);
        let fetched = Fetched {
            value: Zeroizing::new(copies::with_name(bytes, given.key_name)),
            lineage: given.lineage,
            expires,
            scope_number,
        };
        cache.put_fetched(terms, scope, id, fetched);
        Ok(())
    }

    /// What is to be known of it for a handshake to be followed.
    pub(crate) fn followed(&self) -> Followed {
        self.inner.followed()
    }
}

/// A session with its tag.
fn tagged(value: Vec<u8>, tag: Option<Tag>) -> Vec<u8> {
    match tag {
        None => value,
        // Not extended, which would leave a copy behind.
        Some(tag) => [&Zeroizing::new(value)[..], &tag].concat(),
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCache")
            .field("scope", &self.at.scope.scope)
            .field("max_entries", &self.inner.cache.max_entries())
            .finish_non_exhaustive()
    }
}
