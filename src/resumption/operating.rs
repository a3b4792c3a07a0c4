//! What an operator asks of a [`Resumption`], and does with it.

use std::time::Duration;

use super::{Resumption, Withdrawn};
use crate::error::Error;
use crate::fips;
use crate::ring::ROTATION_DEADLINE;
use crate::scope::{Scope, Which};
use crate::stats::{HeldStek, Stats};
use crate::stek::KeyName;

impl Resumption {
    /// How long [`rotate_now`](Resumption::rotate_now) waits for a source: 15 seconds. On a disk
    /// that is kept busy a [`KeyDirectory`](crate::source::KeyDirectory) tries for up to 10.
    pub const ROTATION_DEADLINE: Duration = ROTATION_DEADLINE;

    /// Counters and state, as they are now.
    pub fn stats(&self) -> Stats {
        self.inner.here().stats()
    }

    /// Publishes [`stats`](Resumption::stats) through the `metrics` facade, under the names that
    /// the page [`operating`](crate::docs::operating#metrics) lists. The housekeeping thread does
    /// so every second by itself; call it before a scrape that must see the very latest, or without
    /// a thread.
    #[cfg(feature = "metrics")]
    pub fn publish_metrics(&self) {
        self.inner.here().publish();
    }

    /// The STEKs that are held now, the one that activates last first: for an operator who has to
    /// [`revoke`](Resumption::revoke) one. Names and times, nothing secret. Takes time in proportion
    /// to their number.
    pub fn steks(&self) -> Vec<HeldStek> {
        self.inner.here().steks()
    }

    /// Makes another STEK seal from now on; what was sealed still opens. Not an answer to an
    /// incident: that is [`revoke_all`](Resumption::revoke_all). In stateful mode without a shared
    /// store there is none to rotate, and nothing happens.
    ///
    /// Waits until the source has answered and its STEK seals here, for a key directory or Redis
    /// until the new record is in place, up to [`Resumption::ROTATION_DEADLINE`], or
    /// [`source_deadline`](crate::ResumptionBuilder::source_deadline) if that is longer; and up to a
    /// second for the log. It does not wait for other processes, which follow when they next ask
    /// the source. A random STEK is there at once; otherwise call it from async code through
    /// `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// [`Error::Source`] if the source failed, has not answered in time (a late answer is still
    /// used), or rotates by its schedule only; and after [`shutdown`](Resumption::shutdown).
    pub fn rotate_now(&self) -> Result<(), Error> {
        self.inner.here().rotate_now()
    }

    /// Drops and wipes one STEK, and refuses what it sealed from the next handshake on. A handshake
    /// that is resuming such a session just now makes no ticket. Which one that is cannot be told of
    /// TLS 1.3 handshakes that are not [followed](Resumption::follow): then none of those does until
    /// [`incident_window`](crate::ResumptionBuilder::incident_window) has passed since the STEK last
    /// opened a session of theirs. A STEK that is not here is refused when it comes. For a STEK that
    /// may have been in use by somebody else, call [`revoke_all`](Resumption::revoke_all): what they
    /// resumed was sealed anew by others.
    ///
    /// Of TLS 1.2 sessions that it sealed in a shared store the copies in the cache do not resume
    /// either. Other sessions in the cache stay: no STEK sealed them.
    ///
    /// That is done at once. Then the source is asked for a successor, and given a second and a
    /// half to answer; if it does not, a local random STEK takes over. From async code call it
    /// through `spawn_blocking`.
    pub fn revoke(&self, name: &KeyName) -> Withdrawn {
        self.inner.here().revoke(name)
    }

    /// Drops and wipes every STEK and every session: nothing that was made before resumes, from the
    /// next handshake on, nor what handshakes make that are under way. The answer to an incident. It
    /// waits for the source afterwards, as [`revoke`](Resumption::revoke) does; what it returns says
    /// whether other processes follow.
    pub fn revoke_all(&self) -> Withdrawn {
        self.inner.here().revoke_all()
    }

    /// Drops and wipes the sessions of all scopes of this name, whatever client CAs are bound to
    /// them, and refuses their tickets made up to now, from the next handshake on, and what handshakes
    /// make that are under way. It holds for a scope that is only installed later.
    ///
    /// Where the source of STEKs can tell other processes, those that share it follow, and it is
    /// waited for as in [`revoke`](Resumption::revoke).
    pub fn forget(&self, scope: impl Into<Scope>) -> Withdrawn {
        self.inner.here().forget(Which::Named(&scope.into()))
    }

    /// The same for this scope alone, with the client CAs that are bound to it.
    pub fn forget_exactly(&self, scope: impl Into<Scope>) -> Withdrawn {
        self.inner.here().forget(Which::Exactly(&scope.into()))
    }

    /// Whether the STEK source has answered and a STEK seals: for a readiness probe. In stateful
    /// mode without a shared store, always; in a forked child that
    /// [lost its source](crate::docs::operating#how-do-i-fork-workers), never.
    pub fn ready(&self) -> bool {
        self.inner.here().ready()
    }

    /// Whether all of this crate's cryptography is approved by FIPS 140-3 and done by aws-lc's module: so
    /// it is with the feature `fips`, and never without. Handshakes are rustls's: ask
    /// `ServerConfig::fips` as well. What nobody's safety rests on does not count: the hints in tickets,
    /// and the hashes of tables.
    ///
    /// [`Stats`](crate::Stats) says the same of each node: [`StekStats::fips`](crate::stats::StekStats::fips).
    pub fn fips(&self) -> bool {
        fips::is_on()
    }

    /// Does what the housekeeping thread does: rotates, wipes, sweeps, publishes metrics. Returns
    /// the longest time to wait before the next call. For builders with
    /// [`manual_stepping`](crate::ResumptionBuilder::manual_stepping).
    pub fn step(&self) -> Duration {
        self.inner.here().step()
    }

    /// For a process that was forked from the one that set this up, as prefork servers do: call it
    /// in the child, first of all. It starts a housekeeping thread for the child, and replaces
    /// every lock that another thread may have held at the fork. STEKs stay in use, and each
    /// process makes its own successors where they are random; the child's cache starts empty, so
    /// that no single-use session is used in two processes.
    ///
    /// Without this call a child finds out by itself, in its first handshake 2 seconds or more
    /// after the fork, or when any other method is called. Until then it keeps the keys that it
    /// inherited and takes sessions that its parent may take too, and a handshake may wait for 100
    /// ms, then do without a session. A STEK source that another thread was asking at the fork is
    /// lost to the child ([`source_late`](crate::stats::StekStats::source_late)), which then hears
    /// of nothing that other processes withdraw; and keys that another thread was just using stay
    /// in the child's memory: fork while the parent does nothing, if you can.
    pub fn after_fork(&self) {
        let _ = self.inner.here();
    }

    /// Ends resumption for good: stops the housekeeping thread, and wipes every STEK and session.
    /// From now on every handshake is a full one, and no call reaches the source: what was withdrawn
    /// with [`Reach::NotYet`](crate::Reach::NotYet) must have reached it before. False if that
    /// thread, the source, the log or the metrics recorder were still busy at the deadline; what
    /// they do ends by itself then.
    ///
    /// Optional: dropping the last handle, and the last configuration that it was installed in,
    /// does the same without waiting.
    pub fn shutdown(&self, deadline: Duration) -> bool {
        self.inner.here().shut_down(deadline)
    }
}
