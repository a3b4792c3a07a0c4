use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use test_support::log::Log;
use test_support::redis::RedisServer;

use super::*;
use crate::rotation::Rotation;
use crate::source::shared::record::Record;
use crate::source::shared::record::tests::{query, secrets};

const NOW: Time = Time(1_800_000_000_000);

fn kek() -> Vec<u8> {
    (100..150).collect()
}

/// Passes connections on to a port, and tells of every byte.
fn tapped(port: u16, tap: Sender<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let tapped = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
            for (mut from, mut to) in [(client, server), back] {
                let tap = tap.clone();
                thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(len @ 1..) = from.read(&mut bytes) {
                        tap.send(bytes[..len].to_vec()).unwrap();
                        to.write_all(&bytes[..len]).unwrap();
                    }
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    tapped
}

#[test]
fn nothing_secret_goes_to_redis_or_into_its_dump() {
    let server = RedisServer::with_flags(&["--rdbcompression", "no"]);
    let (tap, seen) = channel();
    let port = tapped(server.port(), tap);
    let url = format!("redis://127.0.0.1:{port}");
    let mut source = RedisSource::new(&url, &kek()).unwrap();
    let rotation = Rotation::new();
    let rotate = query(NOW, &rotation, true, &[]);
    for _ in 0..3 {
        source.load(&rotate).unwrap();
    }

    let mut get = redis::cmd("GET");
    let client = redis::Client::open(server.url()).unwrap();
    let value: Vec<u8> = get
        .arg(&source.0.backend.key)
        .query(&mut client.get_connection().unwrap())
        .unwrap();
    let record = source.0.backend.open(&value).unwrap();
    let record = Record::decode(&record, rotate.sealing, None).unwrap();
    let mut needles = secrets(&record);
    assert_eq!(needles.len(), 3);
    needles.push(kek());
    let dump = server.save();
    drop(source); // so that its connection ends, and with it what is seen
    let wire: Vec<u8> = seen.try_iter().flatten().collect();
    let is_in = |needle: &[u8], hay: &[u8]| hay.windows(needle.len()).any(|w| w == needle);
    assert!(is_in(&value, &wire), "the wire was seen");
    assert!(is_in(b"rustls-resumption:steks:2", &dump));
    for needle in &needles {
        for part in needle.chunks_exact(8) {
            assert!(!is_in(part, &wire) && !is_in(part, &dump));
        }
    }
}

#[test]
fn a_name_that_is_slow_to_resolve_is_resolved() {
    let server = RedisServer::start();
    let url = format!("redis://redis.test:{}", server.port());
    let client = RedisClient::open(url).unwrap().with_slow_names();
    let mut source = RedisSource::with_client(client, &kek()).unwrap();
    let rotation = Rotation::new();
    let question = query(NOW, &rotation, false, &[]);
    let keys = source.load(&question);
    assert!(keys.is_ok(), "{keys:?}");
}

#[test]
fn a_value_that_was_missing_is_logged_with_its_key_and_server() {
    let server = RedisServer::start();
    let mut source = RedisSource::new(&server.url(), &kek()).unwrap();
    let rotation = Rotation::new();
    let question = query(NOW, &rotation, false, &[]);
    source.load(&question).unwrap();
    server.ask("DEL rustls-resumption:steks:2");
    let (log, loaded) = Log::of(|| source.load(&question));
    loaded.unwrap();
    let port = server.port();
    let said = format!("place=rustls-resumption:steks:2 at Redis 127.0.0.1:{port} ");
    let warnings = log.warnings();
    assert!(
        warnings.iter().any(|line| line.contains(&said)),
        "{warnings:?}"
    );
}

#[test]
fn debug_shows_only_what_is_public() {
    let source = RedisSource::new("redis://user:hunter2@localhost", &kek()).unwrap();
    let keks = format!("{:?}", source.0.backend.keks);
    assert_eq!(
        format!("{:?}", source.prefix("fleet")),
        format!(
            "RedisSource {{ address: \"localhost:6379\", key: \"fleet:steks:2\", \
             keks: {keks}, .. }}"
        )
    );
}

#[test]
fn a_clock_that_is_off_is_noticed_until_it_is_right_again() {
    let mut source = RedisSource::new("redis://localhost", &kek()).unwrap();
    let value = &mut source.0.backend;
    let rotation = Rotation::new();
    let ours = query(NOW, &rotation, false, &[]);
    let ahead = rotation.ahead();
    let second = Duration::from_secs(1);
    for (theirs, differs) in [
        (NOW, false),
        (NOW.plus(ahead), false),
        (NOW.plus(ahead + second), true),
        (NOW.minus(ahead), false),
        (NOW.minus(ahead + second), true),
    ] {
        value.compare_clocks(theirs, &ours);
        assert_eq!(value.clock_differs, differs);
    }
}

#[test]
fn clock_skew_is_logged_when_it_exceeds_the_limit_and_when_it_ends() {
    let mut source = RedisSource::new("redis://localhost", &kek()).unwrap();
    let value = &mut source.0.backend;
    let rotation = Rotation::new();
    let ours = query(NOW, &rotation, false, &[]);
    let behind = NOW.minus(2 * rotation.ahead());
    let mut logged = |theirs| Log::of(|| value.compare_clocks(theirs, &ours)).0.lines();
    for _ in 0..2 {
        let warning = "WARN message=this host's clock and that of Redis differ by more than \
                       STEKs are published ahead: correct whichever is wrong \
                       redis=localhost:6379 difference=600s allowed=300s";
        let info = "INFO message=this host's clock and that of Redis agree again \
                    redis=localhost:6379";
        let nothing: [&str; 0] = [];
        assert_eq!(logged(NOW), nothing);
        assert_eq!(logged(behind), [warning]);
        assert_eq!(logged(behind), nothing);
        assert_eq!(logged(NOW), [info]);
    }
}
