pub(super) mod breaker;
pub(super) mod node;
pub(super) mod queue;
