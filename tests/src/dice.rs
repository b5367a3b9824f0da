//! Numbers that follow from a seed.

use handover_core::Digest;

/// Gives the same numbers for the same seed.
pub struct Dice {
    seed: u64,
    rolls: u64,
}

impl Dice {
    /// Those of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, rolls: 0 }
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.rolls += 1;
        let digest = Digest::sha256(&[&self.seed.to_be_bytes(), &self.rolls.to_be_bytes()]);
        let bytes = digest.as_bytes().first_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(bytes) % bound
    }

    /// Whether something that happens `often` times in a thousand does.
    pub fn happens(&mut self, often: u64) -> bool {
        self.below(1_000) < often
    }

    /// One of several.
    #[expect(clippy::indexing_slicing, reason = "below its length; nobody asks for one of none")]
    pub fn one_of<T: Clone>(&mut self, several: &[T]) -> T {
        several[self.below(several.len() as u64) as usize].clone()
    }
}
