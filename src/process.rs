use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// The process in which something was made. One that was forked from it has that too, but none of
/// its threads, which may have been holding locks.
#[derive(Debug)]
pub(crate) struct Process(AtomicU32);

impl Process {
    pub(crate) fn current() -> Self {
        Self(AtomicU32::new(process::id()))
    }

    /// Asking the system costs some 200 ns.
    pub(crate) fn is_current(&self) -> bool {
        process::id() == self.0.load(Ordering::Relaxed)
    }

    /// As after a fork.
    #[cfg(test)]
    pub(crate) fn pretend_fork(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
