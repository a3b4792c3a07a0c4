//! STEKs that several processes share through a record, which any of them may change.
//!
//! [`Shared`] reads the record, decides what it has to be, and replaces it where it is not so. How
//! it is kept is its [`Backend`]'s part: in a [`KeyDirectory`], or in Redis.

use std::time::{Duration, Instant};

use tracing::warn;
use zeroize::Zeroizing;

use super::{SourceError, SourceKey, SourceQuery};
use crate::clock::{Time, instant_in};
use crate::error::Error;
use crate::rotation::Rotation;

#[cfg(unix)]
mod directory;
#[cfg(feature = "redis")]
mod kek;
mod record;
#[cfg(feature = "redis")]
mod redis;

#[cfg(unix)]
pub use directory::KeyDirectory;
#[cfg(all(feature = "redis", any(test, rustls_resumption_fuzzing)))]
pub use kek::fuzzed::run as fuzzed_redis_record;
use record::{Record, Schedule};
#[cfg(feature = "redis")]
pub use redis::RedisSource;

/// Where a record is kept.
trait Backend {
    /// Whatever it takes to replace what was read, and nothing newer: a lock, or what was there.
    type Basis;

    /// How long everything may take that is asked of it in one go.
    const BUDGET: Duration;

    /// Where the record is, for the log.
    fn place(&self) -> String;

    /// What is there. `attempt` tells how often another process has been faster since.
    fn read(
        &mut self,
        query: &SourceQuery<'_>,
        attempt: usize,
        deadline: Instant,
    ) -> Result<Reading<Self::Basis>, SourceError>;

    /// Replaces what was read. False if another process has been faster.
    fn replace(
        &mut self,
        basis: Self::Basis,
        next: &Next,
        deadline: Instant,
    ) -> Result<bool, SourceError>;

    /// An error that says how to get rid of a record that cannot be read.
    fn damaged(&self, why: &str) -> SourceError;
}

/// What was read from a [`Backend`].
struct Reading<B> {
    /// The encoded record, if there is one.
    record: Option<Zeroizing<Vec<u8>>>,
    /// By which all processes decide whether a rotation is due.
    now: Time,
    basis: B,
}

/// How often another process may be faster before this one gives up until it is asked again.
const ATTEMPTS: usize = 5;

/// One process's part in a shared record. It remembers the newest record it has seen, so that a
/// lost one is written again and an old copy is neither believed nor left in place.
#[derive(Debug)]
struct Shared<B> {
    backend: B,
    held: Option<Record>,
    /// Whether the schedule in the record is this process's own.
    agrees: Option<bool>,
}

impl<B: Backend> Shared<B> {
    fn new(backend: B) -> Self {
        Self {
            backend,
            held: None,
            agrees: None,
        }
    }

    /// The STEKs there are, once the record is what it has to be.
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        self.forget(query);
        let deadline = instant_in(B::BUDGET);
        for attempt in 0..ATTEMPTS {
            let Reading { record, now, basis } = self.backend.read(query, attempt, deadline)?;
            let decode = |bytes: Zeroizing<Vec<u8>>| {
                let decoded = Record::decode(&bytes, query.sealing, self.held.as_ref());
                decoded.map_err(|why| self.backend.damaged(&why))
            };
            let found = record.map(decode).transpose()?;
            let next = Next::after(found, self.held.as_ref(), now, query)?;
            if !next.must_be_written || self.backend.replace(basis, &next, deadline)? {
                return Ok(self.adopt(next, query));
            }
            // Another process was faster, and may have done all that there was to do.
        }
        let place = self.backend.place();
        Err(format!("{place}: other processes changed it {ATTEMPTS} times in a row").into())
    }

    fn fleet_agrees(&self) -> Option<bool> {
        self.agrees
    }

    /// Drops keys that may not be held any longer, even if the record cannot be read or written
    /// today.
    fn forget(&mut self, query: &SourceQuery<'_>) {
        if let Some(held) = &mut self.held {
            held.forget(query.now, query.revoked);
        }
    }

    /// Takes over a record that is in place by now.
    fn adopt(&mut self, next: Next, query: &SourceQuery<'_>) -> Vec<SourceKey> {
        let Next { record, loss, .. } = next;
        let (place, version) = (self.backend.place(), record.version);
        match loss {
            Some(Loss::Missing) => {
                warn!(%place, version, "the record of STEKs was missing: written again");
            }
            Some(Loss::RolledBack { found }) => warn!(
                %place, found, version,
                "an old copy of the record of STEKs had been restored: replaced by the newer one"
            ),
            None => {}
        }
        let ours = Schedule::of(query.rotation);
        let agrees = record.schedule == ours;
        if !agrees && self.agrees != Some(false) {
            warn!(
                %place, theirs = %record.schedule, %ours,
                "another process rotates STEKs on another schedule: configure the same for all; \
                 until then some clients may get full handshakes"
            );
        }
        self.agrees = Some(agrees);
        let keys = record.source_keys();
        self.held = Some(record);
        keys
    }
}

/// What the record has to be.
#[derive(Debug)]
struct Next {
    record: Record,
    /// Whether that differs from what was found.
    must_be_written: bool,
    /// Whether keys leave it that were revoked, so that it should be written whatever it takes.
    revokes: bool,
    loss: Option<Loss>,
}

/// What happened to the record since this process last saw it.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Missing,
    /// The version that was found is older than what this process holds.
    RolledBack {
        found: u64,
    },
}

impl Next {
    fn after(
        found: Option<Record>,
        held: Option<&Record>,
        now: Time,
        query: &SourceQuery<'_>,
    ) -> Result<Self, Error> {
        let (base, loss) = merge(found, held, query.rotation);
        let revokes = base.holds(query.revoked);
        let updated = base.updated(now, query)?;
        let must_be_written = updated.is_some() || loss.is_some();
        let mut record = updated.unwrap_or(base);
        if must_be_written {
            record.version = record.version.saturating_add(1);
        }
        Ok(Self {
            record,
            must_be_written,
            revokes,
            loss,
        })
    }
}

/// The record to start from, given what was found and what this process holds.
///
/// A version lower than that held here is an old copy that was restored, and is replaced. So of
/// several processes that hold keys the newest record wins, whoever writes first, and what has
/// expired meanwhile does not come back.
fn merge(
    found: Option<Record>,
    held: Option<&Record>,
    rotation: &Rotation,
) -> (Record, Option<Loss>) {
    match (found, held) {
        (Some(found), Some(held)) if found.version < held.version => {
            let found = found.version;
            (held.clone(), Some(Loss::RolledBack { found }))
        }
        (Some(found), _) => (found, None),
        (None, Some(held)) => (held.clone(), Some(Loss::Missing)),
        (None, None) => (Record::empty(rotation), None),
    }
}

#[cfg(test)]
mod tests;
