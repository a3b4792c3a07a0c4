use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::ratchet::{EPOCHS, Ratchet, Secret};
use crate::aead::Sealing;
use crate::clock::{Time, millis};
use crate::error::Error;
use crate::hex::Hex;
use crate::kdf::Kdf;
use crate::rotation::{Rotation, Window};
use crate::source::{SourceError, SourceKey};
use crate::stek::{KeyName, Stek};

/// The most STEKs of one secret that may open at once.
const MAX_KEYS: u64 = 50_000;

/// What is kept of a secret that a fleet shares, before the schedule of its epochs is known.
pub(super) struct SharedSecret {
    derived: Secret,
    pub(super) origin: Time,
    pub(super) fingerprint: Fingerprint,
}

/// Tells secrets apart without revealing anything about them.
#[derive(Clone, Copy)]
pub(super) struct Fingerprint([u8; 6]);

impl SharedSecret {
    pub(super) fn new(secret: &[u8], origin: Time) -> Result<Self, Error> {
        let derived = Secret::derive(secret, &[b"seed"])?;
        let mut fingerprint = [0; 6];
        Kdf::new("rustls-resumption fingerprint", secret).expand(&[], &mut fingerprint)?;
        Ok(Self {
            derived,
            origin,
            fingerprint: Fingerprint(fingerprint),
        })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which STEKs are wanted.
pub(super) struct EpochQuery<'a> {
    pub(super) now: Time,
    /// The time that both clocks confirm, once there is one.
    pub(super) settled: Option<Time>,
    pub(super) sealing: Sealing,
    pub(super) revoked: &'a [KeyName],
}

/// The epochs of one secret on one schedule, and the STEKs of those that open now.
pub(super) struct Epochs {
    ratchet: Ratchet,
    /// The first epoch that is not forgotten.
    first: u64,
    rotation: Rotation,
    seals: bool,
    origin: Time,
    /// In milliseconds.
    interval: u64,
    /// Which epochs are open, as of the last query.
    open: Range<u64>,
    /// Of each of these. `None` is the STEK of an epoch that is out of reach.
    steks: BTreeMap<u64, Option<Arc<Stek>>>,
    by_name: HashMap<KeyName, u64>,
}

impl Epochs {
    pub(super) fn sealing(secret: &SharedSecret, rotation: Rotation) -> Result<Self, Error> {
        Self::new(secret, rotation, true)
    }

    /// Epochs whose STEKs only open.
    pub(super) fn opening(secret: &SharedSecret, rotation: Rotation) -> Result<Self, Error> {
        Self::new(secret, rotation, false)
    }

    fn new(secret: &SharedSecret, rotation: Rotation, seals: bool) -> Result<Self, Error> {
        let SharedSecret {
            derived, origin, ..
        } = secret;
        let interval = millis(rotation.sealing_time());
        let schedule = [origin.0.to_be_bytes(), interval.to_be_bytes()].concat();
        let root = Secret::derive(derived.as_bytes(), &[b"origin and interval", &schedule])?;
        Ok(Self {
            ratchet: Ratchet::new(root),
            first: 0,
            rotation,
            seals,
            origin: *origin,
            interval: interval.max(1),
            open: 0..0,
            steks: BTreeMap::new(),
            by_name: HashMap::new(),
        })
    }

    /// Finds out which STEKs open now, and forgets those that have expired by both clocks. Returns
    /// the first epoch that is new, if all others that open are those that did before and have not
    /// expired.
    pub(super) fn update(&mut self, asked: &EpochQuery<'_>) -> Result<Option<u64>, SourceError> {
        let open = self.open_at(asked.now);
        let count = open.end.saturating_sub(open.start);
        if open.end > EPOCHS {
            return Err(
                "the clock shows a time thousands of years after the origin: correct it".into(),
            );
        }
        if count > MAX_KEYS {
            return Err(format!(
                "{count} STEKs would open at once, and at most {MAX_KEYS} may: choose a longer \
                 interval or a shorter ticket lifetime"
            )
            .into());
        }
        // Until all of them are there, none is open: a query that fails is done anew.
        let before = std::mem::replace(&mut self.open, 0..0);
        self.drop_closed(&open);
        let (early, late) = match before.start < open.end && open.start < before.end {
            true => (open.start..before.start, before.end..open.end),
            false => (0..0, open.clone()),
        };
        self.derive(early.clone(), asked.sealing)?;
        self.derive(late.clone(), asked.sealing)?;
        self.forget_revoked(asked.revoked)?;
        if let Some(settled) = asked.settled {
            self.forget_until(self.open_at(settled).start)?;
        }
        let has_gone_on = early.is_empty() && before.end <= open.end;
        self.open = open;
        Ok(has_gone_on.then_some(late.start))
    }

    /// The STEKs that open, of this epoch and later ones.
    pub(super) fn keys(&self, from: u64) -> impl Iterator<Item = SourceKey> {
        self.steks.range(from..).filter_map(|(epoch, stek)| {
            let stek = Arc::clone(stek.as_ref()?);
            Some(SourceKey::with_window(stek, self.window(*epoch)))
        })
    }

    fn drop_closed(&mut self, open: &Range<u64>) {
        let is_closed = |epoch: u64| !open.contains(&epoch);
        let mut closed = Vec::new();
        while let Some(first) = self.steks.first_entry().filter(|it| is_closed(*it.key())) {
            closed.extend(first.remove());
        }
        while let Some(last) = self.steks.last_entry().filter(|it| is_closed(*it.key())) {
            closed.extend(last.remove());
        }
        for stek in closed {
            self.by_name.remove(stek.name());
        }
    }

    /// An error if the clock shows a time that has no STEK to seal with.
    pub(super) fn check_clock(&self, now: Time) -> Result<(), SourceError> {
        if now.plus(self.rotation.ahead()) < self.origin {
            return Err(
                "the clock shows a time before the origin of the epochs: correct it".into(),
            );
        }
        if self.epoch_at(now) < self.first {
            return Err("the clock went back to a time whose STEKs were erased: \
                        correct it, or restart the process if it is right now"
                .into());
        }
        Ok(())
    }

    /// The epochs whose STEKs open at this time.
    fn open_at(&self, now: Time) -> Range<u64> {
        let published = now.plus(self.rotation.ahead());
        if published < self.origin {
            return 0..0;
        }
        let retired = now.minus(self.rotation.lifetime());
        self.epoch_at(retired)..self.epoch_at(published).saturating_add(1)
    }

    #[expect(clippy::arithmetic_side_effects, reason = "an interval is 1 at least")]
    fn epoch_at(&self, time: Time) -> u64 {
        let passed = time.0.saturating_sub(self.origin.0);
        passed / self.interval
    }

    fn window(&self, epoch: u64) -> Window {
        let passed = epoch.saturating_mul(self.interval);
        let activates = Time(self.origin.0.saturating_add(passed));
        let published = activates.minus(self.rotation.ahead());
        let window = self.rotation.window(published, activates);
        match self.seals {
            true => window,
            false => Window {
                activates: window.retires,
                ..window
            },
        }
    }

    fn forget_revoked(&mut self, revoked: &[KeyName]) -> Result<(), Error> {
        for name in revoked {
            if let Some(epoch) = self.by_name.get(name).copied() {
                self.ratchet.forget(&(epoch..epoch.saturating_add(1)))?;
                self.by_name.remove(name);
                self.steks.insert(epoch, None);
            }
        }
        Ok(())
    }

    fn forget_until(&mut self, first: u64) -> Result<(), Error> {
        self.ratchet.forget(&(0..first))?;
        self.first = self.first.max(first);
        Ok(())
    }

    fn derive(&mut self, epochs: Range<u64>, sealing: Sealing) -> Result<(), Error> {
        let (steks, by_name) = (&mut self.steks, &mut self.by_name);
        self.ratchet.derive(&epochs, &mut |epoch, secret| {
            let stek = Stek::derive(secret.as_bytes(), sealing)?;
            by_name.insert(*stek.name(), epoch);
            steks.insert(epoch, Some(Arc::new(stek)));
            Ok(())
        })?;
        for epoch in epochs {
            self.steks.entry(epoch).or_insert(None);
        }
        Ok(())
    }

    /// Whether what is kept gives the STEK that seals at this time.
    #[cfg(test)]
    pub(super) fn can_derive(&self, time: Time) -> bool {
        let epoch = self.epoch_at(time);
        let mut derived = false;
        let kept = self.steks.get(&epoch).is_some_and(Option::is_some);
        let mut note = |_, _: &Secret| {
            derived = true;
            Ok(())
        };
        let outcome = self.ratchet.derive(&(epoch..epoch + 1), &mut note);
        kept || outcome.is_err() || derived
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const AHEAD: Duration = Duration::from_secs(5 * 60);
    const MOMENT: Duration = Duration::from_millis(1);
    const ORIGIN: Time = Time(1_800_000_000_000);

    fn epochs(origin: Time, rotation: Rotation) -> Epochs {
        let secret = SharedSecret::new(b"0123456789abcdef0123456789abcdef", origin).unwrap();
        Epochs::sealing(&secret, rotation).unwrap()
    }

    fn keys(epochs: &mut Epochs, now: Time) -> Result<Vec<SourceKey>, SourceError> {
        epochs.update(&EpochQuery {
            now,
            settled: None,
            sealing: Sealing::default(),
            revoked: &[],
        })?;
        Ok(epochs.keys(0).collect())
    }

    #[test]
    fn the_first_epoch_is_published_ahead_of_the_origin_and_not_before() {
        let mut epochs = epochs(ORIGIN, Rotation::new());
        let published = ORIGIN.minus(AHEAD);
        let before = published.minus(MOMENT);
        assert_eq!(keys(&mut epochs, before).unwrap().len(), 0);
        assert!(epochs.check_clock(before).is_err());
        assert_eq!(keys(&mut epochs, published).unwrap().len(), 1);
        assert!(epochs.check_clock(published).is_ok());
    }

    #[test]
    fn there_are_epochs_up_to_the_last_and_none_after_it() {
        let rotation = Rotation::new()
            .interval(MOMENT)
            .ticket_lifetime(Duration::from_secs(1))
            .publish_ahead(Duration::ZERO);
        let mut epochs = epochs(Time(0), rotation);
        let last = Time(EPOCHS - 1);
        let keys_of_last = keys(&mut epochs, last).unwrap();
        assert_eq!(keys_of_last.len(), 1_001);
        assert!(keys(&mut epochs, last.plus(MOMENT)).is_err());
    }

    #[test]
    fn no_more_steks_may_open_at_once_than_the_bound() {
        for (beside_the_active, fits) in [(MAX_KEYS - 1, true), (MAX_KEYS, false)] {
            let rotation = Rotation::new()
                .interval(MOMENT)
                .ticket_lifetime(Duration::from_millis(beside_the_active))
                .publish_ahead(Duration::ZERO);
            let mut epochs = epochs(Time(0), rotation);
            epochs.ratchet.forget(&(0..EPOCHS)).unwrap(); // as it takes long to derive them all
            assert_eq!(keys(&mut epochs, ORIGIN).is_ok(), fits);
        }
    }
}
