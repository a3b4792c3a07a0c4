//! Runs the example, visited by curl.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn the_command_that_it_prints_shows_a_full_and_a_resumed_handshake() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_hyper-example"))
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let command = lines
        .map_while(Result::ok)
        .find(|line| line.starts_with("curl "));
    let curl = |also: &str| {
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "{} --silent --show-error {also}",
                command.as_ref().unwrap()
            ))
            .output();
        let output = output.unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "{error} (curl is Debian's package curl)"
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let answers = [curl("--tlsv1.3"), curl("--tls-max 1.2")];
    server.kill().unwrap();
    server.wait().unwrap();
    for answer in answers {
        let kinds: Vec<_> = answer
            .lines()
            .filter_map(|line| line.strip_prefix("handshake     "))
            .collect();
        assert_eq!(kinds, ["full", "resumed"], "{answer}");
        assert!(answer.contains("\ntickets       sealed "), "{answer}");
    }
}
