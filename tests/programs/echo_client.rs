//! The examples' client, and `echo_client` as a process, against rustls's own session storage.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use example_support::client::{self, Client, ClientError, ClientOptions, EarlyData};
use rustls::ProtocolVersion;
use rustls::crypto::{SupportedKxGroup, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use test_support::echo::{EARLY_DATA_LIMIT, EchoServer, server_config, with_provider};
use test_support::{Certificates, example, free_address};
use tokio::runtime::Runtime;

#[test]
fn all_but_the_first_connection_of_each_worker_resume() {
    for (flags, expected) in [
        (&["--tls", "1.2"][..], "full=3 resumed=37 failed=0 early=0"),
        (&["--tls", "1.3"], "full=3 resumed=37 failed=0 early=0"),
        (
            &["--tls", "1.2", "--no-resume"],
            "full=40 resumed=0 failed=0 early=0",
        ),
        (
            &["--tls", "1.3", "--no-resume"],
            "full=40 resumed=0 failed=0 early=0",
        ),
        (
            &["--early-data", "100"],
            "full=3 resumed=37 failed=0 early=37",
        ),
        (
            &["--early-data", "100000"],
            "full=3 resumed=37 failed=0 early=37",
        ),
    ] {
        let certificates = Certificates::for_names(&["localhost"]);
        let server = EchoServer::start(server_config(&certificates));
        let output = echo_client(&certificates.ca(), &[server.address], flags);
        assert_eq!(last_line(&output), expected, "{flags:?}: {output:?}");
        assert!(output.status.success(), "{flags:?}: {output:?}");
    }
}

#[test]
fn tickets_resume_as_stored_sessions_do_but_carry_no_early_data() {
    let certificates = Certificates::for_names(&["localhost"]);
    let mut config = server_config(&certificates);
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    let server = EchoServer::start(config);
    for flags in [
        &["--tls", "1.2"][..],
        &["--tls", "1.3"],
        &["--early-data", "9"],
    ] {
        let output = echo_client(&certificates.ca(), &[server.address], flags);
        assert_eq!(
            last_line(&output),
            "full=3 resumed=37 failed=0 early=0",
            "{flags:?}"
        );
    }
}

#[test]
fn the_table_shows_the_latency_of_each_kind() {
    let certificates = Certificates::for_names(&["localhost"]);
    let server = EchoServer::start(server_config(&certificates));
    let output = echo_client(&certificates.ca(), &[server.address], &[]);
    let table = String::from_utf8(output.stdout).unwrap();
    for row in ["full", "resumed"] {
        let line = table.lines().find(|line| line.contains(row)).unwrap();
        assert_eq!(
            line.matches("µs").count(),
            2,
            "p50 and p99 of {row} in\n{table}"
        );
    }
    assert!(table.contains("a second"), "{table}");
}

#[test]
fn addresses_are_visited_in_turn_and_an_unreachable_one_is_a_failure() {
    let certificates = Certificates::for_names(&["localhost"]);
    let server = EchoServer::start(server_config(&certificates));
    let nobody = free_address();
    let output = echo_client(&certificates.ca(), &[server.address, nobody], &[]);
    assert!(last_line(&output).contains("failed=20"), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains(&format!("failed 20 times: {nobody}: cannot connect")),
        "{errors}"
    );
}

#[test]
fn a_certificate_of_another_authority_is_a_failure() {
    let certificates = Certificates::for_names(&["localhost"]);
    let server = EchoServer::start(server_config(&certificates));
    let other = Certificates::for_names(&["localhost"]);
    let output = echo_client(&other.ca(), &[server.address], &[]);
    assert_eq!(last_line(&output), "full=0 resumed=0 failed=40 early=0");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("invalid peer certificate"), "{errors}");
}

#[test]
fn a_bad_flag_or_file_costs_one_line_and_exit_status_2() {
    let certificates = Certificates::for_names(&["localhost"]);
    let ca = certificates.ca();
    let key = certificates.key();
    for (ca, flags, says) in [
        (&*ca, &["--tls", "1.4"][..], "[possible values: 1.2, 1.3]"),
        (&ca, &["--count", "0"], "at least 1"),
        (&ca, &["--connect", "nowhere"], "an address is HOST:PORT"),
        (&ca, &["--servername", "not a name"], "not a DNS name"),
        (
            &ca,
            &["--early-data", "1", "--tls", "1.2"],
            "needs a TLS 1.3 session",
        ),
        (
            &ca,
            &["--early-data", "1", "--no-resume"],
            "drop --no-resume",
        ),
        (Path::new("/nonexistent.pem"), &[], "/nonexistent.pem"),
        (&key, &[], "holds no certificate"),
    ] {
        let output = Command::new(example("echo_client"))
            .arg("--ca")
            .arg(ca)
            .args(flags)
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(errors.contains(says), "{errors}");
    }
}

#[test]
fn bytes_that_come_back_wrong_are_a_failure() {
    let certificates = Certificates::for_names(&["localhost"]);
    let liar = EchoServer::answering(server_config(&certificates), |mut bytes| {
        bytes[0] ^= 1;
        bytes
    });
    let chatterer = EchoServer::answering(server_config(&certificates), |bytes| {
        [bytes, b"and more".to_vec()].concat()
    });
    let result = echo(&certificates, &liar, &liar.runtime);
    assert!(
        matches!(result, Err(ClientError::WrongEcho { at: 0, .. })),
        "{result:?}"
    );
    let result = echo(&certificates, &chatterer, &chatterer.runtime);
    assert!(
        matches!(result, Err(ClientError::Surplus { .. })),
        "{result:?}"
    );
}

#[test]
fn a_hello_retry_request_is_seen_in_full_and_in_resumed_handshakes() {
    let certificates = Certificates::for_names(&["localhost"]);
    let config = |group: &'static dyn SupportedKxGroup| {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![group];
        with_provider(&certificates, provider)
    };
    // They share their sessions and disagree on the key exchange, which keeps the client guessing.
    let first = config(aws_lc_rs::kx_group::SECP384R1);
    let mut second = config(aws_lc_rs::kx_group::SECP256R1);
    second.session_storage = Arc::clone(&first.session_storage);
    let servers = [EchoServer::start(first), EchoServer::start(second)];
    let client = Client::new(options(&certificates, &servers)).unwrap();

    let mut worker = client.worker();
    servers[0].runtime.block_on(async {
        let handshake = worker.echo().await.unwrap().handshake;
        assert!(handshake.hello_retry && !handshake.resumed, "{handshake:?}");
        for _ in 0..2 {
            let handshake = worker.echo().await.unwrap().handshake;
            assert!(handshake.hello_retry && handshake.resumed, "{handshake:?}");
        }
        let again = worker.echo_at(servers[0].address).await.unwrap().handshake;
        assert!(!again.hello_retry && again.resumed, "{again:?}");
    });
}

#[test]
fn early_data_beyond_what_the_session_allows_follows_after_the_handshake() {
    let certificates = Certificates::for_names(&["localhost"]);
    let server = EchoServer::start(server_config(&certificates));
    let client = Client::new(ClientOptions {
        early_data: 3000,
        payload: vec![7; 1_000_000],
        ..options(&certificates, std::slice::from_ref(&server))
    })
    .unwrap();
    let mut worker = client.worker();
    server.runtime.block_on(async {
        let first = worker.echo().await.unwrap();
        assert_eq!(first.address, server.address);
        assert_eq!(first.bytes, 1_003_000);
        assert_eq!(first.handshake.version, ProtocolVersion::TLSv1_3);
        assert_eq!(first.handshake.early_data, EarlyData::NotOffered);
        let second = worker.echo().await.unwrap();
        assert_eq!(second.bytes, 1_003_000);
        let accepted = EarlyData::Accepted {
            bytes: EARLY_DATA_LIMIT as usize,
        };
        assert_eq!(second.handshake.early_data, accepted);
    });
}

#[test]
fn early_data_that_a_server_refuses_is_sent_again() {
    let certificates = Certificates::for_names(&["localhost"]);
    // They do not share their sessions.
    let servers = [(); 2].map(|()| EchoServer::start(server_config(&certificates)));
    let client = Client::new(ClientOptions {
        early_data: 100,
        ..options(&certificates, &servers)
    })
    .unwrap();
    let mut worker = client.worker();
    servers[0].runtime.block_on(async {
        worker.echo().await.unwrap();
        let elsewhere = worker.echo().await.unwrap();
        assert_eq!(elsewhere.handshake.early_data, EarlyData::Refused);
        assert!(!elsewhere.handshake.resumed);
    });
}

#[test]
fn a_client_without_an_address_is_refused() {
    let certificates = Certificates::for_names(&["localhost"]);
    let result = Client::new(options(&certificates, &[]));
    assert!(matches!(result, Err(ClientError::NoAddress)));
}

/// 40 connections by 3 workers.
fn echo_client(ca: &Path, addresses: &[SocketAddr], flags: &[&str]) -> Output {
    let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    Command::new(example("echo_client"))
        .args([
            "--count",
            "40",
            "--concurrency",
            "3",
            "--connect",
            &addresses.join(","),
        ])
        .arg("--ca")
        .arg(ca)
        .args(flags)
        .output()
        .unwrap()
}

fn last_line(output: &Output) -> &str {
    let output = std::str::from_utf8(&output.stdout).unwrap();
    output.lines().last().unwrap_or_default()
}

fn echo(
    certificates: &Certificates,
    server: &EchoServer,
    runtime: &Runtime,
) -> Result<client::Outcome, ClientError> {
    let client = Client::new(options(certificates, std::slice::from_ref(server)))?;
    runtime.block_on(client.worker().echo())
}

fn options(certificates: &Certificates, servers: &[EchoServer]) -> ClientOptions {
    let addresses = servers.iter().map(|server| server.address).collect();
    ClientOptions::new(addresses, client::read_roots(&certificates.ca()).unwrap())
}
