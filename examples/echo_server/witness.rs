//! Observes what rustls resumes from, which it does not tell: a ticket that was opened, or a
//! session that was found.

use std::cell::Cell;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ProducesTickets, StoresServerSessions};

/// What a session was resumed from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum By {
    Ticket,
    Session,
}

tokio::task_local! {
    static SEEN: Cell<Option<By>>;
}

/// Wraps a configuration's storage and ticketer.
pub(crate) fn install(config: &mut ServerConfig) {
    config.session_storage = Arc::new(Witness(Arc::clone(&config.session_storage)));
    config.ticketer = Arc::new(Witness(Arc::clone(&config.ticketer)));
}

/// Runs a handshake, and returns what rustls was last given to resume from.
pub(crate) async fn watch<T>(handshake: impl Future<Output = T>) -> (T, Option<By>) {
    let watched = async {
        let outcome = handshake.await;
        (outcome, SEEN.with(Cell::get))
    };
    SEEN.scope(Cell::new(None), watched).await
}

#[derive(Debug)]
struct Witness<T: ?Sized>(Arc<T>);

impl StoresServerSessions for Witness<dyn StoresServerSessions> {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        note(self.0.get(key), By::Session)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        note(self.0.take(key), By::Session)
    }

    fn can_cache(&self) -> bool {
        self.0.can_cache()
    }
}

impl ProducesTickets for Witness<dyn ProducesTickets> {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        note(self.0.decrypt(cipher), By::Ticket)
    }
}

fn note(session: Option<Vec<u8>>, by: By) -> Option<Vec<u8>> {
    if session.is_some() {
        // Outside `watch`, nothing is recorded.
        let _ = SEEN.try_with(|seen| seen.set(Some(by)));
    }
    session
}
