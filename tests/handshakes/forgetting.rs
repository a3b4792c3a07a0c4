//! Scopes that are forgotten while other processes cannot be told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls_resumption::source::{
    DerivedSource, KeyDirectory, SourceError, SourceKey, SourceQuery, StekSource,
};
use rustls_resumption::{FakeClock, Reach, Resumption, Withdrawn};
use tempfile::TempDir;
use test_support::handshake::followed;
use test_support::session::{tls12, tls13};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Longer than any handshake is under way.
const UNDER_WAY: Duration = Duration::from_secs(61);

/// A key directory that is out of reach for a while, so that it is told nothing.
struct OutOfReach {
    directory: KeyDirectory,
    is_away: Arc<AtomicBool>,
}

impl StekSource for OutOfReach {
    fn load(&mut self, query: &SourceQuery<'_>) -> Result<Vec<SourceKey>, SourceError> {
        match self.is_away.load(Ordering::Relaxed) {
            true => Err("out of reach".into()),
            false => self.directory.load(query),
        }
    }

    fn name(&self) -> &'static str {
        self.directory.name()
    }
}

struct Node {
    time: FakeClock,
    resumption: Resumption,
}

impl Node {
    fn new(source: impl StekSource + 'static) -> Self {
        let time = FakeClock::new();
        time.advance(60 * MINUTE);
        let builder = Resumption::builder().stek_source(source);
        let resumption = builder.clock(time.clock()).build().unwrap();
        Self { time, resumption }
    }

    fn seal(&self, scope: &str) -> Option<Vec<u8>> {
        let ticketer = self.resumption.ticketer(scope);
        followed(&self.resumption, || ticketer.encrypt(&tls13(&[7; 48], b"")))
    }

    /// By a handshake that nobody follows.
    fn seal_unseen(&self, scope: &str) -> Option<Vec<u8>> {
        let ticketer = self.resumption.ticketer(scope);
        ticketer.encrypt(&tls13(&[7; 48], b""))
    }

    /// Whether a session that it stores is found under its ID.
    fn keeps(&self, scope: &str) -> bool {
        let storage = self.resumption.session_storage(scope);
        let session = tls12(&[7; 48]);
        followed(&self.resumption, || storage.put(vec![7; 32], session))
            && storage.get(&[7; 32]).is_some()
    }

    /// Long enough to ask the source again.
    fn look(&self) {
        self.time.advance(SourceQuery::DEFAULT_INTERVAL);
        self.resumption.step();
    }

    fn opens(&self, scope: &str, ticket: &[u8]) -> bool {
        let ticketer = self.resumption.ticketer(scope);
        followed(&self.resumption, || ticketer.decrypt(ticket)).is_some()
    }
}

#[test]
fn more_scopes_than_are_remembered_are_forgotten_by_all_once_the_source_is_back() {
    const SCOPES: usize = 300;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("steks");
    let node = |is_away: &Arc<AtomicBool>| {
        let source = OutOfReach {
            directory: KeyDirectory::new(&path).unwrap(),
            is_away: Arc::clone(is_away),
        };
        Node::new(source)
    };
    let is_away = Arc::default();
    let (a, b) = (node(&Arc::default()), node(&is_away));
    let names = || (0..SCOPES).map(|number| format!("scope {number}"));
    let tickets: Vec<_> = names().map(|name| a.seal(&name).unwrap()).collect();
    is_away.store(true, Ordering::Relaxed);
    for name in names() {
        b.time.advance(Duration::from_millis(1));
        let reach = b.resumption.forget(name.as_str()).reach;
        assert!(matches!(reach, Reach::NotYet(_)), "{reach:?}");
    }
    let none_opens = |node: &Node| {
        for (name, ticket) in names().zip(&tickets) {
            assert!(!node.opens(&name, ticket), "{name}");
        }
    };
    none_opens(&b);
    is_away.store(false, Ordering::Relaxed);
    for node in [&b, &a] {
        node.look();
        none_opens(node);
    }
    none_opens(&node(&Arc::default()));
    assert_eq!(b.resumption.stats().steks.overflows, 1);
    let ticket = a.seal("scope 0").unwrap();
    assert!(b.opens("scope 0", &ticket));
}

#[test]
fn of_two_calls_at_once_the_later_reaches_also_those_who_start_when_its_caller_is_gone() {
    let directory = TempDir::new().unwrap();
    let node = || Node::new(KeyDirectory::new(directory.path().join("steks")).unwrap());
    let [first, second] = [node(), node()];
    second.time.step_back(Duration::from_secs(1)); // so its call seems to be the earlier one
    assert_eq!(first.resumption.forget("api").reach, Reach::Shared);
    first.time.advance(Duration::from_millis(1));
    let between = first.seal("api").unwrap();
    assert!(node().opens("api", &between));
    assert_eq!(second.resumption.forget("api").reach, Reach::Shared);
    drop(second);
    assert!(!node().opens("api", &between));
    first.look();
    assert!(!first.opens("api", &between));
}

#[test]
fn a_clock_ahead_at_a_call_or_as_it_is_heard_costs_nothing_once_it_is_right() {
    let calls: [fn(&Resumption) -> Withdrawn; 3] = [
        |resumption| resumption.forget("api"),
        |resumption| resumption.forget_exactly("api"),
        Resumption::revoke_all,
    ];
    for call in calls {
        for ahead in [20 * MINUTE, 20 * HOUR, 10_000 * HOUR] {
            for calls_itself in [true, false] {
                let directory = TempDir::new().unwrap();
                let [wrong, right] = [(); 2].map(|()| {
                    let path = directory.path().join("steks");
                    Node::new(KeyDirectory::new(path).unwrap())
                });
                let before = wrong.seal("api").unwrap();
                assert!(right.opens("api", &before));

                wrong.time.step_forward(ahead);
                let caller = if calls_itself { &wrong } else { &right };
                assert_eq!(call(&caller.resumption).reach, Reach::Shared);
                let look = || [&right, &wrong].map(Node::look);
                look();
                wrong.time.step_back(ahead);
                look();
                for node in [&right, &wrong] {
                    let case = format!("{ahead:?} {calls_itself}");
                    assert!(!node.opens("api", &before), "{case}");
                    let since = node.seal("api").expect(&case);
                    assert!(wrong.opens("api", &since), "{case}");
                    assert!(right.opens("api", &since), "{case}");
                    assert!(node.keeps("api"), "{case}");
                    assert_eq!(node.seal_unseen("api"), None, "may have begun before");
                    node.time.advance(UNDER_WAY);
                    let since = node.seal_unseen("api").expect(&case);
                    assert!(right.opens("api", &since), "{case}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_made_because_of_a_call_is_counted_as_revoked_whatever_orders_calls() {
    let directory = TempDir::new().unwrap();
    let shared = KeyDirectory::new(directory.path().join("steks")).unwrap();
    let derived = DerivedSource::new(b"9f3c 71d0 4be8 a256 0c5d e91b 37").unwrap();
    for node in [Node::new(shared), Node::new(derived)] {
        let begun_before = followed(&node.resumption, || {
            let _ = node.resumption.forget("api");
            let ticketer = node.resumption.ticketer("api");
            let storage = node.resumption.session_storage("api");
            let is_stored = storage.put(vec![7; 32], tls12(&[7; 48]));
            (is_stored, ticketer.encrypt(&tls13(&[7; 48], b"")))
        });
        assert_eq!(begun_before, (false, None));
        assert_eq!(node.seal_unseen("api"), None);
        let stats = node.resumption.stats();
        let revoked = (
            stats.cache.not_stored.revoked,
            stats.tickets.not_sealed.revoked,
        );
        assert_eq!(revoked, (1, 2));
    }
}
