//! The feature `metrics`: what a recorder of the `metrics` facade sees.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use parking_lot::{Condvar, Mutex};
use rustls::version::TLS12;
use rustls_resumption::source::{SourceKey, source_fn};
use rustls_resumption::{FakeClock, Resumption};
use test_support::alone::alone;
use test_support::handshake::{RESUMED, client, handshake, kind, server_config};

/// The last value under each name with its labels.
#[derive(Clone, Default)]
struct Board(Arc<Shared>);

#[derive(Default)]
struct Shared {
    values: Mutex<BTreeMap<String, f64>>,
    units: Mutex<BTreeMap<String, Unit>>,
    changed: Condvar,
}

impl Board {
    fn value(&self, name: &str) -> Option<f64> {
        self.0.values.lock().get(name).copied()
    }

    /// Waits until a value is as wanted.
    fn wait(&self, name: &str, wanted: impl Fn(f64) -> bool) {
        let mut values = self.0.values.lock();
        while !values.get(name).is_some_and(|value| wanted(*value)) {
            let timeout = Duration::from_secs(30);
            let waited = self.0.changed.wait_for(&mut values, timeout);
            assert!(!waited.timed_out(), "{name}: {:?}", values.get(name));
        }
    }

    fn cell(&self, key: &Key) -> Arc<Cell> {
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let name = match labels.is_empty() {
            true => key.name().to_owned(),
            false => format!("{}{{{}}}", key.name(), labels.join(",")),
        };
        Arc::new(Cell {
            name,
            board: self.clone(),
        })
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>) {
        let name = name.as_str().to_owned();
        self.0.units.lock().insert(name, unit.unwrap());
    }
}

struct Cell {
    name: String,
    board: Board,
}

impl Cell {
    fn put(&self, change: impl FnOnce(f64) -> f64) {
        let mut values = self.board.0.values.lock();
        let value = values.entry(self.name.clone()).or_default();
        *value = change(*value);
        self.board.0.changed.notify_all();
    }
}

impl CounterFn for Cell {
    fn increment(&self, by: u64) {
        self.put(|value| value + by as f64);
    }

    fn absolute(&self, to: u64) {
        self.put(|value| value.max(to as f64));
    }
}

impl GaugeFn for Cell {
    fn increment(&self, by: f64) {
        self.put(|value| value + by);
    }

    fn decrement(&self, by: f64) {
        self.put(|value| value - by);
    }

    fn set(&self, to: f64) {
        self.put(|_| to);
    }
}

/// Counts how often something was measured.
impl HistogramFn for Cell {
    fn record(&self, seconds: f64) {
        assert!((0.0..60.0).contains(&seconds));
        self.put(|count| count + 1.0);
    }
}

impl Recorder for Board {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.cell(key))
    }
}

/// The recorder of this process, as a timer thread sees it.
static GLOBAL: LazyLock<Board> = LazyLock::new(|| {
    let board = Board::default();
    metrics::set_global_recorder(board.clone()).unwrap_or_else(|_| panic!("one recorder"));
    board
});

#[test]
fn the_timer_publishes_what_handshakes_did() {
    alone(|| {
        let board = &*GLOBAL;
        let resumption = Resumption::builder()
            .metrics_label("test", "timer")
            .build()
            .unwrap();
        let mut config = server_config();
        resumption.install(&mut config, "api");
        let (client, server) = (client(&TLS12), Arc::new(config));
        handshake(&client, &server);
        assert_eq!(kind(&client, &server), RESUMED);
        board.wait("resumption_tickets_opened_total{test=timer}", |n| n == 1.0);
        board.wait("resumption_tickets_sealed_total{test=timer}", |n| n == 2.0);
        board.wait("resumption_stek_active{test=timer}", |n| n == 1.0);
        assert!(resumption.shutdown(Duration::from_secs(30)));
        // Shutting down tells what is left.
        let active = board.value("resumption_stek_active{test=timer}");
        assert_eq!(active, Some(0.0));
    });
}

#[test]
fn a_label_distinguishes_two_resumptions_of_a_process() {
    let board = Board::default();
    let make = |name: &str, entries| {
        let builder = Resumption::builder().metrics_label("service", name);
        builder.cache_entries(entries).manual_stepping().build()
    };
    metrics::with_local_recorder(&board, || {
        make("a", 100).unwrap().publish_metrics();
        make("b", 200).unwrap().publish_metrics();
    });
    let entries = |name| board.value(&format!("resumption_cache_max_entries{{service={name}}}"));
    assert_eq!((entries("a"), entries("b")), (Some(100.0), Some(200.0)));
}

#[test]
fn units_are_told_and_unknown_times_are_not_zero() {
    let board = Board::default();
    let time = FakeClock::new();
    let dead = source_fn("vault", |_| Err("sealed".into()));
    metrics::with_local_recorder(&board, || {
        let builder = Resumption::builder().stek_source(dead).clock(time.clock());
        builder.build().unwrap().publish_metrics();
    });
    let value = |name| board.value(name).unwrap();
    assert!(value("resumption_stek_source_answer_age_seconds").is_infinite());
    assert!(value("resumption_stek_fleet_agrees").is_nan());
    assert_eq!(value("resumption_stek_fallen_back"), 1.0);
    assert_eq!(value("resumption_stek_source_info{source=vault}"), 1.0);
    assert!(value("resumption_stek_source_failures_total") >= 1.0);
    let units = board.0.units.lock();
    assert_eq!(units["resumption_cache_bytes"], Unit::Bytes);
    assert_eq!(units["resumption_stek_active_age_seconds"], Unit::Seconds);
    assert_eq!(units["resumption_stek_source_seconds"], Unit::Seconds);
    assert_eq!(units["resumption_cache_hits_total"], Unit::Count);
}

#[test]
fn the_latency_of_a_shared_source_is_measured() {
    let board = Board::default();
    let time = FakeClock::new();
    let secret: Vec<u8> = (0..32).collect();
    let source = source_fn("vault", move |query| {
        Ok(vec![SourceKey::sealing(query.stek(&secret)?)])
    });
    metrics::with_local_recorder(&board, || {
        let builder = Resumption::builder()
            .stek_source(source)
            .clock(time.clock());
        let resumption = builder.build().unwrap();
        time.advance(Duration::from_secs(5));
        resumption.step();
    });
    let answers = board.value("resumption_stek_source_seconds{source=vault}");
    assert_eq!(answers, Some(2.0));
}

#[test]
fn a_step_publishes() {
    let board = Board::default();
    let time = FakeClock::new();
    metrics::with_local_recorder(&board, || {
        let builder = Resumption::builder().clock(time.clock());
        let resumption = builder.build().unwrap();
        assert_eq!(board.value("resumption_stek_active"), None);
        resumption.step();
    });
    assert_eq!(board.value("resumption_stek_active"), Some(1.0));
}
