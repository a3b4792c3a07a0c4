//! `echo_server` as a process: its modes, its output, and hostile clients.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use example_support::client;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use test_support::echo_server::{EchoProcess, value};
use test_support::{example, free_address};
use tokio::runtime::Runtime;

use crate::visitor::Visitor;

#[test]
fn in_every_mode_all_but_the_first_connection_of_each_worker_resume() {
    for (mode, [by_12, by_13]) in [
        ("tickets", ["ticket"; 2]),
        ("stateful", ["session_id", "cache"]),
        ("builtin-tickets", ["resumed"; 2]),
        ("builtin-stateful", ["resumed"; 2]),
    ] {
        for (tls, by) in [("1.2", by_12), ("1.3", by_13)] {
            let server = EchoProcess::start(&["--resumption", mode]);
            let said = echo_client(&server, &["--tls", tls]);
            assert_eq!(said, "full=8 resumed=92 failed=0 early=0", "{mode} {tls}");
            let conns: Vec<_> = (0..100).map(|_| server.conn()).collect();
            let count = |outcome| conns.iter().filter(|conn| conn.outcome == outcome).count();
            assert_eq!((count("full"), count(by)), (8, 92), "{mode} {tls}");
            for conn in &conns {
                assert_eq!((&*conn.version, conn.early), (tls, 0));
                assert!(conn.us > 0 && conn.peer.ip().is_loopback(), "{conn:?}");
            }
            let sums = server.stop();
            assert_eq!((sums.accepted, sums.full, sums.resumed), (100, 8, 92));
            assert_eq!((sums.failed, sums.early), (0, 0));
        }
    }
}

#[test]
fn nothing_resumes_when_resumption_is_off() {
    for tls in ["1.2", "1.3"] {
        let server = EchoProcess::start(&["--resumption", "off"]);
        let said = echo_client(&server, &["--tls", tls]);
        assert_eq!(said, "full=100 resumed=0 failed=0 early=0", "{tls}");
        assert_eq!(server.stop().resumed, 0);
    }
}

#[test]
fn early_data_comes_back_first_and_is_counted() {
    let server = EchoProcess::start(&["--resumption", "stateful", "--early-data", "1000"]);
    // More than is allowed: the rest follows after the handshake.
    for (bytes, early) in [("300", 300), ("5000", 1_000)] {
        let said = echo_client(&server, &["--early-data", bytes]);
        assert_eq!(said, "full=8 resumed=92 failed=0 early=92");
        for _ in 0..100 {
            let conn = server.conn();
            let expected = if conn.outcome == "full" { 0 } else { early };
            assert_eq!(conn.early, expected, "{conn:?}");
        }
    }
    let sums = server.stop();
    assert_eq!((sums.resumed, sums.early, sums.failed), (184, 184, 0));
}

#[test]
fn clients_that_send_nothing_or_garbage_or_hang_up_cost_one_line() {
    let server = EchoProcess::start(&["--handshake-timeout", "2s"]);
    let hello = client_hello();
    let be_rude = |send: &[u8], hang_up| {
        let mut tcp = TcpStream::connect(server.address()).unwrap();
        tcp.write_all(send).unwrap();
        if hang_up {
            tcp.shutdown(Shutdown::Write).unwrap();
        }
        tcp
    };
    let costs_a_line = |reason: &str| {
        let line = server.line();
        let expected = format!("fail peer={} reason=\"", value(&line, "peer"));
        assert!(line.starts_with(&expected), "{line}");
        assert!(line.contains(reason) && line.ends_with('"'), "{line}");
        value(&line, "peer").parse::<SocketAddr>().unwrap()
    };
    let http = b"GET / HTTP/1.1\r\nHost: \"localhost\"\r\n\r\n";
    for (send, hang_up, reason) in [
        (&b""[..], true, "eof"),
        (&hello[..50], true, "eof"),
        (http, false, "corrupt"),
    ] {
        let mut tcp = be_rude(send, hang_up);
        assert_eq!(costs_a_line(reason), tcp.local_addr().unwrap());
        // It lets go of the connection.
        let _ = tcp.read_to_end(&mut Vec::new());
    }
    let silent = [b"", &hello[..50], &hello].map(|send| be_rude(send, false));
    let mut failed = [(); 3].map(|()| costs_a_line("no handshake within 2s"));
    let mut peers = silent.map(|mut tcp| {
        let _ = tcp.read_to_end(&mut Vec::new());
        tcp.local_addr().unwrap()
    });
    failed.sort();
    peers.sort();
    assert_eq!(failed, peers);

    // Others are served as ever.
    assert!(!Visitor::new(server.ca()).visit(server.address()).unwrap());
    assert_eq!(server.conn().outcome, "full");
    let sums = server.stop();
    assert_eq!((sums.accepted, sums.full, sums.failed), (7, 1, 6));
}

#[test]
fn a_client_that_hangs_up_after_its_handshake_costs_no_extra_line() {
    let server = EchoProcess::start(&[]);
    let config = tls_config(client::read_roots(server.ca()).unwrap());
    let name = "localhost".try_into().unwrap();
    let hang_up = client::connect(&config, server.address(), &name, &[], 0);
    drop(Runtime::new().unwrap().block_on(hang_up).unwrap());
    assert_eq!(server.conn().outcome, "full");
    server.signal("TERM");
    assert!(
        server
            .line()
            .starts_with("stats accepted=1 full=1 resumed=0 failed=0")
    );
}

#[test]
fn metrics_are_served_with_the_feature_and_refused_without() {
    let address = free_address();
    let flags = ["--metrics", &address.to_string()];
    if cfg!(not(feature = "metrics")) {
        let output = Command::new(example("echo_server"))
            .args(flags)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("--features metrics"), "{error}");
        return;
    }
    let server = EchoProcess::start(&flags);
    echo_client(&server, &[]);
    // All but the first of each of eight workers.
    let opened = "\nresumption_tickets_opened_total 92\n";
    let begin = Instant::now();
    loop {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        // Published once a second.
        if text.contains(opened) {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{text}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A hundred connections by eight workers; returns the last line.
fn echo_client(server: &EchoProcess, flags: &[&str]) -> String {
    let output = Command::new(example("echo_client"))
        .args(["--count", "100", "--concurrency", "8", "--connect"])
        .arg(server.address().to_string())
        .arg("--ca")
        .arg(server.ca())
        .args(flags)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().last().unwrap_or_default().to_owned()
}

/// The first message of a TLS client.
fn client_hello() -> Vec<u8> {
    let config = tls_config(RootCertStore::empty());
    let mut connection = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

fn tls_config(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
