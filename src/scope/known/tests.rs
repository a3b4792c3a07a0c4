use std::time::Duration;

use super::*;
use crate::clock::Time;
use crate::scope::state::MEMORY;

/// A cache with sessions under these numbers, and how often it was looked through.
#[derive(Default)]
struct Holds(std::cell::RefCell<HashSet<u32>>, std::cell::Cell<u32>);

impl HoldsScopes for Holds {
    fn scopes(&self) -> HashSet<u32> {
        self.1.set(self.1.get() + 1);
        self.0.borrow().clone()
    }

    fn drop_all(&self) {
        self.0.borrow_mut().clear();
    }
}

const NOW: Moment = at(Time(1_800_000_000_000));

/// Where there are no generations.
const NOTHING: Forgotten = Forgotten {
    generation: 0,
    time: Time(0),
};

/// On a machine that has just started.
const fn at(time: Time) -> Moment {
    Moment {
        time,
        monotonic: Duration::ZERO,
    }
}

#[test]
fn forgetting_changes_the_number_of_that_scope_alone() {
    let (scopes, cache) = (Scopes::default(), Holds::default());
    let state = |name: &str| scopes.state(name.into(), NOW, &cache);
    let (a, b) = (state("a"), state("b"));
    let before = (a.number(), b.number());
    assert_ne!(before.0, before.1);
    assert_eq!(
        scopes.forget(&"a".into(), NOTHING, at(Time(7)), &cache),
        Some(before.0)
    );
    assert_ne!(a.number(), before.0);
    assert_eq!(b.number(), before.1);
    assert_eq!((a.forgotten(), b.forgotten()), (Time(7), Time(0)));
    scopes.forget(&"unheard of".into(), NOTHING, at(Time(7)), &cache);
    assert_eq!(state("unheard of").forgotten(), Time(7));
}

#[test]
fn forgetting_all_changes_the_number_of_each() {
    let (scopes, cache) = (Scopes::default(), Holds::default());
    let state = |name: &str| scopes.state(name.into(), NOW, &cache);
    let states = [state("a"), state("b")];
    let before = [states[0].number(), states[1].number()];
    scopes.forget_all(|_| NOTHING, 0, at(Time(7)), &cache);
    for state in &states {
        assert!(!before.contains(&state.number()));
        assert_eq!(state.forgotten(), Time(7));
    }
    assert_ne!(states[0].number(), states[1].number());
    assert_eq!(state("met later").forgotten(), Time(7));
}

#[test]
fn unneeded_scopes_are_dropped_out_of_a_million() {
    let (scopes, cache) = (Scopes::default(), Holds::default());
    let state = |name: &str| scopes.state(name.into(), NOW, &cache);
    let held = state("held");
    let stored = state("stored");
    stored.note_stored();
    let number = stored.number();
    cache.0.borrow_mut().insert(number);
    drop(stored);
    scopes.forget(&"forgotten".into(), NOTHING, NOW, &cache);
    let mut most = 0;
    for met in 0..1_000_000 {
        let state = state(&met.to_string());
        if met % 3 == 0 {
            state.note_stored(); // and taken since
        }
        most = most.max(scopes.len());
    }
    assert!(most <= FEW, "{most} at once");
    assert_eq!(state("held").number(), held.number());
    assert_eq!(state("stored").number(), number);
    assert_eq!(state("forgotten").forgotten(), NOW.time);
    // What was issued before is too old after this.
    for (monotonic, forgotten) in [
        (MEMORY, NOW.time),
        (MEMORY + Duration::from_millis(1), Time(0)),
    ] {
        let later = Moment { monotonic, ..NOW };
        for met in 0..2 * FEW {
            scopes.state(met.to_string().into(), later, &cache);
        }
        assert_eq!(state("forgotten").forgotten(), forgotten);
    }
}

#[test]
fn the_cache_is_looked_through_only_for_scopes_that_have_stored() {
    for (has_stored, is_looked_through) in [(true, true), (false, false)] {
        let (scopes, cache) = (Scopes::default(), Holds::default());
        let _held = scopes.state("held".into(), NOW, &cache);
        for met in 0..4 * FEW {
            let state = scopes.state(met.to_string().into(), NOW, &cache);
            if has_stored {
                state.note_stored(); // and taken since
            }
            assert!(scopes.len() <= FEW);
        }
        assert_eq!(cache.1.get() > 0, is_looked_through);
    }
}

#[test]
fn a_scope_is_found_once_it_was_met_and_has_a_generation_once_it_was_heard_of() {
    let (scopes, cache) = (Scopes::default(), Holds::default());
    assert!(scopes.find(&"a".into()).is_none());
    let state = scopes.state("a".into(), NOW, &cache);
    let found = scopes.find(&"a".into());
    assert!(found.is_some_and(|found| Arc::ptr_eq(&found, &state)));
    assert_eq!((state.opening(), state.generation()), (0, 0));
    let forgotten = Forgotten {
        generation: 5,
        time: Time(0),
    };
    state.heed(forgotten, NOW);
    assert_eq!((state.opening(), state.generation()), (5, 5));
}

#[test]
fn a_child_that_lost_the_scopes_forgets_all_instead_of_one() {
    let (scopes, cache) = (Scopes::default(), Holds::default());
    let installed = scopes.state("a".into(), NOW, &cache);
    let heir = {
        let _held = scopes.known.lock(); // by a thread that was not forked
        scopes.heir()
    };
    let met = heir.state("b".into(), NOW, &cache);
    assert_ne!(met.number(), installed.number());
    let forgotten = heir.forget(&"a".into(), NOTHING, NOW, &cache);
    assert_eq!(forgotten, None, "drop all");
    assert_eq!(
        (installed.forgotten(), met.forgotten()),
        (NOW.time, NOW.time)
    );
    let heir = scopes.heir();
    let number = installed.number();
    let forgotten = heir.forget(&"a".into(), NOTHING, NOW, &cache);
    assert_eq!(forgotten, Some(number));
}

#[test]
fn what_is_forgotten_binds_the_scope_and_all_where_some_may_be_unknown() {
    let (scopes, cache) = (Scopes::default(), Holds::default());
    let [a, b] = ["a", "b"].map(|name| scopes.state(name.into(), NOW, &cache));
    let generation = |generation| Forgotten {
        generation,
        ..NOTHING
    };
    scopes.forget(&"a".into(), generation(5), NOW, &cache);
    assert_eq!((a.opening(), a.generation()), (5, 5));
    assert_eq!((b.opening(), b.generation()), (0, 0));
    let of = |scope: &Scope| generation(if scope.name() == "a" { 6 } else { 7 });
    scopes.forget_all(of, 9, NOW, &cache);
    assert_eq!((a.opening(), a.generation()), (6, 6));
    assert_eq!((b.opening(), b.generation()), (7, 7), "all are known");
    let heir = {
        let _held = scopes.known.lock(); // by a thread that was not forked
        scopes.heir()
    };
    heir.forget(&"a".into(), generation(9), NOW, &cache);
    for state in [&a, &b] {
        assert_eq!((state.opening(), state.generation()), (9, 9));
    }
}

#[test]
fn when_numbers_are_used_up_the_cache_is_emptied_and_they_begin_again() {
    let (scopes, cache) = (Scopes::default(), Holds::default());
    let state = |name: &str| scopes.state(name.into(), NOW, &cache);
    let first = state("first");
    cache.0.borrow_mut().insert(first.number());
    scopes.use_up_numbers();
    assert_eq!(state("last").number(), u32::MAX);
    assert!(!cache.0.borrow().is_empty());
    let next = state("next");
    assert!(cache.0.borrow().is_empty());
    let numbers = HashSet::from([&*first, &*next, &*state("last")].map(ScopeState::number));
    assert_eq!(numbers, HashSet::from([1, 2, 3]));
}

#[test]
fn each_generation_has_a_binding_of_its_own() {
    let (scopes, cache) = (Scopes::default(), Holds::default());
    let state = scopes.state("a".into(), NOW, &cache);
    let bindings: HashSet<_> = (0..1_000).map(|number| state.binding(number)).collect();
    assert_eq!(bindings.len(), 1_000);
    assert!(
        bindings.contains(state.scope.digest()),
        "without generations"
    );
}

/// For models, which go on from one standing in several ways.
impl Scopes {
    pub(crate) fn twin(&self) -> Self {
        let all = Arc::new(self.all.twin());
        let mut known = self.known.lock().clone();
        for state in known.states.values_mut() {
            *state = Arc::new(ScopeState {
                scope: state.scope.clone(),
                number: AtomicU32::new(state.number()),
                own: state.own.twin(),
                all: Arc::clone(&all),
                has_stored: AtomicBool::new(false),
            });
        }
        Self {
            known: Mutex::new(known),
            last_number: AtomicU32::new(self.last_number.load(Ordering::Acquire)),
            all,
        }
    }
}
