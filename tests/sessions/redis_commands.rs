//! What is asked of Redis for a handshake, by its own account.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustls::version::TLS13;
use rustls_resumption::Resumption;
use rustls_resumption::store::RedisStore;
use test_support::acceptor::{acceptor, kind};
use test_support::fleet::{shared_source, until};
use test_support::handshake::{FULL, RESUMED, client, server_config};
use test_support::redis::RedisServer;

#[tokio::test]
async fn a_claim_is_one_command_and_so_one_round_trip() {
    const RESUMED_TIMES: usize = 10;
    let redis = RedisServer::start();
    let store = RedisStore::new(&redis.url()).unwrap();
    let resumption = Resumption::builder()
        .stateful(20_000)
        .stek_source(shared_source())
        .shared_store(store.clone())
        .store_deadline(Duration::from_secs(10))
        .build()
        .unwrap();
    until(&store, |health| !health.is_down).await;
    let mut monitor = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    monitor.write_all(b"MONITOR\r\n").unwrap();
    let mut said = BufReader::new(monitor).lines().map(Result::unwrap);
    assert_eq!(said.next().unwrap(), "+OK");

    let (client, acceptor) = (client(&TLS13), acceptor(&resumption, server_config()));
    for visit in 0..=RESUMED_TIMES {
        let expected = if visit == 0 { FULL } else { RESUMED };
        assert_eq!(kind(&client, &acceptor).await, expected);
        let shared = resumption.stats().store.shared;
        until(&store, |health| health.written == shared).await;
    }
    redis.ask("ECHO end");
    let commands = said.take_while(|line| !line.contains("\"end\""));
    // An idle connection is tried out now and then.
    let commands: Vec<_> = commands.filter(|line| !line.contains("probe")).collect();
    let of = |name: &str| {
        let command = format!("\"{name}\"");
        commands
            .iter()
            .filter(|line| line.contains(&command))
            .count()
    };
    assert_eq!(of("GETDEL"), RESUMED_TIMES, "{commands:?}");
    assert_eq!(of("SET"), 2 * (RESUMED_TIMES + 1), "{commands:?}");
    assert_eq!(commands.len(), of("GETDEL") + of("SET"), "{commands:?}");
}
