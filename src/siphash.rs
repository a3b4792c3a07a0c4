/// SipHash-1-3 ([Aumasson and Bernstein, 2012](https://www.aumasson.jp/siphash/siphash.pdf)) of the
/// first 7 bytes of a little-endian word: a keyed function, whose result tells nothing of its input to
/// whoever lacks the key. With as few rounds as the standard library's hash maps have, which is
/// enough for a result of which two bytes are shown.
///
/// Written out, because the standard library's takes twice as long for so few bytes, and may change
/// its algorithm.
#[inline(always)]
pub(crate) fn siphash(key: &[u64; 2], bytes: u64) -> u64 {
    with_rounds::<1, 3>(key, bytes)
}

/// How many bytes are hashed, and last in their word.
const LEN: usize = 7;

/// With `C` rounds for each word, and `D` at the end.
#[inline(always)]
fn with_rounds<const C: usize, const D: usize>(key: &[u64; 2], bytes: u64) -> u64 {
    let mut state = State([
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ]);
    let [a, b, c, d, e, f, g, _] = bytes.to_le_bytes();
    state.mix::<C>(u64::from_le_bytes([a, b, c, d, e, f, g, LEN as u8]));
    state.finish::<D>()
}

struct State([u64; 4]);

impl State {
    #[inline(always)]
    fn mix<const C: usize>(&mut self, word: u64) {
        self.0[3] ^= word;
        for _ in 0..C {
            self.round();
        }
        self.0[0] ^= word;
    }

    #[inline(always)]
    fn finish<const D: usize>(mut self) -> u64 {
        self.0[2] ^= 0xff;
        for _ in 0..D {
            self.round();
        }
        self.0.into_iter().fold(0, |sum, word| sum ^ word)
    }

    #[inline(always)]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }
}

#[cfg(test)]
mod tests {
    #[expect(deprecated, reason = "it is the SipHash-2-4 that is at hand")]
    use std::hash::{Hasher, SipHasher};

    use super::*;

    #[test]
    #[expect(deprecated, reason = "as above")]
    fn with_more_rounds_it_is_the_standard_librarys_siphash_2_4() {
        for seed in 0..64_u8 {
            let bytes: [u8; 8] = std::array::from_fn(|i| seed.wrapping_mul(i as u8 ^ 0x5b));
            let key = [u64::from(seed) << 40, !u64::from(seed)];
            let mut hasher = SipHasher::new_with_keys(key[0], key[1]);
            hasher.write(&bytes[..LEN]);
            let bytes = u64::from_le_bytes(bytes);
            assert_eq!(with_rounds::<2, 4>(&key, bytes), hasher.finish());
        }
    }
}
