//! What rustls may hand over as a session: any bytes, for it puts a client's choice of server name
//! and certificates into them. Through tickets and cache they come back as they were, in their
//! scope alone, and none that is not known to be of TLS 1.3 outlives its age by renewal.

use std::time::Duration;

use rustls_resumption::{FakeClock, Resumption, Rotation};

const HOUR: Duration = Duration::from_secs(60 * 60);
const MAX_SKEW: Duration = Duration::from_secs(5 * 60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Stores, seals, opens and renews the bytes as a session.
pub fn run(session: &[u8]) {
    let time = FakeClock::new();
    let resumption = Resumption::builder()
        // One STEK is enough, and quicker than more.
        .rotation(Rotation::new().interval(WEEK).ticket_lifetime(WEEK))
        .cache_entries(8)
        .clock(time.clock())
        .build()
        .unwrap();
    let (ring, other) = (resumption.ticketer("a"), resumption.ticketer("b"));
    let Some(ticket) = ring.encrypt(session) else {
        let refused = resumption.stats().tickets.not_sealed;
        // A chain of client certificates too, which nobody here could verify.
        assert_eq!(refused.too_long + refused.too_old + refused.client_auth, 1);
        return;
    };
    assert_eq!(other.decrypt(&ticket), None);
    let opened = ring.decrypt(&ticket).unwrap();
    // 16 bytes behind a session, where rustls has none, are taken for what a node with
    // `session_lineage` put there.
    let taken_away = session.strip_prefix(&*opened).map(<[u8]>::len);
    assert!(matches!(taken_away, Some(0 | 16)), "{opened:?}");

    let (cache, other) = (
        resumption.session_storage("a"),
        resumption.session_storage("b"),
    );
    let id = [7; 32];
    assert!(cache.put(id.to_vec(), session.to_vec()));
    assert_eq!((other.get(&id), other.take(&id)), (None, None));
    let (read, taken) = (cache.get(&id), cache.take(&id));
    let misses = resumption.stats().cache.misses.other_version;
    assert!(read.is_some() || taken.is_some());
    assert_eq!(
        misses,
        u64::from(read.is_none()) + u64::from(taken.is_none())
    );
    for found in [read, taken].into_iter().flatten() {
        assert_eq!(found, opened);
    }

    // Renewed half-way, and again: back to back, as rustls does.
    time.advance(12 * HOUR);
    resumption.step();
    let Some(opened) = ring.decrypt(&ticket) else {
        let refused = resumption.stats().tickets.refused;
        assert_eq!(refused.too_old, 1, "a birth of its own, written in it");
        return;
    };
    let renewed = ring.encrypt(&opened).unwrap();
    // A birth that is written in it may lie in the future, as by another host's clock.
    time.advance(12 * HOUR + MAX_SKEW);
    resumption.step();
    let outlives = ring.decrypt(&renewed).is_some();
    let age_unknown = resumption.stats().tickets.age_unknown;
    assert!(!outlives || age_unknown == 2, "renewal sheds no age");
}
