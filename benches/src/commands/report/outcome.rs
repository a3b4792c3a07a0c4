use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::{Histogram, RecordError};

use benches::bars::{Bar, Panel};

use super::crowd::Visits;
use super::server::{Kind, Usage};

/// The result for one server.
pub(crate) struct Outcome {
    visits: u64,
    returning: u64,
    resumed: u64,
    lasted: Duration,
    latencies_us: Histogram<u64>,
    used: Usage,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            visits: 0,
            returning: 0,
            resumed: 0,
            lasted: Duration::ZERO,
            latencies_us: Histogram::new(3).expect("three digits are allowed"),
            used: Usage::default(),
        }
    }
}

impl Outcome {
    pub(crate) fn add_visits(&mut self, visits: Visits) -> Result<(), RecordError> {
        self.lasted += visits.lasted;
        for visit in visits.visits {
            self.visits += 1;
            self.returning += u64::from(visit.returns);
            self.resumed += u64::from(visit.resumed);
            self.latencies_us.record(visit.latency.as_micros() as u64)?;
        }
        Ok(())
    }

    pub(crate) fn add_usage(&mut self, before: Usage, after: Usage) {
        self.used.cpu += after.cpu - before.cpu;
        self.used.sent += after.sent - before.sent;
        self.used.memory = after.memory;
    }

    fn resumed_percent(&self) -> f64 {
        100.0 * self.resumed as f64 / self.returning.max(1) as f64
    }

    fn cpu_us(&self) -> f64 {
        self.used.cpu.as_secs_f64() * 1e6 / self.visits.max(1) as f64
    }

    fn a_second(&self) -> f64 {
        self.visits as f64 / self.lasted.as_secs_f64()
    }

    fn latency_us(&self, percentile: f64) -> f64 {
        self.latencies_us.value_at_percentile(percentile) as f64
    }

    fn sent(&self) -> f64 {
        self.used.sent as f64 / self.visits.max(1) as f64
    }

    fn memory_mib(&self) -> f64 {
        self.used.memory as f64 / f64::from(1 << 20)
    }
}

struct Column {
    title: &'static str,
    value: fn(&Outcome) -> f64,
    digits: usize,
}

const COLUMNS: [Column; 7] = [
    Column {
        title: "returning\nclients\nresumed, %",
        value: Outcome::resumed_percent,
        digits: 1,
    },
    Column {
        title: "server CPU\nper connection,\nµs",
        value: Outcome::cpu_us,
        digits: 0,
    },
    Column {
        title: "connections\na second",
        value: Outcome::a_second,
        digits: 0,
    },
    Column {
        title: "handshake\np50, µs",
        value: |outcome| outcome.latency_us(50.0),
        digits: 0,
    },
    Column {
        title: "handshake\np99, µs",
        value: |outcome| outcome.latency_us(99.0),
        digits: 0,
    },
    Column {
        title: "bytes sent\nper handshake",
        value: Outcome::sent,
        digits: 0,
    },
    Column {
        title: "server's\nmemory, MiB",
        value: Outcome::memory_mib,
        digits: 1,
    },
];

/// One row per server.
pub(crate) fn table(outcomes: &[(Kind, Outcome)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([""].into_iter().chain(COLUMNS.map(|column| column.title)));
    for (kind, outcome) in outcomes {
        let figures = COLUMNS.map(|column| column.show(outcome));
        table.add_row([kind.name().to_owned()].into_iter().chain(figures));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// One panel per column.
pub(crate) fn panels(outcomes: &[(Kind, Outcome)]) -> Vec<Panel> {
    let bar = |column: &Column, (kind, outcome): &(Kind, Outcome)| Bar {
        label: kind.name().to_owned(),
        value: (column.value)(outcome),
        shown: column.show(outcome),
        ours: kind.is_ours(),
    };
    let panel = |column: &Column| Panel {
        title: column.title.replace('\n', " "),
        bars: outcomes.iter().map(|row| bar(column, row)).collect(),
    };
    COLUMNS.iter().map(panel).collect()
}

impl Column {
    fn show(&self, outcome: &Outcome) -> String {
        format!("{:.*}", self.digits, (self.value)(outcome))
    }
}
