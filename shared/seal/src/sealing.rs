//! HPKE (RFC 9180), base mode, single shot: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
//!
//! A sealed message is the encapsulated key (32 bytes) followed by ciphertext and tag.

use std::fmt;

use handover_core::Random;
use handover_core::id::SealingPublic;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use zeroize::Zeroizing;

use crate::padding::{pad, unpad};
use crate::random::Adapter;
use crate::{SealError, Secret32};

const ENCAPSULATED_BYTES: usize = 32;

type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// An X25519 key (RFC 7748) that opens what was sealed to its public half.
#[derive(Clone)]
pub struct SealingKey {
    secret: Secret32,
    public: SealingPublic,
}

impl SealingKey {
    /// A new key.
    #[must_use]
    pub fn generate(random: &mut dyn Random) -> Self {
        Self::from_bytes(Secret32::generate(random))
    }

    /// The key of 32 secret bytes.
    #[must_use]
    pub fn from_bytes(secret: Secret32) -> Self {
        let public = X25519HkdfSha256::sk_to_pk(&private_key(&secret));
        let public = SealingPublic::from_bytes(public.to_bytes().into());
        Self { secret, public }
    }

    /// Its secret bytes, to be kept encrypted or sent sealed.
    #[must_use]
    pub const fn secret(&self) -> &Secret32 {
        &self.secret
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> SealingPublic {
        self.public
    }
}

fn private_key(secret: &Secret32) -> PrivateKey {
    #[expect(clippy::expect_used, reason = "every 32 bytes are an X25519 private key")]
    PrivateKey::from_bytes(secret.expose()).expect("32 bytes")
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.public)
    }
}

/// Seals to a public key; `info` says what for, `aad` binds the context. 48 bytes longer than the plaintext.
///
/// # Errors
/// [`SealError::InvalidKey`] if the public key is a point of small order.
pub fn hpke_seal(
    to: &SealingPublic,
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    random: &mut dyn Random,
) -> Result<Vec<u8>, SealError> {
    let weak = |_| SealError::InvalidKey("not a usable X25519 point");
    let to = PublicKey::from_bytes(to.as_bytes()).map_err(weak)?;
    let (encapsulated, ciphertext) =
        hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &to,
            info,
            plaintext,
            aad,
            &mut Adapter(random),
        )
        .map_err(weak)?;
    let mut sealed = encapsulated.to_bytes().to_vec();
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

/// Opens what [`hpke_seal`] made with the same `info` and `aad`.
///
/// # Errors
/// [`SealError::CannotOpen`], whatever the reason.
pub fn hpke_open(
    key: &SealingKey,
    info: &[u8],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (encapsulated, ciphertext) =
        sealed.split_at_checked(ENCAPSULATED_BYTES).ok_or(SealError::CannotOpen)?;
    let encapsulated = EncappedKey::from_bytes(encapsulated).map_err(|_| SealError::CannotOpen)?;
    hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private_key(&key.secret),
        &encapsulated,
        info,
        ciphertext,
        aad,
    )
    .map(Zeroizing::new)
    .map_err(|_| SealError::CannotOpen)
}

/// As [`hpke_seal`], and the ciphertext's length says little of the plaintext's: for what passes by others.
///
/// # Errors
/// As [`hpke_seal`].
pub fn hpke_seal_padded(
    to: &SealingPublic,
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    random: &mut dyn Random,
) -> Result<Vec<u8>, SealError> {
    hpke_seal(to, info, aad, &pad(plaintext), random)
}

/// Opens what [`hpke_seal_padded`] made with the same `info` and `aad`.
///
/// # Errors
/// [`SealError::CannotOpen`], whatever the reason.
pub fn hpke_open_padded(
    key: &SealingKey,
    info: &[u8],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    unpad(hpke_open(key, info, aad, sealed)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsRandom;
    use crate::testkit::{Fixed, bytes};

    #[test]
    fn opens_only_with_key_and_context() {
        let key = SealingKey::generate(&mut OsRandom);
        let sealed = hpke_seal(&key.public(), b"info", b"aad", b"plain", &mut OsRandom).unwrap();
        assert_eq!(sealed.len(), 5 + 48);
        assert_eq!(hpke_open(&key, b"info", b"aad", &sealed).unwrap().as_slice(), b"plain");
        let other = SealingKey::generate(&mut OsRandom);
        assert!(hpke_open(&other, b"info", b"aad", &sealed).is_err());
        assert!(hpke_open(&key, b"inf0", b"aad", &sealed).is_err());
        assert!(hpke_open(&key, b"info", b"aae", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(hpke_open(&key, b"info", b"aad", &altered).is_err(), "byte {at}");
            assert!(hpke_open(&key, b"info", b"aad", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn refuses_points_of_small_order() {
        assert!(hpke_seal(&SealingPublic::from_bytes([0; 32]), b"", b"", b"x", &mut OsRandom).is_err());
    }

    /// The vector of RFC 9180's published set for mode 0, KEM 0x0020, KDF 0x0001, AEAD 0x0002; first encryption.
    #[test]
    fn follows_rfc_9180() {
        let key = SealingKey::from_bytes(
            Secret32::from_slice(&bytes("497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d"))
                .unwrap(),
        );
        assert_eq!(
            key.public().to_string(),
            "430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c"
        );
        let info = bytes("4f6465206f6e2061204772656369616e2055726e");
        let aad = bytes("436f756e742d30");
        let plaintext = bytes("4265617574792069732074727574682c20747275746820626561757479");
        // Key material of the encapsulation (ikmE): the only randomness that is asked for.
        let ikm = bytes("2cd7c601cefb3d42a62b04b7a9041494c06c7843818e0ce28a8f704ae7ab20f9");
        let sealed = hpke_seal(&key.public(), &info, &aad, &plaintext, &mut Fixed(ikm)).unwrap();
        let expected = concat!(
            "6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256",
            "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980a41de125a925cdad859d5b7a"
        );
        assert_eq!(hex::encode(&sealed), expected);
        assert_eq!(hpke_open(&key, &info, &aad, &sealed).unwrap().as_slice(), plaintext);
    }
}
