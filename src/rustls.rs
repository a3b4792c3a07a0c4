//! The implementations of rustls's traits, and the way into its error; nothing else.

use std::sync::Arc;

use rustls::OtherError;
use rustls::server::{ProducesTickets, StoresServerSessions};

use crate::context;
use crate::error::Error;
use crate::resumption::{NoTickets, SessionCache, StekRing, Storage};

impl StoresServerSessions for SessionCache {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.inner
            .cache
            .put(&self.inner.terms, &self.at, key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.inner
            .cache
            .get(&self.inner.terms, &self.at, key, |_| true)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.inner.cache.take(&self.inner.terms, &self.at, key)
    }

    fn can_cache(&self) -> bool {
        self.inner.cache.has_room()
    }
}

impl StoresServerSessions for Storage {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        Self::put(self, key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        Self::get(self, key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        Self::take(self, key)
    }

    fn can_cache(&self) -> bool {
        self.answer_search();
        self.has_room()
    }
}

impl ProducesTickets for StekRing {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // At most 7 days; see `Rotation::validate`.
        u32::try_from(self.ticket_lifetime().as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher)
    }
}

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _cipher: &[u8]) -> Option<Vec<u8>> {
        context::miss(context::NO_TICKETS);
        None
    }
}

impl From<Error> for rustls::Error {
    fn from(error: Error) -> Self {
        Self::Other(OtherError(Arc::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_makes_an_error_one_of_rustls_that_keeps_the_message() {
        fn set_up() -> Result<(), rustls::Error> {
            Err(Error::Random)?
        }
        let error = set_up().unwrap_err();
        assert!(error.to_string().contains(&Error::Random.to_string()));
    }

    #[test]
    fn what_makes_no_tickets_neither_seals_nor_opens() {
        assert_eq!((NoTickets.enabled(), NoTickets.lifetime()), (false, 0));
        assert_eq!(NoTickets.encrypt(b"session"), None);
        assert_eq!(NoTickets.decrypt(b"ticket"), None);
    }
}
