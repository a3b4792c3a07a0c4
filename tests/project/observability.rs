//! The Grafana dashboard and the alert rules name metrics that exist, in queries that parse, and
//! the rules fire as they should.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use test_support::peer::program;
use test_support::repository;

fn path(name: &str) -> PathBuf {
    repository().join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

/// As the manual lists them, which a test of the module `metrics` keeps true.
fn metrics() -> BTreeSet<String> {
    let page = text("src/docs/operating.md");
    let rows = page.lines().filter(|row| row.starts_with("| `resumption_"));
    let mut names = BTreeSet::new();
    for row in rows {
        let name = row.split('`').nth(1).unwrap();
        if row.contains("| histogram |") {
            for part in ["_sum", "_count"] {
                names.insert(format!("{name}{part}"));
            }
        } else {
            names.insert(name.to_owned());
        }
    }
    assert!(names.len() > 20, "the table is there");
    names
}

/// The names of metrics in a query or a file of queries; those of recording rules have a colon.
fn named(queries: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    queries
        .split(|c| !is_part(c))
        .filter(|word| word.starts_with("resumption_"))
        .map(str::to_owned)
        .collect()
}

fn promtool(what: &str, directory: PathBuf, file: &str) {
    let output = Command::new(program("promtool", "prometheus"))
        .args([what, "rules", file])
        .current_dir(directory)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// Every query of the dashboard.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text("examples/observability/dashboard.json"))
        .expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().unwrap();
    let mut queries = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} shows nothing");
        for target in targets {
            queries.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    queries
}

#[test]
fn the_dashboard_and_the_alerts_name_only_metrics_that_exist() {
    let metrics = metrics();
    for name in named(&text("examples/observability/alerts.yml")) {
        assert!(metrics.contains(&name), "alerts.yml: {name}");
    }
    for query in queries() {
        let names = named(&query);
        assert!(!names.is_empty(), "{query}");
        for name in names {
            assert!(metrics.contains(&name), "dashboard.json: {name}");
        }
    }
}

#[test]
fn no_panel_of_the_dashboard_lies_over_another() {
    let dashboard: Value =
        serde_json::from_str(&text("examples/observability/dashboard.json")).unwrap();
    let mut taken = BTreeMap::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            let other = taken.insert(place, title);
            assert_eq!(other, None, "{title} lies over it");
        }
    }
}

#[test]
fn the_dashboard_shows_every_metric() {
    let shown: BTreeSet<_> = queries().iter().flat_map(|query| named(query)).collect();
    let missing: Vec<_> = metrics().difference(&shown).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_alert_is_explained_in_the_manual_and_tested() {
    let page = text("src/docs/operating.md");
    let tests = text("examples/observability/alerts.test.yml");
    let alerts = text("examples/observability/alerts.yml");
    let names: Vec<_> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(names.len() >= 5);
    for name in names {
        assert!(page.contains(&format!("| `{name}` |")), "{name}");
        // Once where it must be silent, once where it must not.
        assert!(tests.matches(name).count() >= 2, "{name}");
    }
}

/// As rustdoc and GitHub make the anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_ascii_alphanumeric() || *c == ' ';
    let heading = heading.to_lowercase();
    heading
        .chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

#[test]
fn every_alert_leads_to_a_section_of_the_manual() {
    let page = text("src/docs/operating.md");
    let headings = page.lines().filter_map(|line| line.strip_prefix("## "));
    let anchors: BTreeSet<_> = headings.map(anchor).collect();
    let alerts = text("examples/observability/alerts.yml");
    for alert in alerts.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        let (_, runbook) = alert.split_once("runbook_url: ").expect(name);
        let (page, section) = runbook.lines().next().unwrap().split_once('#').unwrap();
        assert!(page.ends_with("/rustls_resumption/docs/operating/index.html"));
        assert!(anchors.contains(section), "{name}: {section}");
    }
}

#[test]
fn promtool_accepts_the_alerts_and_they_fire_as_they_should() {
    promtool("check", path("examples/observability"), "alerts.yml");
    promtool("test", path("examples/observability"), "alerts.test.yml");
}

#[test]
fn promtool_accepts_every_query_of_the_dashboard() {
    let directory = tempfile::TempDir::new().unwrap();
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (i, query) in queries().iter().enumerate() {
        let query = query.replace("$__rate_interval", "5m");
        let quoted = query.replace('\'', "''");
        rules += &format!("      - record: panel:query:{i}\n        expr: '{quoted}'\n");
    }
    fs::write(directory.path().join("panels.yml"), rules).unwrap();
    promtool("check", directory.path().to_owned(), "panels.yml");
}
