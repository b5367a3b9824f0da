//! Ed25519 signatures (RFC 8032), pure, verified strictly.

use std::fmt;

use ed25519_dalek::Signer as _;
use handover_core::artefact::{SignatureVerifier, Signer};
use handover_core::id::SigningPublic;
use handover_core::{Edition, Random, SignsIn};

use crate::Secret32;

/// An Ed25519 signing key; zeroized when dropped. It signs in the first edition until it is told another.
pub struct SigningKey {
    key: Box<ed25519_dalek::SigningKey>,
    signs_in: SignsIn,
}

impl SigningKey {
    /// A new key.
    #[must_use]
    pub fn generate(random: &mut dyn Random) -> Self {
        Self::from_seed(&Secret32::generate(random))
    }

    /// The key of a seed (RFC 8032, section 5.1.5).
    #[must_use]
    pub fn from_seed(seed: &Secret32) -> Self {
        let key = Box::new(ed25519_dalek::SigningKey::from_bytes(seed.expose()));
        Self { key, signs_in: SignsIn::default() }
    }

    /// Its seed, to be kept encrypted.
    #[must_use]
    pub fn seed(&self) -> Secret32 {
        Secret32::filled(|own| own.copy_from_slice(self.key.as_bytes()))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> SigningPublic {
        SigningPublic::from_bytes(self.key.verifying_key().to_bytes())
    }

    /// In which edition it signs.
    #[must_use]
    pub const fn signs_in(&self) -> &SignsIn {
        &self.signs_in
    }
}

impl Signer for SigningKey {
    fn public(&self) -> SigningPublic {
        self.public()
    }

    fn edition(&self) -> Edition {
        self.signs_in.edition()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().thumbprint())
    }
}

/// Whether a public key is a point of the curve, and not one of the few for which anybody can sign.
#[must_use]
pub fn is_strong(key: &SigningPublic) -> bool {
    ed25519_dalek::VerifyingKey::from_bytes(key.as_bytes()).is_ok_and(|key| !key.is_weak())
}

/// The strict verifier: refuses weak keys, weak `R` and non-canonical `S`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ed25519;

impl SignatureVerifier for Ed25519 {
    fn is_valid(&self, key: &SigningPublic, message: &[u8], signature: &[u8; 64]) -> bool {
        ed25519_dalek::VerifyingKey::from_bytes(key.as_bytes()).is_ok_and(|key| {
            key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::bytes;

    /// RFC 8032, section 7.1: seed, public key, message, signature.
    const VECTORS: [(&str, &str, &str, &str); 3] = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];

    #[test]
    fn follows_rfc_8032() {
        for (seed, public, message, signature) in VECTORS {
            let key = SigningKey::from_seed(&Secret32::from_slice(&bytes(seed)).unwrap());
            assert_eq!(key.public().to_string(), public);
            let made = key.sign(&bytes(message));
            assert_eq!(hex::encode(made), signature);
            assert!(Ed25519.is_valid(&key.public(), &bytes(message), &made));
            assert!(!Ed25519.is_valid(&key.public(), b"other", &made));
            assert_eq!(key.seed().expose().as_slice(), bytes(seed));
        }
    }

    #[test]
    fn refuses_weak_keys() {
        // The identity point: R = identity and S = 0 satisfies the lenient equation for every message.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!Ed25519.is_valid(&SigningPublic::from_bytes(identity), b"anything", &signature));
    }
}
