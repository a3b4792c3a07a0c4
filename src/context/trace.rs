use std::hash::BuildHasher;
use std::sync::LazyLock;

use foldhash::quality::RandomState;

use crate::lineage::Lineage;
use crate::scope::ScopeState;
use crate::session::{Session, Version};

/// What tells a renewal of a session from another session.
#[derive(Clone, Copy)]
pub(super) struct Trace {
    pub(super) lineage: Lineage,
    /// `None` if the session could not be parsed: then whatever comes next is its renewal.
    mark: Option<Mark>,
}

/// What a session and its renewal have in common.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Mark {
    Tls12 {
        secret: u64,
    },
    Tls13 {
        cipher_suite: [u8; 2],
        server_name: Option<u64>,
    },
}

impl Trace {
    pub(super) fn new(session: Option<&Session<'_>>, lineage: Lineage) -> Self {
        let mark = session.map(Mark::of);
        Self { lineage, mark }
    }

    pub(super) fn is_renewed_by(&self, session: Option<&Session<'_>>) -> bool {
        match (self.mark, session) {
            (Some(mark), Some(session)) => mark == Mark::of(session),
            (None, _) | (_, None) => true,
        }
    }

    /// The lineage of what renews it. When its handshake began, so much had been forgotten.
    pub(super) fn renewal(&self, scope: &ScopeState, times_forgotten: u64) -> Lineage {
        Lineage {
            birth: scope.renewed_birth(self.lineage.birth, times_forgotten),
            is_renewal: true,
            ..self.lineage
        }
    }
}

impl Mark {
    fn of(session: &Session<'_>) -> Self {
        match session.version {
            Version::Tls12 => Self::Tls12 {
                secret: fingerprint(session.secret),
            },
            Version::Tls13 => Self::Tls13 {
                cipher_suite: session.cipher_suite,
                server_name: session.server_name.map(|name| HASH_KEY.hash_one(name)),
            },
        }
    }
}

/// It may stay on the thread when nothing takes it, so it must not give the secret away: of 64 bits
/// it can say no more than 64 bits of the 384. Equal secrets are always equal here; unequal ones by
/// chance only make a session older than it is. A third of the secret will do, because each bit of
/// it is as random as the next.
fn fingerprint(secret: &[u8]) -> u64 {
    match secret.first_chunk() {
        Some(chunk) => HASH_KEY.hash_one(u128::from_ne_bytes(*chunk)),
        None => HASH_KEY.hash_one(secret),
    }
}

static HASH_KEY: LazyLock<RandomState> = LazyLock::new(RandomState::default);
