//! Sealed parts: what only one hospital may read inside an artefact (scope, purpose, doctor, openings of hashes).
//!
//! Padded, AES-256-GCM under a fresh key that is wrapped to the hospital's RSA key. A part names the RSA key by its
//! thumbprint, so a hospital opens it with the right one of its ring.

use handover_core::codec::{self, Bytes, Extensions, MAX_MESSAGE_BYTES};
use handover_core::{Digest, Random, cbor_map};
use zeroize::Zeroizing;

use crate::cell::{open_cell, seal_cell};
use crate::padding::{pad, unpad};
use crate::{KeyRing, RsaPublicKey, SealError, Secret32};

cbor_map! {
    /// A sealed part as it stands in an artefact.
    pub struct SealedPart {
        /// Thumbprint of the RSA key that opens it.
        1 => key: Digest,
        /// The fresh key, wrapped (RSAES-OAEP, SHA-256).
        2 => wrapped: Bytes,
        /// The sealed cell.
        3 => cell: Bytes,
    }
}

/// Seals `plaintext` so that only the holder of `to` reads it; `aad` binds the artefact that it belongs to.
///
/// # Errors
/// [`SealError::TooLong`] if the part would not fit an artefact.
pub fn seal_part(
    to: &RsaPublicKey,
    aad: &[u8],
    plaintext: &[u8],
    random: &mut dyn Random,
) -> Result<Vec<u8>, SealError> {
    let fresh = Secret32::generate(random);
    let part = SealedPart {
        key: to.thumbprint(),
        wrapped: to.wrap(fresh.expose(), random)?.into(),
        cell: seal_cell(&fresh, aad, &pad(plaintext), random)?.into(),
        extensions: Extensions::default(),
    };
    let encoded = codec::encode(&part);
    if encoded.len() > MAX_MESSAGE_BYTES {
        return Err(SealError::TooLong);
    }
    Ok(encoded)
}

/// Opens what [`seal_part`] made with the same `aad`.
///
/// # Errors
/// [`SealError::Malformed`], [`SealError::UnknownKey`], [`SealError::CannotOpen`].
pub fn open_part(ring: &KeyRing, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let part: SealedPart = codec::decode(sealed, MAX_MESSAGE_BYTES)?;
    let key = ring.find(&part.key)?.unwrap(part.wrapped.as_ref())?;
    let key = Secret32::from_slice(&key).map_err(|_| SealError::CannotOpen)?;
    unpad(open_cell(&key, aad, part.cell.as_ref())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsRandom;
    use crate::testkit::{hospital_one, hospital_two};

    #[test]
    fn opens_with_current_and_retiring_keys_only() {
        let one = hospital_one();
        let sealed = seal_part(one.public(), b"artefact", b"scope", &mut OsRandom).unwrap();
        let mut ring = KeyRing::new(one);
        assert_eq!(open_part(&ring, b"artefact", &sealed).unwrap().as_slice(), b"scope");
        assert!(matches!(open_part(&ring, b"another", &sealed), Err(SealError::CannotOpen)));
        ring.rotate(hospital_two());
        assert_eq!(open_part(&ring, b"artefact", &sealed).unwrap().as_slice(), b"scope");
        let stranger = KeyRing::new(hospital_two());
        assert!(matches!(open_part(&stranger, b"artefact", &sealed), Err(SealError::UnknownKey(_))));
    }

    #[test]
    fn refuses_what_does_not_fit_an_artefact() {
        let too_long = vec![0; MAX_MESSAGE_BYTES];
        assert!(matches!(
            seal_part(hospital_one().public(), b"", &too_long, &mut OsRandom),
            Err(SealError::TooLong)
        ));
    }
}
