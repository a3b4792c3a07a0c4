//! What `revoke`, `revoke_all` and `forget` leave of handshakes that were under way.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use rustls_resumption::source::{
    DerivedSource, KeyDirectory, SourceError, SourceKey, SourceQuery, source_fn,
};
use rustls_resumption::{
    FakeClock, Reach, Resumption, ResumptionBuilder, Scope, SessionCache, Stek, StekRing, Withdrawn,
};
use tempfile::TempDir;
use test_support::acceptor::{kind_while, met};
use test_support::handshake::{
    FULL, RESUMED, VERSIONS, client, client_without_tickets, followed, kind, server_config,
};
use test_support::session::{tls12, tls13};
use tokio_rustls::TlsAcceptor;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

type Call = (&'static str, fn(&Resumption) -> Withdrawn);

/// What an operator may call.
const CALLS: [Call; 3] = [
    ("revoke_all", Resumption::revoke_all),
    ("forget", |resumption| resumption.forget("api")),
    ("revoke", |resumption| {
        let active = resumption.stats().steks.active;
        resumption.revoke(&active.expect("a STEK that seals"))
    }),
];

/// A server, whose handshakes are followed or not.
struct Server {
    time: FakeClock,
    resumption: Resumption,
    acceptor: TlsAcceptor,
    follows: bool,
}

impl Server {
    fn new(builder: ResumptionBuilder, follows: bool) -> Self {
        let time = FakeClock::new();
        let resumption = builder.clock(time.clock()).build().unwrap();
        let mut config = server_config();
        resumption.install(&mut config, Scope::new("api"));
        Self {
            time,
            resumption,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            follows,
        }
    }

    /// A handshake in the middle of which something happens, when the server has answered the
    /// ClientHello and waits for the client's Finished.
    async fn meet_while(
        &self,
        client: &Arc<ClientConfig>,
        happens: impl FnOnce(),
    ) -> HandshakeKind {
        let serve = async |far| {
            let stream = match self.follows {
                true => {
                    let followed = self.resumption.follow(|| self.acceptor.accept(far));
                    followed.await.unwrap().0
                }
                false => self.acceptor.accept(far).await.unwrap(),
            };
            met(stream).await.kind
        };
        kind_while(client, serve, happens).await
    }

    async fn meet(&self, client: &Arc<ClientConfig>) -> HandshakeKind {
        self.meet_while(client, || ()).await
    }
}

fn builders() -> [ResumptionBuilder; 2] {
    [Resumption::builder(), Resumption::builder().stateful(1_000)]
}

#[tokio::test]
async fn a_handshake_under_way_makes_nothing_that_resumes_after_the_call() {
    for follows in [true, false] {
        for builder in builders() {
            let server = Server::new(builder, follows);
            let makes_tickets = server.resumption.stats().steks.active.is_some();
            for (name, call) in CALLS {
                // What is revoked is the key of a session that is about to be renewed.
                let only_renewals = name == "revoke";
                if only_renewals && !makes_tickets {
                    continue;
                }
                for version in VERSIONS {
                    for begins_full in [true, false] {
                        if begins_full && only_renewals {
                            continue;
                        }
                        let client = client(version);
                        if !begins_full {
                            assert_eq!(server.meet(&client).await, FULL);
                        }
                        let call = || drop(call(&server.resumption));
                        let case = format!("{name} {version:?} {follows} {begins_full}");
                        let kind = server.meet_while(&client, call).await;
                        assert_eq!(kind == FULL, begins_full, "{case}");
                        server.time.advance(SECOND);
                        assert_eq!(server.meet(&client).await, FULL, "{case}");
                        // Begun after the call: at once, or when nothing of before is under way.
                        if !follows {
                            server.time.advance(60 * SECOND);
                            server.resumption.step();
                            server.meet(&client).await;
                        }
                        assert_eq!(server.meet(&client).await, RESUMED, "{case}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_renewal_is_as_old_as_what_it_renews_and_forgotten_with_it() {
    let resumption = Resumption::tickets().unwrap();
    let ticketer = resumption.ticketer("api");
    let session = tls12(&[7; 48]);
    let ticket = ticketer.encrypt(&session).unwrap();
    assert!(ticketer.decrypt(&ticket).is_some());
    let _ = resumption.forget("api");
    assert_eq!(ticketer.encrypt(&session), None);
    assert_eq!(resumption.stats().tickets.not_sealed.revoked, 1);
}

#[test]
fn a_tls12_renewal_that_nobody_followed_is_not_made_of_a_revoked_stek() {
    let resumption = Resumption::tickets().unwrap();
    let ticketer = resumption.ticketer("api");
    let session = tls12(&[7; 48]);
    let ticket = ticketer.encrypt(&session).unwrap();
    let sealed_by = resumption.stats().steks.active.unwrap();
    resumption.rotate_now().unwrap();
    assert!(ticketer.decrypt(&ticket).is_some());
    let _ = resumption.revoke(&sealed_by);
    assert_eq!(ticketer.encrypt(&session), None);
    assert_eq!(resumption.stats().tickets.not_sealed.revoked, 1);
}

#[test]
fn only_a_revoked_stek_that_opened_a_session_just_now_costs_others_their_tickets() {
    let time = FakeClock::new();
    let resumption = Resumption::builder().clock(time.clock()).build().unwrap();
    let ticketer = resumption.ticketer("api");
    let seal = || ticketer.encrypt(&tls13(&[7; 48], b""));
    let revoke = || resumption.revoke(&resumption.stats().steks.active.unwrap());
    let ticket = seal().unwrap();
    assert!(followed(&resumption, || ticketer.decrypt(&ticket)).is_some());
    let _ = revoke();
    let ticket = seal().expect("of what was opened with it is known what renews it");
    assert!(ticketer.decrypt(&ticket).is_some());
    time.advance(20 * SECOND);
    let _ = revoke();
    assert!(followed(&resumption, seal).is_some(), "it begins now");
    for (more, is_made) in [(0, false), (39, false), (1, true)] {
        time.advance(more * SECOND);
        assert_eq!(seal().is_some(), is_made, "{more}");
    }
    assert_eq!(resumption.stats().tickets.not_sealed.revoked, 2);
}

#[test]
fn what_nobody_followed_is_not_made_until_all_that_was_under_way_has_ended() {
    for (window, builder) in [
        (60, Resumption::builder()),
        (5, Resumption::builder().incident_window(5 * SECOND)),
    ] {
        let time = FakeClock::new();
        let resumption = builder.clock(time.clock()).build().unwrap();
        let (ticketer, storage) = (
            resumption.ticketer("api"),
            resumption.session_storage("api"),
        );
        let id = vec![7; 32];
        let _ = resumption.forget("api");
        for (after, is_made) in [(0, false), (window - 1, false), (2, true)] {
            time.advance(after * SECOND);
            for session in [tls12(&[7; 48]), tls13(&[7; 48], b"")] {
                assert_eq!(ticketer.encrypt(&session).is_some(), is_made, "{after}");
                assert_eq!(storage.put(id.clone(), session), is_made, "{after}");
            }
        }
        let stats = resumption.stats();
        assert_eq!(stats.tickets.not_sealed.revoked, 4);
        assert_eq!(stats.cache.not_stored.revoked, 4);
    }
}

#[test]
fn whatever_the_clock_says_a_handshake_that_begins_after_the_call_makes_sessions() {
    let time = FakeClock::new();
    let resumption = Resumption::builder().clock(time.clock()).build().unwrap();
    let ticketer = resumption.ticketer("api");
    // The clock stands still.
    for _ in 0..3 {
        let _ = resumption.forget("api");
        let encrypt = || ticketer.encrypt(&tls13(&[7; 48], b""));
        let ticket = followed(&resumption, encrypt).unwrap();
        assert!(ticketer.decrypt(&ticket).is_some());
    }
}

/// A process that shares a key directory with others.
struct Node {
    time: FakeClock,
    resumption: Resumption,
}

impl Node {
    fn new(directory: &Path, ahead: Duration) -> Self {
        let time = FakeClock::new();
        time.advance(HOUR + ahead);
        let source = KeyDirectory::new(directory.join("steks")).unwrap();
        let builder = Resumption::builder().stek_source(source);
        let resumption = builder.clock(time.clock()).build().unwrap();
        Self { time, resumption }
    }

    fn config(&self, scope: impl Into<Scope>) -> ServerConfig {
        let mut config = server_config();
        self.resumption.install(&mut config, scope);
        config
    }

    /// A handshake that is followed.
    fn meet(&self, client: &Arc<ClientConfig>, scope: impl Into<Scope>) -> HandshakeKind {
        let config = Arc::new(self.config(scope));
        followed(&self.resumption, || kind(client, &config))
    }

    /// Long enough to ask the source again.
    fn look(&self) {
        self.time.advance(SourceQuery::DEFAULT_INTERVAL);
        self.resumption.step();
    }
}

#[test]
fn what_one_process_forgets_others_forget_and_so_does_who_comes_later() {
    // The clock of whoever forgets may be behind that of the issuer, or ahead.
    for (ahead, behind) in [(0, 0), (240, 0), (0, 240), (300, 0), (0, 300)] {
        for version in VERSIONS {
            let directory = TempDir::new().unwrap();
            let node = |ahead| Node::new(directory.path(), ahead * SECOND);
            let (issuer, forgetful) = (node(ahead), node(behind));
            let clients = [(); 3].map(|()| client(version));
            let (ours, other) = (&clients[0], &clients[1]);
            assert_eq!(issuer.meet(ours, "api"), FULL);
            assert_eq!(issuer.meet(other, "other"), FULL);
            assert_eq!(forgetful.meet(ours, "api"), RESUMED);

            let withdrawn = forgetful.resumption.forget("api");
            assert_eq!((withdrawn.scopes, &withdrawn.reach), (1, &Reach::Shared));
            let later = node(0);
            assert_eq!(later.meet(ours, "api"), FULL, "after a restart");
            issuer.look();
            assert_eq!(issuer.resumption.stats().steks.source_failures, 0);
            for node in [&issuer, &forgetful, &later] {
                assert_eq!(node.meet(other, "other"), RESUMED, "what was not forgotten");
            }
            // Made after the call, anywhere, it resumes everywhere.
            let new = &clients[2];
            issuer.time.advance(SECOND);
            assert_eq!(issuer.meet(new, "api"), FULL);
            for node in [&forgetful, &later, &issuer] {
                node.time.advance(SECOND);
                assert_eq!(node.meet(new, "api"), RESUMED);
            }
        }
    }
}

#[test]
fn what_a_clock_ahead_made_is_not_renewed_by_a_handshake_under_way() {
    let directory = TempDir::new().unwrap();
    let node = |ahead| Node::new(directory.path(), ahead);
    let (issuer, forgetful) = (node(300 * SECOND), node(Duration::ZERO));
    let encrypt = |node: &Node, session: &[u8]| {
        let ticketer = node.resumption.ticketer("api");
        followed(&node.resumption, || ticketer.encrypt(session))
    };
    let ticketer = forgetful.resumption.ticketer("api");
    let under_way = |session: &[u8]| {
        let ticket = encrypt(&issuer, session).unwrap();
        forgetful.look();
        assert!(ticketer.decrypt(&ticket).is_some());
        let withdrawn = forgetful.resumption.forget("api");
        assert_eq!(withdrawn.reach, Reach::Shared);
        let renewal = ticketer.encrypt(session);
        issuer.look();
        renewal
    };
    for session in [tls12(&[7; 48]), tls13(&[7; 48], b"")] {
        let renewal = followed(&forgetful.resumption, || under_way(&session));
        assert_eq!(renewal, None);
        assert!(encrypt(&forgetful, &session).is_some(), "begun afterwards");
    }
    // Nobody follows; on one thread it is known all the same.
    assert_eq!(under_way(&tls12(&[7; 48])), None);
}

#[test]
fn what_was_sealed_before_the_others_knew_does_not_resume() {
    for version in VERSIONS {
        let directory = TempDir::new().unwrap();
        let [a, b] = [(); 2].map(|()| Node::new(directory.path(), Duration::ZERO));
        let client = client(version);
        assert_eq!(a.meet(&client, "api"), FULL);
        assert_eq!(b.resumption.forget("api").reach, Reach::Shared);
        // It does not know yet, and renews.
        assert_eq!(a.meet(&client, "api"), RESUMED);
        assert_eq!(b.meet(&client, "api"), FULL);
        assert_eq!(a.meet(&client, "api"), RESUMED, "of the new generation");
        a.look();
        assert_eq!(
            a.meet(&client, "api"),
            FULL,
            "it had renewed before it knew"
        );
    }
}

#[test]
fn a_name_reaches_all_its_scopes_and_those_installed_later() {
    let bound = || Scope::new("api").client_cas([b"ca"]);
    for version in VERSIONS {
        let directory = TempDir::new().unwrap();
        let [a, b] = [(); 2].map(|()| Node::new(directory.path(), Duration::ZERO));
        let [one, two, three] = [(); 3].map(|()| client(version));
        assert_eq!(a.meet(&one, bound()), FULL);
        assert_eq!(a.meet(&two, "api"), FULL);
        assert_eq!(a.meet(&three, "other"), FULL);
        // Exactly one of the two, which the other process has not installed.
        let withdrawn = b.resumption.forget_exactly(bound());
        assert!(withdrawn.is_nothing() && withdrawn.reach == Reach::Shared);
        a.look();
        assert_eq!(a.meet(&one, bound()), FULL);
        assert_eq!(a.meet(&two, "api"), RESUMED);
        let _ = b.resumption.forget("api");
        a.look();
        assert_eq!(a.meet(&one, bound()), FULL);
        assert_eq!(b.meet(&two, "api"), FULL);
        assert_eq!(b.meet(&three, "other"), RESUMED);
    }
}

#[test]
fn after_revoke_all_other_processes_drop_what_they_hold_too() {
    let directory = TempDir::new().unwrap();
    let [a, b] = [(); 2].map(|()| Node::new(directory.path(), Duration::ZERO));
    // By session ID, from the cache of the process.
    let client = client_without_tickets();
    assert_eq!(a.meet(&client, "api"), FULL);
    assert_eq!(a.meet(&client, "api"), RESUMED);
    let withdrawn = b.resumption.revoke_all();
    assert!(withdrawn.steks > 0);
    assert_eq!(withdrawn.reach, Reach::Shared);
    a.look();
    assert_eq!(a.resumption.stats().cache.entries, 0);
    assert_eq!(a.meet(&client, "api"), FULL);
}

#[test]
fn a_stek_that_another_process_revokes_leaves_no_renewal_under_way_either() {
    for follows in [true, false] {
        let directory = TempDir::new().unwrap();
        let [a, b] = [(); 2].map(|()| Node::new(directory.path(), Duration::ZERO));
        let ticketer = a.resumption.ticketer("api");
        let session = tls13(&[7; 48], b"");
        let ticket = followed(&a.resumption, || ticketer.encrypt(&session)).unwrap();
        let sealed_by = b.resumption.stats().steks.active.unwrap();
        b.resumption.rotate_now().unwrap();
        a.look();
        let handshake = || {
            assert!(ticketer.decrypt(&ticket).is_some());
            assert_eq!(b.resumption.revoke(&sealed_by).reach, Reach::Shared);
            a.look();
            ticketer.encrypt(&session)
        };
        let renewal = match follows {
            true => followed(&a.resumption, handshake),
            false => handshake(),
        };
        assert_eq!(renewal, None);
    }
}

#[test]
fn a_scope_that_is_installed_later_is_forgotten_as_well() {
    let time = FakeClock::new();
    let resumption = Resumption::builder().clock(time.clock()).build().unwrap();
    let session = tls12(&[7; 48]);
    let ticket = resumption.ticketer("api").encrypt(&session).unwrap();
    let bound = Scope::new("api").client_cas([b"ca"]);
    assert_eq!(resumption.forget("elsewhere").scopes, 0);
    assert_eq!(resumption.forget("api").reach, Reach::Nobody);
    for scope in [Scope::new("api"), bound] {
        assert_eq!(resumption.ticketer(scope).decrypt(&ticket), None);
    }
}

#[test]
fn a_source_that_cannot_tell_others_says_so() {
    let source = DerivedSource::new(b"9f3c 71d0 4be8 a256 0c5d e91b 37").unwrap();
    let time = FakeClock::new();
    let builder = Resumption::builder().stek_source(source);
    let resumption = builder.clock(time.clock()).build().unwrap();
    let _ = resumption.ticketer("api");
    let forgotten = resumption.forget("api");
    assert_eq!((forgotten.scopes, forgotten.reach), (1, Reach::Each));
    let revoked = resumption.revoke_all();
    assert_eq!(
        revoked.to_string(),
        format!(
            "dropped {} STEKs and 0 sessions of 1 scopes; other processes with these STEKs must be \
             told each",
            revoked.steks
        )
    );
}

#[test]
fn a_stek_that_is_revoked_while_it_is_away_does_not_come_back() {
    let (is_there, secret) = (Arc::new(AtomicBool::new(false)), SECRET);
    let source = {
        let is_there = Arc::clone(&is_there);
        source_fn("late", move |query| {
            match is_there.load(Ordering::Relaxed) {
                true => Ok(vec![SourceKey::sealing(query.stek(secret)?)]),
                false => Err(SourceError::from("not yet")),
            }
        })
    };
    let time = FakeClock::new();
    let builder = Resumption::builder().stek_source(source);
    let resumption = builder.clock(time.clock()).build().unwrap();
    let leaked = Stek::from_bytes(secret).unwrap();
    assert_eq!(resumption.revoke(leaked.name()).steks, 0);
    is_there.store(true, Ordering::Relaxed);
    time.advance(HOUR);
    resumption.step();
    let stats = resumption.stats().steks;
    assert!(stats.fallen_back && stats.active != Some(*leaked.name()));
}

const SECRET: &[u8] = b"the secret of a STEK, 32 bytes !";

#[test]
fn the_two_parts_set_by_hand_end_with_their_calls() {
    for version in VERSIONS {
        let ring = StekRing::new().unwrap();
        let cache = SessionCache::new(1_000);
        let mut config = server_config();
        config.ticketer = Arc::new(ring.clone());
        config.session_storage = Arc::new(cache.clone());
        let config = Arc::new(config);
        let clients = [client(version), client_without_tickets()];
        for client in &clients {
            assert_eq!(kind(client, &config), FULL);
            assert_eq!(kind(client, &config), RESUMED);
        }
        assert!(ring.revoke_all().steks > 0);
        cache.clear();
        for client in &clients {
            assert_eq!(kind(client, &config), FULL);
            assert_eq!(kind(client, &config), FULL, "it may have been under way");
        }
    }
}
