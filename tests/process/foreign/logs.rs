//! Log subscribers of the whole process.
#![cfg(unix)]

use tracing::dispatcher;

use super::*;

#[test]
fn where_nobody_sets_a_subscriber_none_is_set_so_that_the_facade_log_is_told() {
    alone(|| {
        let resumption = Resumption::tickets().unwrap();
        resumption.rotate_now().unwrap();
        assert!(resumption.shutdown(LONG));
        assert!(!dispatcher::has_been_set());
    });
}
