use std::collections::HashSet;
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
use crate::errands::Errands;
use crate::error::Error;
use crate::rotation::Rotation;
use crate::source::bulletin::Heard;
use crate::source::{SourceKey, SourceQuery};
use crate::stats::StekStats;
use crate::stek::KeyName;

mod fallback;
mod health;

use fallback::Fallback;
use health::Health;

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
    fallback: Fallback,
    without_since: Option<Duration>,
    revoked: Revoked,
    active: Option<KeyName>,
    /// The active STEK, once it was found to be older than the interval.
    over_age: Option<KeyName>,
    rotations: u64,
    overflows: u64,
    pub(super) health: Health,
    /// The time of the last snapshot, and when the next is due unless anything changes.
    looked: Time,
    due: Time,
    is_changed: bool,
    pub(crate) jumps: Jumps,
    /// Until when whoever steps the ring may sleep, as it was told.
    awake_at: Time,
    closed: bool,
}

impl Keeper {
    /// What a snapshot tells, where nothing else can be known.
    pub(crate) fn of(snapshot: &Snapshot, settings: &RingSettings) -> Self {
        let mut keeper = Self::default();
        keeper.held.inherit_revoked(snapshot.revoked_openings());
        let (local, sourced) = snapshot.keys().partition::<Vec<_>, _>(|held| held.is_local);
        let keys = |held: Vec<&HeldKey>| held.into_iter().map(|held| held.key.clone()).collect();
        keeper.fallback = Fallback::with(keys(local));
        keeper
            .held
            .replace(keys(sourced), settings.rotation.ahead());
        for name in snapshot.revoked() {
            keeper.revoked.add(name, Duration::MAX); // until when is not known
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
        self.without_since = (!self.held.seals(now)).then_some(since);
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
        let checked = answer
            .keys
            .and_then(|keys| Ok(self.check(settings, keys, monotonic)?));
        let ahead = settings.rotation.ahead();
        self.continues = checked.is_ok();
        match checked {
            Ok(keys) => {
                let agrees = answer.fleet_agrees;
                events.extend(self.health.note_answer(source, agrees, monotonic));
                self.is_changed |= !(answer.others_stay && keys.is_empty());
                match answer.others_stay {
                    true => self.held.add(keys, ahead),
                    false => self.replace(keys, ahead, events),
                }
                Ok(())
            }
            Err(Failure { trouble, left }) => {
                if let Some(mut left) = left {
                    left.retain(|key| !self.revoked.contains(key.stek.name()));
                    self.replace(left, ahead, events);
                    self.is_changed = true;
                }
                events.extend(self.health.note_failure(source, &trouble, monotonic));
                Err(trouble)
            }
        }
    }

    fn replace(&mut self, keys: Vec<SourceKey>, ahead: Duration, events: &mut Vec<Event>) {
        let unlisted = self.held.replace(keys, ahead);
        self.note_expired(unlisted, events);
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
        self.fallback.drop_expired(now);
        self.note_expired(expired, events);
        self.revoked.forget_ended(monotonic);
        self.note_without(now, monotonic);
        // Local keys may have to stand in as soon as nothing is awaited any more.
        let is_without = self.without_since.is_some();
        let still_waits = is_awaited && is_without && !self.fallback.is_active();
        let query = SourceQuery {
            now,
            monotonic,
            rotation: &settings.rotation,
            sealing: settings.sealing,
            rotate,
            revoked: &[], // it was told at once
            bulletin: None,
            log: &Errands::AT_ONCE,
        };
        let stands_in = match still_waits {
            true => Ok(()),
            false => self.fallback.update(is_without, &query, events),
        };
        self.held.stand_in(self.fallback.keys(), ahead);
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
            // At least so long: by a clock that is ahead it may have expired already. A source that
            // leaves out what was revoked never lists it again, until this is forgotten.
            let left = held.key.window.expires.since(now).max(WEEK);
            ends.push((*held.key.stek.name(), monotonic.saturating_add(left)));
        };
        match name {
            Some(name) => self.held.get(name).into_iter().for_each(&mut note),
            None => self.held.keys().for_each(&mut note),
        }
        let names: Vec<_> = ends.iter().map(|(name, _)| *name).collect();
        events.extend(names.iter().copied().map(Event::Revoked));
        self.fallback.revoke(name);
        // One that is not here may come yet, with a source that is away or another process.
        if let Some(name) = name.filter(|_| ends.is_empty()) {
            ends.push((*name, Duration::MAX));
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
        self.held.snapshot(self.fallback.keys())
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

    pub(crate) fn stats(&self, monotonic: Duration) -> StekStats {
        let health = self.health.stats(monotonic);
        let fallen_back = self.fallback.is_active();
        StekStats {
            rotations: self.rotations,
            revocations: self.revoked.count(),
            overflows: self.overflows,
            fallen_back,
            fleet_agrees: health.fleet_agrees.filter(|_| !fallen_back),
            ..health
        }
    }

    /// Drops every key for good.
    pub(crate) fn close(&mut self) {
        self.held = Held::default();
        self.fallback.revoke(None);
        self.closed = true;
    }
}

#[cfg(test)]
mod tests;
