use crate::counters::Counters;
use crate::stats::{AcceptorStats, NotResumed};

/// Counters of the handshakes that acceptors saw.
pub(crate) struct AcceptorCounts(Counters<COUNTS>);

/// What is counted, by index.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Resumed,
    EarlyData,
    NotOffered,
    NotFound,
    StoreUnavailable,
    Declined,
    HelloRetry,
    Failed,
}

const COUNTS: usize = Count::Failed as usize + 1;

impl AcceptorCounts {
    pub(crate) fn new() -> Self {
        Self(Counters::new())
    }

    pub(crate) fn add(&self, count: Count) {
        self.0.add(count as usize);
    }

    pub(crate) fn stats(&self) -> AcceptorStats {
        let count = |counter| self.0.sum(counter as usize);
        AcceptorStats {
            resumed: count(Count::Resumed),
            early_data: count(Count::EarlyData),
            full: NotResumed {
                not_offered: count(Count::NotOffered),
                not_found: count(Count::NotFound),
                store_unavailable: count(Count::StoreUnavailable),
                declined: count(Count::Declined),
            },
            hello_retries: count(Count::HelloRetry),
            failed: count(Count::Failed),
        }
    }
}
