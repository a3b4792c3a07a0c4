//! Counts instructions and simulated cache misses: the same on any load, so that small changes show.
//!
//! Each row is a process of its own under callgrind, which counts within
//! [`counted_by_callgrind`] only. With `--check` the instructions are compared with those in
//! `benches/counts.txt`.

use std::env;
use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;

use benches::caches::{Contender as Cache, Workload as Exchanges};
use benches::following::Workload as Following;
use benches::handshakes::{By, ServerKey, Site, Way, session};
use benches::tickets::{Contender as Ticketer, Workload as Tickets};
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use rustls::version::TLS13;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Row {
    Seal,
    SealRaw,
    Open,
    OpenRaw,
    MutualSeal,
    MutualSealRaw,
    MutualOpen,
    MutualOpenRaw,
    Exchange,
    ExchangeQuickCache,
    Resume,
    ResumeFollowed,
    AskNothing,
    AskNothingFollowed,
}

/// How long a session is without client certificates.
const SESSION_BYTES: usize = 130;

/// How many sessions are in the caches.
const ENTRIES: usize = 100_000;

/// The last-level cache that is simulated: 8 MiB, of 16 ways, whatever this machine has.
const LAST_LEVEL: &str = "--LL=8388608,16,64";

/// How often each operation is done.
const OPERATIONS: usize = 1_000;

/// What callgrind counted of one operation.
#[derive(Clone, Copy)]
struct Count {
    instructions: f64,
    misses: f64,
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Fail if an operation takes more than 1 % above the instructions in benches/counts.txt.
    #[arg(long)]
    check: bool,
}

/// What the operations of this crate took when somebody last changed that on purpose.
const EXPECTED: &str = include_str!("../../counts.txt");

/// So much more instructions than expected fail the check.
const TOLERANCE: f64 = 0.01;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    match arguments.check {
        true => check(),
        false => show(),
    }
}

/// Compares what is counted with what is expected.
fn check() -> Result<(), Box<dyn Error>> {
    let mut risen = Vec::new();
    let mut is_comparable = true;
    for (row, expected) in expected(EXPECTED)? {
        let counted = in_child(row)?.instructions;
        let change = counted / expected - 1.0;
        println!(
            "{}: {counted:.0} instructions, expected {expected:.0} ({:+.1} %)",
            row.name(),
            100.0 * change
        );
        if row.is_yardstick() {
            is_comparable &= change.abs() < TOLERANCE;
        } else if change > TOLERANCE {
            risen.push(row.name());
        }
    }
    if !is_comparable {
        println!(
            "not comparable: another processor or compiler takes other instructions for the AEAD"
        );
        return Ok(());
    }
    match risen.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "more instructions than benches/counts.txt expects: {}. If that is meant, change the \
             figures there, and say why in the commit",
            risen.join("; ")
        )
        .into()),
    }
}

/// Reads lines of a row's name and its instructions; `#` begins a comment.
fn expected(text: &str) -> Result<Vec<(Row, f64)>, Box<dyn Error>> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, instructions) = line.split_once(' ').ok_or("a line without a figure")?;
            let row = Row::from_str(name, false)?;
            Ok((row, instructions.trim().parse()?))
        })
        .collect()
}

fn show() -> Result<(), Box<dyn Error>> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["", "instructions", "last-level misses"]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut counts = Vec::new();
    for row in Row::value_variants() {
        let count = in_child(*row)?;
        table.add_row([
            row.name().to_owned(),
            format!("{:.0}", count.instructions),
            format!("{:.2}", count.misses),
        ]);
        counts.push(count);
    }
    println!("{table}");
    let count = |row: Row| counts[row as usize];
    let own = |ours, raw| count(ours).instructions - count(raw).instructions;
    let plain = own(Row::Seal, Row::SealRaw) + own(Row::Open, Row::OpenRaw);
    let mutual =
        own(Row::MutualSeal, Row::MutualSealRaw) + own(Row::MutualOpen, Row::MutualOpenRaw);
    println!("own instructions of a seal and an open: {plain:.0}");
    println!(
        "the same with client certificates: {:.0} more",
        mutual - plain
    );
    let (ours, peer) = (count(Row::Exchange), count(Row::ExchangeQuickCache));
    println!(
        "take and put against quick_cache: {:.2} of its instructions, {:.2} of its misses",
        ours.instructions / peer.instructions,
        ours.misses / peer.misses
    );
    let resumed = own(Row::ResumeFollowed, Row::Resume);
    let idle = own(Row::AskNothingFollowed, Row::AskNothing);
    println!("following a handshake that resumes: {resumed:.0}; that asks nothing: {idle:.0}");
    Ok(())
}

impl Row {
    /// Whether nothing of it is this crate's, so that it tells how comparable a machine is.
    fn is_yardstick(self) -> bool {
        matches!(self, Self::SealRaw | Self::OpenRaw)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal 130 bytes",
            Self::SealRaw => "seal 130 bytes, raw AEAD",
            Self::Open => "open 130 bytes",
            Self::OpenRaw => "open 130 bytes, raw AEAD",
            Self::MutualSeal => "seal with a client's chain of 3 KiB",
            Self::MutualSealRaw => "seal with a client's chain of 3 KiB, raw AEAD",
            Self::MutualOpen => "open with a client's chain of 3 KiB",
            Self::MutualOpenRaw => "open with a client's chain of 3 KiB, raw AEAD",
            Self::Exchange => "take and put, 100,000 sessions",
            Self::ExchangeQuickCache => "take and put, 100,000 sessions, quick_cache",
            Self::Resume => "open one, seal two, in two polls",
            Self::ResumeFollowed => "open one, seal two, in two polls, followed",
            Self::AskNothing => "two polls",
            Self::AskNothingFollowed => "two polls, followed",
        }
    }

    /// Does it, to be counted.
    pub(crate) fn work(self) {
        match self {
            Self::Seal | Self::Open => self.tickets(Tickets::new(Ticketer::Ours, &plain())),
            Self::SealRaw | Self::OpenRaw => {
                self.tickets(Tickets::new(Ticketer::RawGcmSiv, &plain()));
            }
            Self::MutualSeal | Self::MutualOpen => {
                let site = Site::mutual(&TLS13, ServerKey::P256);
                let ticketer = site.server(Way::Tls13Ticket, By::Ours, 0).ticketer;
                self.tickets(Tickets::with(Arc::clone(&ticketer), &site.session(0)));
            }
            Self::MutualSealRaw | Self::MutualOpenRaw => {
                let session = Site::mutual(&TLS13, ServerKey::P256).session(0);
                self.tickets(Tickets::new(Ticketer::RawGcmSiv, &session));
            }
            Self::Exchange => exchange(Cache::Ours),
            Self::ExchangeQuickCache => exchange(Cache::QuickCache),
            Self::Resume | Self::AskNothing => self.follow(false),
            Self::ResumeFollowed | Self::AskNothingFollowed => self.follow(true),
        }
    }

    fn tickets(self, tickets: Tickets) {
        let is_open = matches!(
            self,
            Self::Open | Self::OpenRaw | Self::MutualOpen | Self::MutualOpenRaw
        );
        let mut work = || {
            black_box(match is_open {
                true => tickets.opens(OPERATIONS),
                false => tickets.seals(OPERATIONS),
            });
        };
        work(); // what is made or remembered once
        counted_by_callgrind(&mut work);
    }

    fn follow(self, follows: bool) {
        let handshakes = Following::new(&plain());
        let mut work = || match self {
            Self::Resume | Self::ResumeFollowed => handshakes.resumes(OPERATIONS, follows),
            _ => handshakes.asks_nothing(OPERATIONS, follows),
        };
        work();
        counted_by_callgrind(&mut work);
    }
}

fn plain() -> Vec<u8> {
    session(&TLS13, SESSION_BYTES)
}

fn exchange(cache: Cache) {
    let mut exchanges = Exchanges::new(cache, ENTRIES, &plain());
    let mut exchange = || {
        let prepared = exchanges.prepare(OPERATIONS);
        move |exchanges: &Exchanges| {
            black_box(exchanges.exchange(&prepared));
        }
    };
    let (warm, counted) = (exchange(), exchange());
    warm(&exchanges);
    counted_by_callgrind(&mut || counted(&exchanges));
}

#[inline(never)]
fn counted_by_callgrind(work: &mut dyn FnMut()) {
    work();
    black_box(());
}

fn in_child(row: Row) -> Result<Count, Box<dyn Error>> {
    let name = row.to_possible_value().ok_or("a row without a name")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--cache-sim=yes", LAST_LEVEL])
        .arg("--toggle-collect=*counted_by_callgrind*")
        .arg(env::current_exe()?)
        .args(["count", name.get_name()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let events = |label: &str| -> Option<Vec<String>> {
        let (_, line) = said.lines().find_map(|line| line.split_once(label))?;
        Some(line.split_whitespace().map(str::to_owned).collect())
    };
    let (names, counts) = events("Events    :")
        .zip(events("Collected :"))
        .ok_or_else(|| format!("callgrind counted nothing: {said}"))?;
    let sum = |wanted: &[&str]| -> f64 {
        let events = names.iter().zip(&counts);
        let wanted = events.filter(|(name, _)| wanted.contains(&name.as_str()));
        wanted
            .filter_map(|(_, count)| count.parse::<f64>().ok())
            .sum()
    };
    let each = OPERATIONS as f64;
    Ok(Count {
        instructions: sum(&["Ir"]) / each,
        misses: sum(&["ILmr", "DLmr", "DLmw"]) / each,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_figures_are_of_rows_that_exist_none_twice() {
        let expected = expected(EXPECTED).unwrap();
        let rows = expected.iter().map(|(row, _)| *row as usize);
        let mut rows = Vec::from_iter(rows);
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), expected.len());
        assert!(rows.contains(&(Row::Seal as usize)) && rows.contains(&(Row::Open as usize)));
    }

    #[test]
    fn a_line_that_names_no_row_or_no_figure_is_an_error() {
        for line in ["seal", "seal many", "sale 100"] {
            assert!(expected(line).is_err(), "{line}");
        }
        assert_eq!(
            expected("# seal 1\n\n open 7 \n").unwrap(),
            [(Row::Open, 7.0)]
        );
    }
}
