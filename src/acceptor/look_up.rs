use std::sync::Arc;
use std::time::Duration;

use super::client_hello::Offer;
use crate::context::Claimed;
use crate::resumption::Storage;
use crate::store::{Miss, Sharing};

/// The sessions of a client that a shared store may have.
pub(super) struct LookUp {
    storage: Arc<Storage>,
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
        storage: &Arc<Storage>,
        offer: &Offer,
        speaks_tls13: bool,
        makes_tickets: bool,
    ) -> Option<Self> {
        storage.sharing()?;
        let wanted = if offer.tls13 && speaks_tls13 {
            let ids = &offer.identities;
            (!makes_tickets && !ids.is_empty()).then(|| Wanted::Tls13(ids.clone()))?
        } else {
            let id = offer.session_id.filter(|_| !offer.has_ticket)?;
            (!storage.holds(&id)).then_some(Wanted::Tls12(id))?
        };
        Some(Self {
            storage: Arc::clone(storage),
            wanted,
        })
    }

    /// How long [`run`](LookUp::run) may take.
    pub(super) fn deadline(&self) -> Duration {
        let sharing = self.storage.sharing();
        sharing.map_or(Duration::ZERO, Sharing::deadline)
    }

    /// Asks the shared store. A TLS 1.3 session is claimed; a TLS 1.2 session goes into the cache,
    /// where rustls will find it.
    pub(super) async fn run(&self) -> Result<Option<Claimed>, Miss> {
        match &self.wanted {
            Wanted::Tls13(ids) => self.storage.claim(ids).await.map(Some),
            Wanted::Tls12(id) => self.storage.fetch(id).await.map(|()| None),
        }
    }

    /// The look-up was given up at its deadline.
    pub(super) fn timed_out(&self) -> Miss {
        if let Some(sharing) = self.storage.sharing() {
            sharing.count_timed_out();
        }
        Miss::Unavailable
    }
}
