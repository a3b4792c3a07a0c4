use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use foldhash::fast::RandomState;

use crate::lineage::Lineage;
use crate::scope::ScopeState;
use crate::session::{Session, Version};

/// What tells a renewal of a session from another session.
#[derive(Clone, Copy)]
pub(super) struct Trace {
    pub(super) lineage: Lineage,
    /// `None` if the session could not be parsed: then whatever comes next is its renewal.
    mark: Option<u64>,
}

impl Trace {
    #[inline]
    pub(super) fn new(session: Option<&Session<'_>>, lineage: Lineage) -> Self {
        let mark = session.map(mark);
        Self { lineage, mark }
    }

    #[inline]
    pub(super) fn is_renewed_by(&self, session: Option<&Session<'_>>) -> bool {
        match (self.mark, session) {
            (Some(given), Some(session)) => given == mark(session),
            (None, _) | (_, None) => true,
        }
    }

    /// The lineage of what renews it. When its handshake began, so much had been forgotten.
    #[inline]
    pub(super) fn renewal(&self, scope: &ScopeState, times_forgotten: u64) -> Lineage {
        let birth = scope.renewed_birth(self.lineage.birth, times_forgotten);
        self.lineage.renewed(birth)
    }
}

/// A fingerprint of what a session and its renewal have in common: in TLS 1.2 the master secret, in
/// TLS 1.3 the server name and the cipher suite. Others may have it too, by chance: that only makes a
/// session older than it is.
///
/// It may stay on the thread when nothing takes it, so it must not give the secret away: of 64 bits
/// it can say no more than 64 bits of the 384. A third of the secret will do, because each bit of it
/// is as random as the next.
#[inline(always)]
fn mark(session: &Session<'_>) -> u64 {
    let (common, version_and_suite) = match session.version {
        Version::Tls12 => (session.secret.get(..16).unwrap_or(session.secret), 0),
        Version::Tls13 => {
            let suite = u16::from_ne_bytes(session.cipher_suite);
            let name = session.server_name.unwrap_or_default();
            (name, 1 << 16 | u64::from(suite))
        }
    };
    // The hash function has the number of the bytes in it.
    let mut hasher = HASH_KEY.build_hasher();
    hasher.write(common);
    hasher.finish() ^ version_and_suite
}

static HASH_KEY: LazyLock<RandomState> = LazyLock::new(RandomState::default);
