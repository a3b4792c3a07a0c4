//! What [`Stats`] consists of.

// Each value is declared once, in the file of its group: `stats/declare.rs` says how, and what is
// made of it.

use std::fmt;
use std::time::Duration;

mod acceptor;
mod cache;
mod client_auth;
mod declare;
mod held_stek;
mod housekeeper;
#[cfg(feature = "serde")]
mod json;
pub(crate) mod metrics;
#[cfg(feature = "metrics")]
mod sample;
mod steks;
mod store;
mod table;
mod tickets;
mod trouble;

pub(crate) use acceptor::HandshakeCount;
pub use acceptor::{AcceptorStats, CannotResume, NotResumed};
pub(crate) use cache::CacheCount;
pub use cache::{CacheStats, Evictions, Misses, NotStored};
pub(crate) use client_auth::ClientAuthCount;
pub use client_auth::{ClientAuthStats, ClientRefused};
pub use held_stek::{HeldStek, StekState};
pub use housekeeper::HousekeeperStats;
#[cfg(feature = "metrics")]
use sample::Sample;
pub use steks::StekStats;
pub(crate) use store::StoreCount;
pub use store::{NotShared, StoreHealth, StoreMisses, StoreStats, StoreTrouble};
use table::{Row, write_title};
pub(crate) use tickets::TicketCount;
pub use tickets::{NotSealed, Refused, TicketStats};
pub use trouble::Trouble;

/// What resumption has done since it was set up, and the state it is in: one snapshot.
///
/// Within a process counters only grow; in a forked child those of the cache and of tickets begin
/// anew. Taking a snapshot sums per-thread and per-shard counters, which takes some
/// microseconds and does not delay handshakes. Printed with `{}` it is a table for people; with the
/// feature `serde` it serializes, times in seconds and key names as they are shown.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// The session cache.
    pub cache: CacheStats,
    /// The tickets made and opened.
    pub tickets: TicketStats,
    /// The ring of STEKs, and where they come from.
    pub steks: StekStats,
    /// The shared store of sessions.
    pub store: StoreStats,
    /// The client certificates of sessions that were offered.
    pub client_auth: ClientAuthStats,
    /// The handshakes that were [followed](crate::Resumption::follow).
    pub acceptor: AcceptorStats,
    /// Housekeeping.
    pub housekeeper: HousekeeperStats,
}

impl Stats {
    /// Every metric with its value. What is not set up has none, so that nobody is alarmed that no
    /// STEK seals in stateful mode.
    #[cfg(feature = "metrics")]
    fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        self.cache.samples(&mut samples);
        self.tickets.samples(&mut samples);
        if !self.steks.source.is_empty() {
            self.steks.samples(&mut samples);
        }
        if !self.store.store.is_empty() {
            self.store.samples(&mut samples);
            self.store.health.samples(&mut samples);
        }
        self.client_auth.samples(&mut samples);
        // Without an acceptor the numbers are unknown, not zero.
        if self.acceptor != AcceptorStats::default() {
            self.acceptor.samples(&mut samples);
        }
        if self.housekeeper.last_run.is_some() {
            self.housekeeper.samples(&mut samples);
        }
        samples
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = [self.cache.rows(), self.tickets.rows(), self.steks.rows()].concat();
        if !self.store.store.is_empty() {
            rows.extend(self.store.rows());
            let health = &self.store.health;
            let title = if health.is_down {
                "store DOWN"
            } else {
                "store up"
            };
            rows.extend(health.rows().into_iter().map(|row| Row { title, ..row }));
        }
        if self.client_auth != ClientAuthStats::default() {
            rows.extend(self.client_auth.rows());
        }
        if self.acceptor != AcceptorStats::default() {
            rows.extend(self.acceptor.rows());
        }
        if self.housekeeper.lost > 0 {
            rows.extend(self.housekeeper.rows());
        }
        rows
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Stats {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;

        let mut stats = serializer.serialize_struct("Stats", 7)?;
        stats.serialize_field("cache", &self.cache)?;
        stats.serialize_field("tickets", &self.tickets)?;
        stats.serialize_field("steks", &self.steks)?;
        stats.serialize_field("store", &self.store)?;
        stats.serialize_field("client_auth", &self.client_auth)?;
        stats.serialize_field("acceptor", &self.acceptor)?;
        stats.serialize_field("housekeeper", &self.housekeeper)?;
        stats.end()
    }
}

/// Housekeeping that was last done so long ago is late.
const HOUSEKEEPING_IS_LATE: Duration = Duration::from_secs(5);

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in self.rows() {
            write!(f, "{row}")?;
        }
        if let Some(trouble) = self.store.health.trouble {
            write_title(f, "store trouble")?;
            writeln!(f, " {trouble}")?;
        }
        if let Some(trouble) = &self.store.health.last_trouble {
            write_title(f, "last trouble")?;
            writeln!(f, " of the store: {trouble}")?;
        }
        if let Some(trouble) = &self.steks.last_trouble {
            write_title(f, "last trouble")?;
            writeln!(f, " of the STEK source: {trouble}")?;
        }
        write_title(f, "active STEK")?;
        let steks = &self.steks;
        match steks.active {
            Some(name) => write!(f, " {name}")?,
            None => f.write_str(" none")?,
        }
        if let Some(age) = steks.active_age {
            write!(f, ", its window began {:.1} s ago", age.as_secs_f64())?;
        }
        if steks.over_age {
            f.write_str(", OVER AGE")?;
        }
        if !steks.source.is_empty() {
            write!(f, ", source {}", steks.source)?;
        }
        if let Some(ago) = steks.source_answered {
            write!(f, ", answered {:.1} s ago", ago.as_secs_f64())?;
        } else if !steks.source.is_empty() {
            f.write_str(", NOT READY: has never answered")?;
        }
        if steks.source_late {
            f.write_str(", LATE")?;
        }
        if steks.fallen_back {
            f.write_str(", FALLEN BACK to local random keys")?;
        }
        match steks.fleet_agrees {
            Some(true) => f.write_str(", the fleet agrees")?,
            Some(false) => f.write_str(", the fleet DISAGREES on the schedule")?,
            None => {}
        }
        match self.housekeeper.age {
            Some(age) if age > HOUSEKEEPING_IS_LATE => {
                write!(f, ", LAST HOUSEKEEPING {:.1} s ago", age.as_secs_f64())
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stek::KeyName;

    #[test]
    fn the_table_shows_the_active_key_and_a_fallback() {
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
            "active STEK   abababababababababababababababab, its window began 1.5 s ago, source redis, NOT READY: has never answered, FALLEN BACK to local random keys"
        ));
        stats.steks.source_answered = Some(Duration::ZERO);
        assert!(!stats.to_string().contains("NOT READY"));
        stats.steks.over_age = true;
        assert!(
            stats
                .to_string()
                .contains(", its window began 1.5 s ago, OVER AGE, source redis")
        );
    }

    #[test]
    fn the_table_shows_a_store_and_certificates_and_accepting_where_there_are_any() {
        let mut stats = Stats::default();
        let shown = |stats: &Stats, title: &str| stats.to_string().contains(title);
        let titles = ["\nstore up", "\nclient auth", "\nhandshakes"];
        assert!(!titles.iter().any(|title| shown(&stats, title)), "{stats}");
        stats.store.store = "redis";
        stats.client_auth.verified = 1;
        stats.acceptor.resumed = 1;
        assert!(titles.iter().all(|title| shown(&stats, title)), "{stats}");
        stats.store.health.is_down = true;
        assert!(shown(&stats, "store DOWN") && !shown(&stats, "store up"));
    }

    #[test]
    fn the_table_tells_of_housekeeping_that_is_late_or_was_lost() {
        let mut stats = Stats::default();
        let [late, lost] = ["LAST HOUSEKEEPING", "housekeep"];
        for (age, is_late) in [
            (None, false),
            (Some(HOUSEKEEPING_IS_LATE), false),
            (Some(HOUSEKEEPING_IS_LATE + Duration::from_millis(1)), true),
        ] {
            stats.housekeeper.age = age;
            assert_eq!(stats.to_string().contains(late), is_late, "{age:?}");
        }
        assert!(!stats.to_string().contains(lost));
        stats.housekeeper.lost = 1;
        assert!(stats.to_string().contains(lost), "{stats}");
    }
}
