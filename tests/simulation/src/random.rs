//! Random numbers that are the same everywhere for the same seed: SplitMix64, whose whole state is
//! one word.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next word.
    pub const fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        // The bias of the remainder is below 2^-30 for the ranges used here.
        low + self.word() % (high - low + 1)
    }

    /// The same, distributed evenly by logarithm, so that short values are as likely as long ones.
    /// Times on a machine are spread like this.
    pub const fn spread(&mut self, low: u64, high: u64) -> u64 {
        let doublings = (high / low).ilog2() as u64;
        let base = low << self.between(0, doublings);
        let top = if base * 2 < high { base * 2 } else { high };
        self.between(base, top)
    }

    /// True once in `n` calls on average.
    pub const fn one_in(&mut self, n: u64) -> bool {
        self.word().is_multiple_of(n)
    }

    /// One element of `of`.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        #[allow(clippy::cast_possible_truncation, reason = "below the length of a slice")]
        let place = self.between(0, of.len() as u64 - 1) as usize;
        of[place]
    }
}
