use super::*;
use crate::ring::Ring;
use crate::source::{SourceKey, SourceQuery, source_fn};
use crate::store::{StoreKey, StoreLookup};
use crate::{FakeClock, SessionCache};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn defaults_are_what_their_constants_and_the_documentation_say() {
    let ResumptionBuilder {
        stateful,
        manual,
        terms,
        cache,
        ring,
        rotation,
        sealing,
        source,
        store,
        store_deadline,
        recheck_interval,
        unverified_client_certificates,
        first_ttl,
        session_lineage,
        publisher: _,
    } = ResumptionBuilder::new();
    assert!(!unverified_client_certificates && !session_lineage);
    assert_eq!(
        recheck_interval,
        ResumptionBuilder::DEFAULT_RECHECK_INTERVAL
    );
    assert_eq!(recheck_interval, Duration::from_secs(60));
    assert_eq!(first_ttl, Duration::from_secs(60 * 60));
    assert!(!stateful && !manual && source.is_none() && store.is_none());
    assert_eq!(store_deadline, DEFAULT_STORE_DEADLINE);
    assert_eq!(DEFAULT_STORE_DEADLINE, Duration::from_millis(50));
    assert_eq!(
        (cache.entries, SessionCache::DEFAULT_ENTRIES),
        (20_000, 20_000)
    );
    assert_eq!((cache.ttl, SessionCache::DEFAULT_TTL), (DAY, DAY));
    assert_eq!((terms.max_session_age, DEFAULT_MAX_SESSION_AGE), (DAY, DAY));
    assert_eq!(
        (ring.max_ticket_len, DEFAULT_MAX_TICKET_LEN),
        (16_384, 16_384)
    );
    let window = ResumptionBuilder::DEFAULT_INCIDENT_WINDOW;
    assert_eq!((terms.incident_window, window.as_secs()), (window, 60));
    let default = ResumptionBuilder::DEFAULT_MAX_SESSION_LEN;
    assert_eq!((terms.max_session_len, default), (16_384, 16_384));
    assert_eq!(ring.source_deadline, DEFAULT_SOURCE_DEADLINE);
    assert_eq!(DEFAULT_SOURCE_DEADLINE, Duration::from_secs(5));
    assert_eq!((cache.bytes, cache.shards), (None, None));
    assert_eq!(ring.sealing, Sealing::default());
    assert_eq!((rotation, ring.rotation), (None, Rotation::new()));
    assert_eq!(sealing, None);
}

#[test]
fn a_shared_store_beside_the_random_source_is_refused() {
    let error = Resumption::builder()
        .stateful(20_000)
        .shared_store(NoStore)
        .build()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "shared_store: needs a `stek_source` that the nodes share: what random keys seal opens \
         on no other node"
    );
}

struct NoStore;

impl SharedStore for NoStore {
    fn fetch(&self, _key: &StoreKey, _deadline: Duration) -> StoreLookup {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        self.fetch(key, deadline)
    }

    fn write(&self, _key: StoreKey, _value: Vec<u8>, _ttl: Duration) -> bool {
        false
    }
}

#[test]
fn stateful_steks_open_for_as_long_as_sessions_live() {
    let source = source_fn("test", |query| {
        let secret: [u8; 32] = std::array::from_fn(|i| i as u8);
        Ok(vec![SourceKey::sealing(query.stek(&secret)?)])
    });
    let clock = FakeClock::new().clock();
    let new = || Resumption::builder().clock(clock.clone());
    let shared = new()
        .stateful(20_000)
        .shared_store(NoStore)
        .stek_source(source);
    let shared = shared.build().unwrap();
    let lifetime = |resumption: &Resumption| {
        let ring = resumption.inner.ring.as_deref();
        ring.map(Ring::ticket_lifetime)
    };
    assert_eq!(lifetime(&shared), Some(SessionCache::DEFAULT_TTL));
    assert_eq!(lifetime(&new().build().unwrap()), Some(DAY / 2));
    assert_eq!(lifetime(&new().stateful(20_000).build().unwrap()), None);
    assert!(!shared.ticketer("a").enabled(), "nor does it make tickets");
}

#[test]
fn settings_without_effect_are_refused() {
    let new = || Resumption::builder().stateful(10);
    let key = |query: &SourceQuery<'_>| {
        let secret: [u8; 32] = std::array::from_fn(|i| i as u8);
        Ok(vec![SourceKey::sealing(query.stek(&secret)?)])
    };
    for (builder, field) in [
        (new().stek_source(source_fn("test", key)), "stek_source"),
        (new().rotation(Rotation::new()), "rotation"),
        (new().sealing(Sealing::default()), "sealing"),
    ] {
        let error = builder.build().unwrap_err().to_string();
        let why = ": stateful resumption has no STEKs unless it has a `shared_store`";
        assert_eq!(error, format!("{field}{why}"));
    }
    let unannounced = Rotation::new().publish_ahead(Duration::ZERO);
    let alone = Resumption::builder().rotation(unannounced);
    let shared = Resumption::builder().rotation(unannounced);
    alone.build().unwrap();
    let error = shared.stek_source(source_fn("test", key)).build();
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("publish_ahead = 0ns: "), "{error}");
}

#[test]
fn no_key_and_no_ticket_outlives_the_sessions() {
    let time = FakeClock::new();
    let minute = Duration::from_secs(60);
    let builder = Resumption::builder().clock(time.clock());
    let resumption = builder.max_session_age(minute).build().unwrap();
    assert_eq!(resumption.ticketer("a").lifetime(), 60);
    for _ in 0..26 {
        time.advance(DAY / 48);
        resumption.step();
        assert!(resumption.stats().steks.keys <= 2);
    }
}

#[test]
fn the_largest_cache_is_what_it_says() {
    for builder in [
        Resumption::builder().cache_entries(usize::MAX),
        Resumption::builder().stateful(usize::MAX),
    ] {
        let resumption = builder.build().unwrap();
        assert_eq!(resumption.stats().cache.max_entries, (1 << 31) - 1);
        let storage = resumption.session_storage("a");
        assert!(storage.put(vec![7; 32], vec![0; 100]));
    }
    assert_eq!(
        SessionCache::new(usize::MAX).stats().max_entries,
        (1 << 31) - 1
    );
}

#[test]
fn impossible_settings_are_refused_by_name() {
    let new = Resumption::builder;
    for (builder, message) in [
        (
            new().session_ttl(Duration::ZERO),
            "session_ttl = 0ns: must be at least 1ms",
        ),
        (
            new().session_ttl(8 * DAY),
            "session_ttl = 691200s: must be at most 7 days",
        ),
        (
            new().max_session_age(Duration::ZERO),
            "max_session_age = 0ns: must be at least 1s",
        ),
        (
            new().max_session_age(8 * DAY),
            "max_session_age = 691200s: must be at most 7 days",
        ),
        (new().max_session_len(100), "max_session_len: 100 bytes"),
        (
            new().max_session_len(70_000),
            "max_session_len: 70000 bytes",
        ),
        (new().max_ticket_len(100), "max_ticket_len: 100 bytes"),
        (new().max_ticket_len(70_000), "max_ticket_len: 70000 bytes"),
        (new().cache_shards(0), "cache_shards: must be at least 1"),
        (
            new().store_deadline(Duration::ZERO),
            "store_deadline = 0ns: must be between",
        ),
        (
            new().rotation(Rotation::new().interval(Duration::ZERO)),
            "interval = 0ns",
        ),
    ] {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn times_at_their_limits_are_taken_and_beyond_them_are_refused_by_name() {
    type Set = fn(ResumptionBuilder, Duration) -> ResumptionBuilder;
    let moment = Duration::from_millis(1);
    let cases: [(&str, Set, Duration, Duration); 5] = [
        (
            "recheck_interval",
            ResumptionBuilder::recheck_interval,
            Duration::ZERO,
            DAY,
        ),
        (
            "incident_window",
            ResumptionBuilder::incident_window,
            Duration::ZERO,
            DAY / 24,
        ),
        (
            "session_ttl",
            ResumptionBuilder::session_ttl,
            moment,
            7 * DAY,
        ),
        ("first_ttl", ResumptionBuilder::first_ttl, moment, 7 * DAY),
        (
            "max_session_age",
            ResumptionBuilder::max_session_age,
            1_000 * moment,
            7 * DAY,
        ),
    ];
    for (field, set, least, most) in cases {
        for time in [least, most] {
            set(ResumptionBuilder::new(), time).validate().unwrap();
        }
        let beyond = [Some(most + moment), least.checked_sub(moment)];
        for time in beyond.into_iter().flatten() {
            let refused = set(ResumptionBuilder::new(), time).validate().unwrap_err();
            assert!(refused.to_string().contains(field), "{refused}");
        }
    }
}
