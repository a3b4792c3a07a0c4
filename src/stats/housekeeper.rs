use std::time::{Duration, SystemTime};

use super::declare::declare;

declare! {
    /// The state of housekeeping, which expires keys and sessions in time.
    pub struct HousekeeperStats, shown as "housekeeper" {
        states {
            /// How long ago it last ran: about a second at most when all is well. `None` for a
            /// cache or ring used alone.
            age: Option<Duration> {}
            /// When that was.
            last_run: Option<SystemTime> {
                // A time, not an age: a value that is no longer published must not look fresh.
                "resumption_housekeeper_last_run_timestamp_seconds",
                    "When housekeeping last ran, in seconds since 1970.",
                    Value::timestamp(last_run);
            }
        }
        counters {
            /// Log events and publications of metrics that were lost.
            /// The subscriber or recorder panicked, or too many waited for one that hangs.
            lost: "resumption_housekeeper_lost_total";
        }
        reasons {}
    }
}
