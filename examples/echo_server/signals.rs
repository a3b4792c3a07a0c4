//! Signals, and what they ask the server to do.

use std::io;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Request {
    /// SIGHUP
    #[cfg_attr(not(unix), allow(dead_code, reason = "there are no such signals"))]
    Reload,
    /// SIGUSR2
    #[cfg_attr(not(unix), allow(dead_code, reason = "there are no such signals"))]
    RevokeAll,
    /// SIGUSR1
    #[cfg_attr(not(unix), allow(dead_code, reason = "there are no such signals"))]
    Rotate,
    /// SIGINT or SIGTERM
    Stop,
}

#[cfg(unix)]
pub(crate) use unix::Signals;

#[cfg(unix)]
mod unix {
    use tokio::signal::unix::{Signal, SignalKind, signal};

    use super::{Request, io};

    pub(crate) struct Signals {
        hangup: Signal,
        interrupt: Signal,
        terminate: Signal,
        user1: Signal,
        user2: Signal,
    }

    impl Signals {
        /// From now on, these signals do not end the process by themselves.
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self {
                hangup: signal(SignalKind::hangup())?,
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                user1: signal(SignalKind::user_defined1())?,
                user2: signal(SignalKind::user_defined2())?,
            })
        }

        /// Waits for the next one. Cancel safe.
        pub(crate) async fn next(&mut self) -> Request {
            tokio::select! {
                _ = self.hangup.recv() => Request::Reload,
                _ = self.interrupt.recv() => Request::Stop,
                _ = self.terminate.recv() => Request::Stop,
                _ = self.user1.recv() => Request::Rotate,
                _ = self.user2.recv() => Request::RevokeAll,
            }
        }
    }
}

#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) async fn next(&mut self) -> Request {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Request::Stop,
            Err(_) => std::future::pending().await,
        }
    }
}
