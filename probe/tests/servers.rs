//! The probe, as a process, against servers of every kind: what it says must be what they do.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::CipherSuite::TLS_EMPTY_RENEGOTIATION_INFO_SCSV;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, StoresServerSessions,
};
use rustls::sign::CertifiedKey;
use rustls_resumption::{Resumption, StekRing};
use serde_json::Value;
use tempfile::TempDir;
use test_support::echo::{EchoServer, server_config};
use test_support::peer::program;
use test_support::servers::{Server, nginx, openssl};
use test_support::{Certificates, free_address};

const PROBE: &str = env!("CARGO_BIN_EXE_tls-resumption-probe");

/// A table of servers. Behind each: what the probe says of TLS 1.2 session IDs, TLS 1.2 tickets and
/// TLS 1.3 tickets. A ticket's size, which differs from version to version, is told as `handle` or
/// `session`, by what would fit in.
#[test]
fn the_probe_sees_what_each_server_gives_and_takes() {
    let certificates = Certificates::for_names(&["localhost"]);
    #[rustfmt::skip]
    let table = [
        (Start::Openssl(&[]), [
            "session_id=32 resumed=true single_use=false after_alert=false",
            "tickets=1 ticket_size=session lifetime_hint=7200 resumed=true single_use=false renewal=false",
            "tickets=2 ticket_size=session lifetime_hint=7200 resumed=true single_use=false early_data=0",
        ]),
        (Start::Openssl(&["-no_ticket"]), [
            "session_id=32 resumed=true single_use=false after_alert=false",
            "tickets=0",
            "tickets=2 ticket_size=handle lifetime_hint=7200 resumed=true single_use=false early_data=0",
        ]),
        (Start::Openssl(&["-no_cache"]), [
            "session_id=0",
            "tickets=1 ticket_size=session lifetime_hint=7200 resumed=true single_use=false renewal=false",
            "tickets=2 ticket_size=session lifetime_hint=7200 resumed=true single_use=false early_data=0",
        ]),
        // It promises what it then cannot keep.
        (Start::Openssl(&["-no_ticket", "-no_cache"]), [
            "session_id=0",
            "tickets=0",
            "tickets=2 ticket_size=handle lifetime_hint=7200 resumed=false early_data=0",
        ]),
        (Start::Openssl(&["-early_data", "-max_early_data", "1000"]), [
            "session_id=32 resumed=true single_use=false after_alert=false",
            "tickets=1 ticket_size=session lifetime_hint=7200 resumed=true single_use=false renewal=false",
            "tickets=2 ticket_size=handle lifetime_hint=7200 resumed=true single_use=true early_data=1000,once refused_early_data=true",
        ]),
        (Start::Openssl(&["-tls1_2"]), [
            "session_id=32 resumed=true single_use=false after_alert=false",
            "tickets=1 ticket_size=session lifetime_hint=7200 resumed=true single_use=false renewal=false",
            "handshake=false",
        ]),
        (Start::Openssl(&["-tls1_3", "-num_tickets", "5"]), [
            "handshake=false",
            "handshake=false",
            "tickets=5 ticket_size=session lifetime_hint=7200 resumed=true single_use=false early_data=0",
        ]),
        (Start::Openssl(&["-tls1_3", "-num_tickets", "0"]), [
            "handshake=false",
            "handshake=false",
            "tickets=0",
        ]),
        (Start::Nginx("ssl_session_cache shared:S:1m;"), [
            "session_id=32 resumed=true single_use=false after_alert=false",
            "tickets=1 ticket_size=session lifetime_hint=300 resumed=true single_use=false renewal=false",
            "tickets=2 ticket_size=session lifetime_hint=300 resumed=true single_use=false early_data=0",
        ]),
        (Start::Nginx("ssl_session_cache shared:S:1m; ssl_session_timeout 1d; ssl_session_tickets off;"), [
            "session_id=32 resumed=true single_use=false after_alert=false",
            "tickets=0",
            "tickets=2 ticket_size=handle lifetime_hint=86400 resumed=true single_use=false early_data=0",
        ]),
        // nginx's default: clients are told that they may come back, and then they may not.
        (Start::Nginx("ssl_session_cache none;"), [
            "session_id=32 resumed=false",
            "tickets=1 ticket_size=session lifetime_hint=300 resumed=true single_use=false renewal=false",
            "tickets=2 ticket_size=session lifetime_hint=300 resumed=true single_use=false early_data=0",
        ]),
        // Replays are left to the application behind it.
        (Start::Nginx("ssl_session_cache shared:S:1m; ssl_early_data on;"), [
            "session_id=32 resumed=true single_use=false after_alert=false",
            "tickets=1 ticket_size=session lifetime_hint=300 resumed=true single_use=false renewal=false",
            "tickets=2 ticket_size=session lifetime_hint=300 resumed=true single_use=false early_data=16384,twice",
        ]),
        // rustls 0.23.46 ends a connection with more than half of the early data that it refuses.
        (Start::Rustls(|_| {}), [
            "session_id=32 resumed=true single_use=false after_alert=true",
            "tickets=0",
            "tickets=2 ticket_size=handle lifetime_hint=86400 resumed=true single_use=true early_data=2048,once refused_early_data=false",
        ]),
        (Start::Rustls(with_tickets), [
            "session_id=32 resumed=true single_use=false after_alert=true",
            "tickets=1 ticket_size=session lifetime_hint=43200 resumed=true single_use=false renewal=true",
            "tickets=2 ticket_size=session lifetime_hint=43200 resumed=true single_use=false early_data=0",
        ]),
        // This crate.
        (Start::Rustls(our_tickets), [
            "session_id=32 resumed=true single_use=false after_alert=true",
            "tickets=1 ticket_size=session lifetime_hint=43200 resumed=true single_use=false renewal=true",
            "tickets=2 ticket_size=session lifetime_hint=43200 resumed=true single_use=false early_data=0",
        ]),
        (Start::Rustls(our_sessions), [
            "session_id=32 resumed=true single_use=false after_alert=true",
            "tickets=0",
            "tickets=2 ticket_size=handle lifetime_hint=86400 resumed=true single_use=true early_data=2048,once refused_early_data=false",
        ]),
        (Start::Rustls(without_resumption), [
            "session_id=0",
            "tickets=0",
            "tickets=0",
        ]),
    ];
    let mut wrong = String::new();
    for (start, expected) in &table {
        let server = start.server(&certificates);
        let report = probe_json(&certificates, server.address(), &[]);
        for (mechanism, expected) in MECHANISMS.iter().zip(expected) {
            let seen = summary(&report, mechanism);
            if seen != *expected {
                wrong +=
                    &format!("{start:?} {mechanism}\n  expected {expected}\n  seen     {seen}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn nodes_resume_as_far_as_they_share_ticket_keys() {
    let certificates = Certificates::for_names(&["localhost"]);
    let directory = TempDir::new().unwrap();
    let [current, previous] = [1, 2].map(|byte| {
        let file = directory.path().join(format!("{byte}.key"));
        fs::write(&file, [byte; 80]).unwrap();
        format!("ssl_session_ticket_key {};", file.display())
    });
    // The first key seals, all of them open.
    let behind = nginx(&certificates, &previous);
    let same = nginx(&certificates, &previous);
    let ahead = nginx(&certificates, &format!("{current} {previous}"));
    let stranger = nginx(&certificates, "");

    let nodes = [&same, &ahead, &stranger].map(|node| node.address.to_string());
    let report = probe_json(
        &certificates,
        behind.address,
        &["--nodes", &nodes.join(",")],
    );
    for mechanism in ["tls1.2-ticket", "tls1.3-ticket"] {
        for (node, there, back) in [
            (&nodes[0], true, true),
            (&nodes[1], true, false),
            (&nodes[2], false, false),
        ] {
            let finding = find(&report, mechanism, "node", Some(node));
            assert_eq!(finding["value"]["there"], there, "{finding}");
            assert_eq!(finding["value"]["back"], back, "{finding}");
        }
    }
}

#[test]
fn an_unreachable_node_is_reported_and_the_others_are_probed() {
    let certificates = Certificates::for_names(&["localhost"]);
    let server = openssl(&certificates, &["-tls1_3"]);
    let nobody = free_address().to_string();
    let report = probe_json(
        &certificates,
        server.address,
        &["--nodes", &nobody, "--wait", "1ms"],
    );
    let finding = find(&report, "tls1.3-ticket", "node", Some(&nobody));
    assert_eq!(finding["grade"], "bad");
    assert!(
        finding["seen"].as_str().unwrap().contains("cannot connect"),
        "{finding}"
    );
    find(&report, "tls1.3-ticket", "wait", None);
}

#[test]
fn sessions_cross_server_names_in_openssl_but_not_in_rustls() {
    let certificates = Certificates::for_names(&["localhost", "other.test"]);
    let flags = ["--other-name", "other.test"];
    for (start, crosses) in [
        (Start::Openssl(&[]), true),
        (Start::Rustls(with_tickets), false),
    ] {
        let server = start.server(&certificates);
        let report = probe_json(&certificates, server.address(), &flags);
        for mechanism in MECHANISMS {
            let finding = find(&report, mechanism, "server_name", Some("other.test"));
            assert_eq!(
                finding["value"], crosses,
                "{start:?} {mechanism}: {finding}"
            );
        }
    }
}

#[test]
fn a_name_missing_from_the_certificate_counts_as_separate() {
    let certificates = Certificates::for_names(&["localhost"]);
    let server = EchoServer::start(server_config(&certificates));
    let report = probe_json(
        &certificates,
        server.address,
        &["--other-name", "other.test"],
    );
    let finding = find(&report, "tls1.3-ticket", "server_name", Some("other.test"));
    assert_eq!(finding["value"], false);
    assert!(
        finding["seen"].as_str().unwrap().contains("other names"),
        "{finding}"
    );
}

#[test]
fn sessions_are_offered_again_after_the_wait() {
    let certificates = Certificates::for_names(&["localhost"]);
    let server = nginx(&certificates, "ssl_session_cache shared:S:1m;");
    let report = probe_json(&certificates, server.address, &["--wait", "10ms"]);
    for mechanism in MECHANISMS {
        assert_eq!(find(&report, mechanism, "wait", None)["value"], true);
    }
}

#[test]
fn sessions_are_expected_to_be_refused_after_they_were_revoked() {
    let certificates = Certificates::for_names(&["localhost"]);
    for tickets in [true, false] {
        let resumption = match tickets {
            true => Resumption::tickets().unwrap(),
            false => Resumption::stateful(1000).unwrap(),
        };
        let server = || {
            let mut config = server_config(&certificates);
            config.max_early_data_size = 0;
            resumption.install(&mut config, "probed");
            EchoServer::start(config)
        };
        let nodes = [server(), server()];
        for revokes in [false, true] {
            let revoke = || revokes.then(|| resumption.revoke_all());
            let (status, report) = expect_refused(&certificates, &nodes, revoke);
            assert_eq!(status, Some(i32::from(!revokes)), "{report:#}");
            let mut count = 0;
            for finding in findings(&report) {
                assert_eq!(finding["value"], revokes, "{finding}");
                count += 1;
            }
            // Both nodes' sessions, at both nodes, by each mechanism that there is.
            assert_eq!(count, if tickets { 12 } else { 8 }, "{report:#}");
        }
    }
}

#[test]
fn a_node_that_resumed_nothing_before_is_no_proof_that_it_refuses() {
    let certificates = Certificates::for_names(&["localhost"]);
    let resumption = Resumption::tickets().unwrap();
    let [mut config, mut another] = [(); 2].map(|()| server_config(&certificates));
    resumption.install(&mut config, "probed");
    without_resumption(&mut another);
    let nodes = [config, another].map(EchoServer::start);
    let (status, report) = expect_refused(&certificates, &nodes, || resumption.revoke_all());
    assert!(findings(&report).any(|finding| finding["grade"] == "good"));
    assert!(findings(&report).all(|finding| finding["grade"] != "bad"));
    assert_eq!(status, Some(1), "{report:#}");
}

#[test]
fn a_node_that_fails_while_sessions_are_taken_is_not_known_to_refuse_them() {
    let certificates = Certificates::for_names(&["localhost"]);
    let resumption = Resumption::tickets().unwrap();
    let is_well = Arc::new(AtomicBool::new(false));
    let config = || {
        let mut config = server_config(&certificates);
        config.max_early_data_size = 0;
        resumption.install(&mut config, "probed");
        config
    };
    let mut another = config();
    another.cert_resolver = Arc::new(WellInTls12 {
        resolver: another.cert_resolver,
        is_well: Arc::clone(&is_well),
    });
    let nodes = [config(), another].map(EchoServer::start);
    let (status, report) = expect_refused(&certificates, &nodes, || {
        is_well.store(true, Ordering::Relaxed);
        resumption.revoke_all()
    });
    let [well, other] = nodes.each_ref().map(|node| node.address);
    for (from, to) in [(well, other), (other, well), (other, other)] {
        let subject = format!("{from} to {to}");
        let finding = find(&report, "tls1.3-ticket", "refused", Some(&subject));
        assert_eq!(finding["grade"], "bad", "{finding}");
        assert_eq!(finding["value"], Value::Null, "{finding}");
    }
    let bad = findings(&report).filter(|finding| finding["grade"] == "bad");
    assert_eq!(bad.count(), 3, "{report:#}");
    assert_eq!(status, Some(1), "{report:#}");
}

#[test]
fn each_node_is_to_refuse_by_each_mechanism_that_resumed_somewhere() {
    let certificates = Certificates::for_names(&["localhost"]);
    // Only one of them, or both, issue session IDs that they then do not know.
    for (forgetful, expected) in [(1, 1), (2, 0)] {
        let resumption = Resumption::tickets().unwrap();
        let ring = StekRing::new().unwrap();
        let mut configs = [(); 2].map(|()| server_config(&certificates));
        for (i, config) in configs.iter_mut().enumerate() {
            config.max_early_data_size = 0;
            match i < forgetful {
                true => {
                    config.ticketer = Arc::new(ring.clone());
                    config.session_storage = Arc::new(Forgetful);
                }
                false => resumption.install(config, "probed"),
            }
        }
        let revoke = || (ring.revoke_all(), resumption.revoke_all());
        let nodes = configs.map(EchoServer::start);
        let (status, report) = expect_refused(&certificates, &nodes, revoke);
        assert!(findings(&report).all(|finding| finding["grade"] != "bad"));
        assert_eq!(status, Some(expected), "{forgetful}: {report:#}");
        let ids = findings(&report).filter(|it| it["mechanism"] == "tls1.2-session-id");
        assert_eq!(ids.count(), 4, "{report:#}");
    }
}

#[test]
fn nothing_is_expected_of_a_server_that_issues_no_session() {
    let certificates = Certificates::for_names(&["localhost"]);
    let server = Start::Rustls(without_resumption).server(&certificates);
    let output = probe(&certificates, server.address(), &["--expect-refused"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("issues no session"), "{errors}");
}

#[test]
fn the_readme_names_each_aspect_of_the_json() {
    let certificates = Certificates::for_names(&["localhost"]);
    let server = openssl(&certificates, &["-early_data"]);
    let nobody = free_address().to_string();
    let flags = ["--nodes", &nobody, "--wait", "1ms"];
    let report = probe_json(&certificates, server.address, &flags);
    let readme = include_str!("../README.md");
    for finding in findings(&report) {
        for name in [&finding["aspect"], &finding["mechanism"]] {
            let name = format!("`{}`", name.as_str().unwrap());
            assert!(readme.contains(&name), "no {name} in README.md");
        }
        for field in finding.as_object().unwrap().keys() {
            assert!(readme.contains(&format!("| `{field}` |")), "{field}");
        }
    }
}

#[test]
fn the_table_has_a_verdict_on_each_line() {
    let certificates = Certificates::for_names(&["localhost"]);
    let server = openssl(&certificates, &[]);
    let output = probe(&certificates, server.address, &[]);
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<_> = table
        .lines()
        .filter(|line| line.starts_with('│'))
        .skip(1)
        .collect();
    assert_eq!(rows.len(), 16, "{table}");
    for row in rows {
        let cells: Vec<_> = row.trim_matches('│').split('┆').map(str::trim).collect();
        let [_, aspect, seen, grade, verdict] = cells[..] else {
            panic!("not five cells in {row}")
        };
        assert!(["good", "note", "bad"].contains(&grade), "{row}");
        assert!(
            !aspect.is_empty() && !seen.is_empty() && !verdict.is_empty(),
            "{row}"
        );
    }
}

#[test]
fn a_bad_finding_costs_exit_status_1_only_with_fail_on_bad() {
    let certificates = Certificates::for_names(&["localhost"]);
    let good = openssl(&certificates, &[]);
    // Its TLS 1.3 tickets are handles to sessions that it does not keep.
    let bad = openssl(&certificates, &["-no_ticket", "-no_cache"]);
    for (server, flags, status) in [
        (&good, &["--fail-on", "bad"][..], 0),
        (&bad, &["--fail-on", "bad"], 1),
        (&bad, &[], 0),
    ] {
        let output = probe(&certificates, server.address, flags);
        assert_eq!(output.status.code(), Some(status), "{flags:?}: {output:?}");
        assert!(!output.stdout.is_empty(), "{flags:?}: {output:?}");
    }
}

#[test]
fn an_unreachable_server_costs_one_line_and_exit_status_1() {
    let certificates = Certificates::for_names(&["localhost"]);
    let server = openssl(&certificates, &[]);
    let tls12_only = openssl(&certificates, &["-tls1_2"]);
    let strangers = Certificates::for_names(&["localhost"]);
    let self_signed = Certificates::for_names(&["localhost"]);
    sign_by_itself(&self_signed);
    let authority = openssl(&self_signed, &[]);
    let others = Certificates::for_names(&["other"]);
    let elsewhere = openssl(&others, &[]);
    for (output, says) in [
        (
            probe(&strangers, tls12_only.address, &[]),
            "name its authority with --ca PEM",
        ),
        (probe(&certificates, free_address(), &[]), "cannot connect"),
        (
            probe(&strangers, server.address, &[]),
            "no authority in the file issued it: name its authority with --ca PEM",
        ),
        (
            probe(&self_signed, authority.address, &[]),
            "(CA:TRUE), which clients refuse from a server",
        ),
        (
            probe(&others, elsewhere.address, &[]),
            "send the name that it is for with --servername",
        ),
    ] {
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(errors.contains(says), "{errors}");
    }
}

/// As `openssl req -x509` does it unless told otherwise.
fn sign_by_itself(certificates: &Certificates) {
    let status = Command::new(program("openssl", "openssl"))
        .args(["req", "-x509", "-nodes", "-newkey", "ec"])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256"])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .args(["-addext", "basicConstraints=critical,CA:TRUE", "-keyout"])
        .arg(certificates.key())
        .arg("-out")
        .arg(certificates.certificate())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    fs::copy(certificates.certificate(), certificates.ca()).unwrap();
}

#[test]
fn a_silent_server_is_given_up_after_one_connection() {
    let certificates = Certificates::for_names(&["localhost"]);
    // The system completes its connections, and nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = probe(&certificates, silent.local_addr().unwrap(), &[]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("not done within 15s"), "{errors}");
    silent.set_nonblocking(true).unwrap();
    assert!(silent.accept().is_ok());
    assert!(silent.accept().is_err(), "connected more than once");
}

#[test]
fn a_version_that_is_not_spoken_is_named() {
    let certificates = Certificates::for_names(&["localhost"]);
    for (flag, mechanism, verdict) in [
        ("-tls1_2", "tls1.3-ticket", "speaks no TLS 1.3"),
        ("-tls1_3", "tls1.2-ticket", "speaks no TLS 1.2"),
    ] {
        let server = openssl(&certificates, &[flag]);
        let report = probe_json(&certificates, server.address, &[]);
        let finding = find(&report, mechanism, "handshake", None);
        assert_eq!(finding["verdict"], verdict, "{finding}");
    }
}

#[test]
fn an_insecure_probe_accepts_any_certificate() {
    let certificates = Certificates::for_names(&["localhost"]);
    let server = openssl(&certificates, &[]);
    let output = Command::new(PROBE)
        .args([
            &server.address.to_string(),
            "--insecure",
            "--servername",
            "other.test",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_bad_flag_or_file_costs_one_line_and_exit_status_2() {
    for (arguments, says) in [
        (&[][..], "<HOST:PORT>"),
        (&["localhost:https", "--insecure"], "is not HOST:PORT"),
        (&["::1", "--insecure"], "[::1]:443"),
        (
            &["localhost", "--insecure", "--ca", "x"],
            "cannot be used with",
        ),
        (
            &["localhost", "--ca", "/nonexistent.pem"],
            "/nonexistent.pem",
        ),
        (&["localhost", "--insecure", "--wait", "soon"], "--wait"),
        (
            &["localhost", "--insecure", "--servername", "a b"],
            "is not a DNS name",
        ),
        (
            &["host.invalid", "--insecure"],
            "host.invalid has no address",
        ),
        (
            &["127.0.0.1", "--insecure", "--nodes", "a:b"],
            "a:b is not HOST:PORT",
        ),
    ] {
        let output = Command::new(PROBE).args(arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
        assert!(errors.contains(says), "{arguments:?}: {errors}");
    }
}

#[test]
#[should_panic(expected = "apt-get install no-such-package")]
fn a_missing_program_is_named_with_its_debian_package() {
    program("no-such-program", "no-such-package");
}

/// How to start a server.
#[derive(Debug)]
enum Start {
    Nginx(&'static str),
    Openssl(&'static [&'static str]),
    Rustls(fn(&mut ServerConfig)),
}

impl Start {
    fn server(&self, certificates: &Certificates) -> Started {
        match self {
            Self::Nginx(directives) => Started::Program(nginx(certificates, directives)),
            Self::Openssl(flags) => Started::Program(openssl(certificates, flags)),
            Self::Rustls(change) => {
                let mut config = server_config(certificates);
                change(&mut config);
                Started::Rustls(EchoServer::start(config))
            }
        }
    }
}

enum Started {
    Program(Server),
    Rustls(EchoServer),
}

impl Started {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Program(server) => server.address,
            Self::Rustls(server) => server.address,
        }
    }
}

fn with_tickets(config: &mut ServerConfig) {
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    config.max_early_data_size = 0;
}

fn our_tickets(config: &mut ServerConfig) {
    config.max_early_data_size = 0;
    Resumption::tickets().unwrap().install(config, "probed");
}

fn our_sessions(config: &mut ServerConfig) {
    Resumption::stateful(1000)
        .unwrap()
        .install(config, "probed");
}

fn without_resumption(config: &mut ServerConfig) {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
}

/// Has no certificate for clients of TLS 1.3 until it is well.
#[derive(Debug)]
struct WellInTls12 {
    resolver: Arc<dyn ResolvesServerCert>,
    is_well: Arc<AtomicBool>,
}

impl ResolvesServerCert for WellInTls12 {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls sends this only where it offers TLS 1.2.
        let is_tls12 = hello
            .cipher_suites()
            .contains(&TLS_EMPTY_RENEGOTIATION_INFO_SCSV);
        match is_tls12 || self.is_well.load(Ordering::Relaxed) {
            true => self.resolver.resolve(hello),
            false => None,
        }
    }
}

/// Says that it keeps sessions.
#[derive(Debug)]
struct Forgetful;

impl StoresServerSessions for Forgetful {
    fn put(&self, _: Vec<u8>, _: Vec<u8>) -> bool {
        true
    }

    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn can_cache(&self) -> bool {
        true
    }
}

fn probe(certificates: &Certificates, address: SocketAddr, flags: &[&str]) -> Output {
    Command::new(PROBE)
        .args([&address.to_string(), "--servername", "localhost", "--ca"])
        .arg(certificates.ca())
        .args(flags)
        .output()
        .unwrap()
}

fn probe_json(certificates: &Certificates, address: SocketAddr, flags: &[&str]) -> Value {
    let output = probe(certificates, address, &[flags, &["--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The exit status and report of a probe of two nodes, in which `revoke` is called while it holds
/// sessions.
fn expect_refused<T>(
    certificates: &Certificates,
    nodes: &[EchoServer; 2],
    revoke: impl FnOnce() -> T,
) -> (Option<i32>, Value) {
    let [target, other] = nodes.each_ref().map(|node| node.address.to_string());
    let mut child = Command::new(PROBE)
        .args([&target, "--nodes", &other, "--servername", "localhost"])
        .args(["--expect-refused", "--json", "--ca"])
        .arg(certificates.ca())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut prompt = String::new();
    let stderr = child.stderr.take().unwrap();
    BufReader::new(stderr).read_line(&mut prompt).unwrap();
    assert!(prompt.contains("press Enter"), "{prompt}");
    revoke();
    // Closes standard input, too.
    let output = child.wait_with_output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code(), report)
}

/// The findings on one mechanism, as words of `aspect=value`.
fn summary(report: &Value, mechanism: &str) -> String {
    let words: Vec<_> = findings(report)
        .filter(|finding| finding["mechanism"] == mechanism)
        .map(|finding| {
            let value = &finding["value"];
            let value = match finding["aspect"].as_str().unwrap() {
                // 48 bytes are the longest secret of a session, and more than any handle takes.
                "ticket_size" if value.as_u64() <= Some(48) => "handle".to_owned(),
                "ticket_size" => "session".to_owned(),
                "early_data" => {
                    let times = match (&value["accepted"], &value["again"]) {
                        (Value::Bool(false), _) => "",
                        (_, Value::Bool(false)) => ",once",
                        _ => ",twice",
                    };
                    format!("{}{times}", value["limit"])
                }
                _ => value.to_string(),
            };
            format!("{}={value}", finding["aspect"].as_str().unwrap())
        })
        .collect();
    words.join(" ")
}

/// The one finding on an aspect, and on a subject if there may be several.
fn find<'a>(report: &'a Value, mechanism: &str, aspect: &str, subject: Option<&str>) -> &'a Value {
    let mut found = findings(report).filter(|finding| {
        finding["mechanism"] == mechanism
            && finding["aspect"] == aspect
            && subject.is_none_or(|subject| finding["subject"] == subject)
    });
    match (found.next(), found.next()) {
        (Some(finding), None) => finding,
        _ => panic!("not one finding on {mechanism} {aspect} {subject:?} in {report:#}"),
    }
}

fn findings(report: &Value) -> impl Iterator<Item = &Value> {
    report["findings"].as_array().unwrap().iter()
}

const MECHANISMS: [&str; 3] = ["tls1.2-session-id", "tls1.2-ticket", "tls1.3-ticket"];
