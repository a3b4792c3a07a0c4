//! Runs the example in both modes.
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// What the table says of each connection: handshake and 0-RTT.
fn rows(mode: &str) -> Vec<(String, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_quinn-example"))
        .arg(mode)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{error}");
    let text = String::from_utf8(output.stdout).unwrap();
    let table = text.split("\n\n").next().unwrap();
    let rows = table
        .lines()
        .filter(|line| line.starts_with(char::is_numeric));
    rows.map(|row| {
        let words: Vec<_> = row.split_whitespace().collect();
        (words[1].to_owned(), words.last().unwrap().to_string())
    })
    .collect()
}

#[test]
fn with_tickets_every_connection_but_the_first_resumes_without_early_data() {
    let rows = rows("tickets");
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[0], ("full".into(), "-".into()));
    for row in &rows[1..] {
        assert_eq!(*row, ("resumed".into(), "-".into()));
    }
}

#[test]
fn stateful_every_connection_but_the_first_sends_its_request_early() {
    let rows = rows("stateful");
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[0], ("full".into(), "-".into()));
    for row in &rows[1..] {
        assert_eq!(*row, ("resumed".into(), "accepted".into()));
    }
}
