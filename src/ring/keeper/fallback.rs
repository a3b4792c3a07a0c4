use crate::clock::Time;
use crate::error::Error;
use crate::ring::events::Event;
use crate::source::{RandomSource, SourceKey, SourceQuery, StekSource};
use crate::stek::KeyName;

/// Local random STEKs. They seal while the source has none that does, so that this process at least
/// resumes its own sessions, and open until they expire.
#[derive(Default)]
pub(super) struct Fallback {
    source: RandomSource,
    keys: Vec<SourceKey>,
    /// Whether they seal.
    is_active: bool,
}

/// How many STEKs of earlier times without the source may open at once: each time makes one, and a
/// source that comes and goes would make them without end.
pub(super) const EARLIER: usize = 256;

impl Fallback {
    /// One that was inherited.
    pub(super) fn with(keys: Vec<SourceKey>) -> Self {
        Self {
            keys,
            ..Self::default()
        }
    }

    pub(super) fn keys(&self) -> &[SourceKey] {
        &self.keys
    }

    pub(super) fn is_active(&self) -> bool {
        self.is_active
    }

    pub(super) fn drop_expired(&mut self, now: Time) {
        self.keys.retain(|key| now < key.window.expires);
    }

    /// Begins or ends to seal, as it `is_needed`, or goes on.
    pub(super) fn update(
        &mut self,
        is_needed: bool,
        query: &SourceQuery<'_>,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        if is_needed != self.is_active {
            self.is_active = is_needed;
            events.push(match is_needed {
                true => Event::FellBack,
                false => Event::Recovered,
            });
        }
        if !is_needed {
            self.retire(query);
            return Ok(());
        }
        let made = self.source.load(query);
        let made = made.map_err(|cause| Error::source(RandomSource::NAME, cause))?;
        // Those of an earlier time without the source open until they expire.
        self.keys.retain(|key| {
            let is_listed = made.iter().any(|new| new.stek.name() == key.stek.name());
            !is_listed && key.window.retires <= query.now
        });
        let too_many = self.keys.len().saturating_sub(EARLIER);
        self.keys.drain(..too_many);
        self.keys.extend(made);
        Ok(())
    }

    /// They seal no longer, and open until they expire.
    fn retire(&mut self, query: &SourceQuery<'_>) {
        let expires = query.now.plus(query.rotation.lifetime());
        for key in &mut self.keys {
            key.window.retires = key.window.retires.min(query.now);
            key.window.expires = key.window.expires.min(expires);
        }
        self.source = RandomSource::default();
    }

    /// Drops one of them or all.
    pub(super) fn revoke(&mut self, name: Option<&KeyName>) {
        self.keys
            .retain(|key| name.is_some_and(|name| key.stek.name() != name));
        match name {
            Some(name) => self.source.revoke(name),
            None => self.source = RandomSource::default(),
        }
    }
}
