//! Measures everything that `benches/README.md` shows and writes it to `target/report/`: tables in
//! Markdown and plots in SVG.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, iter};

use benches::bars::{self, Bar, Panel};
use benches::caches::{self, ZipfMix};
use benches::handshakes::{By, Crowd, ServerKey, Site, Way, costs, session};
use benches::marks::{self, grouped, take_and_put_costs};
use benches::timing::{Costs, Effort};
use plotters::prelude::*;
use rustls::version::{TLS12, TLS13};

use super::progress::Progress;

pub(crate) fn run(effort: Effort) -> Result<(), Box<dyn Error>> {
    let folder = bars::folder()?;

    let mut text = String::from("# Performance of rustls-resumption\n\n");
    writeln!(text, "{}\n", machine())?;
    if effort == Effort::Quick {
        writeln!(text, "**A quick run: these figures mean nothing.**\n")?;
    }
    let progress =
        Progress::new(marks::ALL.len() + ENTRIES.len() + 1 + Way::ALL.len() * ServerKey::ALL.len());
    marks_table(&mut text, effort, &progress)?;
    caches_table(&mut text, effort, &folder, &progress)?;
    hits_table(&mut text, &progress)?;
    handshakes_table(&mut text, effort, &folder, &progress)?;
    drop(progress);
    let path = folder.join("performance.md");
    fs::write(&path, text)?;
    println!(
        "wrote {}, caches.svg and handshakes.svg beside it",
        path.display()
    );
    Ok(())
}

fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(env::consts::ARCH, |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let lock = include_str!("../../../Cargo.lock");
    let rustls = lock.split("name = \"rustls\"\nversion = \"").nth(1);
    let rustls = rustls
        .and_then(|rest| rest.split('"').next())
        .unwrap_or("0.23");
    format!(
        "{model}, {cores} cores, {}, rustls {rustls} with aws-lc-rs.",
        env::consts::OS
    )
}

fn marks_table(
    text: &mut String,
    effort: Effort,
    progress: &Progress,
) -> Result<(), Box<dyn Error>> {
    let rows = marks::ALL.into_iter().flat_map(|(name, measure)| {
        progress.set(name);
        let marks = measure(effort);
        progress.advance();
        marks
    });
    let rows = rows.map(|mark| {
        let verdict = if mark.passed() { "pass" } else { "**miss**" };
        let beyond = mark
            .beyond
            .map_or(String::new(), |beyond| format!("{beyond}{}", mark.unit));
        vec![
            mark.name.to_owned(),
            mark.what.clone(),
            mark.shown(),
            mark.reach(),
            beyond,
            verdict.to_owned(),
            mark.note.clone(),
        ]
    });
    let head = [
        "mark",
        "what",
        "figure",
        "reach",
        "beyond",
        "verdict",
        "behind it",
    ];
    table(text, "Marks", head.map(str::to_owned).into(), rows)
}

/// The sizes of the caches.
const ENTRIES: [usize; 5] = [256, 4_096, 65_536, 524_288, 1_048_576];

fn caches_table(
    text: &mut String,
    effort: Effort,
    folder: &Path,
    progress: &Progress,
) -> Result<(), Box<dyn Error>> {
    let session = session(&TLS13, 130);
    let by_size = ENTRIES.map(|entries| {
        progress.set(format_args!("caches of {}", grouped(entries)));
        let contenders = caches::Contender::ALL.map(|contender| (contender, entries));
        let costs = take_and_put_costs(contenders, &session, effort).map(|costs| costs.median());
        progress.advance();
        costs
    });
    let curves: Vec<_> = caches::Contender::ALL
        .into_iter()
        .enumerate()
        .map(|(i, contender)| {
            let points = ENTRIES.iter().zip(&by_size);
            let points = points.map(|(&entries, costs)| (entries as f64, costs[i]));
            (contender, points.collect::<Vec<_>>())
        })
        .collect();
    plot_caches(&folder.join("caches.svg"), &curves)?;
    let rows = curves.iter().map(|(contender, points)| {
        let costs = points
            .iter()
            .map(|(_, cost)| grouped(cost.round() as usize));
        iter::once(contender.name().to_owned())
            .chain(costs)
            .collect()
    });
    let head = ENTRIES.map(|entries| format!("{} entries", grouped(entries)));
    let head = iter::once("cache".to_owned()).chain(head).collect();
    table(
        text,
        "Nanoseconds to take and put a session, full cache, one thread",
        head,
        rows,
    )
}

/// In the order of [`caches::Contender::ALL`].
const COLORS: [RGBColor; 5] = [
    RGBColor(0x1f, 0x6f, 0xb4),
    RGBColor(0x60, 0x60, 0x60),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0xd6, 0x7a, 0x10),
    RGBColor(0x94, 0x4f, 0xbd),
];

type Curve = (caches::Contender, Vec<(f64, f64)>);

fn plot_caches(path: &Path, curves: &[Curve]) -> Result<(), Box<dyn Error>> {
    let points = || curves.iter().flat_map(|(_, points)| points);
    let least = points().map(|point| point.1).fold(f64::MAX, f64::min) / 2.0;
    let most = points().map(|point| point.1).fold(0.0, f64::max) * 2.0;
    let root = SVGBackend::new(path, (900, 540)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "Taking and putting a session in a full cache",
            ("sans-serif", 20),
        )
        .margin(16)
        .x_label_area_size(45)
        .y_label_area_size(80)
        .build_cartesian_2d((200.0..1_400_000.0).log_scale(), (least..most).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("sessions in the cache")
        .y_desc("nanoseconds")
        .x_label_formatter(&|entries| grouped(*entries as usize))
        .y_label_formatter(&|cost| grouped(*cost as usize))
        .light_line_style(WHITE)
        .draw()?;
    for (i, (contender, points)) in curves.iter().enumerate() {
        let width = if *contender == caches::Contender::Ours {
            3
        } else {
            1
        };
        let style = COLORS[i].stroke_width(width);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(4))?
            .label(contender.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}

fn hits_table(text: &mut String, progress: &Progress) -> Result<(), Box<dyn Error>> {
    progress.set("hits");
    let session = session(&TLS12, 130);
    let rows = caches::Contender::ALL.map(|contender| {
        let shares = [0.0, 0.5].map(|strangers| {
            let mix = ZipfMix {
                clients: 100_000,
                strangers,
                visits: 1_000_000,
            };
            let (share, _) = mix.run(&*contender.build(10_000), &session);
            format!("{:.1} %", 100.0 * share)
        });
        iter::once(contender.name().to_owned())
            .chain(shares)
            .collect()
    });
    progress.advance();
    let title = "Returning visits that hit: 100,000 TLS 1.2 clients, Zipf, in 10,000 entries";
    let head = [
        "cache",
        "returning clients alone",
        "half of all visits by strangers",
    ];
    table(
        text,
        title,
        head.map(str::to_owned).into(),
        rows.into_iter(),
    )
}

fn handshakes_table(
    text: &mut String,
    effort: Effort,
    folder: &Path,
    progress: &Progress,
) -> Result<(), Box<dyn Error>> {
    let mut panels = Vec::new();
    let mut rows = Vec::new();
    for way in Way::ALL {
        for key in ServerKey::ALL {
            progress.set(format_args!("{} with {}", way.name(), key.name()));
            let measured = server_times(way, key, effort);
            progress.advance();
            rows.extend(measured.chunks(2).map(|both| {
                let micros = both
                    .iter()
                    .map(|(_, _, cost)| format!("{:.1} µs", cost.median() / 1_000.0));
                let label = [way.name(), key.name(), &both[0].0].map(str::to_owned);
                label.into_iter().chain(micros).collect()
            }));
            if key == ServerKey::P256 {
                panels.push(Panel {
                    title: format!("{}: handshakes a second", way.name()),
                    bars: measured.iter().map(bar).collect(),
                });
            }
        }
    }
    let title = "Handshakes a second of one core, server's side, P-256";
    bars::draw(&folder.join("handshakes.svg"), title, &panels)?;
    let [ours, rustls] = By::ALL.map(By::name);
    let head = ["way", "certificate", "handshake", ours, rustls];
    let title = "Server time of a handshake, in memory, one thread";
    table(
        text,
        title,
        head.map(str::to_owned).into(),
        rows.into_iter(),
    )
}

type ServerTime = (String, By, Costs);

fn server_times(way: Way, key: ServerKey, effort: Effort) -> Vec<ServerTime> {
    let site = Site::new(way.version(), key);
    let mut times = Vec::new();
    let mut measure = |label: String, room, work: fn(&mut Crowd, usize) -> _| {
        let slow = way == Way::Tls13Stateful && room > 1_000;
        let contenders = By::ALL.map(|by| {
            let visits = if slow && by == By::Rustls { 3 } else { 20 };
            (way, by, room, visits)
        });
        let measured = costs(&site, contenders, 1, work, effort);
        for (by, costs) in By::ALL.into_iter().zip(measured) {
            times.push((label.clone(), by, costs));
        }
    };
    measure("full".to_owned(), 1_000, Crowd::meet);
    if !way.stateful() {
        measure("resumed".to_owned(), 1_000, Crowd::come_back);
    } else {
        // The certificate makes no difference to these.
        let rooms: &[usize] = match key {
            ServerKey::P256 => &[1_000, 100_000, 500_000],
            ServerKey::Rsa2048 => &[1_000],
        };
        for &room in rooms {
            let label = format!("resumed, {} sessions", grouped(room));
            measure(label, room, Crowd::come_back);
        }
    }
    times
}

fn bar((label, by, cost): &ServerTime) -> Bar {
    let a_second = 1e9 / cost.median();
    Bar {
        label: format!(
            "{label}, {}",
            if *by == By::Ours { "ours" } else { "rustls" }
        ),
        value: a_second,
        shown: grouped(a_second as usize),
        ours: *by == By::Ours,
    }
}

fn table(
    text: &mut String,
    title: &str,
    head: Vec<String>,
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<(), Box<dyn Error>> {
    writeln!(text, "## {title}\n\n| {} |", head.join(" | "))?;
    writeln!(text, "|{}", " --- |".repeat(head.len()))?;
    for row in rows {
        writeln!(text, "| {} |", row.join(" | "))?;
    }
    writeln!(text)?;
    Ok(())
}
