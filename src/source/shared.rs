//! STEKs that several processes share through a record, which any of them may change.
//!
//! [`Shared`] reads the record, decides what it has to be, and replaces it where it is not so. How
//! it is kept is its [`Backend`]'s part: in a [`KeyDirectory`], or in Redis.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tracing::warn;
use zeroize::Zeroizing;

use super::bulletin::Heard;
use super::plan::Clocks;
use super::settled_clock::SettledClock;
use super::{SourceError, SourceKey, SourceQuery};
use crate::aead::Sealing;
use crate::clock::{Time, instant_in};
use crate::error::Error;
use crate::stek::KeyName;

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
use record::{Key, Record, Schedule};
#[cfg(feature = "redis")]
pub use redis::RedisSource;

/// Where a record is kept.
trait Backend {
    /// Whatever it takes to replace what was read, and nothing newer: a lock, or what was there.
    type Basis;

    /// Whether it tells the time by a clock of its own, not by this host's.
    const HAS_CLOCK: bool;

    /// How long reading may take, and as long again replacing what was read.
    fn limit(&self) -> Duration;

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

    /// A key that no other process has.
    fn new_key(&mut self, sealing: Sealing) -> Result<Key, Error> {
        Key::random(sealing)
    }

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

/// One process's part in a shared record. It remembers what it has seen, so that a lost record is
/// written again, and what was revoked stays so whatever comes back.
#[derive(Debug)]
struct Shared<B> {
    backend: B,
    held: Option<Record>,
    /// What both this process's clock and the backend's say, as far as the monotonic clock confirms
    /// it.
    clock: SettledClock,
    /// Of the STEKs that were revoked in this process, those that `held` has withdrawn.
    withdrawn: HashSet<KeyName>,
    /// Whether the schedule in the record is this process's own.
    agrees: Option<bool>,
    /// How often there was no room here for what was withdrawn.
    overflows: u64,
}

impl<B: Backend> Shared<B> {
    fn new(backend: B) -> Self {
        Self {
            backend,
            held: None,
            clock: SettledClock::default(),
            withdrawn: HashSet::new(),
            agrees: None,
            overflows: 0,
        }
    }

    /// The STEKs there are, once the record is what it has to be.
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        let held = self.withdraw(query);
        let limit = self.backend.limit();
        for attempt in 0..ATTEMPTS {
            let read = self.backend.read(query, attempt, instant_in(limit))?;
            let Reading { record, now, basis } = read;
            let decode = |bytes: Zeroizing<Vec<u8>>| {
                let decoded = Record::decode(&bytes, query.sealing, Some(&held));
                decoded.map_err(|why| self.backend.damaged(&why))
            };
            let found = record.map(decode).transpose()?;
            let clocks = self.read_clocks(now, query);
            let make = || self.backend.new_key(query.sealing);
            let next = Next::after(found.as_ref(), &held, now, clocks, query, make)?;
            if !next.must_be_written || self.backend.replace(basis, &next, instant_in(limit))? {
                return Ok(self.adopt(next, found.as_ref(), &held, query));
            }
            // Another process was faster, and may have done all that there was to do.
        }
        let place = self.backend.place();
        Err(format!("{place}: other processes changed it {ATTEMPTS} times in a row").into())
    }

    /// If both clocks jump ahead while this process looks on, they are believed once that has lasted
    /// for as long as a STEK lives. Where there is but one clock, the secrets are on this host, and
    /// a suspension must not keep them for longer.
    fn read_clocks(&mut self, backend: Time, query: &SourceQuery<'_>) -> Clocks {
        if !B::HAS_CLOCK {
            return query.now.into();
        }
        let rotation = query.rotation;
        let settling = rotation.sealing_time().saturating_add(rotation.lifetime());
        let clocks = Clocks::new(backend, query.now);
        let (wall, monotonic) = (clocks.earliest, query.monotonic);
        let settled = self.clock.read_from_start(wall, monotonic, settling);
        clocks.or_before(settled)
    }

    fn fleet_agrees(&self) -> Option<bool> {
        self.agrees
    }

    /// Drops keys that may not be held any longer, and remembers what was withdrawn in this
    /// process, even if the record cannot be read or written today.
    fn withdraw(&mut self, query: &SourceQuery<'_>) -> Record {
        let mut held = self.held.take();
        let held = held.get_or_insert_with(|| Record::empty(query.rotation));
        let before = held.clone();
        held.drop_expired(query.now);
        let revoked: HashSet<_> = query.revoked.iter().copied().collect();
        held.revoke(
            revoked.difference(&self.withdrawn).copied(),
            query.now,
            query.rotation,
        );
        self.withdrawn = revoked;
        if let Some(bulletin) = query.bulletin {
            held.forget(&bulletin.forgotten, bulletin.dropped);
        }
        self.note_overflow(held.overflows(&before), query);
        self.held = Some(held.clone());
        held.clone()
    }

    fn note_overflow(&mut self, overflows: bool, query: &SourceQuery<'_>) {
        if overflows {
            self.overflows = self.overflows.saturating_add(1);
            let place = self.backend.place();
            query.log.tell(move || {
                warn!(
                    %place,
                    "too many STEKs were revoked, or scopes forgotten, to remember each: all that \
                     are as old as the oldest of them are withdrawn too"
                );
            });
        }
    }

    /// Takes over a record that is in place by now.
    fn adopt(
        &mut self,
        next: Next,
        found: Option<&Record>,
        held: &Record,
        query: &SourceQuery<'_>,
    ) -> Vec<SourceKey> {
        self.note_overflow(next.overflows, query);
        let Next {
            mut record, loss, ..
        } = next;
        if let Some(loss) = loss {
            let (place, version) = (self.backend.place(), record.version);
            query.log.tell(move || loss.tell(&place, version));
        }
        let (theirs, ours) = (record.schedule, Schedule::of(query.rotation));
        let agrees = theirs == ours;
        if !agrees && self.agrees != Some(false) {
            let place = self.backend.place();
            query.log.tell(move || {
                warn!(
                    %place, %theirs, %ours,
                    "another process rotates STEKs on another schedule; configure all alike, until \
                     then some clients may get full handshakes"
                );
            });
        }
        self.agrees = Some(agrees);
        if let Some(bulletin) = query.bulletin {
            let (forgotten, others) = record.forgotten();
            let (found, found_others) = found.map(Record::forgotten).unwrap_or_default();
            bulletin.tell(Heard {
                revoked: held.revoked_by(&record),
                forgotten,
                others,
                found,
                found_others,
                overflows: self.overflows,
                is_carried: true,
            });
        }
        // By its own clock, whatever the record has, or has no more, because of another.
        record.keep_open(held, query.now);
        record.drop_expired(query.now);
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
    /// Whether it withdraws what was found, so that it should be written whatever it takes.
    withdraws: bool,
    /// Whether there was no room to withdraw one by one.
    overflows: bool,
    /// How long it matters.
    #[cfg(feature = "redis")]
    lifetime: Duration,
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

impl Loss {
    fn tell(self, place: &str, version: u64) {
        match self {
            Self::Missing => warn!(%place, version, "the STEK record was missing; wrote it again"),
            Self::RolledBack { found } => warn!(
                %place, found, version,
                "an old copy of the STEK record was restored; added what it lacked"
            ),
        }
    }
}

impl Next {
    /// The union of what was found and what this process holds, brought up to date. `now` is the
    /// backend's time.
    fn after(
        found: Option<&Record>,
        held: &Record,
        now: Time,
        clocks: Clocks,
        query: &SourceQuery<'_>,
        make: impl FnMut() -> Result<Key, Error>,
    ) -> Result<Self, Error> {
        // What others have dropped does not come back because one clock is behind.
        let mine = held.unexpired(clocks.latest);
        let meet = |found: &Record| found.meet(&mine, query.now, query.rotation);
        let base = found.map_or_else(|| mine.clone(), meet);
        let now = planning_time(&base, now, query);
        if now.is_none() && query.rotate {
            let why = "this host's clock is far from that of the others: correct it";
            return Err(Error::config("rotate", why));
        }
        let mut record = base.updated(now, clocks, query, make)?;
        let must_be_written = found.is_none_or(|found| !record.says_the_same(found));
        let loss = match found {
            Some(found) if found.version < held.version => Some(Loss::RolledBack {
                found: found.version,
            }),
            None if held.version > 0 => Some(Loss::Missing),
            _ => None,
        };
        if must_be_written {
            record.version = record.version.saturating_add(1);
        }
        Ok(Self {
            must_be_written,
            withdraws: found.is_some_and(|found| !record.withdraws_the_same(found)),
            overflows: record.overflows(held) && found.is_none_or(|found| record.overflows(found)),
            #[cfg(feature = "redis")]
            lifetime: record.expires().since(clocks.earliest),
            loss: loss.filter(|_| must_be_written),
            record,
        })
    }
}

/// By which time keys are added: that of the backend, which is the same for all. If this host's is
/// far from it, one of the two is wrong, and which one is not known: then by this host's, if that
/// lies within what the record's keys are for. Else by none.
fn planning_time(record: &Record, backend: Time, query: &SourceQuery<'_>) -> Option<Time> {
    if Clocks::new(backend, query.now).agree_within(query.rotation.ahead()) {
        return Some(backend);
    }
    record.spans(query.now).then_some(query.now)
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
