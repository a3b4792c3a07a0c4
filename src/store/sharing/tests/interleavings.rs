//! A session on its way from the store to a connection, on every schedule that there is time for.

use shuttle::thread;

use super::*;
use crate::context::{Taken, take_claimed as take, within};
use crate::sync::try_schedules;

#[test]
fn shuttle_a_session_is_claimed_for_one_connection_and_lent_to_it_alone() {
    try_schedules(1_000, || {
        let node = node(Map::default(), true);
        let session = tls13();
        assert!(node.write(&session));
        let scope = Arc::clone(&node.cache.at.scope);
        let (sharing, inner) = (&node.sharing, &node.ring.inner);
        let connections = [true, true, false].map(|stays| {
            let (sharing, inner, scope) =
                (Arc::clone(sharing), Arc::clone(inner), Arc::clone(&scope));
            let session = session.clone();
            thread::spawn(move || {
                let ring = inner.ring.as_ref().unwrap();
                let claimed = now(sharing.claim(ring, &inner.terms, &scope, &[ID]));
                let mut context = looked_up(claimed.ok());
                within(&mut context, || {
                    thread::yield_now(); // rustls asks for another hello
                    assert!(matches!(take(&scope, &[1; 32]), Taken::NotFound));
                });
                assert!(matches!(take(&scope, &ID), Taken::NotClaimed));
                let mut taken = false;
                if stays {
                    within(&mut context, || {
                        thread::yield_now();
                        if let Taken::Claimed(mut claimed) = take(&scope, &ID) {
                            assert_eq!(*claimed.bytes, session);
                            claimed.is_used = true;
                            taken = true;
                        }
                        assert!(matches!(take(&scope, &ID), Taken::NotFound), "it is gone");
                    });
                }
                taken
            })
        });
        // Meanwhile, one for whom nobody looked.
        assert!(matches!(take(&scope, &ID), Taken::NotClaimed));
        let taken = connections.map(|connection| connection.join().unwrap());
        let taken = taken.iter().filter(|taken| **taken).count() as u64;
        let stats = node.sharing.stats();
        assert_eq!((stats.claimed, stats.misses.not_found), (1, 2));
        assert_eq!(taken + stats.unused, 1, "taken, or wiped and counted");
    });
}
