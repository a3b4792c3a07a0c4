use super::backend::Redirection;
use super::node::Node;
use crate::stats::StoreHealth;

/// Which node has which key.
pub(in crate::store) trait Route: Send + Sync {
    /// The node that has a key, if any is known to.
    fn node(&self, key: &str) -> Option<Node>;

    /// The node that another named.
    fn redirected(&self, to: &Redirection) -> Option<Node>;

    fn health(&self) -> StoreHealth;
}
