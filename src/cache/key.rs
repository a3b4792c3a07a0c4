use std::hash::Hasher;
use std::sync::LazyLock;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

/// What a session is found by. The scope's number stands for the whole scope.
#[derive(Clone, Copy)]
pub(crate) struct Key<'a> {
    pub(crate) hash: u64,
    pub(crate) scope: u32,
    pub(crate) id: &'a [u8; 32],
}

/// Hashes keys so that nobody outside can tell which of them meet in one shard: clients choose what
/// is looked up, rustls (at random) what is stored, and neither knows the seed.
#[derive(Clone, Copy)]
pub(crate) struct KeyHasher {
    seed: u64,
    shared: &'static SharedSeed,
}

impl KeyHasher {
    pub(crate) fn random() -> Self {
        static SHARED: LazyLock<SharedSeed> =
            LazyLock::new(|| SharedSeed::from_u64(random_number()));
        Self {
            seed: random_number(),
            shared: &SHARED,
        }
    }

    pub(crate) fn key<'a>(&self, scope: u32, id: &'a [u8; 32]) -> Key<'a> {
        Key {
            hash: self.hash(scope, id),
            scope,
            id,
        }
    }

    #[inline]
    pub(crate) fn hash(&self, scope: u32, id: &[u8; 32]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, self.shared);
        hasher.write_u32(scope);
        hasher.write(id);
        hasher.finish()
    }
}

fn random_number() -> u64 {
    let mut bytes = [0; 8];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        // No cache may fail for want of it: the standard library has a seed of its own.
        use std::hash::{BuildHasher, RandomState};
        return RandomState::new().hash_one(0);
    }
    u64::from_ne_bytes(bytes)
}
