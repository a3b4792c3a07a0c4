//! The performance targets of this crate, its *marks*: each is measured against rustls's built-ins
//! or the bare primitive in the same run.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};
use rustls_resumption::{Resumption, SessionCache};

use crate::claims;
use crate::handshakes::{self, By, Client, Crowd, ServerKey, Site, Way, session};
use crate::memory::Footprint;
use crate::rotation::seal_latencies;
use crate::timing::{Costs, Effort, each, slowest, turn_about};
use crate::{caches, tickets};

/// One figure and its target.
#[derive(Clone, Debug)]
pub struct Mark {
    /// `M2` to `M10` and `M14`; M1, M11 and M13 are counted, by the command `counts`.
    pub name: &'static str,
    /// What was measured.
    pub what: String,
    /// The result.
    pub figure: f64,
    /// What follows the figure: `x` or a unit.
    pub unit: &'static str,
    /// The target.
    pub reach: Reach,
    /// A more ambitious target.
    pub beyond: Option<f64>,
    /// The figures that this one was computed from.
    pub note: String,
}

/// Which figures reach the target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reach {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

use Reach::{AtLeast, AtMost};

impl Mark {
    fn beyond(self, beyond: f64) -> Self {
        Self {
            beyond: Some(beyond),
            ..self
        }
    }

    /// Whether the figure reaches its target.
    pub fn passed(&self) -> bool {
        match self.reach {
            AtLeast(least) => self.figure >= least,
            AtMost(most) => self.figure <= most,
        }
    }

    /// The figure with three digits, never rounded in its favour.
    pub fn shown(&self) -> String {
        let digits = match self.figure.abs() {
            ..10.0 => 2,
            ..100.0 => 1,
            _ => 0,
        };
        let scale = 10f64.powi(digits);
        let shown = match self.reach {
            AtLeast(_) => (self.figure * scale).floor() / scale,
            AtMost(_) => (self.figure * scale).ceil() / scale,
        };
        format!("{shown:.*}{}", digits as usize, self.unit)
    }

    /// The target, for people.
    pub fn reach(&self) -> String {
        match self.reach {
            AtLeast(least) => format!("{least}{}", self.unit),
            AtMost(most) => format!("at most {most}{}", self.unit),
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, what, .. } = self;
        let verdict = if self.passed() { "PASS" } else { "MISS" };
        write!(
            f,
            "{name} {verdict} {what}: {} (reach {})",
            self.shown(),
            self.reach()
        )
    }
}

/// Measures a mark, which may have several figures.
pub type Measure = fn(Effort) -> Vec<Mark>;

/// Every mark by its name.
pub const ALL: [(&str, Measure); 10] = [
    ("M2", seal_open_and_refuse),
    ("M3", ticket_length),
    ("M4", take_and_put),
    ("M5", cost_grows),
    ("M6", memory),
    ("M7", tls12_ticket_handshake),
    ("M8", tls13_stateful_handshake),
    ("M9", share_resumed),
    ("M10", seal_while_rotating),
    ("M14", claim),
];

fn seal_open_and_refuse(effort: Effort) -> Vec<Mark> {
    [seal(effort), open(effort), refuse_junk(effort)].concat()
}

fn ticket_length(_: Effort) -> Vec<Mark> {
    let session = session(&TLS13, 130);
    let ticket = tickets::Workload::new(tickets::Contender::Ours, &session).seal();
    let length = ticket.map_or(f64::NAN, |ticket| ticket.len() as f64);
    vec![Mark {
        name: "M3",
        what: "length of a ticket over its session".to_owned(),
        figure: length - session.len() as f64,
        unit: " bytes",
        reach: AtMost(58.0),
        beyond: None,
        note: String::new(),
    }]
}

fn seal(effort: Effort) -> Vec<Mark> {
    let ([ours, rustls, raw], note) = ticket_costs(effort, tickets::Workload::seals);
    vec![
        times(
            "M2",
            "seal 130 bytes against Ticketer",
            &rustls,
            &ours,
            AtLeast(3.2),
            &note,
        )
        .beyond(4.0),
        times(
            "M2",
            "seal 130 bytes against raw GCM-SIV",
            &ours,
            &raw,
            AtMost(1.5),
            &note,
        ),
    ]
}

fn open(effort: Effort) -> Vec<Mark> {
    let ([ours, rustls, raw], note) = ticket_costs(effort, tickets::Workload::opens);
    vec![
        times(
            "M2",
            "open 130 bytes against Ticketer",
            &rustls,
            &ours,
            AtLeast(1.4),
            &note,
        )
        .beyond(1.8),
        times(
            "M2",
            "open 130 bytes against raw GCM-SIV",
            &ours,
            &raw,
            AtMost(1.4),
            &note,
        ),
    ]
}

fn refuse_junk(effort: Effort) -> Vec<Mark> {
    let ([ours, rustls, _], note) = ticket_costs(effort, tickets::Workload::refuses_junk);
    vec![
        times(
            "M2",
            "refuse junk against Ticketer",
            &rustls,
            &ours,
            AtLeast(20.0),
            &note,
        )
        .beyond(40.0),
    ]
}

fn ticket_costs(
    effort: Effort,
    work: fn(&tickets::Workload, usize) -> Duration,
) -> ([Costs; 3], String) {
    use tickets::Contender::{Ours, RawGcmSiv, Rustls};
    let session = session(&TLS13, 130);
    let operations = effort.operations(2_000);
    let costs = turn_about(
        effort.rounds(201),
        [Ours, Rustls, RawGcmSiv].map(|contender| {
            let workload = tickets::Workload::new(contender, &session);
            move || each(work(&workload, operations), operations)
        }),
    );
    let note = nanoseconds(["ours", "Ticketer", "raw"], costs.each_ref());
    (costs, note)
}

fn take_and_put(effort: Effort) -> Vec<Mark> {
    use caches::Contender::{Ours, QuickCache, Rustls};
    let session = session(&TLS13, 130);
    let race = |contenders| take_and_put_costs(contenders, &session, effort);
    let mut marks = Vec::new();
    for (entries, reach) in [(256, 2.0), (65_536, 300.0), (524_288, 3_000.0)] {
        let [ours, rustls] = race([(Ours, entries), (Rustls, entries)]);
        let what = format!("take+put {}", grouped(entries));
        let note = nanoseconds(["ours", "rustls"], [&ours, &rustls]);
        marks.push(times("M4", &what, &rustls, &ours, AtLeast(reach), &note));
    }
    let [ours, quick] = race([(Ours, 100_000), (QuickCache, 100_000)]);
    let note = nanoseconds(["ours", "quick_cache"], [&ours, &quick]);
    let what = "take+put 100,000 against quick_cache";
    marks.push(times("M4", what, &ours, &quick, AtMost(1.3), &note));
    marks
}

/// What it costs each cache of that many entries to take and put a session, on one thread.
pub fn take_and_put_costs<const N: usize>(
    contenders: [(caches::Contender, usize); N],
    session: &[u8],
    effort: Effort,
) -> [Costs; N] {
    let contenders = contenders.map(|(contender, entries)| {
        let mut workload = caches::Workload::new(contender, entries, session);
        // rustls's `take` is O(n).
        let operations = match contender {
            caches::Contender::Rustls => (2_000_000 / entries).clamp(3, 1_000),
            _ => 1_000,
        };
        let operations = effort.operations(operations);
        move || each(workload.take_and_put(operations), operations)
    });
    turn_about(effort.rounds(51), contenders)
}

fn cost_grows(effort: Effort) -> Vec<Mark> {
    use caches::Contender::Ours;
    let session = session(&TLS13, 130);
    let [large, small] = take_and_put_costs([(Ours, 1_048_576), (Ours, 4_096)], &session, effort);
    let note = nanoseconds(["1,048,576", "4,096"], [&large, &small]);
    let what = "take+put 1,048,576 against 4,096";
    let mut marks = vec![times("M5", what, &large, &small, AtMost(3.0), &note)];
    marks.extend(get_scales(effort));
    marks
}

fn get_scales(effort: Effort) -> Vec<Mark> {
    use caches::Contender::{Ours, Rustls};
    const ENTRIES: usize = 65_536;
    let session = session(&TLS12, 130);
    let operations = effort.operations(20_000);
    let gets = |contender, threads| {
        let workload = caches::Workload::new(contender, ENTRIES, &session);
        let mut parts = workload.split(threads);
        boxed(move || {
            each(
                slowest(&mut parts, |part| part.get_hits(operations)),
                operations,
            )
        })
    };
    let sums = |threads| {
        let mut parts = vec![(); threads];
        boxed(move || {
            each(
                slowest(&mut parts, |()| arithmetic(400 * operations)),
                operations,
            )
        })
    };
    let contenders = [
        gets(Ours, 1),
        gets(Ours, 2),
        gets(Rustls, 2),
        sums(1),
        sums(2),
    ];
    let costs = turn_about(effort.rounds(151), contenders);
    let [ours, ours_of_two, rustls_of_two, sum, sum_of_two] = &costs;
    let note = nanoseconds(
        ["ours", "ours of two", "rustls of two"],
        [ours, ours_of_two, rustls_of_two],
    );
    let scales = ours.over(ours_of_two);
    let sum_scales = sum.over(sum_of_two);
    vec![
        times(
            "M5",
            "get of two threads against arithmetic",
            &scales,
            &sum_scales,
            AtLeast(0.9),
            &note,
        ),
        times(
            "M5",
            "get of two threads against rustls",
            rustls_of_two,
            ours_of_two,
            AtLeast(2.0),
            &note,
        ),
    ]
}

fn boxed<'a>(contender: impl FnMut() -> f64 + 'a) -> Box<dyn FnMut() -> f64 + 'a> {
    Box::new(contender)
}

/// Work that shares nothing with any other thread.
fn arithmetic(steps: usize) -> Duration {
    let start = Instant::now();
    let mut state = black_box(1u64);
    for _ in 0..steps {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
    }
    black_box(state);
    start.elapsed()
}

fn memory(effort: Effort) -> Vec<Mark> {
    let entries = effort.operations(1_000_000);
    let [ours, rustls] = [caches::Contender::Ours, caches::Contender::Rustls].map(|contender| {
        Footprint::in_child(contender, entries).expect("the weighing process failed")
    });
    let sessions = grouped(ours.live);
    let [ours, rustls] = [ours, rustls].map(|cache| cache.beyond_session(cache.resident));
    vec![Mark {
        name: "M6",
        what: format!("memory beyond each of {sessions} sessions"),
        figure: ours,
        unit: " bytes",
        reach: AtMost(80.0),
        beyond: None,
        note: format!("ours {ours:.1} bytes, rustls {rustls:.1} bytes"),
    }]
}

fn tls12_ticket_handshake(effort: Effort) -> Vec<Mark> {
    let site = Site::new(&TLS12, ServerKey::P256);
    let contenders = [By::Ours, By::Rustls].map(|by| (Way::Tls12Ticket, by, 1_000, 40));
    let costs = handshakes::costs(&site, contenders, 1, Crowd::come_back, effort);
    let note = nanoseconds(["ours", "rustls"], costs.each_ref());
    let [ours, rustls] = &costs;
    let what = "TLS 1.2 resumed by ticket against Ticketer";
    vec![times("M7", what, ours, rustls, AtMost(0.93), &note)]
}

fn tls13_stateful_handshake(effort: Effort) -> Vec<Mark> {
    let site = Site::new(&TLS13, ServerKey::P256);
    let contenders = [
        (By::Ours, 1_000, 30),
        (By::Ours, 100_000, 30),
        (By::Ours, 500_000, 30),
        (By::Rustls, 100_000, 10),
        (By::Rustls, 500_000, 2),
    ];
    let contenders = contenders.map(|(by, room, visits)| (Way::Tls13Stateful, by, room, visits));
    let costs = handshakes::costs(&site, contenders, 2, Crowd::come_back, effort);
    let note = nanoseconds(
        [
            "ours 1,000",
            "ours 100,000",
            "ours 500,000",
            "rustls 100,000",
            "rustls 500,000",
        ],
        costs.each_ref(),
    );
    let [small, middle, large, rustls_middle, rustls_large] = &costs;
    let mark = |what: &str, cost, base, reach| times("M8", what, cost, base, reach, &note);
    vec![
        mark(
            "TLS 1.3 stateful, 100,000 against rustls",
            rustls_middle,
            middle,
            AtLeast(3.5),
        ),
        mark(
            "TLS 1.3 stateful, 500,000 against rustls",
            rustls_large,
            large,
            AtLeast(30.0),
        ),
        mark(
            "TLS 1.3 stateful, 100,000 against 1,000",
            middle,
            small,
            AtMost(1.05),
        ),
        mark(
            "TLS 1.3 stateful, 500,000 against 1,000",
            large,
            small,
            AtMost(1.05),
        ),
    ]
}

fn share_resumed(effort: Effort) -> Vec<Mark> {
    let site = Site::new(&TLS13, ServerKey::P256);
    let visits = effort.operations(5_000);
    let share = |install: &dyn Fn(&mut ServerConfig)| {
        let mut server = site.default_server();
        install(&mut server);
        returning_share(&site, Arc::new(server), 1_000, visits)
    };
    let rustls = share(&|_| ());
    let note = format!("rustls {rustls:.1} %");
    let tickets = Resumption::tickets().expect("the system's randomness failed");
    let stateful =
        Resumption::stateful(SessionCache::DEFAULT_ENTRIES).expect("a cache that cannot be made");
    [("tickets", tickets), ("stateful", stateful)]
        .map(|(mode, resumption)| Mark {
            name: "M9",
            what: format!("resumed of 1,000 returning TLS 1.3 clients, {mode}"),
            figure: share(&|server| resumption.install(server, "benches")),
            unit: " %",
            reach: AtLeast(99.9),
            beyond: None,
            note: note.clone(),
        })
        .into()
}

/// Each client visits once; then they return in random order. Returns the percentage of the
/// `visits` after the first that resumed a session.
fn returning_share(site: &Site, server: Arc<ServerConfig>, clients: usize, visits: usize) -> f64 {
    let clients: Vec<Client> = (0..clients).map(|_| site.client()).collect();
    for client in &clients {
        client.visit(&server);
    }
    let mut rng = StdRng::seed_from_u64(9);
    let resumed = (0..visits)
        .filter(|_| {
            clients[rng.random_range(0..clients.len())]
                .visit(&server)
                .resumed
        })
        .count();
    100.0 * resumed as f64 / visits as f64
}

fn seal_while_rotating(effort: Effort) -> Vec<Mark> {
    let session = session(&TLS13, 130);
    let lasts = Duration::from_millis(effort.operations(500) as u64);
    let costs = turn_about(
        effort.rounds(15),
        [true, false].map(|rotate| {
            let session = &session;
            move || seal_latencies(session, lasts, rotate).value_at_quantile(0.999) as f64
        }),
    );
    let note = nanoseconds(["rotating", "not rotating"], costs.each_ref());
    let [rotating, still] = &costs;
    let what = "p99.9 of seal while rotating every 10 ms";
    vec![times("M10", what, rotating, still, AtMost(1.5), &note)]
}

fn claim(effort: Effort) -> Vec<Mark> {
    let costs = claims::costs("redis-server", effort).expect("Redis does not serve");
    let micros = |cost: &claims::Cost| cost.time.as_secs_f64() * 1e6;
    let switches = |cost: &claims::Cost| cost.switches.unwrap_or(f64::NAN);
    let [claims @ .., round_trip] = &costs;
    let mark = |(cost, by)| Mark {
        name: "M14",
        what: format!("claim from Redis at p50, served by {by}, over a blocking round trip"),
        figure: micros(cost) - micros(round_trip),
        unit: " µs",
        reach: AtMost(40.0),
        beyond: None,
        note: format!(
            "claim {:.0} µs, round trip {:.0} µs; {:.1} and {:.1} context switches",
            micros(cost),
            micros(round_trip),
            switches(cost),
            switches(round_trip),
        ),
    };
    claims.iter().zip(claims::BY).map(mark).collect()
}

fn times(
    name: &'static str,
    what: &str,
    cost: &Costs,
    base: &Costs,
    reach: Reach,
    note: &str,
) -> Mark {
    Mark {
        name,
        what: what.to_owned(),
        figure: cost.over(base).median(),
        unit: "x",
        reach,
        beyond: None,
        note: note.to_owned(),
    }
}

fn nanoseconds<const N: usize>(names: [&str; N], costs: [&Costs; N]) -> String {
    let parts = names.iter().zip(costs);
    let parts = parts.map(|(name, cost)| format!("{name} {} ns", grouped(cost.median() as usize)));
    parts.collect::<Vec<_>>().join(", ")
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(figure: f64, reach: Reach) -> Mark {
        Mark {
            name: "M4",
            what: "take+put 65,536".to_owned(),
            figure,
            unit: "x",
            reach,
            beyond: None,
            note: String::new(),
        }
    }

    #[test]
    fn a_mark_is_one_line() {
        let line = mark(612.9, AtLeast(300.0)).to_string();
        assert_eq!(line, "M4 PASS take+put 65,536: 612x (reach 300x)");
        let line = mark(1.301, AtMost(1.3)).to_string();
        assert_eq!(line, "M4 MISS take+put 65,536: 1.31x (reach at most 1.3x)");
    }

    #[test]
    fn a_figure_is_never_rounded_in_its_own_favour() {
        assert_eq!(mark(2.999, AtLeast(3.0)).shown(), "2.99x");
        assert_eq!(mark(2.991, AtMost(3.0)).shown(), "3.00x");
        assert_eq!(mark(99.96, AtLeast(100.0)).shown(), "99.9x");
    }

    #[test]
    fn a_figure_that_is_not_a_number_is_a_miss() {
        assert!(!mark(f64::NAN, AtLeast(1.0)).passed());
        assert!(!mark(f64::NAN, AtMost(1.0)).passed());
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_048_576), "1,048,576");
    }
}
