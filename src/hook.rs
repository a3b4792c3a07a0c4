use std::fmt;
use std::sync::OnceLock;

/// A call that is set once, by whoever comes to be later than what makes it.
#[derive(Default)]
pub(crate) struct Hook(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl Hook {
    pub(crate) fn set(&self, call: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(call)); // the first counts
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    /// Nothing happens if it is not set.
    pub(crate) fn call(&self) {
        if let Some(call) = self.0.get() {
            call();
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}
