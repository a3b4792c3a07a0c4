use std::time::Duration;

use super::Trouble;
use super::declare::declare;
use crate::stek::KeyName;

declare! {
    /// The state of a [`StekRing`](crate::StekRing).
    pub struct StekStats, shown as "STEKs" {
        states {
            /// The active STEK: the one that seals now, if any.
            active: Option<KeyName> {
                "resumption_stek_active", "1 if a STEK is active.", Value::flag(active.is_some());
                "resumption_stek_active_key",
                    "First 48 bits of the active STEK's name: nodes that agree show the same number.",
                    active.map_or(Value::Gauge(f64::NAN), |name| Value::key(&name));
            }
            /// Whether the source has answered and a STEK seals, as
            /// [`Resumption::ready`](crate::Resumption::ready) has it.
            is_ready: bool {
                "resumption_stek_ready", "1 if the source has answered and a STEK seals.",
                    Value::flag(is_ready);
            }
            /// How long it has been active, by its window. That of the first STEK of a shared source
            /// begins in the past, by [`publish_ahead`](crate::Rotation::publish_ahead) or half an
            /// interval, so that nodes whose clocks are behind can start with it.
            active_age: Option<Duration> {
                "resumption_stek_active_age_seconds",
                    "How long the active STEK has been active; NaN if unknown.",
                    Value::seconds(active_age, f64::NAN);
            }
            /// Whether that is longer than the schedule's interval, so that its supplier should
            /// replace it. Until then it stays in use.
            over_age: bool {
                "resumption_stek_over_age",
                    "1 if the active STEK is older than the interval and should be replaced.",
                    Value::flag(over_age);
            }
            /// The schedule's interval: how long each STEK seals. `None` without a ring.
            interval: Option<Duration> {
                "resumption_stek_interval_seconds",
                    "The schedule's interval: how long each STEK seals.",
                    Value::seconds(interval, f64::NAN);
            }
            /// STEKs held, including published and retired ones.
            keys: u64, shown as "keys" {
                "resumption_stek_keys", "STEKs held, including published and retired ones.",
                    Value::number(keys);
            }
            /// Whether aws-lc's FIPS module does all of this crate's cryptography, as
            /// [`Resumption::fips`](crate::Resumption::fips) has it.
            fips: bool {
                "resumption_stek_fips", "1 if aws-lc's FIPS module does all cryptography.",
                    Value::flag(fips);
            }
            /// The name of the source they come from; empty without a ring.
            source: &'static str {
                "resumption_stek_source_info",
                    "Always 1; the label names the source that STEKs come from.",
                    Value::Gauge(1.0), label "source" = source;
            }
            /// How often the source is polled, unless it fails. `None` without a ring.
            poll_interval: Option<Duration> {
                "resumption_stek_source_poll_seconds",
                    "How often the source is polled, unless it fails.",
                    Value::seconds(poll_interval, f64::NAN);
            }
            /// How long ago the source last answered; `None` if it never did.
            source_answered: Option<Duration> {
                "resumption_stek_source_answer_age_seconds",
                    "How long ago the source last answered; +Inf if it never did.",
                    Value::seconds(source_answered, f64::INFINITY);
            }
            /// Whether the source has not answered in time. A late answer is used when it comes.
            source_late: bool {
                "resumption_stek_source_late",
                    "1 if the source has not answered in time.",
                    Value::flag(source_late);
            }
            /// What last went wrong with the source.
            last_trouble: Option<Trouble> {}
            /// Whether tickets are sealed with local random STEKs, because the source has no active
            /// one.
            fallen_back: bool {
                "resumption_stek_fallen_back",
                    "1 if local random STEKs seal, because the source has no active one.",
                    Value::flag(fallen_back);
            }
            /// Whether the other users of the source have the same schedule, where it can tell.
            /// `None` also while the source does not answer.
            fleet_agrees: Option<bool> {
                "resumption_stek_fleet_agrees",
                    "1 if the other users of the source have the same schedule; NaN if unknown.",
                    fleet_agrees.map_or(Value::Gauge(f64::NAN), Value::flag);
            }
        }
        counters {
            /// How often another STEK became active.
            rotations: "resumption_stek_rotations_total";
            /// STEKs revoked on this node, each once.
            /// One that it does not hold counts as well: it may come yet.
            revocations: "resumption_stek_revocations_total";
            /// How often the source failed to answer.
            /// One that is late has failed, and is not counted again whatever it answers then.
            source_failures: "resumption_stek_source_failures_total";
            /// How often more was revoked or forgotten than a shared source can remember.
            /// What is as old as the oldest of it was then withdrawn too.
            overflows: "resumption_stek_overflows_total";
        }
        reasons {}
    }
}
