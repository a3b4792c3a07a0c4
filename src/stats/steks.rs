use std::time::Duration;

use super::declare::declare;
use crate::stek::KeyName;

declare! {
    /// The state of a [`StekRing`](crate::StekRing).
    pub struct StekStats, shown as "STEKs" {
        states {
            /// The STEK that seals now, if one does.
            active: Option<KeyName> {
                "resumption_stek_active", "1 if a STEK seals.", Value::flag(active.is_some());
                "resumption_stek_active_key",
                    "First 48 bits of the active STEK's name: nodes that agree show the same number.",
                    active.map_or(Value::Gauge(f64::NAN), |name| Value::key(&name));
            }
            /// How long it has been sealing.
            active_age: Option<Duration> {
                "resumption_stek_active_age_seconds",
                    "How long the active STEK has been sealing; NaN if that is not known.",
                    Value::seconds(active_age, f64::NAN);
            }
            /// Whether that is longer than the schedule's interval: whoever supplies the STEK
            /// should replace it. It is kept.
            over_age: bool {
                "resumption_stek_over_age",
                    "1 if the active STEK is older than the interval: its supplier should replace it.",
                    Value::flag(over_age);
            }
            /// How long each STEK is to seal, by the schedule; `None` without a ring.
            interval: Option<Duration> {
                "resumption_stek_interval_seconds", "How long each STEK is to seal.",
                    Value::seconds(interval, f64::NAN);
            }
            /// STEKs held, including published and retired ones.
            keys: u64, shown as "keys" {
                "resumption_stek_keys", "STEKs held, including published and retired ones.",
                    Value::number(keys);
            }
            /// The name of the source they come from; empty without a ring.
            source: &'static str {
                "resumption_stek_source_info",
                    "Always 1; the label names the source that STEKs come from.",
                    Value::Gauge(1.0), label "source" = source;
            }
            /// How often the source is asked, unless it fails; `None` without a ring.
            poll_interval: Option<Duration> {
                "resumption_stek_source_poll_seconds",
                    "How often the source is asked, unless it fails.",
                    Value::seconds(poll_interval, f64::NAN);
            }
            /// How long ago the source last answered; `None` if it never did.
            source_answered: Option<Duration> {
                "resumption_stek_source_answer_age_seconds",
                    "How long ago the source last answered; +Inf if it never did.",
                    Value::seconds(source_answered, f64::INFINITY);
            }
            /// Whether the source has been asked and has not answered in time. A late answer is
            /// taken when it comes.
            source_late: bool {
                "resumption_stek_source_late",
                    "1 if the source was asked and has not answered in time.",
                    Value::flag(source_late);
            }
            /// Whether local random STEKs seal because the source has no active one.
            fallen_back: bool {
                "resumption_stek_fallen_back",
                    "1 if local random STEKs seal because the source has no active one.",
                    Value::flag(fallen_back);
            }
            /// Whether the other users of the source keep the same schedule, where it can tell.
            fleet_agrees: Option<bool> {
                "resumption_stek_fleet_agrees",
                    "1 if the other users of the source keep the same schedule; NaN if it cannot tell.",
                    fleet_agrees.map_or(Value::Gauge(f64::NAN), Value::flag);
            }
        }
        counters {
            /// How often another STEK became the one that seals.
            rotations: "resumption_stek_rotations_total";
            /// STEKs revoked on this node.
            revocations: "resumption_stek_revocations_total";
            /// How often the source failed to answer.
            source_failures: "resumption_stek_source_failures_total";
            /// How often more was revoked or forgotten than a shared source can remember.
            /// What is as old as the oldest of it was then withdrawn too.
            overflows: "resumption_stek_overflows_total";
        }
        reasons {}
    }
}
