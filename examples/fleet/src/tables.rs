//! What is shown.

use comfy_table::{CellAlignment, Table, presets};

use crate::clients::Seen;
use crate::nodes::Nodes;
use crate::recovery::{Recovery, Taken};

/// What came of a step.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) seen: Seen,
    /// If something befell Redis, or ended.
    pub(crate) recovery: Option<Recovery>,
}

/// The nodes according to their last reports.
pub(crate) fn state(nodes: &Nodes) -> Table {
    let header = [
        "node",
        "full",
        "resumed",
        "claimed",
        "early data",
        "STEK",
        "keys",
        "rotations",
        "store",
    ];
    let mut table = new_table(&header, 1..5);
    for (number, report) in nodes.told().reports.iter().enumerate() {
        table.add_row([
            number.to_string(),
            report.full.to_string(),
            report.resumed.to_string(),
            report.claimed.to_string(),
            report.early.to_string(),
            match report.fallen_back {
                true => format!("{} (fallback)", report.active),
                false => report.active.clone(),
            },
            report.keys.to_string(),
            report.rotations.to_string(),
            match report.store_is_down {
                true => "down".to_owned(),
                false => "up".to_owned(),
            },
        ]);
    }
    table
}

pub(crate) fn summary(rows: &[Row]) -> Table {
    let header = [
        "step",
        "connections",
        "returned",
        "resumed",
        "share",
        "earlier",
        "early data",
        "failed",
        "failover",
        "store back",
        "source back",
    ];
    let mut table = new_table(&header, 1..11);
    for Row {
        name,
        seen,
        recovery,
    } in rows
    {
        let taken = |of: fn(&Recovery) -> Taken| {
            let taken = recovery.as_ref().map(|recovery| of(recovery).to_string());
            taken.unwrap_or_default()
        };
        table.add_row([
            (*name).to_owned(),
            seen.connections.to_string(),
            seen.returned.to_string(),
            seen.resumed.to_string(),
            seen.share()
                .map_or_else(|| "-".to_owned(), |share| format!("{share:.2} %")),
            seen.of_before.to_string(),
            seen.early.to_string(),
            seen.failed.to_string(),
            taken(Recovery::failover),
            taken(Recovery::store),
            taken(Recovery::source),
        ]);
    }
    table
}

fn new_table(header: &[&str], numbers: std::ops::Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header);
    for index in numbers {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
