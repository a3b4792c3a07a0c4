use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::withdrawn::Id;
use crate::aead::Sealing;
use crate::error::Error;
use crate::kdf::Kdf;
use crate::stek::Stek;

/// A secret, which the other processes need, and the STEK made of it.
pub(in crate::source::shared) struct Key {
    /// On the heap, so that it leaves no copies behind when it moves.
    pub(super) secret: Zeroizing<Vec<u8>>,
    pub(super) stek: Arc<Stek>,
    id: Id,
}

impl Key {
    pub(in crate::source::shared) const SECRET_LEN: usize = Stek::MIN_SECRET_LEN;

    pub(in crate::source::shared) fn new(secret: &[u8], sealing: Sealing) -> Result<Self, Error> {
        let stek = Arc::new(Stek::with_sealing(secret, sealing)?);
        let mut id = [0; Id::LEN];
        Kdf::new("rustls-resumption", secret).expand(&[b"id in records"], &mut id)?;
        Ok(Self {
            secret: Zeroizing::new(secret.to_vec()),
            stek,
            id: Id(id),
        })
    }

    pub(in crate::source::shared) fn random(sealing: Sealing) -> Result<Self, Error> {
        let mut secret = Zeroizing::new([0; Self::SECRET_LEN]);
        aws_lc_rs::rand::fill(&mut *secret).map_err(|_| Error::Random)?;
        Self::new(&*secret, sealing)
    }

    pub(super) fn has(&self, secret: &[u8]) -> bool {
        self.secret.as_slice() == secret
    }

    /// What the secret is called. Its STEK has another name with each algorithm, and with each
    /// format of tickets.
    pub(super) fn id(&self) -> Id {
        self.id
    }

    /// By what it may have been revoked.
    pub(super) fn ids(&self) -> [Id; 2] {
        [self.id, Id(*self.stek.name().as_bytes())]
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stek.name().fmt(f)
    }
}
