use std::collections::HashSet;
use std::mem::{replace, take};
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, Failure};
use super::events::Event;
use super::held::Held;
use super::jumps::Jumps;
use super::revoked::{Revoked, WEEK};
use super::settings::RingSettings;
use super::slots::HeldKey;
use super::snapshot::Snapshot;
use super::supply::CLOSED;
use crate::clock::Time;
use crate::error::Error;
use crate::rotation::Rotation;
use crate::source::bulletin::Heard;
use crate::source::{RandomSource, SourceKey, SourceQuery, StekSource};
use crate::stats::{StekStats, Trouble};
use crate::stek::KeyName;

/// Keeps the keys from one answer of the source to the next: those it last gave, local ones that
/// stand in for them, and the names of those that expired or were revoked. It makes the snapshots.
///
/// Locked for moments only, never while a source is asked.
#[derive(Default)]
pub(crate) struct Keeper {
    /// What the source last said, less what was revoked or has expired since, and the local keys.
    held: Held,
    /// Whether that is all of the source's last answer but for what was revoked or has expired.
    continues: bool,
    /// Stands in while the source has no STEK that may seal.
    fallback: RandomSource,
    local: Vec<SourceKey>,
    fallen_back: bool,
    without_since: Option<Duration>,
    revoked: Revoked,
    active: Option<KeyName>,
    /// The active STEK, once it was found to be older than the interval.
    over_age: Option<KeyName>,
    rotations: u64,
    answered: Option<Duration>,
    failures: u64,
    /// Whether the answer that is awaited was counted as a failure because it is late.
    is_counted: bool,
    overflows: u64,
    fleet_agrees: Option<bool>,
    /// What the source last complained of, so that the same trouble is logged once.
    trouble: Option<String>,
    /// Whether it was logged that the source is late, since it last answered.
    was_late: bool,
    /// What last went wrong, at which monotonic time.
    last_trouble: Option<(Arc<str>, Duration)>,
    /// Whether the source has not answered well since.
    is_troubled: bool,
    /// The time of the last snapshot, and when the next is due unless anything changes.
    looked: Time,
    due: Time,
    is_changed: bool,
    pub(crate) jumps: Jumps,
    /// Until when whoever steps the ring may sleep, as it was told.
    awake_at: Time,
    closed: bool,
}

/// How many local STEKs of earlier times without the source may open at once: each time makes one,
/// and a source that comes and goes would make them without end.
const EARLIER_LOCAL: usize = 256;

impl Keeper {
    /// What a snapshot tells, where nothing else can be known.
    pub(crate) fn of(snapshot: &Snapshot, settings: &RingSettings, monotonic: Duration) -> Self {
        let mut keeper = Self::default();
        keeper.held.inherit_revoked(snapshot.revoked_openings());
        let (local, sourced) = snapshot.keys().partition::<Vec<_>, _>(|held| held.is_local);
        let keys = |held: Vec<&HeldKey>| held.into_iter().map(|held| held.key.clone()).collect();
        keeper.local = keys(local);
        keeper
            .held
            .replace(keys(sourced), settings.rotation.ahead());
        for name in snapshot.revoked() {
            let until = monotonic.saturating_add(WEEK);
            keeper.revoked.add(name, until);
            keeper.held.revoke(&[name]);
        }
        keeper.is_changed = true;
        keeper
    }

    /// The keys of the source.
    pub(crate) fn sourced(&self) -> impl Iterator<Item = &SourceKey> {
        let sourced = self.held.keys().filter(|held| !held.is_local);
        sourced.map(|held| &held.key)
    }

    /// Whether the source may answer with no more than what is new.
    pub(crate) fn continues(&self) -> bool {
        self.continues
    }

    /// Since when, by monotonic time, no STEK of the source may seal: it should be asked then,
    /// once, even if it is not time yet.
    pub(crate) fn without_since(&mut self, now: Time, monotonic: Duration) -> Option<Duration> {
        if self.is_due(now) {
            self.note_without(now, monotonic);
        }
        self.without_since
    }

    fn note_without(&mut self, now: Time, monotonic: Duration) {
        let since = self.without_since.unwrap_or(monotonic);
        self.without_since = self.is_without(now).then_some(since);
    }

    fn is_without(&self, now: Time) -> bool {
        !self.held.seals(now)
    }

    /// The names that a source is told: its own source only those that it has not heard.
    pub(crate) fn revoked(&mut self, is_own: bool) -> Arc<Vec<KeyName>> {
        match is_own {
            true => self.revoked.news(),
            false => self.revoked.list(),
        }
    }

    /// Takes what the source heard of other processes.
    fn hear(&mut self, heard: &Heard, events: &mut Vec<Event>) {
        self.overflows = self.overflows.max(heard.overflows);
        for name in &heard.revoked {
            if self.revoked.contains(name) {
                continue;
            }
            events.push(Event::RevokedElsewhere(*name));
            self.held.revoke(&[*name]);
            self.is_changed = true;
        }
    }

    /// Takes what the source said, good or bad.
    pub(crate) fn take_answer(
        &mut self,
        settings: &RingSettings,
        source: &'static str,
        answer: Answer,
        monotonic: Duration,
        events: &mut Vec<Event>,
    ) -> Result<(), String> {
        if self.closed {
            return Err(CLOSED.into());
        }
        self.hear(&answer.heard, events);
        let was_counted = take(&mut self.is_counted);
        let checked = answer
            .keys
            .and_then(|keys| Ok(self.check(settings, keys, monotonic)?));
        let ahead = settings.rotation.ahead();
        self.continues = checked.is_ok();
        match checked {
            Ok(keys) => {
                self.fleet_agrees = answer.fleet_agrees;
                let was_late = take(&mut self.was_late);
                if self.trouble.take().is_some() || was_late {
                    events.push(Event::SourceAnswers { source });
                }
                self.is_changed |= !(answer.others_stay && keys.is_empty());
                match answer.others_stay {
                    true => self.held.add(keys, ahead),
                    false => self.replace(keys, ahead, events),
                }
                self.note_answered(monotonic);
                Ok(())
            }
            Err(Failure { trouble, left }) => {
                self.fleet_agrees = None; // it may have changed since anybody could see it
                self.note_failure(&trouble, was_counted, monotonic);
                if let Some(mut left) = left {
                    left.retain(|key| !self.revoked.contains(key.stek.name()));
                    self.replace(left, ahead, events);
                    self.is_changed = true;
                }
                if self.trouble.as_ref() != Some(&trouble) {
                    self.trouble = Some(trouble.clone());
                    events.push(Event::SourceFailed {
                        source,
                        trouble: trouble.clone(),
                        has_answered: self.answered.is_some(),
                    });
                }
                Err(trouble)
            }
        }
    }

    fn replace(&mut self, keys: Vec<SourceKey>, ahead: Duration, events: &mut Vec<Event>) {
        let unlisted = self.held.replace(keys, ahead);
        self.note_expired(unlisted, events);
    }

    /// Remembers that the source is well.
    pub(crate) fn note_answered(&mut self, monotonic: Duration) {
        self.answered = Some(monotonic);
        self.is_troubled = false;
    }

    /// Counts that the source has not answered, or not in time.
    pub(crate) fn note_unanswered(&mut self, trouble: &str, monotonic: Duration) {
        self.note_failure(trouble, false, monotonic);
        self.is_counted = true;
    }

    /// Counts that the source answered badly, unless it was counted already that it did so late.
    fn note_failure(&mut self, trouble: &str, was_counted: bool, monotonic: Duration) {
        self.failures = self.failures.saturating_add(u64::from(!was_counted));
        self.last_trouble = Some((trouble.into(), monotonic));
        self.is_troubled = true;
    }

    /// Counts that the source is late. False if that was logged before: a source that hangs is late
    /// each time that it is asked.
    pub(crate) fn note_late(&mut self, waited: Duration, monotonic: Duration) -> bool {
        self.note_unanswered(&format!("no answer for {waited:?}"), monotonic);
        !replace(&mut self.was_late, true)
    }

    /// Does what the time asks for: wipes, falls back, says who seals. Returns the new snapshot if
    /// anything changed. Local keys do not stand in while those of the source are awaited.
    pub(crate) fn advance(
        &mut self,
        settings: &RingSettings,
        now: Time,
        monotonic: Duration,
        rotate: bool,
        is_awaited: bool,
        events: &mut Vec<Event>,
    ) -> (Option<Snapshot>, Result<(), Error>) {
        if self.closed || !(rotate || self.is_due(now)) {
            return (None, Ok(()));
        }
        let ahead = settings.rotation.ahead();
        let expired = self.held.advance(now, ahead);
        self.local.retain(|key| now < key.window.expires);
        self.note_expired(expired, events);
        self.revoked.forget_ended(monotonic);
        self.note_without(now, monotonic);
        let stands_in = self.stand_in(settings, now, monotonic, rotate, is_awaited, events);
        self.held.stand_in(&self.local, ahead);
        // Local keys may have to stand in as soon as nothing is awaited any more.
        let still_waits = is_awaited && !self.fallen_back && self.without_since.is_some();
        self.is_changed = still_waits || stands_in.is_err();
        (self.looked, self.due) = (now, self.held.due());
        let snapshot = self.snapshot();
        if !still_waits {
            self.note_active(snapshot.sealing(now).map(|stek| *stek.name()), events);
        }
        let age = snapshot.active_since(now).map(|since| now.since(since));
        self.note_age(&settings.rotation, age, events);
        (Some(snapshot), stands_in)
    }

    /// Whether anything changes at this time that has not been seen to.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.is_changed || now >= self.due || now < self.looked
    }

    /// Refuses a key that is listed twice, and keys of another algorithm.
    fn check(
        &mut self,
        settings: &RingSettings,
        mut keys: Vec<SourceKey>,
        monotonic: Duration,
    ) -> Result<Vec<SourceKey>, String> {
        let most = Rotation::MAX_KEYS;
        if keys.len() as u128 > most {
            return Err(format!(
                "{} keys are listed: at most {most} may",
                keys.len()
            ));
        }
        keys.retain(|key| !self.revoked.is_listed_again(key.stek.name(), monotonic));
        let mut listed = HashSet::new();
        for key in &keys {
            let (name, sealing) = (key.stek.name(), key.stek.sealing());
            if sealing != settings.sealing {
                let wanted = settings.sealing;
                return Err(format!(
                    "key {name} seals with {sealing:?}, the ring with {wanted:?}: \
                     make it with `SourceQuery::stek`"
                ));
            }
            if !listed.insert(name) {
                return Err(format!("key {name} is listed twice: list each secret once"));
            }
        }
        Ok(keys)
    }

    /// Makes local random STEKs seal while the source has no active one, so that this process at
    /// least resumes its own sessions.
    fn stand_in(
        &mut self,
        settings: &RingSettings,
        now: Time,
        monotonic: Duration,
        rotate: bool,
        is_awaited: bool,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        let none_seals = self.is_without(now);
        if none_seals && is_awaited && !self.fallen_back {
            return Ok(());
        }
        if none_seals != self.fallen_back {
            self.fallen_back = none_seals;
            events.push(match none_seals {
                true => Event::FellBack,
                false => Event::Recovered,
            });
        }
        if none_seals {
            let query = SourceQuery {
                now,
                monotonic,
                rotation: &settings.rotation,
                sealing: settings.sealing,
                rotate,
                revoked: &[], // it was told at once
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

    fn note_expired(&mut self, names: Vec<KeyName>, events: &mut Vec<Event>) {
        for name in names {
            events.push(Event::Expired(name));
            self.held.note_expired(name);
        }
    }

    fn note_active(&mut self, active: Option<KeyName>, events: &mut Vec<Event>) {
        if active == self.active {
            return;
        }
        match active {
            Some(name) => {
                events.push(Event::Active(name));
                let replaces = self.active.is_some(); // the first one does not
                self.rotations = self.rotations.saturating_add(replaces.into());
            }
            None => events.push(Event::NoneActive),
        }
        self.active = active;
    }

    fn note_age(&mut self, rotation: &Rotation, age: Option<Duration>, events: &mut Vec<Event>) {
        let over_age = age.filter(|age| rotation.is_over_age(*age));
        let Some(age) = over_age else {
            self.over_age = None;
            return;
        };
        if let Some(name) = self.active.filter(|_| self.over_age != self.active) {
            let interval = rotation.sealing_time();
            events.push(Event::OverAge {
                name,
                age,
                interval,
            });
        }
        self.over_age = self.active;
    }

    /// Drops one STEK or all, for good. Returns how many.
    pub(crate) fn revoke(
        &mut self,
        name: Option<&KeyName>,
        now: Time,
        monotonic: Duration,
        events: &mut Vec<Event>,
    ) -> usize {
        let mut ends = Vec::new();
        let mut note = |held: &HeldKey| {
            let left = held.key.window.expires.since(now).min(WEEK);
            ends.push((*held.key.stek.name(), monotonic.saturating_add(left)));
        };
        match name {
            Some(name) => self.held.get(name).into_iter().for_each(&mut note),
            None => self.held.keys().for_each(&mut note),
        }
        let names: Vec<_> = ends.iter().map(|(name, _)| *name).collect();
        events.extend(names.iter().copied().map(Event::Revoked));
        self.local
            .retain(|key| name.is_some_and(|name| key.stek.name() != name));
        match name {
            Some(name) => self.fallback.revoke(name),
            None => self.fallback = RandomSource::default(),
        }
        // One that is not here may come yet, with a source that is away or another process.
        if let Some(name) = name.filter(|_| ends.is_empty()) {
            ends.push((*name, monotonic.saturating_add(WEEK)));
        }
        for (name, until) in &ends {
            self.revoked.add(*name, *until);
        }
        let gone: Vec<_> = ends.iter().map(|(name, _)| *name).collect();
        self.held.revoke(&gone);
        self.is_changed |= !ends.is_empty();
        names.len()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.held.snapshot(&self.local)
    }

    /// How long nothing is due but asking the source.
    pub(crate) fn idle(&mut self, now: Time) -> Duration {
        self.awake_at = match self.is_due(now) {
            true => self.held.due(),
            false => self.due,
        };
        match self.awake_at {
            Time(u64::MAX) => Duration::MAX,
            due => due.since(now),
        }
    }

    /// Whether something will be due before the end of the time that [`idle`](Self::idle) told.
    pub(crate) fn is_due_sooner(&self) -> bool {
        self.due < self.awake_at
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.answered.is_some()
    }

    pub(crate) fn stats(&self, monotonic: Duration) -> StekStats {
        StekStats {
            rotations: self.rotations,
            revocations: self.revoked.count(),
            source_answered: self.answered.map(|at| monotonic.saturating_sub(at)),
            source_failures: self.failures,
            last_trouble: self.last_trouble.as_ref().map(|(what, at)| Trouble {
                what: Arc::clone(what),
                ago: monotonic.saturating_sub(*at),
                is_over: !self.is_troubled,
            }),
            overflows: self.overflows,
            fallen_back: self.fallen_back,
            fleet_agrees: self.fleet_agrees.filter(|_| !self.fallen_back),
            ..StekStats::default()
        }
    }

    /// Drops every key for good.
    pub(crate) fn close(&mut self) {
        self.held = Held::default();
        self.local.clear();
        self.fallback = RandomSource::default();
        self.closed = true;
    }
}

#[cfg(test)]
mod tests;
