//! Padding, so that a ciphertext's length tells little of what is inside: how many departments, tests or hospitals.
//!
//! A byte 0x80 and zeros behind the plaintext (ISO/IEC 7816-4), up to a length that Padmé allows (Nikitin et al.,
//! "Reducing metadata leakage from encrypted files and communication with PURBs", PETS 2019, section 4), which adds at
//! most 12 %, and never less than a kilobyte in all.

use zeroize::Zeroizing;

use crate::SealError;

const MARK: u8 = 0x80;
/// What is shorter is as long as this.
const FLOOR_BYTES: usize = 1024;

/// The plaintext with its padding.
pub(crate) fn pad(plaintext: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = padded_len(plaintext.len().saturating_add(1));
    // Room for everything at once: a buffer that grows leaves copies behind.
    let mut padded = Zeroizing::new(Vec::with_capacity(length));
    padded.extend_from_slice(plaintext);
    padded.push(MARK);
    padded.resize(length, 0);
    padded
}

/// The plaintext without its padding.
///
/// # Errors
/// [`SealError::CannotOpen`] if there is none.
pub(crate) fn unpad(mut padded: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let end = padded.iter().rposition(|byte| *byte != 0).filter(|at| padded.get(*at) == Some(&MARK));
    let end = end.ok_or(SealError::CannotOpen)?;
    padded.truncate(end);
    Ok(padded)
}

/// The least length from `length` on whose binary digits below the leading few are zeros: as many stay free as it takes
/// to write down the number of digits.
fn padded_len(length: usize) -> usize {
    let length = length.max(FLOOR_BYTES);
    let exponent = length.ilog2();
    let free = exponent.saturating_sub(exponent.ilog2().saturating_add(1));
    let mask = (1_usize << free).saturating_sub(1);
    length.saturating_add(mask) & !mask
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_few() {
        for (length, padded) in
            [(0, 1024), (1024, 1024), (1025, 1088), (9_000, 9_216), (1_000_000, 1_015_808)]
        {
            assert_eq!(padded_len(length), padded);
        }
    }

    #[test]
    fn what_was_not_padded_is_refused() {
        for bytes in [vec![], vec![0; 1024], vec![1; 1024]] {
            assert!(matches!(unpad(Zeroizing::new(bytes)), Err(SealError::CannotOpen)));
        }
    }

    proptest! {
        #[test]
        fn comes_back_and_is_hardly_longer(plaintext in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let padded = pad(&plaintext);
            prop_assert_eq!(padded.len(), padded_len(plaintext.len() + 1));
            prop_assert!(padded.len() <= FLOOR_BYTES.max(plaintext.len() * 112 / 100 + 2));
            let unpadded = unpad(padded).unwrap();
            prop_assert_eq!(unpadded.as_slice(), plaintext.as_slice());
        }
    }
}
