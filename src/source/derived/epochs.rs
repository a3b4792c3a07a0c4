use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::ratchet::{EPOCHS, Ratchet, Secret};
use crate::aead::Sealing;
use crate::clock::Time;
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
    /// `None` is the STEK of an epoch that is out of reach.
    steks: BTreeMap<u64, Option<Arc<Stek>>>,
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
        let interval = u64::try_from(rotation.sealing_time().as_millis()).unwrap_or(u64::MAX);
        let schedule = [origin.0.to_be_bytes(), interval.to_be_bytes()].concat();
        let root = Secret::derive(derived.as_bytes(), &[b"origin and interval", &schedule])?;
        Ok(Self {
            ratchet: Ratchet::new(root),
            first: 0,
            rotation,
            seals,
            origin: *origin,
            interval: interval.max(1),
            steks: BTreeMap::new(),
        })
    }

    /// The STEKs that open now. Forgets those that have expired by both clocks.
    pub(super) fn keys(&mut self, asked: &EpochQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
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
        self.steks.retain(|epoch, _| open.contains(epoch));
        self.forget_revoked(asked.revoked)?;
        self.derive_missing(open, asked.sealing)?;
        if let Some(settled) = asked.settled {
            self.forget_until(self.open_at(settled).start)?;
        }
        let steks = self.steks.iter();
        let keys = steks.filter_map(|(epoch, stek)| {
            let stek = Arc::clone(stek.as_ref()?);
            Some(SourceKey::with_window(stek, self.window(*epoch)))
        });
        Ok(keys.collect())
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
        for (epoch, stek) in &mut self.steks {
            let is_revoked = |stek: &Arc<Stek>| revoked.contains(stek.name());
            if stek.as_ref().is_some_and(is_revoked) {
                self.ratchet.forget(&(*epoch..epoch.saturating_add(1)))?;
                *stek = None;
            }
        }
        Ok(())
    }

    fn forget_until(&mut self, first: u64) -> Result<(), Error> {
        self.ratchet.forget(&(0..first))?;
        self.first = self.first.max(first);
        Ok(())
    }

    fn derive_missing(&mut self, open: Range<u64>, sealing: Sealing) -> Result<(), Error> {
        let steks = &mut self.steks;
        let missing: Vec<_> = open.filter(|epoch| !steks.contains_key(epoch)).collect();
        let (Some(first), Some(last)) = (missing.first(), missing.last()) else {
            return Ok(());
        };
        self.ratchet
            .derive(&(*first..last.saturating_add(1)), &mut |epoch, secret| {
                if let Entry::Vacant(vacant) = steks.entry(epoch) {
                    let stek = Stek::derive(secret.as_bytes(), sealing)?;
                    vacant.insert(Some(Arc::new(stek)));
                }
                Ok(())
            })?;
        for epoch in missing {
            steks.entry(epoch).or_insert(None);
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
        epochs.keys(&EpochQuery {
            now,
            settled: None,
            sealing: Sealing::default(),
            revoked: &[],
        })
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
