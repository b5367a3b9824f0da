//! Cells: small values sealed under a key that is held, and the keys and keyed hashes derived from one.
//!
//! A sealed cell is version (1 byte), nonce (12 random bytes), ciphertext and tag (AES-256-GCM, NIST SP 800-38D).
//! Random nonces bound one key to 2³² cells; keys are derived per purpose, so none comes near.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use handover_core::Random;
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::frame::{length_bytes, put_text};
use crate::{SealError, Secret32, padding};

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// How much longer a sealed cell is than its plaintext.
pub const OVERHEAD_BYTES: usize = 1 + NONCE_BYTES + TAG_BYTES;

/// Seals `plaintext` under `key`; `aad` binds where it belongs (table, row, field).
///
/// # Errors
/// [`SealError::TooLong`] beyond what AES-GCM takes (64 GiB).
pub fn seal_cell(
    key: &Secret32,
    aad: &[u8],
    plaintext: &[u8],
    random: &mut dyn Random,
) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0; NONCE_BYTES];
    random.fill(&mut nonce);
    let ciphertext = cipher(key)
        .encrypt(&Nonce::from(nonce), Payload { msg: plaintext, aad })
        .map_err(|_| SealError::TooLong)?;
    let mut sealed = Vec::with_capacity(OVERHEAD_BYTES + plaintext.len());
    sealed.push(VERSION);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

/// Opens what [`seal_cell`] made with the same key and `aad`.
///
/// # Errors
/// [`SealError::CannotOpen`], whatever the reason.
pub fn open_cell(key: &Secret32, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let Some((&VERSION, rest)) = sealed.split_first() else { return Err(SealError::CannotOpen) };
    let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::CannotOpen)?;
    cipher(key)
        .decrypt(&Nonce::from(*nonce), Payload { msg: ciphertext, aad })
        .map(Zeroizing::new)
        .map_err(|_| SealError::CannotOpen)
}

/// [`seal_cell`] with padding, so that the length tells little of what is inside.
///
/// # Errors
/// As [`seal_cell`].
pub fn seal_cell_padded(
    key: &Secret32,
    aad: &[u8],
    plaintext: &[u8],
    random: &mut dyn Random,
) -> Result<Vec<u8>, SealError> {
    seal_cell(key, aad, &padding::pad(plaintext), random)
}

/// Opens what [`seal_cell_padded`] made.
///
/// # Errors
/// [`SealError::CannotOpen`], whatever the reason.
pub fn open_cell_padded(key: &Secret32, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    padding::unpad(open_cell(key, aad, sealed)?)
}

pub(crate) fn cipher(key: &Secret32) -> Aes256Gcm {
    Aes256Gcm::new(<&Key<Aes256Gcm>>::from(key.expose()))
}

/// A key for one purpose: HKDF-SHA256 (RFC 5869) without salt, info = length of label (u16) ‖ label ‖ context.
///
/// Labels are short constants of the program.
#[must_use]
pub fn derive(key: &Secret32, label: &str, context: &[u8]) -> Secret32 {
    let mut info = Vec::new();
    // A label is a short constant; if it ever were not, it still separates from all short ones.
    if put_text(&mut info, label).is_err() {
        info.extend_from_slice(label.as_bytes());
    }
    info.extend_from_slice(context);
    Secret32::filled(|out| expand(None, key.expose(), &info, out))
}

/// HKDF-SHA256 into a short output.
pub(crate) fn expand(salt: Option<&[u8]>, secret: &[u8], info: &[u8], out: &mut [u8]) {
    #[expect(clippy::expect_used, reason = "outputs here are 32 or 64 bytes, HKDF-SHA256 gives up to 8160")]
    Hkdf::<Sha256>::new(salt, secret).expand(info, out).expect("a short output");
}

/// HMAC-SHA256 (RFC 2104) over the parts, each with its length (u64) before it.
#[must_use]
pub fn keyed_hash(key: &Secret32, parts: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key.expose()).expect("any key");
    for part in parts {
        mac.update(&length_bytes(part));
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsRandom;
    use crate::testkit::Fixed;

    fn key() -> Secret32 {
        Secret32::from_bytes([1; 32])
    }

    #[test]
    fn opens_only_as_sealed() {
        let sealed = seal_cell(&key(), b"table/row", b"value", &mut OsRandom).unwrap();
        assert_eq!(sealed.len(), 5 + OVERHEAD_BYTES);
        assert_eq!(open_cell(&key(), b"table/row", &sealed).unwrap().as_slice(), b"value");
        assert!(open_cell(&key(), b"table/other", &sealed).is_err());
        assert!(open_cell(&Secret32::from_bytes([2; 32]), b"table/row", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(open_cell(&key(), b"table/row", &altered).is_err(), "byte {at}");
            assert!(open_cell(&key(), b"table/row", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn derived_keys_and_hashes_separate_their_inputs() {
        assert_ne!(derive(&key(), "a", b"bc").expose(), derive(&key(), "ab", b"c").expose());
        assert_ne!(keyed_hash(&key(), &[b"a", b"bc"]), keyed_hash(&key(), &[b"ab", b"c"]));
        assert_ne!(keyed_hash(&key(), &[b"a"]), keyed_hash(&key(), &[b"a", b""]));
    }

    #[test]
    fn golden() {
        let sealed = seal_cell(&key(), b"aad", b"value", &mut Fixed(vec![9])).unwrap();
        assert_eq!(
            hex::encode(sealed),
            "01090909090909090909090909b26e4bbbab71fe43792eec5b95bb11c6ee1155ea48"
        );
        assert_eq!(
            hex::encode(derive(&key(), "label", b"context").expose()),
            "c1a6d66f246a41a0a53187b5080aef724e00db05cf4ed93aa9c7c5a905fbbcb6"
        );
        assert_eq!(
            hex::encode(keyed_hash(&key(), &[b"a", b"b"])),
            "f71706a801f2288f65f7d850d1ab74297bb98a723a069a8cc46be9f8aa79c558"
        );
    }
}
