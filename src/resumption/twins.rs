use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use super::storage::Storage;
use crate::scope::Scope;
use crate::sync::lock::Mutex;

/// Which storage was installed last in each scope, in this process. Keeps none of them alive.
static INSTALLED: LazyLock<Mutex<HashMap<Scope, Weak<Storage>>>> =
    LazyLock::new(|| Mutex::new(HashMap::new()));

/// Notes that a storage was installed. Whether a configuration of the same scope is in use that has
/// another cache: whoever forgets to keep a handle makes such twins at each reload.
pub(super) fn has_twin(scope: &Scope, storage: &Arc<Storage>) -> bool {
    // It serves a warning, which no installation waits for.
    let Some(mut installed) = INSTALLED.try_lock() else {
        return false;
    };
    let last = installed.get(scope).and_then(Weak::upgrade);
    if installed.len() == installed.capacity() {
        installed.retain(|_, storage| storage.strong_count() > 0);
    }
    installed.insert(scope.clone(), Arc::downgrade(storage));
    // What may end with it does so without the lock.
    drop(installed);
    last.is_some_and(|last| !last.shares_cache_with(storage))
}
