//! How the models of a fleet's protocols are explored, each beside what it checks: by every order of
//! steps up to some depth, the shortest first.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::{Checker, HasDiscoveries, Model};

/// How many threads explore a model.
const THREADS: usize = 2;

/// Tries every order of so many steps, and fails with the shortest after which a property does not
/// hold.
pub(crate) fn holds<M>(model: M, depth: usize)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    let checker = model.checker().threads(THREADS).target_max_depth(depth);
    let checker = checker.finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    println!(
        "figure: {} states, {} steps deep",
        checker.unique_state_count(),
        checker.max_depth().saturating_sub(1)
    );
    checker.assert_properties();
}

/// The steps, as few as there are, after which this property of a model with a fault does not hold.
pub(crate) fn refutation<M>(model: M, property: &'static str, depth: usize) -> Vec<M::Action>
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    let checker = model.checker().threads(THREADS).target_max_depth(depth);
    let checker = checker.finish_when(HasDiscoveries::AnyOf([property].into()));
    let checker = checker.spawn_bfs().join();
    let found = checker.discovery(property);
    let found = found.unwrap_or_else(|| panic!("the fault was not found: {property}"));
    let steps = found.into_actions();
    println!("figure: a fault found in {} steps: {steps:?}", steps.len());
    steps
}

/// What tells states apart that have no equality of their own.
pub(crate) fn hashed(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}
