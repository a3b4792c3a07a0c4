//! What clients may send: junk, forgeries, and true tickets in the wrong place.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::server::ProducesTickets;
use rustls_resumption::source::DerivedSource;
use rustls_resumption::{FakeClock, Resumption, ResumptionBuilder, SessionCache};
use test_support::session::{id, tls12, tls13};

fn resumption() -> Resumption {
    let builder = Resumption::builder().clock(FakeClock::new().clock());
    builder.build().unwrap()
}

fn refusals(resumption: &Resumption) -> u64 {
    resumption.stats().tickets.refused.total()
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_and_counted(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let resumption = resumption();
        prop_assert_eq!(resumption.ticketer("a").decrypt(&bytes), None);
        prop_assert_eq!(refusals(&resumption), 1);
        let cache = resumption.session_storage("a");
        prop_assert_eq!(cache.get(&bytes), None);
        prop_assert_eq!(cache.take(&bytes), None);
        let misses = resumption.stats().cache.misses;
        prop_assert_eq!(misses.malformed + misses.unknown, 2);
    }

    #[test]
    fn a_true_ticket_changed_anywhere_is_refused(
        session in proptest::collection::vec(any::<u8>(), 0..600),
        changes in proptest::collection::vec((any::<usize>(), 1_u8..), 1..4),
        cut in proptest::option::of(any::<usize>()),
    ) {
        let resumption = resumption();
        let ring = resumption.ticketer("a");
        let ticket = ring.encrypt(&session).unwrap();
        let mut forged = ticket.clone();
        for (at, change) in changes {
            let at = at % forged.len();
            forged[at] ^= change;
        }
        if let Some(cut) = cut {
            forged.truncate(cut % forged.len());
        }
        prop_assume!(forged != ticket);
        prop_assert_eq!(ring.decrypt(&forged), None);
        prop_assert_eq!(refusals(&resumption), 1);
        prop_assert_eq!(ring.decrypt(&ticket), Some(session));
    }

    #[test]
    fn whatever_is_put_comes_back_whole_or_not_at_all(
        value in proptest::collection::vec(any::<u8>(), 0..2_000),
        spare in 0..1_000_usize,
    ) {
        let cache = SessionCache::new(10);
        let mut given = Vec::with_capacity(value.len() + spare);
        given.extend_from_slice(&value);
        use rustls::server::StoresServerSessions;
        prop_assert!(cache.put(id(1).to_vec(), given));
        let got = cache.get(&id(1));
        let taken = cache.take(&id(1));
        prop_assert!(got.is_some() || taken.is_some());
        for session in [got, taken].into_iter().flatten() {
            prop_assert_eq!(&session, &value);
        }
    }
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_ticket_is_refused() {
    let resumption = resumption();
    let ring = resumption.ticketer("a");
    let session = tls13(&[7; 48], b"data");
    let ticket = ring.encrypt(&session).unwrap();
    let mut offered = 0;
    for bit in 0..ticket.len() * 8 {
        let mut forged = ticket.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(ring.decrypt(&forged), None, "bit {bit}");
        offered += 1;
    }
    for len in 0..ticket.len() {
        assert_eq!(ring.decrypt(&ticket[..len]), None, "length {len}");
        assert_eq!(ring.decrypt(&ticket[ticket.len() - len..]), None, "{len}");
        offered += 2;
    }
    assert_eq!(refusals(&resumption), offered);
    let refused = resumption.stats().tickets.refused;
    let unknown = refused.unknown_key_name;
    assert!(unknown >= 16 * 8, "each bit of the name: {unknown}");
    // With a changed nonce it may as well be of another scope.
    let unopened = refused.forged + refused.wrong_scope;
    assert!(unopened >= (ticket.len() as u64 - 16) * 8);
    assert!(refused.forged >= (ticket.len() as u64 - 28) * 8);
    assert_eq!(ring.decrypt(&ticket), Some(session));
}

#[test]
fn parts_of_two_tickets_do_not_combine() {
    let resumption = resumption();
    let ring = resumption.ticketer("a");
    let one = ring.encrypt(&tls12(b"one")).unwrap();
    let other = ring.encrypt(&tls12(b"two")).unwrap();
    assert_eq!(one.len(), other.len());
    for at in 17..one.len() {
        let spliced = [&one[..at], &other[at..]].concat();
        if spliced != one && spliced != other {
            assert_eq!(ring.decrypt(&spliced), None, "at {at}");
        }
    }
    for extended in [[&one[..], &[0]].concat(), [&one[..], &other[..]].concat()] {
        assert_eq!(ring.decrypt(&extended), None);
    }
}

#[test]
fn a_ticket_opens_only_in_its_own_scope_and_process() {
    let (here, elsewhere) = (resumption(), resumption());
    let ticket = here.ticketer("a").encrypt(&tls13(b"secret", b"")).unwrap();
    let wrong: [(&str, Arc<dyn ProducesTickets>); 3] = [
        ("another scope", here.ticketer("b")),
        ("another process", elsewhere.ticketer("a")),
        ("a scope whose name begins the same", here.ticketer("a\0")),
    ];
    for (place, ring) in wrong {
        assert_eq!(ring.decrypt(&ticket), None, "{place}");
    }
    let cache = here.session_storage("a");
    assert_eq!(cache.take(&ticket), None, "stateful mode");
    assert_eq!(cache.take(&ticket[..32]), None);
    assert!(here.ticketer("a").decrypt(&ticket).is_some());
}

/// A node of a fleet whose STEKs come from one secret.
fn node(secret: &[u8; 32], builder: ResumptionBuilder) -> Resumption {
    let source = DerivedSource::new(secret).unwrap();
    let builder = builder.stek_source(source).clock(FakeClock::new().clock());
    builder.build().unwrap()
}

#[test]
fn a_ticket_replayed_in_a_fleet_opens_in_its_scope_and_mode_and_where_its_key_is() {
    let secret = b"0123456789abcdefghijklmnopqrstuv";
    let other = b"0123456789abcdefghijklmnopqrstuw";
    let first = node(secret, Resumption::builder());
    let session = tls13(b"secret", b"");
    let ticket = first.ticketer("a").encrypt(&session).unwrap();
    drop(first);
    let nodes = [
        ("restarted", node(secret, Resumption::builder()), true),
        ("another node", node(secret, Resumption::builder()), true),
        ("of other keys", node(other, Resumption::builder()), false),
        // As when the mode was changed.
        ("stateful", Resumption::stateful(20_000).unwrap(), false),
    ];
    for (place, node, opens) in &nodes {
        for scope in ["a", "b", ""] {
            let expected = (*opens && scope == "a").then(|| session.clone());
            let opened = node.ticketer(scope).decrypt(&ticket);
            assert_eq!(opened, expected, "{place}, scope {scope:?}");
            let storage = node.session_storage(scope);
            for id in [&ticket[..], &ticket[..32], &ticket[16..48]] {
                assert_eq!(storage.take(id), None, "{place}");
                assert_eq!(storage.get(id), None, "{place}");
            }
        }
    }
    let [restarted, _, foreign, _] = nodes.map(|(_, node, _)| node.stats().tickets);
    assert_eq!((restarted.opened, restarted.refused.wrong_scope), (1, 2));
    assert_eq!((foreign.opened, foreign.refused.unknown_key_name), (0, 3));
}

#[test]
fn a_session_id_replayed_elsewhere_finds_and_consumes_nothing() {
    let (here, restarted) = (
        Resumption::stateful(100).unwrap(),
        Resumption::stateful(100).unwrap(),
    );
    let storage = here.session_storage("a");
    storage.put(id(2).to_vec(), tls12(b"secret"));
    storage.put(id(3).to_vec(), tls13(b"secret", b""));
    for (place, storage) in [
        ("another scope", here.session_storage("b")),
        ("after a restart", restarted.session_storage("a")),
    ] {
        for id in [id(2), id(3)] {
            assert_eq!(storage.get(&id), None, "{place}");
            assert_eq!(storage.take(&id), None, "{place}");
        }
    }
    for id in [id(2), id(3)] {
        assert_eq!(here.ticketer("a").decrypt(&id), None, "as a ticket");
    }
    assert!(storage.get(&id(2)).is_some() && storage.take(&id(3)).is_some());
}

#[test]
fn names_of_expired_and_revoked_keys_are_distinguished_from_unknown_ones() {
    let time = FakeClock::new();
    let resumption = Resumption::builder().clock(time.clock()).build().unwrap();
    let ring = resumption.ticketer("a");
    let expired = ring.encrypt(&tls13(b"secret", b"")).unwrap();
    time.advance(std::time::Duration::from_secs(14 * 60 * 60));
    resumption.step();
    let revoked = ring.encrypt(&tls13(b"secret", b"")).unwrap();
    let _ = resumption.revoke_all();
    for ticket in [&expired, &revoked, &vec![7; 200]] {
        assert_eq!(ring.decrypt(ticket), None);
    }
    let refused = resumption.stats().tickets.refused;
    let counts = (
        refused.expired_key,
        refused.revoked,
        refused.unknown_key_name,
    );
    assert_eq!(counts, (1, 1, 1));
}
