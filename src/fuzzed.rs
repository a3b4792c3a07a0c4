//! What a fuzzer runs of what is private. Each takes any bytes, and panics if a promise is broken.
//! There under a cfg of its own for the targets in `fuzz/`, and in the tests below: whoever fuzzes
//! a server has `cfg(fuzzing)` set in every crate, and not the files.

#[path = "../fuzz/bodies/changed.rs"]
mod changed;

pub(crate) use changed::changed;

pub use crate::acceptor::fuzzed_client_hello as client_hello;
pub use crate::acceptor::fuzzed_early_data as early_data;
pub use crate::context::fuzzed as lineage;
pub use crate::source::fuzzed_key_file as key_file;
#[cfg(feature = "redis")]
pub use crate::source::fuzzed_redis_record as redis_record;
pub use crate::store::fuzzed_value as store_value;

#[cfg(test)]
mod tests {
    use test_support::inputs;

    use super::*;

    #[test]
    fn whatever_a_client_hello_holds_the_offer_is_what_a_plain_reading_finds() {
        inputs::try_all("client_hello", 2_000, client_hello);
    }

    #[test]
    fn whatever_early_data_is_refused_all_else_comes_through_as_it_was() {
        inputs::try_all("early_data", 500, early_data);
    }

    #[test]
    fn whatever_a_session_holds_its_birth_is_what_a_plain_reading_finds() {
        inputs::try_all("lineage", 2_000, lineage);
    }

    #[test]
    fn whatever_key_files_hold_they_are_read_or_refused_by_name() {
        inputs::try_all("key_file", 2_000, key_file);
    }

    #[cfg(feature = "redis")]
    #[test]
    fn whatever_redis_returns_only_the_true_record_opens() {
        inputs::try_all("redis_record", 500, redis_record);
    }

    #[test]
    fn whatever_a_store_returns_only_the_true_value_opens_and_in_its_place() {
        inputs::try_all("store_value", 1_000, store_value);
    }
}
