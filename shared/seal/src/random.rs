//! The operating system's randomness, and the adapters that carry a [`Random`] into the two generations of
//! random-number traits that the cryptographic crates ask for.

use std::convert::Infallible;

use handover_core::Random;

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        #[expect(
            clippy::expect_used,
            reason = "without randomness no key may be made, and nobody could go on; it does not happen on a system that has booted"
        )]
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}

/// For crates on `rand_core` 0.10.
pub(crate) struct Adapter<'a>(pub(crate) &'a mut dyn Random);

impl Adapter<'_> {
    fn word<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }
}

impl rand_core::TryRng for Adapter<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.word()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.word()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Adapter<'_> {}

/// For the `rsa` crate, which is on `rand_core` 0.6.
impl rsa::rand_core::RngCore for Adapter<'_> {
    fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes(self.word())
    }

    fn next_u64(&mut self) -> u64 {
        u64::from_le_bytes(self.word())
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl rsa::rand_core::CryptoRng for Adapter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_other_bytes_each_time() {
        let (one, two): ([u8; 32], [u8; 32]) = (OsRandom.array(), OsRandom.array());
        assert_ne!(one, two);
    }
}
