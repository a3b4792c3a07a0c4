//! Scopes that are forgotten while other processes cannot be told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls_resumption::source::{KeyDirectory, SourceError, SourceKey, SourceQuery, StekSource};
use rustls_resumption::{FakeClock, Reach, Resumption};
use tempfile::TempDir;
use test_support::handshake::followed;
use test_support::session::tls13;

const MINUTE: Duration = Duration::from_secs(60);

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
        node.time.advance(SourceQuery::DEFAULT_INTERVAL);
        node.resumption.step();
        none_opens(node);
    }
    none_opens(&node(&Arc::default()));
    assert_eq!(b.resumption.stats().steks.overflows, 1);
    let ticket = a.seal("scope 0").unwrap();
    assert!(b.opens("scope 0", &ticket));
}
