use std::sync::Arc;
use std::time::Duration;

use super::client_hello::Offer;
use crate::context::Claimed;
use crate::resumption::storage::Installed;
use crate::store::Miss;

/// The sessions of a client that a shared store may have.
pub(super) struct LookUp {
    installed: Arc<Installed>,
    wanted: Wanted,
}

enum Wanted {
    Tls12([u8; 32]),
    Tls13(Vec<[u8; 32]>),
}

impl LookUp {
    /// What is to be looked up: only where rustls will ask for it, in the version that it will
    /// choose.
    pub(super) fn new(
        installed: &Arc<Installed>,
        offer: Offer,
        speaks_tls13: bool,
        makes_tickets: bool,
    ) -> Option<Self> {
        installed.sharing.as_ref()?;
        let wanted = if offer.tls13 && speaks_tls13 {
            let ids = offer.identities;
            (!makes_tickets && !ids.is_empty()).then_some(Wanted::Tls13(ids))?
        } else {
            let id = offer.session_id.filter(|_| !offer.has_ticket)?;
            (!installed.cache.holds(&id)).then_some(Wanted::Tls12(id))?
        };
        Some(Self {
            installed: Arc::clone(installed),
            wanted,
        })
    }

    /// How long [`run`](LookUp::run) may take.
    pub(super) fn deadline(&self) -> Duration {
        let sharing = self.installed.sharing.as_ref();
        sharing.map_or(Duration::ZERO, |(sharing, _)| sharing.deadline())
    }

    /// Asks the shared store. A TLS 1.3 session is claimed; a TLS 1.2 session goes into the cache,
    /// where rustls will find it.
    pub(super) async fn run(&self) -> Result<Option<Claimed>, Miss> {
        let Installed { cache, sharing, .. } = &*self.installed;
        let (sharing, ring) = sharing.as_ref().ok_or(Miss::NotFound)?;
        match &self.wanted {
            Wanted::Tls13(ids) => sharing.claim(ring, cache.scope(), ids).await.map(Some),
            Wanted::Tls12(id) => {
                let mut fetched = sharing.fetch(ring, cache.scope(), id).await?;
                let bytes = std::mem::take(&mut *fetched.bytes);
                cache.keep(id, bytes, fetched.given.lineage, fetched.expires);
                Ok(None)
            }
        }
    }

    /// The look-up was given up at its deadline.
    pub(super) fn timed_out(&self) -> Miss {
        if let Some((sharing, _)) = &self.installed.sharing {
            sharing.count_timed_out();
        }
        Miss::Unavailable
    }
}
