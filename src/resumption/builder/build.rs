//! Checks the settings and puts them together.

use std::sync::Arc;
use std::time::Duration;

use super::ResumptionBuilder;
use crate::cache::DEFAULT_TTL;
use crate::client_auth::Rechecks;
use crate::error::Error;
use crate::resumption::Resumption;
use crate::resumption::inner::{Inner, Root};
use crate::ring::Introduced;
use crate::rotation::Rotation;
use crate::store::{Sharing, SharingSettings};

impl ResumptionBuilder {
    /// Checks everything, asks the STEK source and starts the housekeeping thread.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] or [`Error::Duration`] naming the setting that cannot work,
    /// [`Error::Source`] if the source of STEKs does not even tell its name, [`Error::Random`] or
    /// [`Error::Thread`] if the system gives no random bytes or no thread. A source that fails to
    /// answer is no error: local random STEKs seal until it does.
    pub fn build(mut self) -> Result<Resumption, Error> {
        self.ring.sealing = self.sealing.unwrap_or_default();
        self.ring.rotation = self.rotation.unwrap_or_else(|| match self.stateful {
            true => Rotation::new().ticket_lifetime(DEFAULT_TTL),
            false => Rotation::new(),
        });
        self.validate()?;
        let has_housekeeper = self.terms.clock.runs() && !self.manual;
        let time_passes = self.terms.clock.runs();
        let introduced = |source| Introduced::new(source, time_passes);
        let source = self.source.map(introduced).transpose()?;
        let is_shared = source.as_ref().is_some_and(|source| source.is_shared);
        if self.store.is_some() && !is_shared {
            let why = "needs a `stek_source` that the nodes share: what random keys seal opens on \
                       no other node";
            return Err(Error::config("shared_store", why));
        }
        if is_shared && self.ring.rotation.ahead().is_zero() {
            let why = "must cover the nodes' clock skew plus the time a key takes to reach them: \
                       they could not open each other's tickets";
            return Err(Error::duration("publish_ahead", Duration::ZERO, why));
        }
        let sharing = SharingSettings {
            ttl: self.cache.ttl,
            first_ttl: self.first_ttl,
            deadline: self.store_deadline,
        };
        self.terms.client_auth = Arc::new(Rechecks::new(self.recheck_interval));
        self.cache.keeps_copies = self.store.is_some();
        let mut inner = Inner::new(self.terms, self.cache, Some(self.publisher));
        inner.unverified_client_certificates = self.unverified_client_certificates;
        inner.makes_tickets = !self.stateful;
        inner.keeps_tags = self.session_lineage;
        inner.sharing = self
            .store
            .map(|store| Arc::new(Sharing::new(store, sharing)));
        if inner.makes_tickets || inner.sharing.is_some() {
            inner.add_ring(self.ring, source)?;
        }
        let inner = inner.shared();
        if has_housekeeper {
            inner.start_housekeeper()?;
        }
        inner.let_tell();
        Ok(Resumption::on(Root::from(inner)))
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        let Self {
            stateful,
            manual: _,
            terms,
            cache,
            ring,
            rotation,
            sealing,
            source,
            store,
            store_deadline,
            recheck_interval,
            unverified_client_certificates: _,
            session_lineage: _,
            first_ttl,
            publisher: _,
        } = self;
        ring.validate()?;
        if *stateful && store.is_none() {
            for (field, is_set) in [
                ("stek_source", source.is_some()),
                ("rotation", rotation.is_some()),
                ("sealing", sealing.is_some()),
            ] {
                if is_set {
                    let why = "stateful resumption has no STEKs unless it has a `shared_store`";
                    return Err(Error::config(field, why));
                }
            }
        }
        let longest = Duration::from_secs(24 * 60 * 60);
        if *recheck_interval > longest {
            let why = "must be at most 1 day: a revoked certificate may resume for that long";
            return Err(Error::duration("recheck_interval", *recheck_interval, why));
        }
        let ttl_min = Duration::from_millis(1);
        between("session_ttl", cache.ttl, ttl_min)?;
        between("first_ttl", *first_ttl, ttl_min)?;
        between(
            "max_session_age",
            terms.max_session_age,
            Duration::from_secs(1),
        )?;
        if terms.incident_window > Duration::from_secs(60 * 60) {
            let why = "at most an hour: end handshakes that take longer";
            return Err(Error::duration(
                "incident_window",
                terms.incident_window,
                why,
            ));
        }
        let len = terms.max_session_len;
        if !(1024..=63 * 1024).contains(&len) {
            let why = format!("{len} bytes: must be between 1 KiB and 63 KiB");
            return Err(Error::config("max_session_len", why));
        }
        let deadlines = Duration::from_millis(1)..=Duration::from_secs(10);
        if !deadlines.contains(store_deadline) {
            let why = "must be between 1 ms and 10 s: it delays resuming handshakes";
            return Err(Error::duration("store_deadline", *store_deadline, why));
        }
        if cache.shards == Some(0) {
            return Err(Error::config("cache_shards", "must be at least 1"));
        }
        Ok(())
    }
}

fn between(field: &'static str, value: Duration, least: Duration) -> Result<(), Error> {
    if value < least {
        let why = format!("must be at least {least:?}");
        return Err(Error::duration(field, value, why));
    }
    if value > Rotation::MAX_TICKET_LIFETIME {
        let why = "must be at most 7 days (RFC 8446 section 4.6.1)";
        return Err(Error::duration(field, value, why));
    }
    Ok(())
}
