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

/// Makes the hash unpredictable. Clients choose what is looked up, rustls (at random) what is
/// stored; without the seed nobody can say which look-ups meet in one shard.
#[derive(Clone, Copy)]
pub(crate) struct Seed {
    own: u64,
    shared: &'static SharedSeed,
}

impl Seed {
    pub(crate) fn random() -> Self {
        static SHARED: LazyLock<SharedSeed> =
            LazyLock::new(|| SharedSeed::from_u64(random_number()));
        Self {
            own: random_number(),
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

    pub(crate) fn hash(&self, scope: u32, id: &[u8; 32]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.own, self.shared);
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
