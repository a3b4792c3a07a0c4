#![expect(
    clippy::arithmetic_side_effects,
    reason = "epochs are numbered up to 2^48, and a node that is cut has children"
)]

use std::ops::Range;

use zeroize::Zeroize;

use crate::error::Error;
use crate::kdf::Kdf;

/// The secrets of epochs, numbered from 0, any of which can be forgotten for good.
///
/// A binary tree whose leaves are the epochs: each node's secret gives those of its two children by
/// HKDF, and not the reverse.
///
/// ```text
///              0..8                 To forget 0, 1 and 2, the path from the root down to
///           /        \              them is wiped, and what branches off it is kept:
///        0..4         4..8 *        the nodes marked *. They give the epochs from 3 on,
///       /    \                      and nothing gives what came before.
///    0..2     2..4
///            /    \
///           2      3 *
/// ```
///
/// So a step over years costs no more than one over an hour: at most [`HEIGHT`] derivations, about
/// 0.2 ms, and as many secrets of 32 bytes are kept.
pub(super) struct Ratchet {
    /// Together they cover every epoch that is not forgotten, each once.
    nodes: Vec<Node>,
}

struct Node {
    first: u64,
    /// It covers 2^height epochs.
    height: u32,
    secret: Secret,
}

/// The height of the tree: even epochs of a millisecond last for 8,900 years.
const HEIGHT: u32 = 48;

/// How many epochs there are.
pub(super) const EPOCHS: u64 = 1 << HEIGHT;

impl Ratchet {
    pub(super) fn new(root: Secret) -> Self {
        let root = Node {
            first: 0,
            height: HEIGHT,
            secret: root,
        };
        Self { nodes: vec![root] }
    }

    /// Forgets these epochs: nothing that is kept leads to their secrets.
    pub(super) fn forget(&mut self, gone: &Range<u64>) -> Result<(), Error> {
        let mut rest = Vec::new();
        for node in self.nodes.iter().filter(|node| node.is_cut_by(gone)) {
            node.rest(gone, &mut rest)?;
        }
        self.nodes.retain(|node| node.is_apart_from(gone));
        self.nodes.append(&mut rest);
        Ok(())
    }

    /// Calls `give` with the secret of each of these epochs that is not forgotten.
    pub(super) fn derive(
        &self,
        wanted: &Range<u64>,
        give: &mut impl FnMut(u64, &Secret) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut nodes = self.nodes.iter();
        nodes.try_for_each(|node| node.derive(wanted, give))
    }
}

impl Node {
    fn covers(&self) -> Range<u64> {
        self.first..self.first + (1 << self.height)
    }

    fn is_apart_from(&self, range: &Range<u64>) -> bool {
        let own = self.covers();
        own.end <= range.start || range.end <= own.start
    }

    /// Whether some of its epochs are in the range and some are not.
    fn is_cut_by(&self, range: &Range<u64>) -> bool {
        let own = self.covers();
        let within = range.start <= own.start && own.end <= range.end;
        !within && !self.is_apart_from(range)
    }

    fn derive_secret(&self, purpose: &[u8]) -> Result<Secret, Error> {
        Secret::derive(self.secret.as_bytes(), &[purpose])
    }

    fn children(&self) -> Result<[Self; 2], Error> {
        let height = self.height - 1;
        let child = |first, label: &[u8]| {
            Ok(Self {
                first,
                height,
                secret: self.derive_secret(label)?,
            })
        };
        Ok([
            child(self.first, b"left")?,
            child(self.first + (1 << height), b"right")?,
        ])
    }

    /// What is left of a node that the range cuts. A leaf cannot be cut, so the recursion ends
    /// there.
    fn rest(&self, gone: &Range<u64>, rest: &mut Vec<Self>) -> Result<(), Error> {
        for child in self.children()? {
            if child.is_apart_from(gone) {
                rest.push(child);
            } else if child.is_cut_by(gone) {
                child.rest(gone, rest)?;
            }
        }
        Ok(())
    }

    fn derive(
        &self,
        wanted: &Range<u64>,
        give: &mut impl FnMut(u64, &Secret) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.is_apart_from(wanted) {
            return Ok(());
        }
        if self.height == 0 {
            return give(self.first, &self.derive_secret(b"epoch")?);
        }
        let children = self.children()?;
        children
            .iter()
            .try_for_each(|child| child.derive(wanted, give))
    }
}

/// 32 secret bytes that never move, and are wiped on drop.
pub(super) struct Secret(Box<[u8; Self::LEN]>);

impl Secret {
    const LEN: usize = 32;

    /// Derives one from a secret for this purpose. It does not lead back to that secret.
    pub(super) fn derive(secret: &[u8], purpose: &[&[u8]]) -> Result<Self, Error> {
        let mut derived = Self(Box::new([0; Self::LEN]));
        Kdf::new("rustls-resumption epochs", secret).expand(purpose, &mut *derived.0)?;
        Ok(derived)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &*self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::hex::Hex;

    fn ratchet() -> Ratchet {
        Ratchet::new(Secret::derive(b"shared", &[b"test"]).unwrap())
    }

    fn secrets(ratchet: &Ratchet, wanted: Range<u64>) -> BTreeMap<u64, Vec<u8>> {
        let mut secrets = BTreeMap::new();
        ratchet
            .derive(&wanted, &mut |epoch, secret| {
                let double = secrets.insert(epoch, secret.as_bytes().to_vec());
                assert!(double.is_none());
                Ok(())
            })
            .unwrap();
        secrets
    }

    #[test]
    fn each_epoch_has_a_secret_of_its_own() {
        let secrets = secrets(&ratchet(), 1_000..1_500);
        assert!(secrets.keys().copied().eq(1_000..1_500));
        assert_eq!(secrets.values().collect::<BTreeSet<_>>().len(), 500);
    }

    #[test]
    fn after_a_step_no_kept_secret_leads_back() {
        let mut ratchet = ratchet();
        let before = secrets(&ratchet, 0..64);
        ratchet.forget(&(0..37)).unwrap();
        let after = secrets(&ratchet, 0..64);
        assert!(
            after.keys().copied().eq(37..64),
            "only what was not forgotten"
        );
        assert!(after.iter().all(|(epoch, secret)| before[epoch] == *secret));
        // Whatever the secrets are used for, the tree gives no way up: no kept node covers a
        // forgotten epoch, and no kept secret is one of those on the path to it.
        assert!(ratchet.nodes.iter().all(|node| node.first >= 37));
        let mut on_path = vec![Secret::derive(b"shared", &[b"test"]).unwrap()];
        for level in (0..HEIGHT).rev() {
            let label: &[u8] = if 36_u64 >> level & 1 == 1 {
                b"right"
            } else {
                b"left"
            };
            let parent = on_path.last().unwrap().as_bytes();
            on_path.push(Secret::derive(parent, &[label]).unwrap());
        }
        for node in &ratchet.nodes {
            let kept = node.secret.as_bytes();
            assert!(on_path.iter().all(|secret| secret.as_bytes() != kept));
        }
    }

    #[test]
    fn any_step_keeps_few_secrets_and_loses_no_epoch_ahead() {
        let mut ratchet = ratchet();
        for to in [
            1,
            2,
            3,
            1 << 20,
            (1 << 20) + 1,
            (1 << 47) + 12_345,
            EPOCHS - 1,
        ] {
            let expected = secrets(&ratchet, to..to + 3);
            ratchet.forget(&(0..to)).unwrap();
            assert!(
                ratchet.nodes.len() <= HEIGHT as usize,
                "{}",
                ratchet.nodes.len()
            );
            assert_eq!(secrets(&ratchet, to.saturating_sub(3)..to + 3), expected);
        }
        ratchet.forget(&(0..EPOCHS)).unwrap();
        assert!(ratchet.nodes.is_empty());
    }

    #[test]
    fn golden_epoch_secret() {
        let secret = secrets(&ratchet(), 123_456..123_457);
        let hex = Hex(&secret[&123_456]).to_string();
        let expected = "32154b9dd82e2303eacf9f43c37cd3346649cd0f597a2f7b4d6558f742803f24";
        assert_eq!(hex, expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Against a set of the epochs that were not forgotten.
        #[test]
        fn exactly_what_was_not_forgotten_is_left(
            gone in proptest::collection::vec((0_u64..200, 0_u64..40), 0..12)
        ) {
            let mut ratchet = ratchet();
            let mut left: BTreeSet<u64> = (0..200).collect();
            for (first, count) in gone {
                let gone = first..first + count;
                ratchet.forget(&gone).unwrap();
                left.retain(|epoch| !gone.contains(epoch));
            }
            prop_assert!(secrets(&ratchet, 0..200).into_keys().eq(left));
        }
    }
}
