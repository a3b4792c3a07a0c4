//! What clients see: full and resumed handshakes, by every way of resuming.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};
use rustls_resumption::source::KeyDirectory;
use rustls_resumption::{
    FakeClock, Resumption, ResumptionBuilder, Rotation, SessionCache, StekRing,
};
use tempfile::TempDir;
use test_support::handshake::*;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn installed(resumption: &Resumption, scope: &str) -> Arc<ServerConfig> {
    let mut config = server_config();
    resumption.install(&mut config, scope);
    Arc::new(config)
}

fn fake(builder: ResumptionBuilder) -> (FakeClock, Resumption) {
    let time = FakeClock::new();
    let resumption = builder.clock(time.clock()).build().unwrap();
    (time, resumption)
}

/// Both modes, on a fake clock.
fn modes() -> [(FakeClock, Resumption); 2] {
    [
        fake(Resumption::builder()),
        fake(Resumption::builder().stateful(20_000)),
    ]
}

#[test]
fn both_versions_resume_in_both_modes_again_and_again() {
    for (_, resumption) in modes() {
        let server = installed(&resumption, "a");
        for version in VERSIONS {
            let client = client(version);
            assert_eq!(kind(&client, &server), FULL);
            for _ in 0..5 {
                let outcome = handshake(&client, &server);
                assert_eq!(outcome.kind, RESUMED);
                assert_eq!(outcome.version, version.version);
            }
        }
    }
}

#[test]
fn the_fields_alone_make_a_server_resume() {
    let mut config = server_config();
    config.session_storage = Arc::new(SessionCache::new(100));
    let stateful = Arc::new(config);
    let mut config = server_config();
    config.ticketer = Arc::new(StekRing::new().unwrap());
    let tickets = Arc::new(config);
    for server in [stateful, tickets] {
        for version in VERSIONS {
            let client = client(version);
            assert_eq!(kind(&client, &server), FULL);
            assert_eq!(kind(&client, &server), RESUMED);
        }
    }
}

#[test]
fn a_tls12_client_without_tickets_resumes_by_session_id_in_ticket_mode() {
    let (_, resumption) = fake(Resumption::builder());
    let server = installed(&resumption, "a");
    let client = client_without_tickets();
    assert_eq!(kind(&client, &server), FULL);
    assert_eq!(kind(&client, &server), RESUMED);
    let stats = resumption.stats();
    assert_eq!((stats.cache.hits, stats.tickets.opened), (1, 0));
}

#[test]
fn the_ring_provider_resumes_as_well() {
    for (_, resumption) in modes() {
        for version in VERSIONS {
            let mut config = server_config_with(ring_provider(), false);
            resumption.install(&mut config, "ring");
            let server = Arc::new(config);
            let client = client(version);
            assert_eq!(kind(&client, &server), FULL);
            assert_eq!(kind(&client, &server), RESUMED);
        }
    }
}

#[test]
fn client_certificates_resume_within_their_scope_only() {
    for (_, resumption) in modes() {
        let mut config = mtls_server_config();
        let (scope, verifier) = ("with client certificates", client_verifier(provider()));
        resumption.install_with_client_verifier(&mut config, scope, verifier);
        let mtls = Arc::new(config);
        let open = installed(&resumption, "without");
        for version in VERSIONS {
            let client = client(version);
            assert_eq!(kind(&client, &mtls), FULL);
            assert_eq!(kind(&client, &mtls), RESUMED);
            assert_eq!(kind(&client, &open), FULL);
            assert_eq!(kind(&client, &open), RESUMED);
            assert_eq!(kind(&client, &mtls), FULL, "not by what the open one gave");
        }
    }
}

#[test]
fn a_certificate_reload_keeps_sessions() {
    for (_, resumption) in modes() {
        for version in VERSIONS {
            let client = client(version);
            assert_eq!(kind(&client, &installed(&resumption, "a")), FULL);
            assert_eq!(kind(&client, &installed(&resumption, "a")), RESUMED);
            assert_eq!(kind(&client, &installed(&resumption, "a")), RESUMED);
        }
    }
}

/// Just longer than handshakes may be under way that nobody follows.
const INCIDENT: Duration =
    ResumptionBuilder::DEFAULT_INCIDENT_WINDOW.saturating_add(Duration::from_millis(2));

#[test]
fn forgetting_a_scope_ends_its_sessions_and_no_others() {
    for (time, resumption) in modes() {
        let (a, b) = (installed(&resumption, "a"), installed(&resumption, "b"));
        for version in VERSIONS {
            let (ours, theirs) = (client(version), client(version));
            handshake(&ours, &a);
            handshake(&theirs, &b);
            let _ = resumption.forget("a");
            assert_eq!(kind(&ours, &a), FULL);
            assert_eq!(kind(&theirs, &b), RESUMED);
            time.advance(INCIDENT);
            assert_eq!(kind(&ours, &a), FULL, "it may have begun before");
            assert_eq!(kind(&ours, &a), RESUMED, "what came after is not forgotten");
        }
    }
}

#[test]
fn rotation_keeps_sessions_until_their_key_expires() {
    let rotation = Rotation::new().interval(HOUR).ticket_lifetime(2 * HOUR);
    let (time, resumption) = fake(Resumption::builder().rotation(rotation));
    let server = installed(&resumption, "a");
    for version in VERSIONS {
        let (returning, late) = (client(version), client(version));
        handshake(&returning, &server);
        handshake(&late, &server);
        for _ in 0..3 {
            time.advance(HOUR - Duration::from_secs(1));
            resumption.step();
            assert_eq!(kind(&returning, &server), RESUMED);
        }
        time.advance(Duration::from_secs(3));
        resumption.step();
        assert_eq!(kind(&late, &server), FULL, "its key expired");
        assert_eq!(kind(&returning, &server), RESUMED);
    }
    assert_eq!(resumption.stats().tickets.refused.expired_key, 2);
}

#[test]
fn rotating_now_keeps_sessions_and_revoking_ends_them() {
    for version in VERSIONS {
        let (_, resumption) = fake(Resumption::builder());
        let server = installed(&resumption, "a");
        let client = client(version);
        let active = || resumption.stats().steks.active.unwrap();
        handshake(&client, &server);
        let first = active();
        resumption.rotate_now().unwrap();
        assert_ne!(active(), first);
        assert_eq!(kind(&client, &server), RESUMED);
        let second = active();
        assert_eq!(resumption.revoke(&second).steks, 1);
        assert_eq!(resumption.revoke(&second).steks, 0, "it is gone");
        assert_eq!(kind(&client, &server), FULL);
        assert_eq!(
            kind(&client, &server),
            RESUMED,
            "another key took over at once"
        );
        let _ = resumption.revoke_all();
        assert_eq!(kind(&client, &server), FULL);
        assert_eq!(resumption.stats().tickets.refused.revoked, 2);
    }
}

#[test]
fn revoking_all_ends_stateful_sessions_too() {
    let (time, resumption) = fake(Resumption::builder().stateful(20_000));
    let server = installed(&resumption, "a");
    for version in VERSIONS {
        let client = client(version);
        handshake(&client, &server);
        let _ = resumption.revoke_all();
        assert_eq!(resumption.stats().cache.entries, 0);
        assert_eq!(kind(&client, &server), FULL);
        time.advance(INCIDENT);
        assert_eq!(kind(&client, &server), FULL, "it may have begun before");
        assert_eq!(kind(&client, &server), RESUMED);
    }
}

#[test]
fn stateful_sessions_end_with_their_ttl() {
    let (time, resumption) = fake(Resumption::builder().stateful(20_000).session_ttl(HOUR));
    let server = installed(&resumption, "a");
    for version in VERSIONS {
        let client = client(version);
        handshake(&client, &server);
        time.advance(HOUR - Duration::from_millis(1));
        assert_eq!(kind(&client, &server), RESUMED);
        time.advance(HOUR);
        assert_eq!(kind(&client, &server), FULL);
    }
}

#[test]
fn stateful_tls13_puts_and_takes_but_never_gets() {
    let (_, resumption) = fake(Resumption::builder().stateful(20_000));
    let server = installed(&resumption, "a");
    let client = client(&TLS13);
    handshake(&client, &server);
    assert_eq!(
        resumption.stats().cache.stored,
        2,
        "two tickets a handshake"
    );
    handshake(&client, &server);
    let cache = resumption.stats().cache;
    assert_eq!((cache.stored, cache.hits, cache.entries), (4, 1, 3));
}

#[test]
fn early_data_is_accepted_once_and_its_replay_refused() {
    let (_, resumption) = fake(Resumption::builder().stateful(20_000));
    let mut config = server_config();
    config.max_early_data_size = 1_000;
    resumption.install(&mut config, "a");
    let server = Arc::new(config);
    let mut config = client_config(&TLS13);
    config.enable_early_data = true;
    let client = Arc::new(config);

    assert_eq!(try_handshake(&client, &server, b"").unwrap().early, b"");
    let outcome = try_handshake(&client, &server, b"buy").unwrap();
    assert_eq!((outcome.kind, &outcome.early[..]), (RESUMED, &b"buy"[..]));

    let recorded = first_flight(&client, b"buy");
    assert_eq!(early_data_accepted(&server, &recorded).unwrap(), b"buy");
    assert_eq!(early_data_accepted(&server, &recorded), None);
}

#[test]
fn a_tls12_session_does_not_outlive_its_full_handshake_by_ticket() {
    // Renewed every hour, its ticket is always fresh; its master secret never is.
    age_by(client(&TLS12), &fake(Resumption::builder()), HOUR);
}

#[test]
fn a_tls12_session_does_not_outlive_its_full_handshake_by_session_id() {
    let ttl = Duration::from_secs(7 * 24 * 60 * 60);
    let stateful = Resumption::builder().stateful(20_000).session_ttl(ttl);
    age_by(client(&TLS12), &fake(stateful), HOUR);
    age_by(client_without_tickets(), &fake(Resumption::builder()), HOUR);
}

/// Comes back again and again until the session's age ends it: not before, not after.
fn age_by(
    client: Arc<rustls::ClientConfig>,
    (time, resumption): &(FakeClock, Resumption),
    every: Duration,
) {
    let server = installed(resumption, "a");
    assert_eq!(kind(&client, &server), FULL);
    let mut age = Duration::ZERO;
    while age + every < DAY {
        time.advance(every);
        age += every;
        resumption.step();
        assert_eq!(kind(&client, &server), RESUMED, "at {age:?}");
    }
    time.advance(DAY - age);
    resumption.step();
    assert_eq!(kind(&client, &server), FULL);
}

#[test]
fn two_connections_interleaved_on_one_thread_keep_their_own_ages() {
    let (time, resumption) = fake(Resumption::builder());
    let server = installed(&resumption, "a");
    let old = client(&TLS12);
    handshake(&old, &server);
    for hour in 1..24 {
        time.advance(HOUR);
        resumption.step();
        // A younger session's seal between the old one's open and its next, each hour.
        let young = client(&TLS12);
        handshake(&young, &server);
        assert_eq!(kind(&old, &server), RESUMED, "hour {hour}");
        assert_eq!(kind(&young, &server), RESUMED);
    }
    time.advance(HOUR);
    assert_eq!(kind(&old, &server), FULL);
}

#[test]
fn tls13_without_an_acceptor_has_no_known_age_and_that_is_counted() {
    let (_, resumption) = fake(Resumption::builder());
    let server = installed(&resumption, "a");
    handshake(&client(&TLS13), &server);
    let tickets = resumption.stats().tickets;
    assert_eq!(
        (tickets.age_unknown, tickets.sealed),
        (2, 2),
        "they are sealed too"
    );
    let (_, resumption) = fake(Resumption::builder().stateful(20_000));
    let server = installed(&resumption, "a");
    handshake(&client(&TLS13), &server);
    assert_eq!(resumption.stats().cache.age_unknown, 2);
}

#[test]
fn tickets_of_another_process_are_refused() {
    let (_, one) = fake(Resumption::builder());
    let (_, other) = fake(Resumption::builder());
    for version in VERSIONS {
        let client = client(version);
        handshake(&client, &installed(&one, "a"));
        assert_eq!(kind(&client, &installed(&other, "a")), FULL);
    }
    assert_eq!(other.stats().tickets.refused.unknown_key_name, 2);
}

#[test]
fn handles_outlive_the_resumption_and_keep_its_timer_running() {
    let server = installed(&Resumption::tickets().unwrap(), "a");
    let client = client(&TLS13);
    assert_eq!(kind(&client, &server), FULL);
    assert_eq!(kind(&client, &server), RESUMED);
}

#[test]
fn after_shutdown_every_handshake_is_full_and_none_fails() {
    for resumption in [
        Resumption::tickets().unwrap(),
        Resumption::stateful(1_000).unwrap(),
    ] {
        let server = installed(&resumption, "a");
        for version in VERSIONS {
            handshake(&client(version), &server);
        }
        assert!(resumption.shutdown(Duration::from_secs(30)));
        for version in VERSIONS {
            let client = client(version);
            assert_eq!(kind(&client, &server), FULL);
            assert_eq!(kind(&client, &server), FULL);
        }
        assert_eq!(resumption.stats().cache.entries, 0);
    }
}

#[test]
fn what_is_called_after_shutdown_says_so() {
    let directory = TempDir::new().unwrap();
    let source = KeyDirectory::new(directory.path().join("steks")).unwrap();
    let shared = Resumption::builder().stek_source(source).build().unwrap();
    for resumption in [Resumption::tickets().unwrap(), shared.clone()] {
        assert!(resumption.shutdown(Duration::from_secs(30)));
        let error = resumption.rotate_now().unwrap_err().to_string();
        assert!(error.ends_with("resumption was shut down"), "{error}");
        assert!(!resumption.ready());
    }
    for withdrawn in [shared.revoke_all(), shared.forget("a")] {
        assert!(withdrawn.is_nothing());
        let told = withdrawn.to_string();
        assert!(told.ends_with("resumption was shut down"), "{told}");
    }
}

#[test]
fn caches_of_zero_and_one_entry_work() {
    let (_, none) = fake(Resumption::builder().stateful(0));
    let server = installed(&none, "a");
    assert!(!server.session_storage.can_cache());
    let nobody = client(&TLS12);
    assert_eq!(kind(&nobody, &server), FULL);
    assert_eq!(kind(&nobody, &server), FULL);
    let (_, one) = fake(Resumption::builder().stateful(1));
    let server = installed(&one, "a");
    let (first, second) = (client(&TLS12), client(&TLS12));
    handshake(&first, &server);
    assert_eq!(kind(&first, &server), RESUMED);
    handshake(&second, &server);
    assert_eq!(kind(&first, &server), FULL, "the second took its place");
}
