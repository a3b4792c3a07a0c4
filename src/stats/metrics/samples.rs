use crate::stats::{
    AcceptorStats, CacheStats, Evictions, Misses, NotResumed, NotSealed, NotShared, NotStored,
    Refused, Stats, StekStats, StoreHealth, StoreMisses, StoreStats, TicketStats,
};
use crate::stek::KeyName;

/// One value under one name and label.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) label: Option<(&'static str, &'static str)>,
    pub(super) value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Counter(u64),
    Gauge(f64),
}

/// Every metric there is, with its value: the one place that names them. Whoever adds a field to
/// [`Stats`] is sent here by the compiler.
pub(super) fn samples(stats: &Stats) -> Vec<Sample> {
    let Stats {
        cache,
        tickets,
        steks,
        store,
        acceptor,
    } = stats;
    let mut samples = Samples::default();
    samples.cache(cache);
    samples.tickets(tickets);
    // In stateful mode there is no ring: that no STEK seals there must alarm nobody.
    if !steks.source.is_empty() {
        samples.steks(steks);
    }
    if !store.store.is_empty() {
        samples.store(store);
    }
    samples.acceptor(acceptor);
    samples.0
}

#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn cache(&mut self, stats: &CacheStats) {
        let CacheStats {
            entries,
            max_entries,
            bytes,
            stored,
            hits,
            misses,
            evictions,
            refused,
            expired,
            age_unknown,
        } = *stats;
        self.gauge(
            "resumption_cache_entries",
            "Sessions in the cache.",
            entries as f64,
        );
        self.gauge(
            "resumption_cache_max_entries",
            "Sessions that the cache may hold.",
            max_entries as f64,
        );
        self.gauge(
            "resumption_cache_bytes",
            "Bytes of the sessions in the cache.",
            bytes as f64,
        );
        self.counter("resumption_cache_stored_total", "Sessions stored.", stored);
        self.counter(
            "resumption_cache_hits_total",
            "Sessions found and handed to rustls.",
            hits,
        );
        let Misses {
            unknown,
            expired: expired_miss,
            other_version,
            malformed,
            not_claimed,
        } = misses;
        self.reasons(
            "resumption_cache_misses_total",
            "Look-ups that found nothing.",
            &[
                ("unknown", unknown),
                ("expired", expired_miss),
                ("other_version", other_version),
                ("malformed", malformed),
                ("not_claimed", not_claimed),
            ],
        );
        let Evictions {
            entries,
            bytes,
            forgotten,
            replaced,
        } = evictions;
        self.reasons(
            "resumption_cache_evictions_total",
            "Sessions that left before their time.",
            &[
                ("entries", entries),
                ("bytes", bytes),
                ("forgotten", forgotten),
                ("replaced", replaced),
            ],
        );
        let NotStored {
            no_room,
            too_old,
            malformed,
        } = refused;
        self.reasons(
            "resumption_cache_not_stored_total",
            "Sessions that were not stored.",
            &[
                ("no_room", no_room),
                ("too_old", too_old),
                ("malformed", malformed),
            ],
        );
        self.counter(
            "resumption_cache_expired_total",
            "Sessions dropped because they expired.",
            expired,
        );
        self.counter(
            "resumption_cache_age_unknown_total",
            "Sessions stored whose full handshake is not known.",
            age_unknown,
        );
    }

    fn tickets(&mut self, stats: &TicketStats) {
        let TicketStats {
            sealed,
            opened,
            refused,
            not_sealed,
            age_unknown,
        } = *stats;
        self.counter("resumption_tickets_sealed_total", "Tickets made.", sealed);
        self.counter(
            "resumption_tickets_opened_total",
            "Tickets opened and handed to rustls.",
            opened,
        );
        let Refused {
            unknown_key_name,
            too_long,
            malformed,
            forged,
            wrong_scope,
            expired_key,
            too_old,
            revoked,
        } = refused;
        self.reasons(
            "resumption_tickets_refused_total",
            "Tickets that were not opened: each a full handshake.",
            &[
                ("unknown_key_name", unknown_key_name),
                ("too_long", too_long),
                ("malformed", malformed),
                ("forged", forged),
                ("wrong_scope", wrong_scope),
                ("expired_key", expired_key),
                ("too_old", too_old),
                ("revoked", revoked),
            ],
        );
        let NotSealed {
            no_key,
            too_long,
            too_old,
        } = not_sealed;
        self.reasons(
            "resumption_tickets_not_sealed_total",
            "Tickets that were not made.",
            &[
                ("no_key", no_key),
                ("too_long", too_long),
                ("too_old", too_old),
            ],
        );
        self.counter(
            "resumption_tickets_age_unknown_total",
            "Tickets made for sessions whose full handshake is not known.",
            age_unknown,
        );
    }

    fn steks(&mut self, stats: &StekStats) {
        let StekStats {
            active,
            active_age,
            over_age,
            interval,
            keys,
            rotations,
            revocations,
            source,
            source_answered,
            source_failures,
            fallen_back,
            fleet_agrees,
        } = *stats;
        self.gauge(
            "resumption_stek_active",
            "1 if a STEK seals.",
            yes(active.is_some()),
        );
        self.gauge(
            "resumption_stek_active_key",
            "First 48 bits of the active STEK's name: nodes that agree show the same number.",
            active.map_or(f64::NAN, |name| number(&name)),
        );
        self.gauge(
            "resumption_stek_active_age_seconds",
            "How long the active STEK has been sealing; NaN if that is not known.",
            active_age.map_or(f64::NAN, |age| age.as_secs_f64()),
        );
        self.gauge(
            "resumption_stek_over_age",
            "1 if that is longer than the interval: its operator should have replaced it.",
            yes(over_age),
        );
        self.gauge(
            "resumption_stek_interval_seconds",
            "How long each STEK is to seal.",
            interval.map_or(f64::NAN, |interval| interval.as_secs_f64()),
        );
        self.gauge(
            "resumption_stek_keys",
            "STEKs held, published and retired ones included.",
            keys as f64,
        );
        self.counter(
            "resumption_stek_rotations_total",
            "How often another STEK became the one that seals.",
            rotations,
        );
        self.counter(
            "resumption_stek_revocations_total",
            "STEKs revoked on this node.",
            revocations,
        );
        self.push(
            "resumption_stek_source_info",
            "Always 1; the label names the source that STEKs come from.",
            Some(("source", source)),
            Value::Gauge(1.0),
        );
        self.gauge(
            "resumption_stek_source_answer_age_seconds",
            "How long ago the source last answered; +Inf if it never did.",
            source_answered.map_or(f64::INFINITY, |ago| ago.as_secs_f64()),
        );
        self.counter(
            "resumption_stek_source_failures_total",
            "How often the source failed to answer.",
            source_failures,
        );
        self.gauge(
            "resumption_stek_fallen_back",
            "1 if local random STEKs seal because the source has none that may.",
            yes(fallen_back),
        );
        self.gauge(
            "resumption_stek_fleet_agrees",
            "1 if the other users of the source keep the same schedule; NaN if it cannot tell.",
            fleet_agrees.map_or(f64::NAN, yes),
        );
    }

    fn store(&mut self, stats: &StoreStats) {
        let StoreStats {
            store,
            shared,
            not_shared,
            age_unknown,
            claimed,
            unused,
            fetched,
            misses,
            health,
        } = *stats;
        self.push(
            "resumption_store_info",
            "Always 1; the label names the shared store.",
            Some(("store", store)),
            Value::Gauge(1.0),
        );
        self.counter(
            "resumption_store_shared_total",
            "Sessions handed to the store.",
            shared,
        );
        let NotShared {
            fallen_back,
            no_key,
            not_taken,
            too_old,
            malformed,
        } = not_shared;
        self.reasons(
            "resumption_store_not_shared_total",
            "Sessions that were not handed to the store.",
            &[
                ("fallen_back", fallen_back),
                ("no_key", no_key),
                ("not_taken", not_taken),
                ("too_old", too_old),
                ("malformed", malformed),
            ],
        );
        self.counter(
            "resumption_store_age_unknown_total",
            "Sessions shared whose full handshake is not known.",
            age_unknown,
        );
        self.counter(
            "resumption_store_claimed_total",
            "TLS 1.3 sessions found, opened and deleted in the store.",
            claimed,
        );
        self.counter(
            "resumption_store_unused_total",
            "Claimed sessions that rustls did not take.",
            unused,
        );
        self.counter(
            "resumption_store_fetched_total",
            "TLS 1.2 sessions fetched into the cache.",
            fetched,
        );
        let StoreMisses {
            not_found,
            timed_out,
            unavailable,
            busy,
            failed,
            malformed,
            unknown_key_name,
            forged,
            expired,
            too_old,
            forgotten,
        } = misses;
        self.reasons(
            "resumption_store_misses_total",
            "Look-ups that found nothing of use.",
            &[
                ("not_found", not_found),
                ("timed_out", timed_out),
                ("unavailable", unavailable),
                ("busy", busy),
                ("failed", failed),
                ("malformed", malformed),
                ("unknown_key_name", unknown_key_name),
                ("forged", forged),
                ("expired", expired),
                ("too_old", too_old),
                ("forgotten", forgotten),
            ],
        );
        self.health(&health);
    }

    fn health(&mut self, health: &StoreHealth) {
        let StoreHealth {
            written,
            dropped,
            refused,
            unknown,
            connections,
            outages,
            is_down,
        } = *health;
        self.counter(
            "resumption_store_written_total",
            "Sessions of which it is known that they were written.",
            written,
        );
        self.reasons(
            "resumption_store_not_written_total",
            "Sessions that were not written, or of which that is not known.",
            &[
                ("dropped", dropped),
                ("refused", refused),
                ("unknown", unknown),
            ],
        );
        self.counter(
            "resumption_store_connections_total",
            "Connections made to the store.",
            connections,
        );
        self.counter(
            "resumption_store_outages_total",
            "How often the store was given up for a while.",
            outages,
        );
        self.gauge(
            "resumption_store_down",
            "1 while the store is given up because it does not answer.",
            yes(is_down),
        );
    }

    fn acceptor(&mut self, stats: &AcceptorStats) {
        let AcceptorStats {
            resumed,
            early_data,
            full,
            hello_retries,
            failed,
        } = *stats;
        self.counter(
            "resumption_handshakes_resumed_total",
            "Handshakes that resumed, as acceptors saw them.",
            resumed,
        );
        self.counter(
            "resumption_handshakes_early_data_total",
            "Those among them whose early data was accepted.",
            early_data,
        );
        let NotResumed {
            not_offered,
            not_found,
            store_unavailable,
            declined,
        } = full;
        self.reasons(
            "resumption_handshakes_full_total",
            "Full handshakes, as acceptors saw them.",
            &[
                ("not_offered", not_offered),
                ("not_found", not_found),
                ("store_unavailable", store_unavailable),
                ("declined", declined),
            ],
        );
        self.counter(
            "resumption_handshakes_hello_retries_total",
            "Handshakes with a HelloRetryRequest.",
            hello_retries,
        );
        self.counter(
            "resumption_handshakes_failed_total",
            "Handshakes that failed or were given up after the ClientHello.",
            failed,
        );
    }

    fn counter(&mut self, name: &'static str, help: &'static str, count: u64) {
        self.push(name, help, None, Value::Counter(count));
    }

    fn reasons(&mut self, name: &'static str, help: &'static str, counts: &[(&'static str, u64)]) {
        for &(reason, count) in counts {
            self.push(name, help, Some(("reason", reason)), Value::Counter(count));
        }
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.push(name, help, None, Value::Gauge(value));
    }

    fn push(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: Option<(&'static str, &'static str)>,
        value: Value,
    ) {
        self.0.push(Sample {
            name,
            help,
            label,
            value,
        });
    }
}

fn yes(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// The first 48 bits of a name: as many whole bytes as every `f64` can hold exactly.
fn number(name: &KeyName) -> f64 {
    let bytes = name.as_bytes().iter().take(6);
    bytes.fold(0.0, |number, byte| number * 256.0 + f64::from(*byte))
}
