use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use super::backend::{Backend, Redirection};
use super::driver::Driver;
use super::node::{Common, Node};
use super::route::Route;
use crate::stats::StoreHealth;

/// A store of one server, which has all keys.
pub(super) struct Single {
    common: Arc<Common>,
    node: Node,
}

impl Single {
    /// The store, and what drives it.
    pub(super) fn new(
        common: Arc<Common>,
        backend: impl Backend,
        runtime: Handle,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let (node, driver) = Driver::new(backend, Arc::clone(&common), runtime);
        let route = Arc::new(Self { common, node });
        let weak: Weak<dyn Route> = Arc::downgrade(&route) as _;
        (route, driver.run(weak))
    }

    /// A store that nothing drives.
    #[cfg(test)]
    pub(super) fn idle(common: Arc<Common>) -> Arc<Self> {
        let node = super::node::tests::idle().0;
        Arc::new(Self { common, node })
    }
}

impl Route for Single {
    fn node(&self, _key: &str) -> Option<Node> {
        Some(self.node.clone())
    }

    fn redirected(&self, _to: &Redirection) -> Option<Node> {
        None
    }

    fn health(&self) -> StoreHealth {
        StoreHealth {
            is_down: self.node.is_down(),
            trouble: self.node.trouble(),
            outages: self.node.outages(),
            ..self.common.health()
        }
    }
}
