//! The hospital's RSA keys: RSAES-OAEP with SHA-256 and MGF1-SHA-256, no label (RFC 8017, section 7.1).
//!
//! Keys, encodings and the wrap (public key only) use `rsa`; the unwrap goes through `aws-lc-rs`, which works in
//! constant time. All failures of an unwrap look the same. Callers verify the sender's signature before they
//! unwrap anything, so nobody unknown can ask this key questions.

use std::fmt;

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use handover_core::{Digest, Random};
use rsa::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use rsa::traits::PublicKeyParts as _;
use zeroize::Zeroizing;

use crate::SealError;
use crate::random::Adapter;

/// Size of newly made keys.
const NEW_KEY_BITS: usize = 3072;
/// Sizes that are accepted.
const KEY_BITS: std::ops::RangeInclusive<usize> = 3072..=4096;
/// The one accepted public exponent, F4.
const EXPONENT: u32 = 65_537;

/// A hospital's public RSA key; its one encoding is the SubjectPublicKeyInfo in DER (RFC 5280).
#[derive(Clone, PartialEq, Eq)]
pub struct RsaPublicKey {
    key: rsa::RsaPublicKey,
    spki_der: Vec<u8>,
}

impl RsaPublicKey {
    /// Reads a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// [`SealError::InvalidKey`] if it is none, is not of 3072 to 4096 bits with exponent 65,537, or is encoded in
    /// another way than DER prescribes.
    pub fn from_spki_der(spki_der: &[u8]) -> Result<Self, SealError> {
        let key = rsa::RsaPublicKey::from_public_key_der(spki_der)
            .map_err(|_| SealError::InvalidKey("not an RSA public key"))?;
        let key = Self::checked(key)?;
        if key.spki_der != spki_der {
            return Err(SealError::InvalidKey("not the DER encoding of an RSA public key"));
        }
        Ok(key)
    }

    fn checked(key: rsa::RsaPublicKey) -> Result<Self, SealError> {
        if !KEY_BITS.contains(&key.n().bits()) {
            return Err(SealError::InvalidKey("RSA keys have 3072 to 4096 bits"));
        }
        if *key.e() != EXPONENT.into() {
            return Err(SealError::InvalidKey("the RSA exponent is 65537"));
        }
        let spki_der =
            key.to_public_key_der().map_err(|_| SealError::InvalidKey("not an RSA public key"))?.into_vec();
        Ok(Self { key, spki_der })
    }

    /// Its SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// SHA-256 of the SubjectPublicKeyInfo; names the key on a ring and in what is sealed to it.
    #[must_use]
    pub fn thumbprint(&self) -> Digest {
        Digest::sha256(&[&self.spki_der])
    }

    /// Wraps a short secret, at most 318 bytes under a key of 3072 bits.
    ///
    /// # Errors
    /// [`SealError::TooLong`].
    pub fn wrap(&self, plaintext: &[u8], random: &mut dyn Random) -> Result<Vec<u8>, SealError> {
        self.key
            .encrypt(&mut Adapter(random), rsa::Oaep::new::<sha2_rsa::Sha256>(), plaintext)
            .map_err(|_| SealError::TooLong)
    }
}

impl fmt::Debug for RsaPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaPublicKey({})", self.thumbprint())
    }
}

/// A hospital's private RSA key.
pub struct RsaPrivateKey {
    pkcs8_der: Zeroizing<Vec<u8>>,
    opener: OaepPrivateDecryptingKey,
    public: RsaPublicKey,
}

impl RsaPrivateKey {
    /// A new key of 3072 bits. Takes from a tenth of a second to several.
    ///
    /// # Errors
    /// [`SealError::InvalidKey`] if the crates disagree about what was made.
    pub fn generate(random: &mut dyn Random) -> Result<Self, SealError> {
        let key = rsa::RsaPrivateKey::new(&mut Adapter(random), NEW_KEY_BITS)
            .map_err(|_| SealError::InvalidKey("no RSA key could be made"))?;
        Self::checked(&key)
    }

    /// Reads a PKCS#8 private key in DER (RFC 5958) and checks that its numbers fit together.
    ///
    /// # Errors
    /// [`SealError::InvalidKey`].
    pub fn from_pkcs8_der(pkcs8_der: &[u8]) -> Result<Self, SealError> {
        let key = rsa::RsaPrivateKey::from_pkcs8_der(pkcs8_der)
            .map_err(|_| SealError::InvalidKey("not an RSA private key"))?;
        Self::checked(&key)
    }

    fn checked(key: &rsa::RsaPrivateKey) -> Result<Self, SealError> {
        let refused = || SealError::InvalidKey("not a usable RSA private key");
        let public = RsaPublicKey::checked(key.to_public_key())?;
        let encoded = key.to_pkcs8_der().map_err(|_| refused())?;
        let opener = PrivateDecryptingKey::from_pkcs8(encoded.as_bytes()).map_err(|_| refused())?;
        let opener = OaepPrivateDecryptingKey::new(opener).map_err(|_| refused())?;
        Ok(Self { pkcs8_der: Zeroizing::new(encoded.as_bytes().to_vec()), opener, public })
    }

    /// Its PKCS#8 encoding in DER, to be kept encrypted.
    #[must_use]
    pub const fn pkcs8_der(&self) -> &Zeroizing<Vec<u8>> {
        &self.pkcs8_der
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &RsaPublicKey {
        &self.public
    }

    /// Unwraps what [`RsaPublicKey::wrap`] made.
    ///
    /// # Errors
    /// [`SealError::CannotOpen`], whatever the reason.
    pub fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let mut out = Zeroizing::new(vec![0; self.opener.min_output_size()]);
        let length = self
            .opener
            .decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut out, None)
            .map_err(|_| SealError::CannotOpen)?
            .len();
        out.truncate(length);
        Ok(out)
    }
}

impl fmt::Debug for RsaPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaPrivateKey({})", self.public.thumbprint())
    }
}

/// A hospital's current private key and its retiring ones, which still open what was sealed to them.
#[derive(Debug)]
pub struct KeyRing {
    current: RsaPrivateKey,
    retiring: Vec<RsaPrivateKey>,
}

impl KeyRing {
    /// A ring of the current key alone.
    #[must_use]
    pub const fn new(current: RsaPrivateKey) -> Self {
        Self { current, retiring: Vec::new() }
    }

    /// Makes `key` the current one; the current one retires.
    pub fn rotate(&mut self, key: RsaPrivateKey) {
        self.retiring.push(std::mem::replace(&mut self.current, key));
    }

    /// Adds a key that only opens.
    pub fn add_retiring(&mut self, key: RsaPrivateKey) {
        self.retiring.push(key);
    }

    /// The key that others seal to now.
    #[must_use]
    pub const fn current(&self) -> &RsaPrivateKey {
        &self.current
    }

    /// The key with this thumbprint.
    ///
    /// # Errors
    /// [`SealError::UnknownKey`].
    pub fn find(&self, thumbprint: &Digest) -> Result<&RsaPrivateKey, SealError> {
        std::iter::once(&self.current)
            .chain(&self.retiring)
            .find(|key| key.public.thumbprint() == *thumbprint)
            .ok_or(SealError::UnknownKey(*thumbprint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsRandom;
    use crate::testkit::{hospital_one, hospital_two};

    #[test]
    fn one_crate_opens_what_the_other_wraps() {
        let key = hospital_one();
        for length in [0, 1, 32, 318] {
            let plaintext = vec![7; length];
            let wrapped = key.public().wrap(&plaintext, &mut OsRandom).unwrap();
            assert_eq!(key.unwrap(&wrapped).unwrap().as_slice(), plaintext);
            assert!(matches!(hospital_two().unwrap(&wrapped), Err(SealError::CannotOpen)));
        }
        assert!(matches!(key.public().wrap(&[7; 319], &mut OsRandom), Err(SealError::TooLong)));
    }

    /// The only test that makes a key: it takes its time.
    #[test]
    fn a_new_key_works() {
        let key = RsaPrivateKey::generate(&mut OsRandom).unwrap();
        assert_eq!(key.public().key.n().bits(), NEW_KEY_BITS);
        let wrapped = key.public().wrap(b"share", &mut OsRandom).unwrap();
        assert_eq!(key.unwrap(&wrapped).unwrap().as_slice(), b"share");
    }

    #[test]
    fn every_altered_wrap_gives_the_same_error() {
        let key = hospital_one();
        let wrapped = key.public().wrap(b"share", &mut OsRandom).unwrap();
        let mut altered = wrapped.clone();
        altered[100] ^= 1;
        for bad in [altered.as_slice(), &wrapped[1..], &[], &[0xff; 384], &[0; 384]] {
            assert!(matches!(key.unwrap(bad), Err(SealError::CannotOpen)));
        }
    }

    #[test]
    fn encodings_come_back_and_strange_keys_are_refused() {
        let key = hospital_one();
        let again = RsaPrivateKey::from_pkcs8_der(key.pkcs8_der()).unwrap();
        assert_eq!(again.public(), key.public());
        let public = RsaPublicKey::from_spki_der(key.public().spki_der()).unwrap();
        assert_eq!(public.thumbprint(), key.public().thumbprint());
        let mut longer = key.public().spki_der().to_vec();
        longer.push(0);
        assert!(RsaPublicKey::from_spki_der(&longer).is_err());
        let e_is_three = rsa::RsaPublicKey::new(public.key.n().clone(), 3u32.into()).unwrap();
        assert!(RsaPublicKey::checked(e_is_three).is_err());
        let short = rsa::RsaPublicKey::new(public.key.n() >> 1024usize, EXPONENT.into());
        assert!(short.map(RsaPublicKey::checked).is_ok_and(|key| key.is_err()));
    }

    #[test]
    fn a_ring_opens_with_retiring_keys() {
        let mut ring = KeyRing::new(hospital_one());
        let old = ring.current().public().clone();
        ring.rotate(hospital_two());
        let wrapped = old.wrap(b"x", &mut OsRandom).unwrap();
        assert_eq!(ring.find(&old.thumbprint()).unwrap().unwrap(&wrapped).unwrap().as_slice(), b"x");
        assert!(matches!(ring.find(&Digest::from_bytes([0; 32])), Err(SealError::UnknownKey(_))));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let key = hospital_one();
        assert_eq!(format!("{key:?}"), format!("RsaPrivateKey({})", key.public().thumbprint()));
    }
}
