//! The bodies of the fuzz targets, on their seeds and on some random bytes: the same that `fuzz/`
//! runs for long. Those that need private items are run by the crate's module `fuzzed`.

use fuzz_bodies::{cache, ring, sessions, ticket};
use test_support::inputs::try_all;

#[test]
fn whatever_is_done_the_cache_behaves_like_its_model() {
    try_all("cache", 1_000, cache::run);
}

#[test]
fn whatever_is_done_the_ring_keeps_its_windows() {
    try_all("ring", 200, ring::run);
}

#[test]
fn whatever_rustls_stores_comes_back_in_its_scope_and_keeps_its_age() {
    try_all("sessions", 500, sessions::run);
}

#[test]
fn whatever_is_offered_only_the_true_ticket_opens() {
    try_all("ticket", 2_000, ticket::run);
}
