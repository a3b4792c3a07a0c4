//! Verdicts on client certificates, remembered for a while.
//!
//! A verification costs hundreds of microseconds, and rustls asks for sessions before every other
//! check: one unauthenticated ClientHello may repeat a revoked client's ticket a hundred times. So
//! refusals are remembered as well as acceptances, each in a table of its own, so that a flood of
//! one cannot push out the other.
//!
//! A chain is told from others by a MAC of 128 bits under a key of this process: whoever does not
//! know the key finds no second chain that passes for the first, and it costs a thirtieth of a hash
//! of that strength.

use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;

use crate::clock::Time;
use crate::fips;
use crate::sync::atomic::{AtomicU64, Ordering};

/// How many acceptances are remembered: 16,384 in 400 kB.
const ACCEPTANCES: usize = 1 << 14;

/// How many refusals are.
const REFUSALS: usize = 1 << 11;

/// What became of a verification.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Accepted,
    /// With what the reason is counted under.
    Refused(u8),
}

/// What is remembered of the verifiers of a `Resumption`.
pub(crate) struct Verdicts {
    key: MacKey,
    accepted: Table,
    refused: Table,
}

#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum MacKey {
    Gmac(LessSafeKey),
    Hmac(hmac::Key),
}

/// Stands for a chain and the verifier that was asked about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Digest(u128);

impl Verdicts {
    /// `None` if the random generator fails.
    pub(crate) fn new() -> Option<Self> {
        Some(Self {
            key: MacKey::new(fips::is_on())?,
            accepted: Table::new(ACCEPTANCES),
            refused: Table::new(REFUSALS),
        })
    }

    /// One chain has another with each verifier.
    pub(super) fn digest(&self, verifier: u64, chain: &[u8]) -> Option<Digest> {
        let tag = match &self.key {
            MacKey::Gmac(key) => gmac(key, verifier, chain)?,
            MacKey::Hmac(key) => hmac(key, verifier, chain)?,
        };
        Some(Digest(u128::from_ne_bytes(tag)))
    }

    /// What was found not longer ago than is remembered, and until when it holds.
    pub(super) fn find(&self, digest: Digest, now: Time) -> Option<(Verdict, Time)> {
        // A refusal comes first: should a chain be in both, the strict one counts.
        let refused = self.refused.find(digest, now);
        let refused = refused.map(|(code, until)| (Verdict::Refused(code), until));
        refused.or_else(|| {
            let (_, until) = self.accepted.find(digest, now)?;
            Some((Verdict::Accepted, until))
        })
    }

    pub(super) fn remember(&self, digest: Digest, verdict: Verdict, now: Time, until: Time) {
        match verdict {
            Verdict::Accepted => self.accepted.put(digest, 0, now, until),
            Verdict::Refused(code) => self.refused.put(digest, code, now, until),
        }
    }
}

impl MacKey {
    /// HMAC where every algorithm has to be approved, for GMAC is only with nonces of which none
    /// serves twice.
    fn new(is_fips: bool) -> Option<Self> {
        let mut key = [0; 16];
        aws_lc_rs::rand::fill(&mut key).ok()?;
        Some(match is_fips {
            true => Self::Hmac(hmac::Key::new(hmac::HMAC_SHA256, &key)),
            false => Self::Gmac(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?)),
        })
    }
}

/// The tag of AES-GCM over additional data alone. The nonce is the verifier's number. The digests
/// never leave the process, so it does no harm that a nonce serves for many chains.
fn gmac(key: &LessSafeKey, verifier: u64, chain: &[u8]) -> Option<[u8; 16]> {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&verifier.to_be_bytes());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(chain), &mut []);
    tag.ok()?.as_ref().first_chunk().copied()
}

fn hmac(key: &hmac::Key, verifier: u64, chain: &[u8]) -> Option<[u8; 16]> {
    let mut context = hmac::Context::with_key(key);
    context.update(&verifier.to_be_bytes());
    context.update(chain);
    context.sign().as_ref().first_chunk().copied()
}

/// A table of digests and the times until which they hold, without locks and of a fixed size.
///
/// Three words make a slot, and their writes may mix with another thread's. So the first two hold
/// the digest xor the third, which is the time with a code in its highest byte: words of different
/// writes give another digest, which is then not found.
struct Table {
    sets: Box<[[Slot; WAYS]]>,
}

type Slot = [AtomicU64; 3];

/// How many slots a digest may have.
const WAYS: usize = 4;

const CODE_SHIFT: u32 = 56;

impl Table {
    fn new(entries: usize) -> Self {
        let sets = entries / WAYS;
        Self {
            sets: (0..sets).map(|_| Default::default()).collect(),
        }
    }

    /// The code that was put with the digest, and until when it holds.
    fn find(&self, digest: Digest, now: Time) -> Option<(u8, Time)> {
        let held = self
            .set(digest)
            .iter()
            .filter_map(|slot| held(slot, digest));
        let mut held = held.filter(|(_, until)| now < *until);
        held.next()
    }

    /// Replaces the same digest, or what ends first.
    fn put(&self, digest: Digest, code: u8, now: Time, until: Time) {
        let rank = |slot: &&Slot| match held(slot, digest) {
            Some(_) => Time(0),
            None => until_of(slot[2].load(Ordering::Relaxed)).max(now.plus(TICK)),
        };
        let Some([a, b, c]) = self.set(digest).iter().min_by_key(rank) else {
            return;
        };
        let word = u64::from(code) << CODE_SHIFT | until_of(until.0).0;
        let [high, low] = halves(digest);
        a.store(high ^ word, Ordering::Relaxed);
        b.store(low ^ word, Ordering::Relaxed);
        c.store(word, Ordering::Relaxed);
    }

    fn set(&self, digest: Digest) -> &[Slot] {
        let [_, low] = halves(digest);
        // There is a power of two of them.
        let index = (low as usize) & self.sets.len().wrapping_sub(1);
        self.sets.get(index).map_or(&[], |set| set.as_slice())
    }
}

/// The least time that a clock tells apart.
const TICK: Duration = Duration::from_millis(1);

/// The code and the time, if the slot holds this digest.
fn held(slot: &Slot, digest: Digest) -> Option<(u8, Time)> {
    let [a, b, word] = slot.each_ref().map(|word| word.load(Ordering::Relaxed));
    let is_it = [a ^ word, b ^ word] == halves(digest);
    is_it.then(|| ((word >> CODE_SHIFT) as u8, until_of(word)))
}

fn until_of(word: u64) -> Time {
    Time(word & ((1 << CODE_SHIFT) - 1))
}

fn halves(digest: Digest) -> [u64; 2] {
    [(digest.0 >> 64) as u64, digest.0 as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(verdicts: &Verdicts, digest: Digest, now: Time) -> Option<Verdict> {
        verdicts.find(digest, now).map(|(verdict, _)| verdict)
    }

    const START: Time = Time(1_000_000);

    fn verdicts() -> Verdicts {
        Verdicts::new().unwrap()
    }

    #[test]
    fn a_verdict_holds_until_its_time() {
        let verdicts = verdicts();
        for (chain, verdict) in [(b"good", Verdict::Accepted), (b"evil", Verdict::Refused(7))] {
            let digest = verdicts.digest(1, chain).unwrap();
            assert_eq!(found(&verdicts, digest, START), None);
            verdicts.remember(digest, verdict, START, Time(START.0 + 60_000));
            assert_eq!(
                found(&verdicts, digest, Time(START.0 + 59_999)),
                Some(verdict)
            );
            assert_eq!(found(&verdicts, digest, Time(START.0 + 60_000)), None);
        }
    }

    #[test]
    fn chains_and_verifiers_are_told_apart() {
        let keyed = |is_fips| Verdicts {
            key: MacKey::new(is_fips).unwrap(),
            ..verdicts()
        };
        for is_fips in [false, true] {
            let verdicts = keyed(is_fips);
            let digest = |verifier, chain: &[u8]| verdicts.digest(verifier, chain).unwrap();
            assert_eq!(digest(1, b"chain"), digest(1, b"chain"));
            assert_ne!(digest(1, b"chain"), digest(2, b"chain"));
            assert_ne!(digest(1, b"chain"), digest(1, b"chain "));
            let other = keyed(is_fips);
            assert_ne!(other.digest(1, b"chain"), verdicts.digest(1, b"chain"));
        }
    }

    #[test]
    fn refusals_push_out_no_acceptance() {
        let verdicts = verdicts();
        let until = Time(START.0 + 60_000);
        let good = verdicts.digest(1, b"good").unwrap();
        verdicts.remember(good, Verdict::Accepted, START, until);
        for evil in 0..100_000_u32 {
            let digest = verdicts.digest(1, &evil.to_be_bytes()).unwrap();
            verdicts.remember(digest, Verdict::Refused(7), START, until);
        }
        assert_eq!(found(&verdicts, good, START), Some(Verdict::Accepted));
    }

    #[test]
    fn what_is_refused_after_it_was_accepted_is_refused() {
        let verdicts = verdicts();
        let until = Time(START.0 + 60_000);
        let digest = verdicts.digest(1, b"chain").unwrap();
        verdicts.remember(digest, Verdict::Accepted, START, until);
        verdicts.remember(digest, Verdict::Refused(7), START, until);
        assert_eq!(found(&verdicts, digest, START), Some(Verdict::Refused(7)));
    }

    #[test]
    fn a_digest_remembered_again_takes_no_second_slot() {
        let table = Table::new(WAYS);
        let digest = |n: u128| Digest(n << 64);
        for _ in 0..10 {
            table.put(digest(1), 0, START, Time(START.0 + 10));
        }
        for n in 2..=4 {
            table.put(digest(n), 0, START, Time(START.0 + 20));
        }
        assert!((1..=4).all(|n| table.find(digest(n), START).is_some()));
        table.put(digest(5), 0, START, Time(START.0 + 20));
        assert!(
            table.find(digest(1), START).is_none(),
            "the first to end has left"
        );
        assert!((2..=5).all(|n| table.find(digest(n), START).is_some()));
    }

    #[test]
    fn words_of_two_writes_make_no_third_digest() {
        let table = Table::new(WAYS);
        let (one, two) = (Digest(7 << 64 | 3), Digest(9 << 64 | 3));
        table.put(one, 0, START, Time(START.0 + 10));
        let slot = &table.sets[0]
            .iter()
            .find(|s| s[2].load(Ordering::Relaxed) != 0);
        let [high, _] = halves(two);
        // As if a second thread had stored its first word only.
        slot.unwrap()[0].store(high ^ (START.0 + 99), Ordering::Relaxed);
        assert!(table.find(one, START).is_none() && table.find(two, START).is_none());
    }
}
