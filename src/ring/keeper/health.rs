use std::mem::{replace, take};
use std::sync::Arc;
use std::time::Duration;

use crate::ring::events::Event;
use crate::stats::{StekStats, Trouble};

/// How well the source answers. Times are monotonic.
#[derive(Default)]
pub(in crate::ring) struct Health {
    /// When it last answered well.
    answered: Option<Duration>,
    failures: u64,
    /// Whether the answer that is awaited was counted as a failure because it is late.
    is_counted: bool,
    /// What it last complained of, so that the same trouble is logged once.
    trouble: Option<String>,
    /// Whether it was logged that it is late, since it last answered.
    was_late: bool,
    /// What last went wrong, and when.
    last_trouble: Option<(Arc<str>, Duration)>,
    /// Whether it has not answered well since.
    is_troubled: bool,
    fleet_agrees: Option<bool>,
}

impl Health {
    pub(in crate::ring) fn has_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// Remembers that the source is well.
    pub(in crate::ring) fn note_well(&mut self, now: Duration) {
        self.answered = Some(now);
        self.is_troubled = false;
    }

    /// Takes a good answer. Returns what is worth telling.
    pub(super) fn note_answer(
        &mut self,
        source: &'static str,
        fleet_agrees: Option<bool>,
        now: Duration,
    ) -> Option<Event> {
        self.is_counted = false;
        self.fleet_agrees = fleet_agrees;
        self.note_well(now);
        let was_late = take(&mut self.was_late);
        let was_troubled = self.trouble.take().is_some();
        (was_troubled || was_late).then_some(Event::SourceAnswers { source })
    }

    /// Takes a bad answer, which is not counted if it was already because it is late. Returns what is
    /// worth telling.
    pub(super) fn note_failure(
        &mut self,
        source: &'static str,
        trouble: &str,
        now: Duration,
    ) -> Option<Event> {
        self.fleet_agrees = None; // it may have changed since anybody could see it
        let was_counted = take(&mut self.is_counted);
        self.count_failure(trouble, was_counted, now);
        if self.trouble.as_deref() == Some(trouble) {
            return None;
        }
        self.trouble = Some(trouble.to_owned());
        Some(Event::SourceFailed {
            source,
            trouble: trouble.to_owned(),
            has_answered: self.has_answered(),
        })
    }

    /// Counts that the source has not answered, or not in time.
    pub(in crate::ring) fn note_unanswered(&mut self, trouble: &str, now: Duration) {
        self.count_failure(trouble, false, now);
        self.is_counted = true;
    }

    /// Counts that the source is late. False if that was logged before: a source that hangs is late
    /// each time that it is asked.
    pub(in crate::ring) fn note_late(&mut self, waited: Duration, now: Duration) -> bool {
        self.note_unanswered(&format!("no answer for {waited:?}"), now);
        !replace(&mut self.was_late, true)
    }

    fn count_failure(&mut self, trouble: &str, was_counted: bool, now: Duration) {
        self.failures = self.failures.saturating_add(u64::from(!was_counted));
        self.last_trouble = Some((trouble.into(), now));
        self.is_troubled = true;
    }

    pub(super) fn stats(&self, now: Duration) -> StekStats {
        StekStats {
            source_answered: self.answered.map(|at| now.saturating_sub(at)),
            source_failures: self.failures,
            last_trouble: self.last_trouble.as_ref().map(|(what, at)| Trouble {
                what: Arc::clone(what),
                ago: now.saturating_sub(*at),
                is_over: !self.is_troubled,
            }),
            fleet_agrees: self.fleet_agrees,
            ..StekStats::default()
        }
    }
}
