//! Stores that the nodes of a fleet share: [`SharedStore`], and Redis.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::hex::Hex;
use crate::stats::StoreHealth;

pub mod contract;
mod guarded;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod remote;
mod sharing;
mod value;

#[cfg(feature = "redis")]
pub use redis::RedisStore;
pub(crate) use sharing::{Miss, Opened, Sharing, SharingSettings};

#[cfg(feature = "redis")]
pub use crate::redis::RedisClient;
#[cfg(any(test, rustls_resumption_fuzzing))]
pub use value::fuzzed::run as fuzzed_value;

/// By default a handshake waits for the shared store for at most 50 milliseconds in all.
pub(crate) const DEFAULT_STORE_DEADLINE: Duration = Duration::from_millis(50);

/// By default a session whose client has not come back stays in the shared store for an hour.
pub(crate) const DEFAULT_FIRST_TTL: Duration = Duration::from_secs(60 * 60);

/// A store of sessions that the nodes of a fleet share, so that a client can resume on any of them.
///
/// It keeps bytes under keys until they expire, and learns nothing: keys are hashes, and values are
/// sealed under the fleet's STEKs, bound to scope, TLS version and session ID. So it need not be
/// trusted with secrets, only with *deleting*: [`claim`](SharedStore::claim) must return each value
/// to at most one caller, because the defence against replayed 0-RTT data rests on it
/// ([glossary](crate::docs::glossary), [RFC 8446 §8.1](https://www.rfc-editor.org/rfc/rfc8446#section-8.1)).
///
/// An acceptor asks the store before rustls needs the session; calls from rustls never wait for it.
/// **Without an acceptor (a plain `TlsAcceptor`, quinn) a shared store means full TLS 1.3
/// handshakes**; [`Misses::not_claimed`](crate::stats::Misses::not_claimed) counts them.
///
/// Whoever writes one runs the suite [`contract`] against it.
///
/// A failure, or a panic, costs a full handshake, never a connection: values that do not open are
/// counted and ignored, and a store that does not answer delays a client by at most the deadline. See
/// the page [`choosing`](crate::docs::choosing) for what a failover may lose.
pub trait SharedStore: Send + Sync {
    /// Reads a value and leaves it there: for TLS 1.2 sessions, which may be used again.
    ///
    /// The future must not depend on a particular runtime. It is awaited for at most `deadline`.
    fn fetch(&self, key: &StoreKey, deadline: Duration) -> StoreLookup;

    /// Reads a value and deletes it, atomically: of all callers in all processes at most one gets
    /// it. For TLS 1.3 sessions. A claim of unknown outcome must not be repeated.
    ///
    /// Otherwise as [`fetch`](SharedStore::fetch).
    fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup;

    /// Queues a value to be written, to live for `ttl`. False if it cannot be accepted now.
    ///
    /// It is called during a handshake, so it must not block. A write of unknown outcome must not
    /// be repeated: the value may have been claimed meanwhile, and could then be claimed again.
    fn write(&self, key: StoreKey, value: Vec<u8>, ttl: Duration) -> bool;

    /// Tells, before anything is asked, how long look-ups will have: the time to connect.
    ///
    /// Called when the [`Resumption`](crate::Resumption) is built that the store is for. It must
    /// not block.
    fn prepare(&self, _deadline: Duration) {}

    /// The store's name in logs and [`Stats`](crate::Stats).
    fn name(&self) -> &'static str {
        "custom"
    }

    /// The store's own counters and state, as far as it has any.
    fn health(&self) -> StoreHealth {
        StoreHealth::default()
    }
}

impl<S: SharedStore + ?Sized> SharedStore for Arc<S> {
    fn fetch(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        (**self).fetch(key, deadline)
    }

    fn claim(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
        (**self).claim(key, deadline)
    }

    fn write(&self, key: StoreKey, value: Vec<u8>, ttl: Duration) -> bool {
        (**self).write(key, value, ttl)
    }

    fn prepare(&self, deadline: Duration) {
        (**self).prepare(deadline);
    }

    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn health(&self) -> StoreHealth {
        (**self).health()
    }
}

impl fmt::Debug for dyn SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStore")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// A look-up in progress. `None` if there is no such value.
pub type StoreLookup = Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send>>;

/// The key of a session in a [`SharedStore`]: a hash, which reveals nothing about the session.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StoreKey([u8; Self::LEN]);

impl StoreKey {
    /// The length of a key in bytes.
    pub const LEN: usize = 32;

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

/// As 64 hexadecimal digits.
impl fmt::Display for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreKey({self})")
    }
}

/// Why a [`SharedStore`] gave no answer. The client gets a full handshake, and it is counted.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The store was not asked: too many look-ups are in flight.
    Busy,
    /// The store failed, or answered with an error.
    Failed(Box<dyn StdError + Send + Sync>),
    /// The store did not answer in time.
    TimedOut,
    /// The store was not asked: the circuit breaker is open, or no server is known to have the key.
    /// Or the server that was asked sent us to another in vain.
    Unavailable,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("the shared store has too many look-ups in flight"),
            Self::Failed(cause) => write!(f, "the shared store failed: {cause}"),
            Self::TimedOut => f.write_str("the shared store did not answer in time"),
            Self::Unavailable => {
                f.write_str("the shared store is unavailable: the circuit breaker is open")
            }
        }
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Failed(cause) => Some(&**cause),
            Self::Busy | Self::TimedOut | Self::Unavailable => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Answers with what it was asked.
    struct Peculiar;

    impl SharedStore for Peculiar {
        fn fetch(&self, key: &StoreKey, _deadline: Duration) -> StoreLookup {
            Box::pin(ready(Ok(Some(key.as_bytes().to_vec()))))
        }

        fn claim(&self, _key: &StoreKey, _deadline: Duration) -> StoreLookup {
            Box::pin(ready(Ok(None)))
        }

        fn write(&self, _key: StoreKey, value: Vec<u8>, ttl: Duration) -> bool {
            value == b"value" && ttl == DEFAULT_STORE_DEADLINE
        }

        fn prepare(&self, deadline: Duration) {
            assert_eq!(deadline, DEFAULT_STORE_DEADLINE);
            panic!("prepared");
        }

        fn name(&self) -> &'static str {
            "peculiar"
        }

        fn health(&self) -> StoreHealth {
            StoreHealth {
                dropped: 7,
                ..StoreHealth::default()
            }
        }
    }

    /// Has neither name nor health.
    struct Silent;

    impl SharedStore for Silent {
        fn fetch(&self, key: &StoreKey, deadline: Duration) -> StoreLookup {
            self.claim(key, deadline)
        }

        fn claim(&self, _key: &StoreKey, _deadline: Duration) -> StoreLookup {
            Box::pin(ready(Err(StoreError::Busy)))
        }

        fn write(&self, _key: StoreKey, _value: Vec<u8>, _ttl: Duration) -> bool {
            false
        }
    }

    fn now(mut lookup: StoreLookup) -> Option<Vec<u8>> {
        match lookup
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(found) => found.unwrap(),
            Poll::Pending => panic!("ready at once"),
        }
    }

    #[test]
    fn a_store_in_an_arc_forwards_every_method() {
        let store = Arc::new(Peculiar);
        let store = &store as &dyn SharedStore;
        let (key, deadline) = (StoreKey([0xab; 32]), DEFAULT_STORE_DEADLINE);
        assert_eq!(now(store.fetch(&key, deadline)), Some(vec![0xab; 32]));
        assert_eq!(now(store.claim(&key, deadline)), None);
        assert!(store.write(key, b"value".to_vec(), deadline));
        assert!(!store.write(key, b"other".to_vec(), deadline));
        assert_eq!((store.name(), store.health().dropped), ("peculiar", 7));
        assert_eq!((Silent.name(), Silent.health().dropped), ("custom", 0));
        assert_eq!(
            format!("{store:?}"),
            r#"SharedStore { name: "peculiar", .. }"#
        );
        assert_eq!(format!("{key:?}"), format!("StoreKey({})", "ab".repeat(32)));
        assert_eq!(deadline, Duration::from_millis(50));
    }

    #[test]
    fn errors_say_what_became_of_the_look_up() {
        let failed = StoreError::Failed("no route to host".into());
        assert_eq!(
            failed.to_string(),
            "the shared store failed: no route to host"
        );
        assert_eq!(failed.source().unwrap().to_string(), "no route to host");
        for (error, what) in [
            (StoreError::Busy, "has too many look-ups in flight"),
            (StoreError::TimedOut, "did not answer in time"),
            (
                StoreError::Unavailable,
                "is unavailable: the circuit breaker is open",
            ),
        ] {
            assert_eq!(error.to_string(), format!("the shared store {what}"));
            assert!(error.source().is_none());
        }
    }

    #[test]
    #[should_panic(expected = "prepared")]
    fn a_store_that_is_shared_is_prepared() {
        Arc::new(Peculiar).prepare(DEFAULT_STORE_DEADLINE);
    }
}
