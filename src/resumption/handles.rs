use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::scope::Scope;
use crate::sync::lock::Mutex;

/// What was handed out last for each scope. Keeps none of it alive.
#[derive(Debug)]
pub(super) struct Handles<T: ?Sized>(Mutex<HashMap<Scope, Weak<T>>>);

impl<T: ?Sized> Handles<T> {
    /// The one that is in use, or what `make` makes: who asks twice is given the same `Arc`.
    pub(super) fn get_or_make(&self, scope: &Scope, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        // Another thread may have held the lock when this process was forked.
        let Some(mut handles) = self.0.try_lock_for(Duration::from_millis(100)) else {
            return make();
        };
        if let Some(handle) = handles.get(scope).and_then(Weak::upgrade) {
            return handle;
        }
        let handle = make();
        keep(&mut handles, scope, &handle);
        handle
    }

    /// Notes another one. Returns that before it, if it is in use; and if it cannot be known without
    /// waiting, nothing.
    pub(super) fn replace(&self, scope: &Scope, handle: &Arc<T>) -> Option<Arc<T>> {
        let mut handles = self.0.try_lock()?;
        let before = handles.get(scope).and_then(Weak::upgrade);
        keep(&mut handles, scope, handle);
        before
    }
}

fn keep<T: ?Sized>(handles: &mut HashMap<Scope, Weak<T>>, scope: &Scope, handle: &Arc<T>) {
    if handles.len() == handles.capacity() {
        handles.retain(|_, handle| handle.strong_count() > 0);
    }
    handles.insert(scope.clone(), Arc::downgrade(handle));
}

impl<T: ?Sized> Default for Handles<T> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_twice_is_given_the_same_while_it_is_in_use() {
        let handles = Handles::default();
        let one = handles.get_or_make(&"a".into(), || Arc::new(1));
        let same = handles.get_or_make(&"a".into(), || unreachable!("it is in use"));
        assert!(Arc::ptr_eq(&one, &same));
        assert_eq!(*handles.get_or_make(&"b".into(), || Arc::new(2)), 2);
        drop((one, same));
        assert_eq!(*handles.get_or_make(&"a".into(), || Arc::new(3)), 3);
    }

    #[test]
    fn scopes_that_come_and_go_leave_nothing_behind() {
        let handles = Handles::default();
        for number in 0..10_000 {
            handles.get_or_make(&format!("{number}").into(), || Arc::new(number));
        }
        assert!(handles.0.lock().capacity() < 16);
    }

    #[test]
    fn one_that_is_in_use_is_found_however_many_come_and_go() {
        let handles = Handles::default();
        let one = handles.get_or_make(&"a".into(), || Arc::new(1));
        for number in 0..1_000 {
            handles.get_or_make(&format!("{number}").into(), || Arc::new(number));
        }
        let same = handles.get_or_make(&"a".into(), || unreachable!("it is in use"));
        assert!(Arc::ptr_eq(&one, &same));
    }
}
