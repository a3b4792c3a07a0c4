use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime for a thread of our own. It is shut down in the background wherever it is dropped: on
/// that thread a name that is still looked up is left to itself, and on that of a caller who was
/// given no thread, and may be polled by a runtime, tokio panics where another is waited for.
pub(crate) struct OwnRuntime {
    handle: Handle,
    /// Here until this is dropped.
    runtime: Option<Runtime>,
}

impl OwnRuntime {
    /// One that looks up so many names at once: one that hangs keeps its thread.
    pub(crate) fn new(max_names: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(max_names)
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Never `None`.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> Option<F::Output> {
        let runtime = self.runtime.as_ref()?;
        Some(runtime.block_on(future))
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_may_be_dropped_where_nobody_may_wait() {
        drop(OwnRuntime::new(1).unwrap());
    }

    #[test]
    fn a_name_that_hangs_does_not_hold_up_whoever_drops_it() {
        let runtime = OwnRuntime::new(1).unwrap();
        let (release, hang) = mpsc::channel::<()>();
        let (ended, has_ended) = mpsc::channel();
        runtime.handle().spawn_blocking(move || {
            let _ = hang.recv_timeout(Duration::from_secs(30));
            ended.send(()).unwrap();
        });
        assert_eq!(runtime.block_on(async { 7 }), Some(7));
        drop(runtime);
        assert!(has_ended.try_recv().is_err());
        drop(release);
        has_ended.recv().unwrap();
    }
}
