//! The generator's own pseudo-random numbers: xoshiro256** (Blackman and Vigna, 2018) seeded by SplitMix64.
//!
//! Its stream is part of what makes a generated patient reproducible, so the algorithm is fixed here rather than
//! taken from a crate that may change its own. Never for keys.

/// A deterministic stream of numbers.
pub(super) struct Rng([u64; 4]);

impl Rng {
    /// The stream of `seed`; streams of different seeds are unrelated.
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self([0; 4].map(|_: u64| split_mix(&mut state)))
    }

    /// The stream of a text (FNV-1a), for identifiers that several patients share.
    pub(super) fn from_text(text: &str) -> Self {
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self::new(hash)
    }

    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        let [mut a, mut b, mut c, mut d] = self.0;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = b << 17;
        c ^= a;
        d ^= b;
        b ^= c;
        a ^= d;
        c ^= shifted;
        d = d.rotate_left(45);
        self.0 = [a, b, c, d];
        result
    }

    /// A number below `bound` (0 if `bound` is 0).
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let scaled = (u128::from(self.next()) * bound as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn range(&mut self, low: i64, high: i64) -> i64 {
        let span = usize::try_from(high.saturating_sub(low)).unwrap_or(0).saturating_add(1);
        low.saturating_add(i64::try_from(self.below(span)).unwrap_or(0))
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of `items`.
    #[expect(
        clippy::indexing_slicing,
        reason = "below(N) is under N, and every N is a table's length over 0"
    )]
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Puts `items` into a random order (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for left in (2..=items.len()).rev() {
            items.swap(left - 1, self.below(left));
        }
    }

    /// A version 4 UUID (RFC 9562, section 5.4) as text.
    pub(super) fn uuid(&mut self) -> String {
        let high = (self.next() & !0xf000) | 0x4000;
        let low = (self.next() >> 2) | (0b10 << 62);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    /// `length` bytes that do not compress.
    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length.saturating_add(8));
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_mix_gives_the_published_stream() {
        let mut state = 1_234_567;
        let first = [0; 3].map(|_| split_mix(&mut state));
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn xoshiro_gives_the_published_stream() {
        let mut rng = Rng([1, 2, 3, 4]);
        assert_eq!([0; 4].map(|_| rng.next()), [11_520, 0, 1_509_978_240, 1_215_971_899_390_074_240]);
    }

    #[test]
    fn bounds_are_kept() {
        let mut rng = Rng::new(1);
        assert!((0..1000).all(|_| (-3..=3).contains(&rng.range(-3, 3))));
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.bytes(13).len(), 13);
        assert_eq!(rng.uuid().as_bytes()[14], b'4');
    }
}
