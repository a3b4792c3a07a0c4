//! Everything in [`Stats`] through the `metrics` facade, under names that follow the conventions of
//! Prometheus.
//!
//! Handshakes pay nothing for it: they add to the counters they always had, and the housekeeping
//! thread reads those once a second.

#[cfg(feature = "metrics")]
pub(crate) use facade::Publisher;
#[cfg(not(feature = "metrics"))]
pub(crate) use nothing::Publisher;

#[cfg(feature = "metrics")]
mod facade {
    use std::time::Duration;

    use ::metrics::{
        Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
        histogram,
    };

    use crate::stats::Stats;
    use crate::stats::sample::Value;

    /// How long a source took to answer: the one thing measured where it happens.
    pub(super) const SOURCE_SECONDS: &str = "resumption_stek_source_seconds";
    pub(super) const SOURCE_SECONDS_HELP: &str = "How long a shared STEK source took to answer.";

    /// Publishes the stats of one [`Resumption`](crate::Resumption).
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Publisher {
        labels: Vec<Label>,
    }

    impl Publisher {
        pub(crate) fn add_label(&mut self, key: String, value: String) {
            self.labels.push(Label::new(key, value));
        }

        /// Describes each time too: a recorder may be installed at any time, and it keeps the
        /// first.
        pub(crate) fn publish(&self, stats: impl FnOnce() -> Stats) {
            for sample in stats().samples() {
                let labels = self.with(sample.label);
                let (name, help, unit) = (sample.name, sample.help, unit(sample.name));
                match sample.value {
                    Value::Counter(value) => {
                        describe_counter!(name, unit, help);
                        counter!(name, labels).absolute(value);
                    }
                    Value::Gauge(value) => {
                        describe_gauge!(name, unit, help);
                        gauge!(name, labels).set(value);
                    }
                }
            }
        }

        pub(crate) fn source_answered(&self, source: &'static str, took: Duration) {
            describe_histogram!(SOURCE_SECONDS, Unit::Seconds, SOURCE_SECONDS_HELP);
            histogram!(SOURCE_SECONDS, self.with(Some(("source", source)))).record(took);
        }

        fn with(&self, label: Option<(&'static str, &'static str)>) -> Vec<Label> {
            let label = label.map(|(key, value)| Label::from_static_parts(key, value));
            self.labels.iter().cloned().chain(label).collect()
        }
    }

    /// Names say their unit, as Prometheus wants it.
    fn unit(name: &str) -> Unit {
        match name.rsplit('_').next() {
            Some("bytes") => Unit::Bytes,
            Some("seconds") => Unit::Seconds,
            _ => Unit::Count,
        }
    }
}

/// Stands in without the feature `metrics`, so that callers need no `cfg`.
#[cfg(not(feature = "metrics"))]
mod nothing {
    use std::time::Duration;

    use crate::stats::Stats;

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Publisher {}

    impl Publisher {
        pub(crate) fn publish(&self, _stats: impl FnOnce() -> Stats) {}

        pub(crate) fn source_answered(&self, _name: &'static str, _took: Duration) {}
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::{Duration, SystemTime};

    use super::facade::{SOURCE_SECONDS, SOURCE_SECONDS_HELP};
    use crate::stats::Stats;
    use crate::stats::sample::{Sample, Value};
    use crate::{FakeClock, Resumption};

    const PAGE: &str = include_str!("../docs/operating.md");

    /// Every metric that is declared, whatever is set up.
    fn declared() -> Vec<Sample> {
        let mut stats = Stats::default();
        stats.steks.source = "random";
        stats.store.store = "redis";
        stats.acceptor.resumed = 1;
        stats.housekeeper.last_run = Some(SystemTime::UNIX_EPOCH);
        stats.samples()
    }

    /// A row for each metric: name, type, labels, meaning.
    fn table() -> String {
        let mut labels: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut rows: Vec<(&str, &str, &str)> = Vec::new();
        for sample in declared() {
            let kind = match sample.value {
                Value::Counter(_) => "counter",
                Value::Gauge(_) => "gauge",
            };
            if rows.last().is_none_or(|(name, ..)| *name != sample.name) {
                rows.push((sample.name, kind, sample.help));
            }
            match sample.label {
                Some((key @ ("source" | "store"), _)) => {
                    labels.insert(sample.name, vec![format!("`{key}`")])
                }
                Some((key, value)) => {
                    let cell = labels.entry(sample.name);
                    let cell = cell.or_insert_with(|| vec![format!("`{key}`:")]);
                    cell.push(value.into());
                    None
                }
                None => None,
            };
        }
        rows.push((SOURCE_SECONDS, "histogram", SOURCE_SECONDS_HELP));
        labels.insert(SOURCE_SECONDS, vec!["`source`".into()]);
        let mut table =
            String::from("| metric | type | labels | what |\n| --- | --- | --- | --- |\n");
        for (name, kind, help) in rows {
            let labels = labels
                .get(name)
                .map_or_else(String::new, |cell| cell.join(" "));
            table += &format!("| `{name}` | {kind} | {labels} | {help} |\n");
        }
        table
    }

    #[test]
    fn the_page_operating_lists_every_metric_as_it_is() {
        let table = table();
        assert!(PAGE.contains(&table), "put this there:\n{table}");
    }

    #[test]
    fn the_page_operating_names_no_metric_that_does_not_exist() {
        let mut names: BTreeSet<_> = declared().iter().map(|sample| sample.name).collect();
        names.insert(SOURCE_SECONDS);
        let words = PAGE.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let mut named = 0;
        for word in words.filter(|word| word.starts_with("resumption_")) {
            assert!(names.contains(word), "{word}");
            named += 1;
        }
        assert!(named > names.len(), "the text names some, too");
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        let mut seen = BTreeSet::new();
        for sample in declared() {
            let name = sample.name;
            assert!(name.starts_with("resumption_"), "{name}");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{name}"
            );
            let is_counter = matches!(sample.value, Value::Counter(_));
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            assert!(sample.help.ends_with('.'), "{name}");
            assert!(seen.insert((name, sample.label)), "{name} twice");
        }
        assert!(seen.len() > 40);
    }

    #[test]
    fn values_are_those_of_the_stats() {
        let time = FakeClock::new();
        let resumption = Resumption::builder().clock(time.clock()).build().unwrap();
        time.advance(Duration::from_secs(90));
        let stats = resumption.stats();
        let samples = stats.samples();
        let value = |name: &str| {
            let sample = samples.iter().find(|sample| sample.name == name);
            sample.unwrap_or_else(|| panic!("{name}")).value
        };
        let name = stats.steks.active.unwrap().to_string();
        let number = u64::from_str_radix(&name[..12], 16).unwrap();
        for (name, expected) in [
            ("resumption_stek_active", Value::Gauge(1.0)),
            ("resumption_stek_active_key", Value::Gauge(number as f64)),
            ("resumption_stek_active_age_seconds", Value::Gauge(90.0)),
            ("resumption_stek_interval_seconds", Value::Gauge(3_600.0)),
            (
                "resumption_stek_source_answer_age_seconds",
                Value::Gauge(90.0),
            ),
            ("resumption_stek_rotations_total", Value::Counter(0)),
            ("resumption_cache_max_entries", Value::Gauge(20_000.0)),
        ] {
            assert_eq!(value(name), expected, "{name}");
        }
        assert!(matches!(value("resumption_stek_fleet_agrees"), Value::Gauge(v) if v.is_nan()));
    }

    #[test]
    fn without_a_ring_there_are_no_metrics_of_steks() {
        let samples = Resumption::stateful(10).unwrap().stats().samples();
        let is_about_steks = |sample: &&Sample| sample.name.starts_with("resumption_stek");
        assert_eq!(samples.iter().filter(is_about_steks).count(), 0);
        assert!(!samples.is_empty());
    }

    #[test]
    fn without_an_acceptor_there_are_no_metrics_of_handshakes() {
        let mut stats = Resumption::stateful(10).unwrap().stats();
        let is_about_handshakes = |stats: &Stats| {
            let samples = stats.samples();
            let names = samples.iter().map(|sample| sample.name);
            names
                .filter(|name| name.starts_with("resumption_handshakes"))
                .count()
        };
        assert_eq!(is_about_handshakes(&stats), 0);
        stats.acceptor.full.not_offered = 1;
        assert!(is_about_handshakes(&stats) > 5);
    }
}
