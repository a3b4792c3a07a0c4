//! A stand-in for a shared store: one record of STEKs. The first node that asks when a rotation is
//! due rotates for all.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustls_resumption::source::{SourceError, SourceKey, SourceQuery};
use rustls_resumption::{KeyName, Stek};

use super::chance::Chance;
use super::{AHEAD, INTERVAL, LIFETIME, wall};

/// Times are those of the store's own clock, which is right.
pub(crate) struct Store {
    pub(crate) now: Duration,
    pub(crate) is_down: bool,
    pub(crate) longest_life: Duration,
    keys: Vec<Key>,
    /// Of every key there ever was.
    windows: HashMap<KeyName, Window>,
    /// Keys that some memory may still hold, and since when.
    alive: Vec<(Weak<Stek>, Duration)>,
    chance: Chance,
}

/// When a key may be used.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) published: Duration,
    pub(crate) activates: Duration,
    pub(crate) retires: Duration,
    pub(crate) expires: Duration,
}

struct Key {
    stek: Arc<Stek>,
    window: Window,
}

impl Store {
    pub(crate) fn new(now: Duration, chance: Chance) -> Self {
        Self {
            now,
            is_down: false,
            longest_life: Duration::ZERO,
            keys: Vec::new(),
            windows: HashMap::new(),
            alive: Vec::new(),
            chance,
        }
    }

    /// The record as it was `delay` ago.
    pub(crate) fn answer(
        &mut self,
        query: &SourceQuery<'_>,
        delay: Duration,
    ) -> Result<Vec<SourceKey>, SourceError> {
        if self.is_down {
            return Err("the store is down".into());
        }
        self.rotate(query)?;
        let told = |key: &&Key| key.window.published + delay <= self.now;
        let keys = self.keys.iter().filter(told);
        let keys = keys.map(|Key { stek, window }| {
            SourceKey::scheduled(
                Arc::clone(stek),
                wall(window.published),
                wall(window.activates),
                wall(window.retires),
                wall(window.expires),
            )
        });
        Ok(keys.collect::<Result<_, _>>()?)
    }

    fn rotate(&mut self, query: &SourceQuery<'_>) -> Result<(), SourceError> {
        let last = self.keys.last().map(|key| key.window.retires);
        if last.is_some_and(|retires| self.now + AHEAD < retires) {
            return Ok(());
        }
        let activates = last.map_or(self.now, |retires| retires.max(self.now));
        let stek = Arc::new(query.stek(&self.chance.secret())?);
        let window = Window {
            published: self.now,
            activates,
            retires: activates + INTERVAL,
            expires: activates + INTERVAL + LIFETIME,
        };
        self.windows.insert(*stek.name(), window);
        self.alive.push((Arc::downgrade(&stek), self.now));
        self.keys.push(Key { stek, window });
        Ok(())
    }

    /// Time has passed: what has expired is no longer in the record. Notes which keys are in
    /// nobody's memory any more.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.keys.retain(|key| self.now < key.window.expires);
        self.alive.retain(|(stek, _)| stek.strong_count() > 0);
        for (_, since) in &self.alive {
            self.longest_life = self.longest_life.max(self.now - *since);
        }
    }

    pub(crate) fn window(&self, name: &KeyName) -> Option<Window> {
        self.windows.get(name).copied()
    }

    /// How many keys there were in all.
    pub(crate) fn made(&self) -> usize {
        self.windows.len()
    }
}
