//! The table that `Stats` is printed as.

use std::fmt;
use std::time::Duration;

use super::{
    AcceptorStats, Evictions, Misses, NotResumed, NotSealed, NotShared, NotStored, Refused, Stats,
    StoreHealth, StoreMisses, StoreStats,
};
use crate::stek::KeyName;

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cache,
            tickets,
            steks,
            store,
            acceptor,
        } = self;
        row(
            f,
            "cache",
            &[
                ("entries", cache.entries),
                ("at most", cache.max_entries),
                ("bytes", cache.bytes),
                ("stored", cache.stored),
                ("hits", cache.hits),
                ("expired", cache.expired),
                ("age unknown", cache.age_unknown),
            ],
        )?;
        let Misses {
            unknown,
            expired,
            other_version,
            malformed,
            not_claimed,
        } = cache.misses;
        row(
            f,
            "cache misses",
            &[
                ("unknown", unknown),
                ("expired", expired),
                ("other version", other_version),
                ("malformed", malformed),
                ("not claimed", not_claimed),
            ],
        )?;
        let Evictions {
            entries,
            bytes,
            forgotten,
            replaced,
        } = cache.evictions;
        row(
            f,
            "evictions",
            &[
                ("entries", entries),
                ("bytes", bytes),
                ("forgotten", forgotten),
                ("replaced", replaced),
            ],
        )?;
        let NotStored {
            no_room,
            too_old,
            malformed,
        } = cache.refused;
        row(
            f,
            "not stored",
            &[
                ("no room", no_room),
                ("too old", too_old),
                ("malformed", malformed),
            ],
        )?;
        row(
            f,
            "tickets",
            &[
                ("sealed", tickets.sealed),
                ("opened", tickets.opened),
                ("age unknown", tickets.age_unknown),
            ],
        )?;
        let Refused {
            unknown_key_name,
            too_long,
            malformed,
            forged,
            wrong_scope,
            expired_key,
            too_old,
            revoked,
        } = tickets.refused;
        row(
            f,
            "refused",
            &[
                ("unknown key name", unknown_key_name),
                ("too long", too_long),
                ("malformed", malformed),
                ("forged", forged),
                ("wrong scope", wrong_scope),
                ("expired key", expired_key),
                ("too old", too_old),
                ("revoked", revoked),
            ],
        )?;
        let NotSealed {
            no_key,
            too_long,
            too_old,
        } = tickets.not_sealed;
        row(
            f,
            "not sealed",
            &[
                ("no key", no_key),
                ("too long", too_long),
                ("too old", too_old),
            ],
        )?;
        row(
            f,
            "STEKs",
            &[
                ("keys", steks.keys),
                ("rotations", steks.rotations),
                ("revocations", steks.revocations),
                ("source failures", steks.source_failures),
            ],
        )?;
        write_store(f, store)?;
        write_acceptor(f, acceptor)?;
        write!(f, "{:<13} {}", "active STEK", Shown(steks.active))?;
        if let Some(age) = steks.active_age {
            write!(f, ", for {}", seconds(age))?;
        }
        if steks.over_age {
            f.write_str(", OVER AGE")?;
        }
        if !steks.source.is_empty() {
            write!(f, ", source {}", steks.source)?;
        }
        if let Some(ago) = steks.source_answered {
            write!(f, ", answered {} ago", seconds(ago))?;
        }
        if steks.fallen_back {
            f.write_str(", FALLEN BACK to local random keys")?;
        }
        match steks.fleet_agrees {
            Some(true) => f.write_str(", the fleet agrees"),
            Some(false) => f.write_str(", the fleet DISAGREES on the schedule"),
            None => Ok(()),
        }
    }
}

fn write_store(f: &mut fmt::Formatter<'_>, store: &StoreStats) -> fmt::Result {
    if store.store.is_empty() {
        return Ok(());
    }
    row(
        f,
        "store",
        &[
            ("shared", store.shared),
            ("claimed", store.claimed),
            ("unused", store.unused),
            ("fetched", store.fetched),
            ("age unknown", store.age_unknown),
        ],
    )?;
    let NotShared {
        fallen_back,
        no_key,
        not_taken,
        too_old,
        malformed,
    } = store.not_shared;
    row(
        f,
        "not shared",
        &[
            ("fallen back", fallen_back),
            ("no key", no_key),
            ("not taken", not_taken),
            ("too old", too_old),
            ("malformed", malformed),
        ],
    )?;
    let StoreMisses {
        not_found,
        timed_out,
        unavailable,
        busy,
        failed,
        malformed,
        unknown_key_name,
        forged,
        expired,
        too_old,
        forgotten,
    } = store.misses;
    row(
        f,
        "store misses",
        &[
            ("not found", not_found),
            ("timed out", timed_out),
            ("unavailable", unavailable),
            ("busy", busy),
            ("failed", failed),
            ("malformed", malformed),
            ("unknown key name", unknown_key_name),
            ("forged", forged),
            ("expired", expired),
            ("too old", too_old),
            ("forgotten", forgotten),
        ],
    )?;
    let StoreHealth {
        written,
        dropped,
        refused,
        unknown,
        connections,
        outages,
        is_down,
    } = store.health;
    row(
        f,
        if is_down { "store DOWN" } else { "store up" },
        &[
            ("written", written),
            ("dropped", dropped),
            ("refused", refused),
            ("unknown", unknown),
            ("connections", connections),
            ("outages", outages),
        ],
    )
}

#[expect(clippy::arithmetic_side_effects, reason = "nobody counts to 2^64")]
fn write_acceptor(f: &mut fmt::Formatter<'_>, acceptor: &AcceptorStats) -> fmt::Result {
    let AcceptorStats {
        resumed,
        early_data,
        full,
        hello_retries,
        failed,
    } = *acceptor;
    if resumed + full.total() + failed == 0 {
        return Ok(()); // no acceptor
    }
    row(
        f,
        "handshakes",
        &[
            ("resumed", resumed),
            ("early data", early_data),
            ("full", full.total()),
            ("failed", failed),
            ("hello retries", hello_retries),
        ],
    )?;
    let NotResumed {
        not_offered,
        not_found,
        store_unavailable,
        declined,
    } = full;
    row(
        f,
        "full because",
        &[
            ("not offered", not_offered),
            ("not found", not_found),
            ("store unavailable", store_unavailable),
            ("declined", declined),
        ],
    )
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, counts: &[(&str, u64)]) -> fmt::Result {
    write!(f, "{name:<13}")?;
    for (i, (what, count)) in counts.iter().enumerate() {
        write!(f, "{} {what} {count}", if i == 0 { "" } else { "," })?;
    }
    writeln!(f)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

struct Shown(Option<KeyName>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => name.fmt(f),
            None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_the_key_and_cries_out_when_fallen_back() {
        let mut stats = Stats::default();
        stats.steks.active = Some(KeyName::from_bytes([0xab; 16]));
        stats.steks.active_age = Some(Duration::from_millis(1_500));
        stats.steks.source = "redis";
        stats.steks.fallen_back = true;
        stats.tickets.refused.forged = 3;
        let table = stats.to_string();
        assert!(
            table.contains("refused       unknown key name 0, too long 0, malformed 0, forged 3")
        );
        assert!(table.ends_with(
            "active STEK   abababababababababababababababab, for 1.5 s, source redis, FALLEN BACK to local random keys"
        ));
        stats.steks.over_age = true;
        assert!(
            stats
                .to_string()
                .contains(", for 1.5 s, OVER AGE, source redis")
        );
    }
}
