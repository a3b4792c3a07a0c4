use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::settings::RingSettings;
use super::snapshot::Snapshot;
use crate::clock::Time;
use crate::error::Error;
use crate::rotation::Rotation;
use crate::source::bulletin::Heard;
use crate::source::{RandomSource, SourceError, SourceKey, SourceQuery, StekSource, Withdrawal};
use crate::stats::StekStats;
use crate::stek::KeyName;

/// Keeps the keys from one answer of the source to the next: those it last gave, local ones that
/// stand in for them, and the names of those that expired or were revoked. It makes the snapshots.
///
/// Locked for moments only, never while a source is asked.
#[derive(Default)]
pub(crate) struct Keeper {
    /// What the source last said, less what was revoked or has expired since.
    sourced: Vec<SourceKey>,
    /// Stands in while the source has no STEK that may seal.
    fallback: RandomSource,
    local: Vec<SourceKey>,
    fallen_back: bool,
    revoked: Vec<KeyName>,
    /// Names of the last few that other processes revoked.
    revoked_elsewhere: VecDeque<KeyName>,
    /// Names of the last few that expired, to tell an expired ticket from an unknown one.
    expired: VecDeque<KeyName>,
    active: Option<KeyName>,
    /// The active STEK, once it was found to be older than the interval.
    over_age: Option<KeyName>,
    rotations: u64,
    answered: Option<Duration>,
    failures: u64,
    overflows: u64,
    fleet_agrees: Option<bool>,
    /// What the source last complained of, so that the same trouble is logged once.
    trouble: Option<String>,
    closed: bool,
}

/// How many earlier local STEKs are kept for opening. Each time the source fails makes one, and a
/// source that comes and goes would make them without end.
const EARLIER_LOCAL: usize = 256;

/// How many names of STEKs are remembered that expired, or that other processes revoked.
const EXPIRED_NAMES: usize = 64;

impl Keeper {
    /// Whether the source has no active STEK, so that it should be asked early.
    pub(crate) fn is_without(&self, now: Time) -> bool {
        !self.sourced.iter().any(|key| key.window.seals(now))
    }

    pub(crate) fn revoked(&self) -> Vec<KeyName> {
        self.revoked.clone()
    }

    /// Takes what the source heard of other processes.
    pub(crate) fn hear(&mut self, heard: &Heard) {
        self.overflows = self.overflows.max(heard.overflows);
        for name in &heard.revoked {
            if self.revoked.contains(name) {
                continue;
            }
            warn!(key = %name, "STEK revoked by another process, and wiped");
            self.sourced.retain(|key| key.stek.name() != name);
            self.revoked_elsewhere.push_front(*name);
        }
        self.revoked_elsewhere.truncate(EXPIRED_NAMES);
    }

    /// Takes what the source said, good or bad.
    pub(crate) fn take_answer(
        &mut self,
        settings: &RingSettings,
        source: &dyn StekSource,
        answer: Result<Vec<SourceKey>, SourceError>,
        monotonic: Duration,
    ) -> Result<(), Error> {
        if self.closed {
            return Ok(());
        }
        self.fleet_agrees = source.fleet_agrees();
        match answer.and_then(|keys| self.check(settings, keys)) {
            Ok(keys) => {
                if self.trouble.take().is_some() {
                    info!(source = source.name(), "STEK source answers again");
                }
                self.replace(keys);
                self.answered = Some(monotonic);
                Ok(())
            }
            Err(cause) => {
                self.failures = self.failures.saturating_add(1);
                let cause = self.withdraw(cause);
                let trouble = cause.to_string();
                if self.trouble.as_ref() != Some(&trouble) {
                    warn!(
                        source = source.name(),
                        %trouble,
                        "STEK source failed; keeping current keys until they expire"
                    );
                    self.trouble = Some(trouble);
                }
                Err(Error::source(source.name(), cause))
            }
        }
    }

    fn replace(&mut self, mut keys: Vec<SourceKey>) {
        self.keep_known(&mut keys);
        let before = std::mem::replace(&mut self.sourced, keys);
        let listed: HashSet<_> = self.sourced.iter().map(|key| *key.stek.name()).collect();
        let names = before.iter().map(|key| *key.stek.name());
        let unlisted = names.filter(|name| !listed.contains(name)).collect();
        self.note_expired(unlisted);
    }

    /// Drops what a source that failed says must not go on. Returns why it failed.
    fn withdraw(&mut self, cause: SourceError) -> SourceError {
        let Withdrawal { mut keys, cause } = match cause.downcast() {
            Ok(withdrawal) => *withdrawal,
            Err(cause) => return cause,
        };
        keys.retain(|key| !self.revoked.contains(key.stek.name()));
        self.replace(keys);
        cause
    }

    /// Wipes what has expired and falls back to local keys if need be. Returns the new snapshot.
    pub(crate) fn advance(
        &mut self,
        settings: &RingSettings,
        now: Time,
        monotonic: Duration,
        rotate: bool,
    ) -> Result<Snapshot, Error> {
        if self.closed {
            return Ok(Snapshot::default());
        }
        self.drop_expired(now);
        self.stand_in(settings, now, monotonic, rotate)?;
        let snapshot = self.snapshot(now);
        self.note_active(snapshot.sealing(now).map(|stek| *stek.name()));
        self.note_age(
            &settings.rotation,
            snapshot.active_since(now).map(|since| now.since(since)),
        );
        Ok(snapshot)
    }

    /// Refuses a key that is listed twice, and keys of another algorithm.
    fn check(
        &self,
        settings: &RingSettings,
        mut keys: Vec<SourceKey>,
    ) -> Result<Vec<SourceKey>, SourceError> {
        keys.retain(|key| !self.revoked.contains(key.stek.name()));
        let mut listed = HashSet::new();
        for key in &keys {
            let (name, sealing) = (key.stek.name(), key.stek.sealing());
            if sealing != settings.sealing {
                let wanted = settings.sealing;
                return Err(format!(
                    "key {name} seals with {sealing:?}, the ring with {wanted:?}: \
                     make it with `SourceQuery::stek`"
                )
                .into());
            }
            if !listed.insert(name) {
                return Err(format!("key {name} is listed twice: list each secret once").into());
            }
        }
        Ok(keys)
    }

    /// A source may build its STEKs anew for each answer. Keeps the ones already held: they count
    /// their seals, and a fresh count would never reach AES-256-GCM's limit.
    fn keep_known(&self, keys: &mut [SourceKey]) {
        for key in keys {
            let mut known = self.sourced.iter();
            if let Some(known) = known.find(|known| known.stek.name() == key.stek.name()) {
                key.stek = Arc::clone(&known.stek);
            }
        }
    }

    /// Makes local random STEKs seal while the source has no active one, so that this process at
    /// least resumes its own sessions.
    fn stand_in(
        &mut self,
        settings: &RingSettings,
        now: Time,
        monotonic: Duration,
        rotate: bool,
    ) -> Result<(), Error> {
        let none_seals = self.is_without(now);
        if none_seals != self.fallen_back {
            self.fallen_back = none_seals;
            match none_seals {
                true => warn!("STEK source has no active key; sealing with local random keys"),
                false => info!("STEK source has an active key again"),
            }
        }
        if none_seals {
            let query = SourceQuery {
                now,
                monotonic,
                rotation: &settings.rotation,
                sealing: settings.sealing,
                rotate,
                revoked: &self.revoked,
                bulletin: None,
            };
            let local = self.fallback.load(&query);
            let local = local.map_err(|cause| Error::source("random", cause))?;
            // Those of an earlier time without the source open until they expire.
            self.local.retain(|key| {
                let is_listed = local.iter().any(|new| new.stek.name() == key.stek.name());
                !is_listed && key.window.retires <= now
            });
            let too_many = self.local.len().saturating_sub(EARLIER_LOCAL);
            self.local.drain(..too_many);
            self.local.extend(local);
        } else {
            // They seal no longer, and open until they expire.
            for key in &mut self.local {
                key.window.retires = key.window.retires.min(now);
                key.window.expires = key
                    .window
                    .expires
                    .min(now.plus(settings.rotation.lifetime()));
            }
            self.fallback = RandomSource::default();
        }
        Ok(())
    }

    fn drop_expired(&mut self, now: Time) {
        let gone = |keys: &mut Vec<SourceKey>| {
            let (kept, gone) = std::mem::take(keys)
                .into_iter()
                .partition(|key| now < key.window.expires);
            *keys = kept;
            let gone: Vec<SourceKey> = gone;
            gone.into_iter()
                .map(|key| *key.stek.name())
                .collect::<Vec<_>>()
        };
        let names = [gone(&mut self.sourced), gone(&mut self.local)].concat();
        self.note_expired(names);
    }

    fn note_expired(&mut self, names: Vec<KeyName>) {
        for name in names {
            info!(key = %name, "STEK expired and wiped");
            self.expired.push_front(name);
        }
        self.expired.truncate(EXPIRED_NAMES);
    }

    fn note_active(&mut self, active: Option<KeyName>) {
        if active == self.active {
            return;
        }
        match active {
            Some(name) => {
                info!(key = %name, "STEK is now active");
                let replaces = self.active.is_some(); // the first one does not
                self.rotations = self.rotations.saturating_add(replaces.into());
            }
            None => warn!("no active STEK; no tickets are issued"),
        }
        self.active = active;
    }

    fn note_age(&mut self, rotation: &Rotation, age: Option<Duration>) {
        let over_age = age.filter(|age| rotation.is_over_age(*age));
        let Some(age) = over_age else {
            self.over_age = None;
            return;
        };
        if let Some(name) = self.active.filter(|_| self.over_age != self.active) {
            let interval = rotation.sealing_time();
            warn!(
                key = %name,
                ?age,
                ?interval,
                "STEK has been active for longer than the interval; replace it at its source"
            );
        }
        self.over_age = self.active;
    }

    /// Drops one STEK or all, for good. Returns how many.
    pub(crate) fn revoke(&mut self, name: Option<&KeyName>) -> usize {
        let is_meant = |key: &SourceKey| name.is_none_or(|name| key.stek.name() == name);
        let keys = self.sourced.iter().chain(&self.local);
        let names: Vec<_> = keys
            .filter(|key| is_meant(key))
            .map(|key| *key.stek.name())
            .collect();
        for name in &names {
            warn!(key = %name, "STEK revoked and wiped");
        }
        self.sourced.retain(|key| !is_meant(key));
        self.local.retain(|key| !is_meant(key));
        if name.is_none() {
            self.fallback = RandomSource::default();
        }
        self.revoked.extend(&names);
        names.len()
    }

    pub(crate) fn snapshot(&self, now: Time) -> Snapshot {
        let keys = self.sourced.iter().chain(&self.local).cloned().collect();
        let expired = self.expired.iter().copied();
        let local = self.local.iter().map(|key| *key.stek.name()).collect();
        let revoked = self.revoked.iter().chain(&self.revoked_elsewhere).copied();
        Snapshot::new(keys, expired, revoked, now).with_local(local)
    }

    /// How long nothing is due but asking the source.
    pub(crate) fn idle(&self, settings: &RingSettings, now: Time) -> Duration {
        let keys = || self.sourced.iter().chain(&self.local);
        let changes = keys().filter_map(|key| key.window.next_change(now));
        let publish = keys().map(|key| key.window.retires.minus(settings.rotation.ahead()));
        let next = changes.chain(publish.filter(|time| *time > now)).min();
        next.map_or(Duration::MAX, |time| time.since(now))
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.answered.is_some()
    }

    pub(crate) fn stats(&self, monotonic: Duration) -> StekStats {
        StekStats {
            rotations: self.rotations,
            revocations: self.revoked.len() as u64,
            source_answered: self.answered.map(|at| monotonic.saturating_sub(at)),
            source_failures: self.failures,
            overflows: self.overflows,
            fallen_back: self.fallen_back,
            fleet_agrees: self.fleet_agrees,
            ..StekStats::default()
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Drops every key for good.
    pub(crate) fn close(&mut self) {
        self.sourced.clear();
        self.local.clear();
        self.fallback = RandomSource::default();
        self.closed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::Lookup;
    use super::*;
    use crate::aead::Sealing;
    use crate::source::source_fn;
    use crate::stek::Stek;

    #[test]
    fn a_key_that_its_source_makes_anew_goes_on_wearing_out() {
        let settings = RingSettings {
            sealing: Sealing::Aes256Gcm,
            ..RingSettings::default()
        };
        let mut keeper = Keeper::default();
        let mut source = source_fn("vault", |query| {
            let stek = query.stek(b"0123456789abcdef0123456789abcdef")?;
            Ok(vec![SourceKey::sealing(stek)])
        });
        let now = Time(1_800_000_000_000);
        let mut is_worn = |wear| {
            let query = SourceQuery {
                now,
                monotonic: Duration::ZERO,
                rotation: &settings.rotation,
                sealing: settings.sealing,
                rotate: false,
                revoked: &[],
                bulletin: None,
            };
            let answer = source.load(&query);
            let taken = keeper.take_answer(&settings, &source, answer, Duration::ZERO);
            taken.unwrap();
            let snapshot = keeper
                .advance(&settings, now, Duration::ZERO, false)
                .unwrap();
            if wear {
                let stek = snapshot.sealing(now).unwrap();
                stek.ticket_key().wear(Sealing::GCM_LIMIT / 2);
            }
            snapshot.is_worn(now)
        };
        assert!(is_worn(true));
        assert!(is_worn(false), "after the source answered again");
    }

    #[test]
    fn what_local_keys_sealed_opens_until_they_expire_however_often_the_source_fails() {
        let settings = RingSettings::default();
        let mut keeper = Keeper::default();
        let mut now = Time(1_800_000_000_000);
        let mut step = |seals: bool| {
            now = now.plus(Duration::from_secs(1));
            let source = source_fn("flapping", |_| Ok(vec![]));
            let secret = b"0123456789abcdef0123456789abcdef";
            let key = || SourceKey::sealing(Stek::from_bytes(secret).unwrap());
            let answer = Ok(Vec::from_iter(seals.then(key)));
            let taken = keeper.take_answer(&settings, &source, answer, Duration::ZERO);
            taken.unwrap();
            let snapshot = keeper
                .advance(&settings, now, Duration::ZERO, false)
                .unwrap();
            let name = *snapshot.sealing(now).unwrap().name();
            (name, snapshot, now, keeper.local.len())
        };
        let (first, ..) = step(false);
        step(true);
        let (second, snapshot, _, _) = step(false);
        assert_ne!(first, second);
        let opens = |snapshot: &Snapshot, name| matches!(snapshot.find(name), Lookup::Key(_));
        assert!(opens(&snapshot, &first) && opens(&snapshot, &second));
        for _ in 0..=EARLIER_LOCAL {
            step(true);
            step(false);
        }
        let (last, snapshot, _, kept) = step(false);
        assert_eq!(kept, EARLIER_LOCAL + 1);
        assert!(opens(&snapshot, &last) && !opens(&snapshot, &second));
        assert_eq!(EARLIER_LOCAL, 256);
    }

    #[test]
    fn no_local_key_is_kept_that_was_revoked() {
        let settings = RingSettings::default();
        let mut keeper = Keeper::default();
        // A source that never answered: local keys seal.
        let now = Time(1_800_000_000_000);
        let snapshot = keeper
            .advance(&settings, now, Duration::ZERO, false)
            .unwrap();
        let name = *snapshot.sealing(now).unwrap().name();
        assert_eq!(keeper.local.len(), 1);
        assert_eq!(keeper.revoke(Some(&name)), 1);
        assert!(keeper.local.is_empty());
        keeper
            .advance(&settings, now, Duration::ZERO, false)
            .unwrap();
        assert_ne!(keeper.revoke(None), 0);
        assert!(keeper.local.is_empty());
    }
}
