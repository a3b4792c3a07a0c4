//! The state of the server: resumption, certificate, and the last two minutes.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum_server::tls_rustls::RustlsConfig;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_resumption::Resumption;
use tokio::time::interval;

use crate::certificate::{Certificate, LOOK_EVERY};
use crate::visit::{Counts, Handshakes};

/// The policy of this server, which a new certificate does not change.
const SCOPE: &str = "axum example";

/// How many seconds the chart shows.
pub(crate) const HISTORY: usize = 120;

pub(crate) struct Demo {
    pub(crate) resumption: Resumption,
    pub(crate) handshakes: Arc<Handshakes>,
    certificate: Certificate,
    tls: RustlsConfig,
    certificates: AtomicU64,
    pub(crate) history: Mutex<History>,
}

/// The handshakes of each second, and events.
#[derive(Default)]
pub(crate) struct History {
    /// The last one is the current second, so far.
    pub(crate) seconds: VecDeque<Counts>,
    pub(crate) events: VecDeque<(Instant, &'static str)>,
    before: Counts,
    rotations: u64,
    revocations: u64,
}

/// A configuration with the current certificate, in which the sessions of the last one resume.
pub(crate) fn config(
    certificate: &Certificate,
    resumption: &Resumption,
) -> Result<ServerConfig, Box<dyn Error + Send + Sync>> {
    let mut config = certificate.config()?;
    resumption.install(&mut config, SCOPE);
    Ok(config)
}

impl Demo {
    pub(crate) fn new(
        resumption: Resumption,
        certificate: Certificate,
        tls: RustlsConfig,
        handshakes: Arc<Handshakes>,
    ) -> Self {
        Self {
            resumption,
            handshakes,
            certificate,
            tls,
            certificates: AtomicU64::new(1),
            history: Mutex::default(),
        }
    }

    /// How many certificates have been served.
    pub(crate) fn certificates(&self) -> u64 {
        self.certificates.load(Ordering::Relaxed)
    }

    /// Reloads the certificate. If that fails, the old one stays in use.
    pub(crate) fn reload(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let config = config(&self.certificate, &self.resumption)?;
        self.tls.reload_from_config(Arc::new(config));
        self.certificates.fetch_add(1, Ordering::Relaxed);
        self.note("renewed");
        println!("certificate renewed, sessions kept");
        Ok(())
    }

    pub(crate) fn note(&self, event: &'static str) {
        let mut history = self.history.lock();
        history.events.push_back((Instant::now(), event));
        let seconds = HISTORY as u64;
        history
            .events
            .retain(|(at, _)| at.elapsed().as_secs() < seconds);
    }

    /// Reloads when the files change, and on SIGHUP.
    pub(crate) async fn watch_certificate(self: Arc<Self>) {
        let mut tick = interval(LOOK_EVERY);
        let mut hangup = Hangup::new();
        let mut served = self.certificate.written();
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    // Half-written or briefly missing: look again later.
                    let written = self.certificate.written();
                    if written.is_none() || written == served {
                        continue;
                    }
                }
                () = hangup.heard() => {}
            }
            served = self.certificate.written();
            if let Err(error) = self.reload() {
                eprintln!("certificate not renewed, the old one stays: {error}");
            }
        }
    }

    /// Adds a second to the chart, every second.
    pub(crate) async fn keep_history(self: Arc<Self>) {
        let mut tick = interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            let steks = self.resumption.stats().steks;
            let counts = self.handshakes.counts();
            let rotated = {
                let history = &mut *self.history.lock();
                let before = std::mem::replace(&mut history.before, counts);
                let second = [0, 1, 2].map(|i| counts[i] - before[i]);
                history.seconds.push_back(second);
                if history.seconds.len() > HISTORY {
                    history.seconds.pop_front();
                }
                // The replacement of a revoked key does not count as a rotation here.
                let revoked = std::mem::replace(&mut history.revocations, steks.revocations);
                let rotated = std::mem::replace(&mut history.rotations, steks.rotations);
                rotated < steks.rotations && revoked == steks.revocations
            };
            if rotated {
                self.note("rotated");
            }
        }
    }
}

#[cfg(unix)]
struct Hangup(Option<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Hangup {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self(signal(SignalKind::hangup()).ok())
    }

    async fn heard(&mut self) {
        let heard = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if heard.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Without such a signal, it waits forever.
#[cfg(not(unix))]
struct Hangup;

#[cfg(not(unix))]
impl Hangup {
    fn new() -> Self {
        Self
    }

    async fn heard(&mut self) {
        std::future::pending().await
    }
}
