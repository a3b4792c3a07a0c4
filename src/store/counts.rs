use crate::counters::Counters;
use crate::stats::{NotShared, StoreHealth, StoreMisses, StoreStats};

/// What becomes of sessions on their way into a shared store and out of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Shared,
    AgeUnknown,
    FallenBack,
    NoKey,
    NotTaken,
    TooOldToShare,
    Malformed,
    Claimed,
    Fetched,
    Unused,
    NotFound,
    TimedOut,
    Unavailable,
    Busy,
    Failed,
    Garbage,
    UnknownKeyName,
    Forged,
    Expired,
    TooOld,
    Forgotten,
}

const COUNTS: usize = Count::Forgotten as usize + 1;

/// How often each became of one.
pub(crate) struct Counts(Counters<COUNTS>);

impl Counts {
    pub(crate) fn new() -> Self {
        Self(Counters::new())
    }

    pub(crate) fn add(&self, count: Count) {
        self.0.add(count as usize);
    }

    pub(crate) fn stats(&self, store: &'static str, health: StoreHealth) -> StoreStats {
        let count = |count| self.0.sum(count as usize);
        StoreStats {
            store,
            shared: count(Count::Shared),
            not_shared: NotShared {
                fallen_back: count(Count::FallenBack),
                no_key: count(Count::NoKey),
                not_taken: count(Count::NotTaken),
                too_old: count(Count::TooOldToShare),
                malformed: count(Count::Malformed),
            },
            age_unknown: count(Count::AgeUnknown),
            claimed: count(Count::Claimed),
            unused: count(Count::Unused),
            fetched: count(Count::Fetched),
            misses: StoreMisses {
                not_found: count(Count::NotFound),
                timed_out: count(Count::TimedOut),
                unavailable: count(Count::Unavailable),
                busy: count(Count::Busy),
                failed: count(Count::Failed),
                malformed: count(Count::Garbage),
                unknown_key_name: count(Count::UnknownKeyName),
                forged: count(Count::Forged),
                expired: count(Count::Expired),
                too_old: count(Count::TooOld),
                forgotten: count(Count::Forgotten),
            },
            health,
        }
    }
}
