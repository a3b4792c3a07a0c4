use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::clock::Time;
use crate::counters::Counters;
use crate::handshake::ResumedBy;
use crate::lineage::Lineage;
use crate::scope::ScopeState;
use crate::stats::{StoreCount, StoreStats};
use crate::stek::KeyName;

/// A session that rustls was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given {
    pub(crate) by: ResumedBy,
    pub(crate) lineage: Lineage,
    /// When it was.
    pub(crate) at: Time,
    pub(crate) key_name: Option<KeyName>,
    /// How often anything had been forgotten before it was looked for.
    pub(crate) after: u64,
}

impl Given {
    /// How long ago its full handshake was, as far as is known.
    pub(crate) fn age(&self) -> Option<Duration> {
        let age = || self.at.since(self.lineage.birth);
        self.lineage.is_known().then(age)
    }
}

/// A session that was claimed for one connection. Wiped and counted on drop if rustls did not take
/// it.
pub(crate) struct Claimed {
    pub(crate) counts: Arc<Counters<StoreStats>>,
    pub(crate) scope: Arc<ScopeState>,
    /// What stood for the scope when it was claimed: another does once it was forgotten.
    pub(crate) scope_number: u32,
    pub(crate) id: [u8; 32],
    pub(crate) expires: Time,
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
    Claimed(Claimed),
    /// An acceptor looked before, and there is no such session.
    NotFound,
    /// Nobody looked.
    NotClaimed,
}

/// Why a ticket is not opened in stateful mode.
pub(crate) const NO_TICKETS: &str = "ticket_when_stateful";
