use std::sync::{Arc, LazyLock};

use super::handles::Handles;
use super::storage::Storage;
use crate::scope::Scope;

/// Which storage was installed last in each scope, in this process.
static INSTALLED: LazyLock<Handles<Storage>> = LazyLock::new(Handles::default);

/// Notes that a storage was installed. Whether a configuration of the same scope is in use that has
/// another cache: whoever forgets to keep a handle makes such twins at each reload.
pub(super) fn has_twin(scope: &Scope, storage: &Arc<Storage>) -> bool {
    let last = INSTALLED.replace(scope, storage);
    last.is_some_and(|last| !last.shares_cache_with(storage))
}
