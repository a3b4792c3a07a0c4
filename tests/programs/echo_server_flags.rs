//! The command line of `echo_server`: what it refuses, and its demonstration.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

use test_support::{Certificates, example};

#[test]
fn every_bad_flag_or_file_costs_one_line_and_exit_status_2() {
    let certificates = Certificates::for_names(&["localhost"]);
    let other = Certificates::for_names(&["localhost"]);
    let cert = &*certificates.certificate().display().to_string();
    let key = &*certificates.key().display().to_string();
    let other_key = &*other.key().display().to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &str| {
        let path = directory.path().join(name);
        fs::write(&path, contents).unwrap();
        path.display().to_string()
    };
    let empty = &*file("empty.pem", "");
    let cut = &*file("cut.pem", &fs::read_to_string(cert).unwrap()[..200]);
    let pem = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    let no_certificate = &*file("no-certificate.pem", &pem("CERTIFICATE"));
    let no_key = &*file("no-key.pem", &pem("PRIVATE KEY"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = &*taken.local_addr().unwrap().to_string();

    for (flags, says) in [
        // Values.
        (&["--frobnicate"][..], "unexpected argument '--frobnicate'"),
        (&["--listen", "nowhere"], "an address is HOST:PORT"),
        (&["--resumption", "always"], "[possible values: tickets,"),
        (&["--early-data", "-1"], "'-1'"),
        (&["--early-data", "4294967296"], "0..=4294967295"),
        (&["--cache-entries", "1e6"], "invalid digit"),
        (&["--cache-bytes", "1M"], "invalid digit"),
        (&["--session-ttl", "10"], "such as 500ms, 10s or 24h"),
        (&["--session-ttl", "0s"], "longer than nothing"),
        (
            &["--session-ttl", "8d"],
            "--session-ttl 8days: must be at most 7 days",
        ),
        (
            &["--max-session-age", "8d"],
            "--max-session-age 8days: must be at most 7 days",
        ),
        (&["--max-session-age", "1ms"], "must be at least 1s"),
        (
            &["--rotate-every", "1us"],
            "--rotate-every 1us: must be at least 1 ms",
        ),
        (
            &["--ticket-lifetime", "8d"],
            "--ticket-lifetime 8days: must be at most 7 days",
        ),
        (&["--handshake-timeout", "0s"], "longer than nothing"),
        (&["--stek", "vault:x"], "no such source; it is random, "),
        (&["--stek", "http://u:hunter2@h/"], "add --kek ENVVAR"),
        (
            &["--store", "http://u:hunter2@h/", "--resumption", "stateful"],
            "--",
        ),
        (&["--stek", "dir:"], "nothing behind the colon"),
        (
            &["--stek", "derived:NO_SUCH_VARIABLE"],
            "the environment variable NO_SUCH_VARIABLE is not set",
        ),
        (
            &["--stek", "derived:SHORT"],
            "weak key in the environment variable SHORT: ",
        ),
        (
            &["--stek", "file:/nonexistent.key"],
            "/nonexistent.key: No such file",
        ),
        (&["--stek", &format!("file:{cert}")], cert),
        (&["--stek", "dir:/nonexistent/steks"], "/nonexistent/steks"),
        // Values that do not go together.
        (
            &["--stek", "derived:SECRET", "--resumption", "stateful"],
            "add --resumption tickets",
        ),
        (
            &["--store", "memcached:x"],
            "no such store; it is redis:URL",
        ),
        (
            &["--store", "redis:redis://127.0.0.1"],
            "add --resumption stateful",
        ),
        (
            &[
                "--store",
                "redis:redis://127.0.0.1",
                "--resumption",
                "stateful",
            ],
            "add --stek",
        ),
        (&["--kek", "SECRET"], "--kek goes with --stek redis:URL"),
        (&["--stek", "redis:redis://127.0.0.1"], "add --kek ENVVAR"),
        (&["--early-data", "1"], "add --resumption stateful"),
        (
            &["--early-data", "1", "--resumption", "off"],
            "add --resumption stateful",
        ),
        (
            &["--early-data", "1", "--resumption", "builtin-tickets"],
            "add --resumption stateful",
        ),
        (
            &[
                "--resumption",
                "builtin-stateful",
                "--cache-entries",
                "18446744073709551615",
            ],
            "at most 10000000",
        ),
        (&["--cert", cert], "--key <PEM>"),
        (&["--key", key], "--cert <PEM>"),
        // Files.
        (
            &["--cert", "/nonexistent.pem", "--key", key],
            "--cert /nonexistent.pem: No such file",
        ),
        (
            &["--cert", cert, "--key", "/nonexistent.pem"],
            "--key /nonexistent.pem: No such file",
        ),
        (&["--cert", "/", "--key", key], "--cert /: Is a directory"),
        (
            &["--cert", empty, "--key", key],
            "nothing of the kind in it",
        ),
        (&["--cert", key, "--key", key], "nothing of the kind in it"),
        (
            &["--cert", cert, "--key", cert],
            "nothing of the kind in it",
        ),
        (&["--cert", cut, "--key", key], "not a PEM file"),
        (&["--cert", cert, "--key", cut], "not a PEM file"),
        (
            &["--cert", no_certificate, "--key", key],
            "--cert and --key: invalid peer certificate: BadEncoding",
        ),
        (&["--cert", cert, "--key", no_key], "--cert and --key: "),
        (&["--cert", cert, "--key", other_key], "KeyMismatch"),
        (
            &["--client-ca", "/nonexistent.pem"],
            "--client-ca /nonexistent.pem: No such file",
        ),
        (&["--client-ca", key], "nothing of the kind in it"),
        (
            &["--client-ca", no_certificate],
            "give certificates of authorities",
        ),
        // Addresses.
        (&["--listen", taken], &format!("--listen {taken}: ")),
        (&["--listen", "192.0.2.1:0"], "--listen 192.0.2.1:0: "),
    ] {
        let output = echo_server(flags);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{flags:?}: {errors}");
        assert!(errors.contains(says), "{flags:?}: {errors}");
        assert!(!errors.contains("hunter2"), "{flags:?}: {errors}");
        assert!(output.stdout.is_empty(), "{flags:?}");
    }
}

#[test]
fn the_demonstration_shows_what_resumes_and_why_not() {
    let output = echo_server(&["--demo"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split(['│', '┆']).map(str::trim).collect())
        .filter(|cells: &Vec<_>| matches!(cells.get(1), Some(&("tickets" | "stateful"))))
        .collect();
    let tickets = [
        ("for the first time", "full", "no session offered"),
        ("back", "resumed", "ticket opened"),
        ("back after a STEK rotation", "resumed", "ticket opened"),
        (
            "back after a certificate reload",
            "resumed",
            "ticket opened",
        ),
        ("to another scope", "full", "ticket refused: wrong scope"),
        ("back 13 hours later", "full", "ticket refused: expired key"),
        ("back after revoke_all()", "full", "ticket refused: revoked"),
    ];
    let stateful = [
        ("for the first time", "full", "no session offered"),
        ("back", "resumed", "cache hit"),
        ("back after a STEK rotation", "resumed", "cache hit"),
        ("back after a certificate reload", "resumed", "cache hit"),
        (
            "to another scope",
            "full",
            "cache miss: unknown in this scope",
        ),
        ("back 24 hours later", "full", "cache miss: expired"),
        (
            "back after revoke_all()",
            "full",
            "cache miss: unknown in this scope",
        ),
    ];
    let expected: Vec<_> = [("tickets", tickets), ("stateful", stateful)]
        .into_iter()
        .flat_map(|(mode, events)| {
            ["1.2", "1.3"].map(|version| events.map(|event| (mode, version, event)))
        })
        .flatten()
        .collect();
    assert_eq!(rows.len(), expected.len(), "{table}");
    for (row, (mode, version, (event, kind, why))) in rows.iter().zip(expected) {
        assert_eq!((row[1], row[2]), (mode, version), "{table}");
        assert!(row[3].starts_with(event), "{row:?}");
        assert_eq!((row[4], row[6]), (kind, why), "{row:?}");
        assert!(row[5].parse::<u64>().unwrap() > 0, "{row:?}");
    }
    assert!(
        table.ends_with("28 clients came, all as they should.\n"),
        "{table}"
    );
}

fn echo_server(flags: &[&str]) -> Output {
    Command::new(example("echo_server"))
        .env("SHORT", "too short a secret")
        .args(flags)
        .output()
        .unwrap()
}
