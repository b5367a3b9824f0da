//! Unambiguous joining of fields before they are hashed or bound.

use crate::SealError;

/// Puts a text as its length (u16, big-endian) and its bytes.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), SealError> {
    let length = u16::try_from(text.len()).map_err(|_| SealError::TooLong)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// A part's length as eight bytes, big-endian.
pub(crate) const fn length_bytes(part: &[u8]) -> [u8; 8] {
    // usize is at most 64 bits on every platform that this is built for.
    (part.len() as u64).to_be_bytes()
}
