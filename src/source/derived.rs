use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use tracing::info;

use super::settled_clock::SettledClock;
use super::{SourceError, SourceKey, SourceQuery, StekSource, shared_secret};
use crate::clock::Time;
use crate::error::Error;
use crate::rotation::Rotation;

mod epochs;
mod ratchet;

use epochs::{EpochQuery, Epochs, Fingerprint, SharedSecret};

/// STEKs that every process derives for itself from one shared secret: for a fleet that has a
/// secret and a clock in common, and nothing else.
///
/// Time is divided into epochs as long as the [`Rotation`]'s interval, counted from a fixed
/// [`origin`](DerivedSource::origin). Each epoch has a STEK of its own, which is derived from the
/// secret, the origin, the interval and the epoch's number, so nodes that agree on these four have
/// the same keys without ever talking to each other. An epoch's STEK activates with the epoch, is
/// published [`publish_ahead`](Rotation::publish_ahead) before and expires the ticket lifetime
/// after it: nodes whose clocks differ by up to `publish_ahead` open each other's tickets.
///
/// ```
/// use rustls_resumption::Resumption;
/// use rustls_resumption::source::DerivedSource;
/// # let secret = std::array::from_fn::<u8, 32, _>(|i| i as u8);
///
/// let source = DerivedSource::new(&secret)?; // the same 32 random bytes on every node
/// let resumption = Resumption::builder().stek_source(source).build()?;
/// # Ok::<(), rustls_resumption::Error>(())
/// ```
///
/// # What memory holds
///
/// Neither the secret nor the past. The secret is turned into a ratchet, which can only move
/// forward: from what it holds follow the epochs to come and those that still open, but not those
/// that have expired. So a thief of the memory can read what the keys of the last ticket lifetime
/// protect, and everything that is sealed from then on, but nothing older. That is worth something
/// only if the secret itself is out of reach once it was read: left in an environment variable
/// (which `/proc/PID/environ` shows as long as the process lives) or in a file that the process can
/// open, it gives back every epoch since the origin.
///
/// A step of the ratchet cannot be taken back, so it is taken only when *both* clocks agree that an
/// epoch has expired:
///
/// - After its start a process keeps the ratchet at the origin for the
///   [`settling_time`](DerivedSource::settling_time), in which the wall clock may still be
///   corrected. *For that long its memory does hold the past.* Then the ratchet moves up to the
///   oldest epoch that still opens, and from then on forgets each epoch as it expires.
/// - If the wall clock jumps ahead, the STEKs of the later date are derived and used, but the
///   ratchet moves on by monotonic time alone, until the jump has lasted for the settling time
///   (twice that at most). If the clock is corrected before, nothing is lost. If it is corrected
///   only after, the process has no keys for any time until the wrong one: it seals with local
///   random keys, and says so, until it is restarted.
/// - The STEKs themselves obey the wall clock alone, so they never open outside their window.
///
/// A [revoked](crate::Resumption::revoke) STEK is taken out of the ratchet at once, for good.
///
/// # Changing the secret, the origin or the interval
///
/// In three roll-outs, each finished on all nodes before the next begins, and without a gap: see
/// [`also_open`](DerivedSource::also_open). The page [`choosing`](crate::docs::choosing) tells what
/// a leaked secret costs and how to choose one.
///
/// # Cost
///
/// A new epoch costs about 0.2 ms, however long ago the origin or the last epoch is; at the start,
/// each STEK that still opens costs about 15 µs. A schedule under which more than 50,000 STEKs
/// would open at once is refused.
pub struct DerivedSource {
    /// Until the source is first loaded. The STEKs of the first secret seal, on the ring's
    /// schedule; those of the others only open, each on a schedule of its own.
    secrets: Vec<(SharedSecret, Option<Rotation>)>,
    /// From then on, in the same order.
    epochs: Vec<Epochs>,
    /// Of the secrets, in the same order.
    fingerprints: Vec<Fingerprint>,
    clock: SettledClock,
    settling_time: Option<Duration>,
}

impl DerivedSource {
    /// When epoch 0 begins by default: this long after the Unix epoch, on 2020-01-01 at 00:00 UTC.
    pub const DEFAULT_ORIGIN: Duration = Duration::from_secs(1_577_836_800);

    /// Derives from this secret: at least 32 bytes from a random generator, the same on each node.
    /// Not a password: anyone with a ticket can try passwords on it.
    ///
    /// The caller must wipe its own copy; nothing is kept from which the secret could be recovered.
    ///
    /// When the source is first loaded, it logs a fingerprint of the secret, which reveals nothing
    /// about it and is also shown by [`Debug`]: nodes that log different ones cannot open each
    /// other's tickets.
    ///
    /// # Errors
    ///
    /// [`Error::WeakKey`] naming the `secret` if it is shorter than
    /// [`Stek::MIN_SECRET_LEN`](crate::Stek::MIN_SECRET_LEN) bytes, consists of one block that is
    /// repeated, such as `changeme` four times, or is text that ends in a newline or a space, which
    /// orchestrators may add or remove. Text that is too short to encode 32 random bytes is logged
    /// as a warning.
    pub fn new(secret: &[u8]) -> Result<Self, Error> {
        shared_secret::check("secret", secret)?;
        let secret = SharedSecret::new(secret, Time(0).plus(Self::DEFAULT_ORIGIN))?;
        Ok(Self {
            fingerprints: vec![secret.fingerprint],
            secrets: vec![(secret, None)],
            epochs: Vec::new(),
            clock: SettledClock::default(),
            settling_time: None,
        })
    }

    /// When epoch 0 begins. Every node must have the same. It shifts the times of rotation (an
    /// epoch of a day begins at the origin's time of day), and a clock that shows an earlier time
    /// is known to be wrong.
    ///
    /// Defaults to [`DerivedSource::DEFAULT_ORIGIN`], 2020-01-01 at 00:00 UTC.
    #[must_use]
    pub fn origin(mut self, origin: SystemTime) -> Self {
        if let Some((own, _)) = self.secrets.first_mut() {
            own.origin = origin.into();
        }
        self
    }

    /// How long the wall clock must have run steadily before the ratchet believes it. With a
    /// shorter time the past is forgotten sooner after a start; with a longer one a clock that is
    /// ahead may be corrected later.
    ///
    /// Defaults to the life of one STEK: the interval plus the ticket lifetime, 13 hours on the
    /// default schedule.
    #[must_use]
    pub fn settling_time(mut self, time: Duration) -> Self {
        self.settling_time = Some(time);
        self
    }

    /// Also opens, without ever sealing, what another secret, origin or schedule seals: for the
    /// duration of a change.
    ///
    /// To change from *old* to *new* without a gap, roll out to all nodes, one step after another:
    ///
    /// 1. *old*, which also opens *new*;
    /// 2. *new*, which also opens *old*;
    /// 3. *new*, at least a ticket lifetime after the last node left step 1.
    ///
    /// Within a step the order of nodes does not matter, and the way back is the same steps in
    /// reverse. `rotation` is the schedule that the other side has in its builder.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use rustls_resumption::{Resumption, Rotation};
    /// # use rustls_resumption::source::DerivedSource;
    /// # let old = std::array::from_fn::<u8, 32, _>(|i| i as u8);
    /// # let new = std::array::from_fn::<u8, 32, _>(|i| !i as u8);
    /// // Step 1 of a change of both the secret and the interval.
    /// let hour = Duration::from_secs(3600);
    /// let old_schedule = Rotation::new();
    /// let new_schedule = Rotation::new().interval(2 * hour);
    /// let source = DerivedSource::new(&old)?.also_open(DerivedSource::new(&new)?, new_schedule)?;
    /// let builder = Resumption::builder().rotation(old_schedule).stek_source(source);
    /// # builder.build()?;
    /// # Ok::<(), rustls_resumption::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Duration`] if the schedule cannot work.
    pub fn also_open(mut self, other: Self, rotation: Rotation) -> Result<Self, Error> {
        rotation.validate()?;
        for (secret, own) in other.secrets {
            self.fingerprints.push(secret.fingerprint);
            self.secrets.push((secret, own.or(Some(rotation))));
        }
        Ok(self)
    }
}

impl StekSource for DerivedSource {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        for (secret, other) in self.secrets.drain(..) {
            let rotation = other.as_ref().unwrap_or(query.rotation);
            let (fingerprint, seals) = (secret.fingerprint, other.is_none());
            let (origin, interval) = (secret.origin.0 / 1_000, rotation.sealing_time());
            query.log.tell(move || {
                info!(
                    %fingerprint, seals, origin, ?interval,
                    "deriving STEKs from a secret; its fingerprint must be the same on all nodes"
                );
            });
            self.epochs.push(match other {
                None => Epochs::sealing(&secret, *query.rotation)?,
                Some(rotation) => Epochs::opening(&secret, rotation)?,
            });
        }
        let settling = self.settling_time.unwrap_or_else(|| {
            let rotation = query.rotation;
            rotation.sealing_time().saturating_add(rotation.lifetime())
        });
        let asked = EpochQuery {
            now: query.now,
            settled: self.clock.read(query.now, query.monotonic, settling),
            sealing: query.sealing,
            revoked: query.revoked,
        };
        let mut news = Vec::new();
        for epochs in &mut self.epochs {
            news.push(epochs.update(&asked)?);
        }
        // Several may list one key with a window each, so they are always listed in full.
        let from = match (query.bulletin, news.as_slice()) {
            (Some(bulletin), [Some(new)]) if bulletin.continues => {
                bulletin.others_stay();
                *new
            }
            _ => 0,
        };
        let keys = self.epochs.iter().flat_map(|epochs| epochs.keys(from));
        let keys = keys.collect();
        if let Some(own) = self.epochs.first() {
            own.check_clock(query.now)?;
        }
        Ok(merged(keys))
    }

    fn name(&self) -> &'static str {
        "derived"
    }

    fn poll_interval(&self) -> Duration {
        Duration::ZERO // costs nothing to ask
    }

    fn can_rotate(&self) -> bool {
        false
    }
}

/// Schedules that differ only in ticket lifetime or publish-ahead have the same keys. Each key is
/// listed once, at its first place (where it seals, if it does), and opens for the longer time.
fn merged(keys: Vec<SourceKey>) -> Vec<SourceKey> {
    let mut merged: Vec<SourceKey> = Vec::with_capacity(keys.len());
    let mut places = HashMap::new();
    for key in keys {
        let place = *places.entry(*key.stek.name()).or_insert(merged.len());
        match merged.get_mut(place) {
            Some(same) => {
                same.window.published = same.window.published.min(key.window.published);
                same.window.expires = same.window.expires.max(key.window.expires);
            }
            None => merged.push(key),
        }
    }
    merged
}

impl fmt::Debug for DerivedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DerivedSource")
            .field("fingerprints", &self.fingerprints)
            .field("settling_time", &self.settling_time)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
