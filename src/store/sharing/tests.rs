use std::collections::HashMap;
use std::future::ready;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use rustls::server::StoresServerSessions;

use super::*;
use crate::Rotation;
use crate::cache::{CacheSettings, Fetched};
use crate::clock::FakeClock;
use crate::lineage::Lineage;
use crate::resumption::{Inner, Root, SessionCache, StekRing};
use crate::ring::{Introduced, RingSettings};
use crate::scope::Scope;
use crate::session::tests::encoded;
use crate::source::{SourceKey, source_fn};
use crate::stats::{StoreHealth, StoreMisses};
use crate::store::{StoreKey, StoreLookup};
use crate::terms::DEFAULT_MAX_SESSION_LEN;

#[cfg(rustls_resumption_shuttle)]
mod interleavings;

const HOUR: Duration = Duration::from_secs(60 * 60);
const ID: [u8; 32] = [7; 32];

/// A store that forgets nothing by itself.
#[derive(Default)]
struct Map {
    values: Mutex<HashMap<StoreKey, (Vec<u8>, Duration)>>,
    is_full: bool,
    fails: Option<fn() -> StoreError>,
}

impl SharedStore for Map {
    fn fetch(&self, key: &StoreKey, _deadline: Duration) -> StoreLookup {
        if let Some(error) = self.fails {
            return Box::pin(ready(Err(error())));
        }
        let found = self.values.lock().get(key).map(|(value, _)| value.clone());
        Box::pin(ready(Ok(found)))
    }

    fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        let lookup = self.fetch(key, deadline);
        self.values.lock().remove(key);
        lookup
    }

    fn write(&self, key: StoreKey, value: Vec<u8>, ttl: Duration) -> bool {
        if !self.is_full {
            self.values.lock().insert(key, (value, ttl));
        }
        !self.is_full
    }

    fn name(&self) -> &'static str {
        "map"
    }

    fn health(&self) -> StoreHealth {
        StoreHealth {
            is_down: self.is_full,
            ..StoreHealth::default()
        }
    }
}

struct Node {
    sharing: Arc<Sharing>,
    map: Arc<Map>,
    ring: StekRing,
    time: FakeClock,
    cache: SessionCache,
}

/// A node whose source gives one STEK, from now for three hours.
fn node(map: Map, alive: bool) -> Node {
    let time = FakeClock::new();
    let start = time.wall();
    let source = source_fn("test", move |query| {
        if !alive {
            return Err("down".into());
        }
        let secret: [u8; 32] = std::array::from_fn(|i| i as u8);
        let key = query.stek(&secret)?;
        let end = start + 3 * HOUR;
        Ok(vec![SourceKey::scheduled(
            key,
            start,
            start,
            start + HOUR,
            end,
        )?])
    });
    let settings = RingSettings {
        rotation: Rotation::new().interval(HOUR),
        ..RingSettings::default()
    };
    let terms = Terms {
        clock: time.clock(),
        ..Terms::default()
    };
    let mut inner = Inner::new(terms, CacheSettings::default(), None);
    let source = Introduced::new(Box::new(source), false).unwrap();
    inner.add_ring(settings, Some(source)).unwrap();
    let map = Arc::new(map);
    let settings = SharingSettings {
        ttl: 24 * HOUR,
        first_ttl: 24 * HOUR,
        deadline: Duration::from_millis(50),
    };
    let inner = Root::from(inner.shared());
    Node {
        sharing: Arc::new(Sharing::new(Box::new(Arc::clone(&map)), settings)),
        ring: StekRing::on(inner.clone()),
        cache: SessionCache::on(inner),
        map,
        time,
    }
}

impl Node {
    fn parts(&self) -> (&Ring, &Terms) {
        let Inner { ring, terms, .. } = &**self.ring.inner;
        (ring.as_ref().unwrap(), terms)
    }

    fn holds(&self) -> bool {
        let Inner { cache, terms, .. } = &**self.cache.inner;
        cache.holds(terms, &self.cache.at.scope, &ID)
    }

    fn write(&self, session: &[u8]) -> bool {
        let (ring, terms) = self.parts();
        let sealed_by = self
            .sharing
            .write(ring, terms, &self.cache.at, &ID, session);
        sealed_by.is_some()
    }

    /// A session of a handshake that began then.
    fn write_born(&self, birth: Time) -> bool {
        context::in_handshake(birth, || self.write(&tls13()))
    }

    fn claim_any(&self, ids: &[[u8; 32]]) -> Result<Claimed, Miss> {
        let (ring, terms) = self.parts();
        now(self.sharing.claim(ring, terms, &self.cache.at.scope, ids))
    }

    fn claim(&self) -> Result<(), Miss> {
        self.claim_any(&[ID]).map(drop)
    }

    fn misses(&self) -> StoreMisses {
        self.sharing.stats().misses
    }

    /// What is stored, and for how long.
    fn only(&self) -> (Vec<u8>, Duration) {
        let values = self.map.values.lock();
        assert_eq!(values.len(), 1);
        values.values().next().unwrap().clone()
    }

    fn put_back(&self, value: Vec<u8>) {
        let binding = Binding {
            scope: self.cache.at.scope.scope.digest(),
            version: Version::Tls13,
            id: &ID,
        };
        self.map.values.lock().insert(binding.key(), (value, HOUR));
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(ready) => ready,
        Poll::Pending => panic!("a map answers at once"),
    }
}

/// Of a handshake for which sessions were looked up.
fn looked_up(claimed: Option<Claimed>) -> Option<Box<context::Context>> {
    let mut context = context::Context::new(Time(0));
    context.looked_up(claimed);
    Some(context)
}

fn tls13() -> Vec<u8> {
    encoded(Version::Tls13, &[9; 48], b"app")
}

#[test]
fn a_session_of_one_version_sealed_for_the_other_is_refused() {
    let node = node(Map::default(), true);
    let sealed = |version, session: &[u8]| {
        let SharingKey::Key(key) = node.parts().0.sharing_key(node.parts().1) else {
            panic!("the source gave one");
        };
        let now = node.parts().1.now();
        let (issued, expires) = (now.plus(Duration::from_millis(1)), now.plus(HOUR));
        let times = Times {
            issued,
            expires,
            lineage: Lineage::of_full_handshake(now),
        };
        let binding = Binding {
            scope: node.cache.at.scope.scope.digest(),
            version,
            id: &ID,
        };
        value::seal(&key.stek, &binding, &times, session).unwrap()
    };
    let session = tls13();
    node.put_back(sealed(Version::Tls13, &session));
    assert!(node.claim().is_ok());
    node.put_back(sealed(
        Version::Tls13,
        &encoded(Version::Tls12, &[9; 48], b""),
    ));
    assert!(matches!(node.claim(), Err(Miss::NotFound)));
    assert_eq!(node.misses().malformed, 1);
}

#[test]
fn a_session_is_claimed_once_and_only_by_who_claimed_it() {
    let node = node(Map::default(), true);
    let session = tls13();
    assert!(node.write(&session));
    let (value, _) = node.only();
    assert!(!value.windows(48).any(|bytes| bytes == [9; 48]));

    let scope = &node.cache.at.scope;
    let claimed = node.claim_any(&[[1; 32], ID]).unwrap();
    let mut context = looked_up(Some(claimed));
    assert!(matches!(node.claim(), Err(Miss::NotFound)), "it is gone");

    use crate::context::{Taken, take_claimed as take, within};
    assert!(
        matches!(take(scope, &ID), Taken::NotClaimed),
        "lent to nobody"
    );
    within(&mut context, || {
        assert!(matches!(take(scope, &[1; 32]), Taken::NotFound));
        let other = node.ring.inner.scope(Scope::new("other"));
        assert!(matches!(take(&other, &ID), Taken::NotFound));
    });
    assert!(
        matches!(take(scope, &ID), Taken::NotClaimed),
        "lent no more"
    );
    within(&mut context, || {
        let Taken::Claimed(mut taken) = take(scope, &ID) else {
            panic!("it survives a HelloRetryRequest");
        };
        assert_eq!(*taken.bytes, session);
        assert_eq!(taken.given.by, ResumedBy::SharedStore);
        taken.is_used = true;
        assert!(matches!(take(scope, &ID), Taken::NotFound));
    });
    let stats = node.sharing.stats();
    assert_eq!((stats.shared, stats.claimed, stats.unused), (1, 1, 0));
    assert_eq!(stats.misses.not_found, 2);
}

#[test]
fn the_longest_session_is_shared_and_a_longer_one_is_not() {
    let node = node(Map::default(), true);
    assert_eq!(node.sharing.deadline(), Duration::from_millis(50));
    let of_len = |len: usize| {
        let rest = encoded(Version::Tls13, &[9; 48], b"").len();
        encoded(Version::Tls13, &[9; 48], &vec![7; len - rest])
    };
    assert!(node.write(&of_len(DEFAULT_MAX_SESSION_LEN)));
    assert!(node.claim().is_ok());
    for longer in [1, 2] {
        assert!(!node.write(&of_len(DEFAULT_MAX_SESSION_LEN + longer)));
    }
    assert_eq!(node.sharing.stats().not_shared.too_long, 2);
}

#[test]
fn a_claimed_session_that_is_not_used_is_counted() {
    let node = node(Map::default(), true);
    node.write(&tls13());
    assert!(node.claim().is_ok());
    assert_eq!(node.sharing.stats().unused, 1);
}

#[test]
fn a_value_of_a_client_that_has_not_come_back_lives_shortly() {
    let mut node = node(Map::default(), true);
    let settings = &mut Arc::get_mut(&mut node.sharing).unwrap().settings;
    settings.first_ttl = HOUR;
    assert!(node.write_born(node.parts().1.now()));
    assert_eq!(node.only().1, HOUR);
}

#[test]
fn a_value_lives_as_long_as_the_shortest_of_ttl_age_and_key() {
    let node = node(Map::default(), true);
    node.write(&tls13());
    assert_eq!(node.only().1, 3 * HOUR, "the STEK's end");
    let start = node.parts().1.now();
    assert!(node.write_born(start.minus(22 * HOUR)));
    assert_eq!(node.only().1, 2 * HOUR, "the age of 24 hours");
    assert!(!node.write_born(start.minus(24 * HOUR)));
    let stats = node.sharing.stats();
    assert_eq!((stats.not_shared.too_old, stats.age_unknown), (1, 1));
}

#[test]
fn values_that_a_store_returns_after_their_expiry_are_refused() {
    let node = node(Map::default(), true);
    node.write_born(node.parts().1.now().minus(22 * HOUR));
    let (value, ttl) = node.only();
    node.time.advance(ttl - Duration::from_millis(1));
    assert!(node.claim().is_ok());
    node.time.advance(Duration::from_millis(1));
    node.put_back(value.clone());
    assert!(matches!(node.claim(), Err(Miss::NotFound)));
    assert_eq!(node.misses().expired, 1);
    node.time.advance(HOUR);
    node.put_back(value);
    assert!(matches!(node.claim(), Err(Miss::NotFound)));
    assert_eq!(
        node.misses().unknown_key_name,
        1,
        "and then its STEK is gone"
    );
}

#[test]
fn garbage_in_the_store_is_a_counted_miss() {
    let node = node(Map::default(), true);
    node.write(&tls13());
    let (value, _) = node.only();
    let mut forged = value.clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut foreign = value;
    foreign[0] ^= 1;
    for garbage in [forged, foreign, Vec::new(), vec![0; 100], vec![0; 1 << 20]] {
        node.put_back(garbage);
        assert!(matches!(node.claim(), Err(Miss::NotFound)));
    }
    let misses = node.misses();
    assert_eq!(
        (misses.forged, misses.unknown_key_name, misses.malformed),
        (1, 2, 2)
    );
}

#[test]
fn a_scope_that_was_forgotten_opens_nothing_made_before() {
    let node = node(Map::default(), true);
    node.write(&tls13());
    let (old, _) = node.only();
    let _ = node.ring.forget(Scope::default());
    assert!(matches!(node.claim(), Err(Miss::NotFound)));
    node.write(&tls13());
    assert!(
        matches!(node.claim(), Err(Miss::NotFound)),
        "it may have begun before"
    );
    let (_, terms) = node.parts();
    node.write_born(terms.now());
    assert!(node.claim().is_ok(), "made after");
    node.put_back(old);
    assert!(matches!(node.claim(), Err(Miss::NotFound)));
    assert_eq!(node.misses().forgotten, 2);
}

#[test]
fn a_revoked_key_opens_nothing() {
    let node = node(Map::default(), true);
    node.write(&tls13());
    let name = node.ring.stek_stats().active.unwrap();
    assert_eq!(node.ring.revoke(&name).steks, 1);
    assert!(matches!(node.claim(), Err(Miss::NotFound)));
    assert_eq!(node.misses().unknown_key_name, 1);
}

#[test]
fn a_fetched_tls12_session_stays_and_is_found_locally() {
    let node = node(Map::default(), true);
    let session = encoded(Version::Tls12, &[9; 48], b"");
    node.write(&session);
    assert!(
        matches!(node.claim(), Err(Miss::NotFound)),
        "not as TLS 1.3"
    );
    assert!(!node.holds());
    node.time.advance(HOUR);
    for _ in 0..2 {
        let (ring, terms) = node.parts();
        let fetched = now(node.sharing.fetch(ring, terms, &node.cache.at.scope, &ID));
        let Opened {
            bytes,
            expires,
            given,
        } = fetched.unwrap();
        let (cache, scope) = (&node.cache.inner.cache, &node.cache.at.scope);
        let fetched = Fetched {
            value: bytes,
            lineage: given.lineage,
            expires,
            scope_number: scope.number(),
        };
        cache.put_fetched(terms, scope, &ID, fetched);
    }
    assert!(node.holds());
    assert_eq!(node.cache.get(&ID).unwrap(), session);
    node.time.advance(2 * HOUR - Duration::from_millis(1));
    assert!(node.holds());
    node.time.advance(Duration::from_millis(1));
    assert!(!node.holds(), "the value expired with its STEK");
}

#[test]
fn what_is_forgotten_while_it_is_fetched_is_not_kept_whatever_the_clock_of_its_maker() {
    let node = node(Map::default(), true);
    let (cache, at) = (&node.cache.inner.cache, &node.cache.at);
    let (_, terms) = node.parts();
    for is_forgotten in [false, true] {
        let scope_number = at.scope.number();
        if is_forgotten {
            node.cache.forget(Scope::default());
        }
        let ahead = terms.now().plus(Duration::from_secs(60));
        let fetched = Fetched {
            value: Zeroizing::new(encoded(Version::Tls12, &[9; 48], b"")),
            lineage: Lineage::of_full_handshake(ahead),
            expires: ahead.plus(HOUR),
            scope_number,
        };
        cache.put_fetched(terms, &at.scope, &ID, fetched);
        assert_eq!(node.holds(), !is_forgotten);
    }
    assert_eq!(node.cache.stats().not_stored.revoked, 1);
}

#[test]
fn nothing_is_written_under_keys_that_stand_in() {
    let node = node(Map::default(), false);
    assert!(!node.write(&tls13()));
    assert!(node.map.values.lock().is_empty());
    assert_eq!(node.sharing.stats().not_shared.fallen_back, 1);
}

#[test]
fn trouble_of_the_store_is_counted_under_its_reason() {
    let full = node(
        Map {
            is_full: true,
            ..Map::default()
        },
        true,
    );
    assert!(!full.write(&tls13()));
    assert!(!full.write(b"not a session"));
    let stats = full.sharing.stats();
    let not_shared = stats.not_shared;
    assert_eq!((not_shared.not_taken, not_shared.malformed), (1, 1));
    assert!(stats.store == "map" && stats.health.is_down);

    let errors: [fn() -> StoreError; 4] = [
        || StoreError::Busy,
        || StoreError::Failed("down".into()),
        || StoreError::TimedOut,
        || StoreError::Unavailable,
    ];
    for (i, fails) in errors.into_iter().enumerate() {
        let node = node(
            Map {
                fails: Some(fails),
                ..Map::default()
            },
            true,
        );
        assert!(matches!(node.claim(), Err(Miss::Unavailable)));
        let misses = node.misses();
        let counts = [
            misses.busy,
            misses.failed,
            misses.timed_out,
            misses.unavailable,
        ];
        assert_eq!((counts[i], counts.iter().sum::<u64>()), (1, 1));
    }
}
