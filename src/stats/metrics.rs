//! Everything in [`Stats`] through the `metrics` facade, under names as Prometheus wants them.
//!
//! Handshakes pay nothing for it: they add to the counters they always had, and the timer thread
//! reads those once a second.

use std::time::{Duration, Instant};

use ::metrics::{
    Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::stats::Stats;

mod samples;

use samples::{Value, samples};

/// How often the timer publishes.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a source took to answer: the one thing measured where it happens.
const SOURCE_SECONDS: &str = "resumption_stek_source_seconds";
const SOURCE_SECONDS_HELP: &str =
    "How long a shared STEK source took to answer, on the timer thread.";

/// Publishes the stats of one [`Resumption`](crate::Resumption).
#[derive(Clone, Debug, Default)]
pub(crate) struct Publisher {
    labels: Vec<Label>,
    published: Option<Instant>,
}

impl Publisher {
    pub(crate) fn add_label(&mut self, key: String, value: String) {
        self.labels.push(Label::new(key, value));
    }

    pub(crate) fn publish_if_due(&mut self, stats: impl FnOnce() -> Stats) {
        if self.published.is_none_or(|at| at.elapsed() >= INTERVAL) {
            self.published = Some(Instant::now());
            self.publish(stats);
        }
    }

    /// Describes each time too: a recorder may be installed at any time, and it keeps the first.
    pub(crate) fn publish(&self, stats: impl FnOnce() -> Stats) {
        for sample in samples(&stats()) {
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{FakeClock, Resumption};

    /// A row a metric: name, type, labels, meaning.
    fn table() -> String {
        let mut stats = Stats::default();
        stats.steks.source = "random";
        stats.store.store = "redis";
        let mut labels: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut rows: Vec<(&str, &str, &str)> = Vec::new();
        for sample in samples(&stats) {
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
        let page = include_str!("../docs/operating.md");
        let table = table();
        assert!(page.contains(&table), "put this there:\n{table}");
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let mut seen = BTreeSet::new();
        let mut stats = Stats::default();
        stats.steks.source = "random";
        stats.store.store = "redis";
        for sample in samples(&stats) {
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
        let samples = samples(&stats);
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
    fn without_a_ring_there_is_nothing_to_say_of_steks() {
        let samples = samples(&Resumption::stateful(10).unwrap().stats());
        let is_about_steks = |sample: &&samples::Sample| sample.name.starts_with("resumption_stek");
        assert_eq!(samples.iter().filter(is_about_steks).count(), 0);
        assert!(!samples.is_empty());
    }
}
