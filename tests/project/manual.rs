//! The page `operating` explains every reason that is counted.

use std::fs;

use test_support::repository;

/// The metrics that are counted by reason, and the field of `Stats` that each comes from.
const REASONS: [(&str, &str); 12] = [
    ("resumption_cache_misses_total", "cache.misses"),
    ("resumption_cache_evictions_total", "cache.evictions"),
    ("resumption_cache_not_stored_total", "cache.not_stored"),
    ("resumption_tickets_refused_total", "tickets.refused"),
    ("resumption_tickets_not_sealed_total", "tickets.not_sealed"),
    ("resumption_store_not_shared_total", "store.not_shared"),
    ("resumption_store_misses_total", "store.misses"),
    ("resumption_store_not_written_total", "store.health"),
    (
        "resumption_client_auth_refused_total",
        "client_auth.refused",
    ),
    ("resumption_handshakes_full_total", "acceptor.full"),
    (
        "resumption_handshakes_cannot_resume_total",
        "acceptor.cannot",
    ),
    ("resumption_handshakes_failed_total", "acceptor.failed"),
];

fn page() -> String {
    fs::read_to_string(repository().join("src/docs/operating.md")).unwrap()
}

/// What is in backticks.
fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The names that a table of the page has in its first column under this heading.
fn explained(page: &str, field: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_meant = false;
    let mut lines = page.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        let Some(row) = line.strip_prefix("| ") else {
            is_meant = false;
            continue;
        };
        let first = code(row.split(" | ").next().unwrap());
        if lines.peek().is_some_and(|next| next.starts_with("| ---")) {
            is_meant = first.contains(&field);
        } else if is_meant {
            names.extend(first.into_iter().map(str::to_owned));
        }
    }
    names
}

#[test]
fn every_reason_that_is_counted_is_explained() {
    let page = page();
    let metrics = page.lines().filter(|row| row.starts_with("| `resumption_"));
    let mut seen = 0;
    for row in metrics.filter(|row| row.contains("`reason`: ")) {
        let metric = code(row)[0];
        let field = REASONS.iter().find(|(name, _)| *name == metric);
        let (_, field) = field.unwrap_or_else(|| panic!("which field is {metric}?"));
        let explained = explained(&page, field);
        let reasons = row.split("`reason`: ").nth(1).unwrap();
        for reason in reasons.split(" | ").next().unwrap().split(' ') {
            assert!(
                explained.iter().any(|name| name == reason),
                "{field}.{reason}"
            );
        }
        seen += 1;
    }
    assert_eq!(seen + 1, REASONS.len(), "all but the one without reasons");
    assert!(page.contains("`acceptor.failed` counts"));
}
