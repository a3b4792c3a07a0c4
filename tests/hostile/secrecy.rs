//! Nothing secret is shown: not by `Debug`, nor in the log at trace level.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls_resumption::source::{RedisSource, SourceKey, source_fn};
use rustls_resumption::store::{RedisClient, RedisStore};
use rustls_resumption::{
    Clock, Error, FakeClock, KeyName, Resumption, Rotation, Scope, Sealing, SessionCache, Stek,
};
use test_support::alone::alone;
use test_support::fake_redis;
use test_support::handshake::{VERSIONS, client, client_without_tickets, handshake, server_config};
use test_support::log::Log;
use test_support::session::{id, tls12, tls13};

const SECRET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

#[test]
fn debug_shows_names_and_settings_and_nothing_secret() {
    let stek = Stek::from_bytes(SECRET).unwrap();
    let name = stek.name().to_string();
    let shown = [
        (
            format!("{stek:?}"),
            format!(
                "Stek {{ name: KeyName({name}), sealing: {:?}, .. }}",
                Sealing::default()
            ),
        ),
        (
            format!("{:?}", KeyName::from_bytes([0xab; 16])),
            format!("KeyName({})", "ab".repeat(16)),
        ),
        (format!("{:?}", Scope::new("api")), r#"Scope("api")"#.into()),
        (format!("{:?}", Clock::system()), "Clock { .. }".into()),
        (
            format!("{:?}", SessionCache::new(9)),
            r#"SessionCache { scope: Scope(""), max_entries: 9, .. }"#.into(),
        ),
    ];
    for (shown, expected) in shown {
        assert_eq!(shown, expected);
    }
    let time = FakeClock::new();
    let resumption = Resumption::builder()
        .clock(time.clock())
        .stek_source(source_fn("test", |query| {
            Ok(vec![SourceKey::sealing(query.stek(SECRET)?)])
        }))
        .build()
        .unwrap();
    assert_eq!(
        format!("{resumption:?}"),
        format!(
            "Resumption {{ cache: SessionCache {{ scope: Scope(\"\"), max_entries: 20000, .. }}, \
             ring: Some(StekRing {{ scope: Scope(\"\"), rotation: {:?}, \
             active: Some(KeyName({name})), .. }}), .. }}",
            Rotation::new()
        )
    );
}

#[test]
fn errors_name_the_place_and_not_the_secret() {
    let weak = [b'Q'; 40];
    let error = Stek::from_bytes(&weak).unwrap_err();
    for shown in [format!("{error}"), format!("{error:?}")] {
        assert!(!shown.contains("QQ"), "{shown}");
    }
    assert!(matches!(error, Error::WeakKey { .. }));
}

#[test]
fn a_run_at_trace_level_logs_no_secret_session_or_id() {
    let (log, ()) = Log::of(|| {
        let time = FakeClock::new();
        let resumption = Resumption::builder()
            .clock(time.clock())
            .stek_source(source_fn("test", |query| {
                Ok(vec![SourceKey::sealing(query.stek(SECRET)?)])
            }))
            .build()
            .unwrap();
        let mut config = server_config();
        resumption.install(&mut config, "a");
        let server = Arc::new(config);
        for version in VERSIONS {
            let client = client(version);
            handshake(&client, &server);
            handshake(&client, &server);
        }
        let client = client_without_tickets();
        handshake(&client, &server);
        handshake(&client, &server);

        let cache = resumption.session_storage("a");
        assert!(cache.put(id(0x4142_4344_4546_4748).to_vec(), tls12(SECRET)));
        assert!(cache.get(&id(0x4142_4344_4546_4748)).is_some());
        assert!(cache.put(
            id(0x4142_4344_4546_4748).to_vec(),
            tls13(SECRET, b"app data")
        ));
        assert!(cache.take(&id(0x4142_4344_4546_4748)).is_some());
        let ring = resumption.ticketer("a");
        let ticket = ring.encrypt(&tls12(SECRET)).unwrap();
        assert!(ring.decrypt(&ticket).is_some());
        assert!(ring.decrypt(&ticket[1..]).is_none());
        let _ = resumption.revoke_all();
        time.advance(Duration::from_secs(100_000));
        resumption.step();
    });
    let log = log.lines().join("\n");
    for expected in [
        "TRACE message=ticket sealed",
        "TRACE message=ticket opened",
        "why=UnknownKeyName",
        "TRACE message=session looked up hit=true",
        "INFO message=STEK is now active",
        "WARN message=STEK revoked and wiped",
    ] {
        assert!(log.contains(expected), "{expected} in {log}");
    }
    for secret in [&SECRET[..], b"app data", b"ABCDEFGH"] {
        let text = String::from_utf8_lossy(secret);
        let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
        let list = format!("{:?}", &secret[..4]);
        for form in [&*text, &*hex, list.trim_matches(['[', ']'])] {
            assert!(!log.contains(form), "{form} in {log}");
        }
    }
}

#[test]
fn a_flood_of_junk_causes_no_flood_of_warnings() {
    let (log, ()) = Log::of(|| {
        let resumption = Resumption::builder()
            .clock(FakeClock::new().clock())
            .build()
            .unwrap();
        let (ring, cache) = (resumption.ticketer("a"), resumption.session_storage("a"));
        for length in 0..1_000 {
            assert!(ring.decrypt(&vec![7; length]).is_none());
            assert!(cache.get(&vec![7; length]).is_none());
        }
    });
    let mut loud = log.lines();
    loud.retain(|line| !line.starts_with("TRACE"));
    assert_eq!(loud.len(), 1, "that a STEK seals: {loud:?}");
}

/// What is told of a Redis that replies so to the password: in errors, in statistics, in the log.
fn told_of(reply: &'static str, log: &Log) -> Vec<String> {
    let port = fake_redis::start(move |command| {
        (command == "HELLO").then(|| format!("-{reply}\r\n").into_bytes())
    });
    let url = format!("redis://user:hunter2@127.0.0.1:{port}?protocol=resp3");
    let clients = [
        RedisClient::open(&*url).unwrap(),
        RedisClient::cluster([&*url]).unwrap(),
        RedisClient::sentinels([&*url], "sessions").unwrap(),
    ];
    let mut told = Vec::new();
    for client in clients {
        let before = log.warnings().len();
        let resumption = Resumption::builder()
            .stek_source(RedisSource::with_client(client.clone(), SECRET).unwrap())
            .shared_store(RedisStore::with_client(client).unwrap())
            .source_deadline(Duration::from_millis(10))
            .build()
            .unwrap();
        told.push(resumption.rotate_now().unwrap_err().to_string());
        let start = Instant::now();
        let of_store = |line: &String| line.contains("cannot be used");
        while !log.warnings()[before..].iter().any(of_store) {
            assert!(start.elapsed() < Duration::from_secs(30), "it is logged");
            thread::sleep(Duration::from_millis(5));
        }
        let trouble = resumption.stats().store.health.last_trouble;
        told.push(trouble.unwrap().what.to_string());
    }
    told.extend(log.lines());
    told
}

#[test]
fn a_password_that_redis_repeats_is_not_told() {
    // The store's threads log, too.
    alone(|| {
        let log = Log::default();
        tracing::subscriber::set_global_default(log.clone()).unwrap();
        for (reply, shown) in [
            (
                "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'user' 'hunter2' ",
                "unknown command 'HELLO'",
            ),
            ("ERR not for me: HELLO 3 AUTH user hunter2", "not shown"),
        ] {
            let told = told_of(reply, &log);
            let leaks: Vec<_> = told.iter().filter(|it| it.contains("hunter2")).collect();
            assert!(leaks.is_empty(), "{leaks:#?}");
            let six = &told[..6];
            assert!(six.iter().all(|it| it.contains(shown)), "{six:#?}");
        }
    });
}
