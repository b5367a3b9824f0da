//! Secret bytes: on the heap so that moves leave no copies, overwritten when dropped, never printed.

use std::fmt;

use handover_core::Random;
use zeroize::{Zeroize as _, Zeroizing};

use crate::SealError;

/// `N` secret bytes.
#[derive(Clone)]
pub struct Secret<const N: usize>(Box<Zeroizing<[u8; N]>>);

/// A key of 256 bits.
pub type Secret32 = Secret<32>;

impl<const N: usize> Secret<N> {
    /// Fresh random bytes.
    #[must_use]
    pub fn generate(random: &mut dyn Random) -> Self {
        Self::filled(|bytes| random.fill(bytes))
    }

    /// From bytes; the array is overwritten.
    #[must_use]
    pub fn from_bytes(mut bytes: [u8; N]) -> Self {
        let secret = Self::filled(|own| own.copy_from_slice(&bytes));
        bytes.zeroize();
        secret
    }

    /// From a slice of exactly `N` bytes.
    ///
    /// # Errors
    /// [`SealError::InvalidKey`] for another length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, SealError> {
        if bytes.len() != N {
            return Err(SealError::InvalidKey("wrong length"));
        }
        Ok(Self::filled(|own| own.copy_from_slice(bytes)))
    }

    pub(crate) fn filled(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut bytes = Box::new(Zeroizing::new([0; N]));
        fill(&mut bytes);
        Self(bytes)
    }

    /// The bytes. Whoever copies them answers for the copy.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_and_lengths_are_checked() {
        let secret = Secret32::from_bytes([0xab; 32]);
        assert_eq!(format!("{secret:?}"), "Secret<32>(..)");
        assert_eq!(secret.expose(), &[0xab; 32]);
        assert!(Secret32::from_slice(&[0; 31]).is_err());
    }
}
