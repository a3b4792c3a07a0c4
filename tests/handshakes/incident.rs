//! What `revoke`, `revoke_all` and `forget` leave of handshakes that were under way.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::{ClientConfig, HandshakeKind};
use rustls_resumption::{FakeClock, Resumption, ResumptionBuilder, Scope};
use test_support::acceptor::{met, visit};
use test_support::handshake::{FULL, RESUMED, VERSIONS, client, server_config};
use test_support::session::{tls12, tls13};
use tokio::io::duplex;
use tokio_rustls::TlsAcceptor;

const SECOND: Duration = Duration::from_secs(1);

type Call = (&'static str, fn(&Resumption));

/// What an operator may call.
const CALLS: [Call; 3] = [
    ("revoke_all", Resumption::revoke_all),
    ("forget", |resumption| resumption.forget("api")),
    ("revoke", |resumption| {
        let active = resumption.stats().steks.active;
        resumption.revoke(&active.expect("a STEK that seals"));
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
        let (near, far) = duplex(1 << 18);
        let mut client = pin!(visit(client, near, b""));
        let mut server = pin!(async {
            let stream = match self.follows {
                true => {
                    let followed = self.resumption.follow(|| self.acceptor.accept(far));
                    followed.await.unwrap().0
                }
                false => self.acceptor.accept(far).await.unwrap(),
            };
            met(stream).await.kind
        });
        assert!(is_pending(&mut client).await && is_pending(&mut server).await);
        happens();
        let (kind, visited) = tokio::join!(server, client);
        visited.unwrap();
        kind
    }

    async fn meet(&self, client: &Arc<ClientConfig>) -> HandshakeKind {
        self.meet_while(client, || ()).await
    }
}

/// Polls once.
async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())).await
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
                        let call = || call(&server.resumption);
                        let case = format!("{name} {version:?} {follows} {begins_full}");
                        let kind = server.meet_while(&client, call).await;
                        assert_eq!(kind == FULL, begins_full, "{case}");
                        server.time.advance(SECOND);
                        // A renewal that nobody followed cannot be told from another session.
                        if follows || !only_renewals {
                            assert_eq!(server.meet(&client).await, FULL, "{case}");
                        }
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
    resumption.forget("api");
    assert_eq!(ticketer.encrypt(&session), None);
    assert_eq!(resumption.stats().tickets.not_sealed.revoked, 1);
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
        resumption.forget("api");
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
        resumption.forget("api");
        let encrypt = || ticketer.encrypt(&tls13(&[7; 48], b"")).ok_or(());
        let (ticket, _) = resumption.follow_blocking(encrypt).unwrap();
        assert!(ticketer.decrypt(&ticket).is_some());
    }
}
