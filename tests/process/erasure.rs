//! Keys and sessions are erased from memory: the process's own pages are searched for them.
#![cfg(target_os = "linux")]

use std::time::{Duration, SystemTime};

use rustls_resumption::source::{SourceKey, source_fn};
use rustls_resumption::{FakeClock, KeyName, Resumption, Stek};
use test_support::alone::alone;
use test_support::memory::Needle;
use test_support::session::{id, tls13};
use zeroize::Zeroizing;

use crate::either::Either;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// The secret whose derived keys stand below: byte `i` is `37 i + 11`.
const SECRET: &str = "ae95f0df3a614cab96fdd8076249b493fe25006f4ab19cfb260d6857b299c423";

/// HKDF-SHA256 of it, computed by another implementation:
/// `prk = HMAC("rustls-resumption", secret)`, key =
/// `HMAC(prk, label ‖ 00 ‖ version 03 ‖ algorithm ‖ "rustls 0.23" ‖ 01)`.
const PRK: &str = "0d66059e3b34c1e172736f7ba68b108ab467cdf1e5fabba5e27cdd9ca3e775ae";
const TICKET_KEY: Either = Either(
    "67fefbc662e3ef5880a1ee0bc4dfc925b91182586046aea0945e443207bdd9d5",
    "7041f10335384addf522b06caee2bb08a2b9b217dccd7931ca17f2176c994f2a",
);
const STORE_KEY: Either = Either(
    "ea5032aadbdc7daa89ee1ef2d30326e180ba32fda9423a483698beac4f235919",
    "840e54ddbd617cfdf1006dfd9d5094e01fbd0ce94ca254c72a22417a6e01c7a1",
);
const KEY_NAME: Either = Either(
    "f95ff1417a63c4df4e9f215a5b3d117f",
    "17c68d931c97c82b7a563844d0eabb78",
);

fn stek() -> Stek {
    let mut secret = Zeroizing::new(Vec::with_capacity(32));
    Needle::masked_hex("secret", SECRET).reveal(&mut secret);
    Stek::from_bytes(&secret).unwrap()
}

/// How often the secret, the key all are derived from, the ticket key and the store key are found.
fn found() -> [usize; 4] {
    [
        Needle::masked_hex("secret", SECRET),
        Needle::masked_hex("PRK", PRK),
        Needle::masked_hex("ticket key", TICKET_KEY.own()),
        Needle::masked_hex("store key", STORE_KEY.own()),
    ]
    .map(|needle| needle.count())
}

const NOTHING: [usize; 4] = [0; 4];

/// One test for all, in one process: what one test holds another would find.
#[test]
fn keys_and_sessions_are_wiped_when_they_expire() {
    alone(|| {
        the_memory_search_finds_what_is_there();
        a_live_stek_keeps_its_keys_but_not_its_secret();
        an_expired_stek_is_wiped();
        a_revoked_stek_is_wiped_at_once();
        the_timer_wipes_without_traffic();
        dropping_the_last_handle_wipes();
        shutdown_wipes();
        sessions_are_wiped_however_they_leave();
        session_ids_are_wiped_with_their_cache();
    });
}

fn the_memory_search_finds_what_is_there() {
    let needle = Needle::numbered("planted", 1);
    assert_eq!(needle.count(), 0);
    let mut planted = Vec::new();
    needle.reveal(&mut planted);
    assert!(needle.count() >= 1);
    drop(Zeroizing::new(planted));
}

fn a_live_stek_keeps_its_keys_but_not_its_secret() {
    let stek = stek();
    assert_eq!(stek.name().to_string(), KEY_NAME.own());
    let [secret, prk, ticket_key, store_key] = found();
    assert_eq!((secret, prk), (0, 0));
    assert!(ticket_key > 0 && store_key > 0, "so they can be found");
    drop(stek);
    assert_eq!(found(), NOTHING);
}

/// Gives the STEK until it is revoked.
fn willing() -> impl rustls_resumption::source::StekSource {
    source_fn("willing", |query| {
        let is_ours = |name: &KeyName| name.to_string() == KEY_NAME.own();
        match query.revoked().iter().any(is_ours) {
            true => Ok(vec![]),
            false => Ok(vec![SourceKey::sealing(stek())]),
        }
    })
}

fn an_expired_stek_is_wiped() {
    let time = FakeClock::new();
    let start = time.wall();
    let mut last = Some(());
    let source = source_fn("once", move |_| {
        last.take().ok_or("asked once already")?;
        let key = SourceKey::scheduled(stek(), start, start, start + HOUR, start + 2 * HOUR)?;
        Ok(vec![key])
    });
    let resumption = Resumption::builder()
        .stek_source(source)
        .clock(time.clock());
    let resumption = resumption.build().unwrap();
    let ring = resumption.ticketer("a");
    let ticket = ring.encrypt(&tls13(b"secret", b"")).unwrap();
    time.advance(2 * HOUR - Duration::from_millis(1));
    resumption.step();
    assert!(ring.decrypt(&ticket).is_some());
    assert!(found()[2] > 0);
    time.advance(Duration::from_millis(1));
    resumption.step();
    assert!(ring.decrypt(&ticket).is_none());
    assert_eq!(found(), NOTHING);
}

fn a_revoked_stek_is_wiped_at_once() {
    let time = FakeClock::new();
    let builder = Resumption::builder().stek_source(willing());
    let resumption = builder.clock(time.clock()).build().unwrap();
    let ring = resumption.ticketer("a");
    let ticket = ring.encrypt(&tls13(b"secret", b"")).unwrap();
    assert!(ring.decrypt(&ticket).is_some());
    assert!(found()[2] > 0);
    let _ = resumption.revoke_all();
    assert_eq!(found(), NOTHING);
}

fn the_timer_wipes_without_traffic() {
    let start = SystemTime::now();
    let soon = start + Duration::from_millis(500);
    let mut last = Some(());
    let source = source_fn("once", move |_| {
        last.take().ok_or("asked once already")?;
        Ok(vec![SourceKey::scheduled(
            stek(),
            start,
            start,
            soon,
            soon,
        )?])
    });
    let resumption = Resumption::builder().stek_source(source).build().unwrap();
    assert!(
        resumption
            .ticketer("a")
            .encrypt(&tls13(b"secret", b""))
            .is_some()
    );
    // Waits for the event: how long it takes does not matter here.
    while found() != NOTHING {
        std::thread::yield_now();
    }
    assert!(SystemTime::now() >= soon, "not before its time");
}

fn dropping_the_last_handle_wipes() {
    let builder = Resumption::builder().stek_source(willing());
    let resumption = builder.build().unwrap();
    let ring = resumption.ticketer("a");
    drop(resumption);
    assert!(ring.encrypt(&tls13(b"secret", b"")).is_some());
    assert!(found()[2] > 0);
    drop(ring);
    // The timer thread ends by itself, soon.
    while found() != NOTHING {
        std::thread::yield_now();
    }
}

fn shutdown_wipes() {
    // As the random source does, this one keeps its key.
    let mut kept = None;
    let source = source_fn("keeper", move |_| {
        let key = kept.get_or_insert_with(|| SourceKey::sealing(stek()));
        Ok(vec![key.clone()])
    });
    let builder = Resumption::builder().stek_source(source);
    let resumption = builder.build().unwrap();
    let ring = resumption.ticketer("a");
    assert!(ring.encrypt(&tls13(b"secret", b"")).is_some());
    assert!(resumption.shutdown(Duration::from_secs(30)));
    assert_eq!(found(), NOTHING);
    assert!(ring.encrypt(&tls13(b"secret", b"")).is_none());
}

fn sessions_are_wiped_however_they_leave() {
    type Leave = fn(&Resumption, &FakeClock);
    let leave: [(&str, Leave); 6] = [
        ("evicted", |resumption, _| {
            for number in 0..100 {
                store(resumption, id(1_000 + number), &[1; 48]);
            }
        }),
        ("expired and swept", |resumption, time| {
            time.advance(25 * HOUR);
            resumption.step();
        }),
        ("expired and asked for", |resumption, time| {
            time.advance(25 * HOUR);
            assert_eq!(resumption.session_storage("a").get(&id(7)), None);
        }),
        ("replaced", |resumption, _| {
            store(resumption, id(7), &[1; 48]);
        }),
        ("forgotten", |resumption, _| drop(resumption.forget("a"))),
        ("revoked", |resumption, _| drop(resumption.revoke_all())),
    ];
    for (number, (how, leave)) in leave.into_iter().enumerate() {
        let time = FakeClock::new();
        let builder = Resumption::builder().stateful(50);
        let resumption = builder.clock(time.clock()).build().unwrap();
        let needle = Needle::numbered(how, 10 + number as u8);
        let mut secret = Zeroizing::new(Vec::with_capacity(48));
        needle.reveal(&mut secret);
        store(&resumption, id(7), &secret);
        drop(secret);
        assert_eq!(needle.count(), 1, "{how}: in the cache, and only there");
        leave(&resumption, &time);
        assert_eq!(needle.count(), 0, "{how}");
    }
}

fn session_ids_are_wiped_with_their_cache() {
    let needle = Needle::numbered("session ID", 30).first(32);
    let resumption = Resumption::stateful(50).unwrap();
    let mut id = Zeroizing::new(Vec::with_capacity(32));
    needle.reveal(&mut id);
    let storage = resumption.session_storage("a");
    assert!(storage.put(id.to_vec(), tls13(b"secret", b"")));
    drop(id);
    // Above the cache in the heap: what is at its end goes back to the system, and is not found then.
    let above = vec![7_u8; 100_000];
    assert!(needle.count() > 0);
    drop((storage, resumption));
    // The timer thread ends by itself, soon.
    while needle.count() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(std::hint::black_box(above).len(), 100_000);
}

/// With spare capacity, as rustls hands sessions over, and with stale bytes in it: far enough that
/// an allocator which takes back what is spare does not write over them.
fn store(resumption: &Resumption, id: [u8; 32], secret: &[u8]) {
    let mut value = Vec::with_capacity(512);
    value.extend_from_slice(secret);
    value.resize(256, 0);
    value.extend_from_slice(secret);
    value.truncate(secret.len());
    assert!(resumption.session_storage("a").put(id.to_vec(), value));
}
