#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "chains are numbered here, and nothing is subtracted that was not added"
)]

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use foldhash::quality::RandomState;
use zeroize::Zeroizing;

use crate::session::Session;

/// What follows the leaf in the chain of a client: the certificates of its issuers, as a rule, which
/// many clients share. A shard keeps each such part once, and counts the sessions that have it.
///
/// A session of which it was cut out is stored as
///
/// ```text
///  session without the part | where it was (4) | its number (4)
/// ```
#[derive(Default)]
pub(crate) struct Certificates {
    kept: Vec<Kept>,
    /// The first free place in `kept`, linked by `next`.
    free: Option<u32>,
    /// The first of those with the same hash, which are linked by `next`.
    by_hash: HashMap<u64, u32, RandomState>,
}

struct Kept {
    issuers: Option<Issuers>,
    users: u32,
    next: Option<u32>,
}

/// A part that was cut out of a session. Wiped when nobody has it any more.
#[derive(Clone)]
pub(crate) struct Issuers {
    bytes: Arc<Zeroizing<Box<[u8]>>>,
    hash: u64,
}

/// Shorter parts are not worth a place of their own.
const MIN_LEN: usize = 2 * OVERHEAD;

/// What a part costs beside its bytes, at most.
const OVERHEAD: usize = 128;

pub(crate) const TRAILER_LEN: usize = 8;

impl Certificates {
    /// Counts a session that has this part. Returns its number, what it costs that was not paid for
    /// yet, and the part itself if it was here already.
    pub(crate) fn keep(&mut self, issuers: Issuers) -> (u32, usize, Option<Issuers>) {
        let first = self.by_hash.get(&issuers.hash).copied();
        let mut next = first;
        while let Some(number) = next {
            let kept = &mut self.kept[number as usize];
            if kept
                .issuers
                .as_ref()
                .is_some_and(|kept| kept.bytes == issuers.bytes)
            {
                kept.users += 1;
                return (number, 0, Some(issuers));
            }
            next = kept.next;
        }
        let (hash, cost) = (issuers.hash, issuers.cost());
        let kept = Kept {
            issuers: Some(issuers),
            users: 1,
            next: first,
        };
        let number = match self.free {
            Some(number) => {
                let place = &mut self.kept[number as usize];
                self.free = place.next;
                *place = kept;
                number
            }
            None => {
                self.kept.push(kept);
                (self.kept.len() - 1) as u32 // as many as there are sessions, at most
            }
        };
        self.by_hash.insert(hash, number);
        (number, cost, None)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Issuers> {
        self.kept.get(number as usize)?.issuers.as_ref()
    }

    /// A session that had this part is gone. If it was the last one, the part is returned, to be wiped.
    pub(crate) fn release(&mut self, number: u32) -> Option<Issuers> {
        let kept = self.kept.get_mut(number as usize)?;
        kept.users -= 1;
        if kept.users > 0 {
            return None;
        }
        let issuers = kept.issuers.take()?;
        let after = std::mem::replace(&mut kept.next, self.free);
        self.free = Some(number);
        self.unlink(issuers.hash, number, after);
        Some(issuers)
    }

    fn unlink(&mut self, hash: u64, number: u32, after: Option<u32>) {
        let Some(first) = self.by_hash.get_mut(&hash) else {
            return;
        };
        if *first != number {
            let mut at = *first;
            while let Some(next) = self.kept[at as usize].next {
                if next == number {
                    self.kept[at as usize].next = after;
                    return;
                }
                at = next;
            }
        } else if let Some(after) = after {
            *first = after;
        } else {
            self.by_hash.remove(&hash);
        }
    }
}

impl Issuers {
    /// Cuts the part out of a session, if it has one that is worth it. Returns what is left, without
    /// a number yet, and the part.
    pub(crate) fn cut(session: &[u8], parsed: Option<&Session<'_>>) -> Option<(Box<[u8]>, Self)> {
        let (at, len) = parsed?.issuers?;
        let (before, rest) = session.split_at_checked(at)?;
        let (part, after) = rest.split_at_checked(len)?;
        if len < MIN_LEN {
            return None;
        }
        let at = u32::try_from(at).ok()?.to_ne_bytes();
        let left = [before, after, &at, &[0; 4]].concat().into_boxed_slice();
        let issuers = Self {
            bytes: Arc::new(Zeroizing::new(part.into())),
            hash: HASH_KEY.hash_one(part),
        };
        Some((left, issuers))
    }

    /// Puts the part back in.
    pub(crate) fn put_back(&self, left: &[u8], out: &mut Vec<u8>) {
        let Some((left, trailer)) = left.split_last_chunk::<TRAILER_LEN>() else {
            return;
        };
        let [a, b, c, d, ..] = *trailer;
        let at = u32::from_ne_bytes([a, b, c, d]) as usize;
        let (before, after) = left.split_at(at.min(left.len()));
        out.reserve_exact(left.len() + self.bytes.len());
        for part in [before, &self.bytes, after] {
            out.extend_from_slice(part);
        }
    }

    /// In bytes.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

/// Unequal parts with equal hashes are told apart, so that this need not withstand more than clients
/// who would like chains of them to grow long.
static HASH_KEY: LazyLock<RandomState> = LazyLock::new(RandomState::default);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Version;
    use crate::session::tests::encoded_with;

    fn certificate(fill: u8, len: usize) -> Vec<u8> {
        let mut out = (len as u32).to_be_bytes()[1..].to_vec();
        out.extend(std::iter::repeat_n(fill, len));
        out
    }

    fn issuers(fill: u8) -> Issuers {
        let part = vec![fill; MIN_LEN];
        Issuers {
            hash: u64::from(fill % 2), // so that many have the same
            bytes: Arc::new(Zeroizing::new(part.into())),
        }
    }

    #[test]
    fn a_session_is_put_together_as_it_was() {
        for (leaf, others) in [(10, [300, 500]), (2_000, [1_000, 1_000]), (0, [256, 0])] {
            let mut chain = certificate(1, leaf);
            let at_leaf = chain.len();
            for len in others {
                chain.extend(certificate(2, len));
            }
            let session = encoded_with(Version::Tls13, &[7; 48], Some(&chain), b"app");
            let parsed = Session::parse(&session);
            let (mut left, issuers) = Issuers::cut(&session, parsed.as_ref()).unwrap();
            assert_eq!(
                left.len() + chain.len() - at_leaf,
                session.len() + TRAILER_LEN
            );
            left[session.len() - (chain.len() - at_leaf) + 4..].copy_from_slice(&[9; 4]);
            let mut out = Vec::new();
            issuers.put_back(&left, &mut out);
            assert!(out == session, "{leaf} {others:?}");
            assert_eq!(out.capacity(), session.len(), "no copy is left behind");
        }
    }

    #[test]
    fn a_part_that_is_cut_out_is_counted_whole_and_pays_when_two_have_it() {
        let chain = [certificate(1, 10), certificate(2, MIN_LEN - 3)].concat();
        let session = encoded_with(Version::Tls12, &[7; 48], Some(&chain), b"");
        let cut = Issuers::cut(&session, Session::parse(&session).as_ref());
        let (left, issuers) = cut.unwrap();
        assert!(left.len() + issuers.cost() > session.len());
        assert!(2 * left.len() + issuers.cost() < 2 * session.len());
    }

    #[test]
    fn what_has_little_after_its_leaf_or_does_not_parse_stays_whole() {
        let chains = [
            certificate(1, 3_000),
            [certificate(1, 3_000), certificate(2, MIN_LEN - 4)].concat(),
            vec![0, 1],       // cut short
            vec![0, 0, 9, 1], // longer than it is
        ];
        for chain in chains {
            let session = encoded_with(Version::Tls12, &[7; 48], Some(&chain), b"");
            assert!(Issuers::cut(&session, Session::parse(&session).as_ref()).is_none());
        }
        assert!(Issuers::cut(&[0xff; 4_000], None).is_none());
    }

    #[test]
    fn each_part_is_kept_once_and_gone_with_its_last_session() {
        let mut certificates = Certificates::default();
        let mut numbers = Vec::new();
        for round in 0..3 {
            for fill in 0..6 {
                let (number, cost, left) = certificates.keep(issuers(fill));
                let is_new = round == 0;
                assert_eq!((cost > 0, left.is_none()), (is_new, is_new));
                numbers.push(number);
            }
        }
        assert_eq!(certificates.kept.len(), 6);
        for (fill, number) in numbers.iter().enumerate().take(12) {
            assert!(certificates.release(*number).is_none(), "{fill}");
        }
        // The middle, the first and the last of those with one hash.
        let order = [2, 4, 0, 1, 3, 5];
        for (at, fill) in order.into_iter().enumerate() {
            let number = numbers[12 + fill];
            assert_eq!(certificates.get(number).unwrap().bytes[0], fill as u8);
            assert!(certificates.release(number).is_some());
            assert!(certificates.get(number).is_none());
            for fill in &order[at + 1..] {
                let (number, cost, left) = certificates.keep(issuers(*fill as u8));
                assert_eq!((number, cost), (numbers[12 + fill], 0));
                assert!(left.is_some() && certificates.release(number).is_none());
            }
        }
        assert!(certificates.by_hash.is_empty());
        assert_eq!(
            certificates.keep(issuers(9)).0,
            numbers[12 + 5],
            "places are used again"
        );
        assert_eq!(certificates.kept.len(), 6);
    }
}
