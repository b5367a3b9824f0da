//! Two shares, one content key: the source splits what opens a package into a share for the destination hospital
//! and a share for the patient. Neither alone opens anything.
//!
//! The content key comes from both shares and from everything that the consent is about, so shares that travel in
//! another transfer, attempt or direction give another key; the commitment shows it before anything is opened.

use handover_core::codec::{Bytes, Extensions};
use handover_core::id::SealingPublic;
use handover_core::{Digest, HospitalId, Random, TransferId, cbor_map, codec};
use zeroize::Zeroizing;

use crate::cell::expand;
use crate::frame::put_text;
use crate::{KeyRing, RsaPublicKey, SealError, SealingKey, Secret, Secret32, hpke_open, hpke_seal};

/// The suite: RSAES-OAEP-SHA-256 and HPKE with X25519-HKDF-SHA256-AES-256-GCM.
pub const SUITE: u8 = 1;

const CONTENT_LABEL: &str = "handover/1/consent";
const PATIENT_SHARE_INFO: &[u8] = b"handover/1/patient-share";
const GRANT_KEY_INFO: &[u8] = b"handover/1/grant-key";

/// What the shares of one attempt belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The hospital that sends.
    pub source: HospitalId,
    /// The hospital that receives.
    pub destination: HospitalId,
    /// Hash of the consent.
    pub consent: Digest,
    /// The transfer.
    pub transfer: TransferId,
    /// Its attempt, from 1.
    pub attempt: u32,
}

impl Binding {
    /// Transfer (16 bytes) ‖ attempt (u32, big-endian).
    fn salt(&self) -> Vec<u8> {
        [self.transfer.as_bytes().as_slice(), &self.attempt.to_be_bytes()].concat()
    }

    /// Label, source, destination (each with its u16 length) ‖ consent hash (32 bytes) ‖ suite (1 byte).
    fn info(&self) -> Result<Vec<u8>, SealError> {
        let mut info = Vec::new();
        for text in [CONTENT_LABEL, self.source.as_str(), self.destination.as_str()] {
            put_text(&mut info, text)?;
        }
        info.extend_from_slice(self.consent.as_bytes());
        info.push(SUITE);
        Ok(info)
    }

    /// The whole context, for the seal of the patient's share.
    fn aad(&self) -> Result<Vec<u8>, SealError> {
        let mut aad = self.salt();
        aad.extend_from_slice(&self.info()?);
        Ok(aad)
    }
}

/// The two shares of one attempt. Never stored in plain.
#[derive(Clone, Debug)]
pub struct Shares {
    /// For the destination hospital.
    pub hospital: Secret32,
    /// For the patient.
    pub patient: Secret32,
}

/// What both shares give together.
#[derive(Clone, Debug)]
pub struct ContentSecrets {
    /// The content encryption key.
    pub cek: Secret32,
    /// The commitment to it; may be published, says nothing about the key.
    pub commitment: [u8; 32],
}

impl Shares {
    /// Two fresh shares.
    #[must_use]
    pub fn generate(random: &mut dyn Random) -> Self {
        Self { hospital: Secret32::generate(random), patient: Secret32::generate(random) }
    }

    /// HKDF-SHA256 (RFC 5869) of hospital share ‖ patient share with the binding as salt and info.
    ///
    /// # Errors
    /// [`SealError::TooLong`], which no valid identifier reaches.
    pub fn content_secrets(&self, binding: &Binding) -> Result<ContentSecrets, SealError> {
        let both = Secret::<64>::filled(|both| {
            for (out, byte) in both.iter_mut().zip(self.hospital.expose().iter().chain(self.patient.expose()))
            {
                *out = *byte;
            }
        });
        let info = binding.info()?;
        let mut out = Zeroizing::new([0; 64]);
        expand(Some(&binding.salt()), both.expose(), &info, out.as_mut_slice());
        let (cek, commitment) = out.split_at(32);
        Ok(ContentSecrets {
            cek: Secret32::from_slice(cek)?,
            commitment: commitment.try_into().map_err(|_| SealError::Commitment)?,
        })
    }
}

impl ContentSecrets {
    /// Checks the commitment that the source announced.
    ///
    /// # Errors
    /// [`SealError::Commitment`].
    pub fn check(&self, announced: &[u8; 32]) -> Result<(), SealError> {
        // The commitment is public, so the comparison may take its time.
        if self.commitment == *announced { Ok(()) } else { Err(SealError::Commitment) }
    }
}

cbor_map! {
    /// The two shares, each sealed to its owner.
    pub struct SealedShares {
        /// Thumbprint of the destination's RSA key.
        1 => hospital_key: Digest,
        /// The hospital's share, wrapped (RSAES-OAEP, SHA-256).
        2 => hospital: Bytes,
        /// The patient's share, sealed to the consent's key (HPKE).
        3 => patient: Bytes,
    }
}

impl SealedShares {
    /// Seals each share to its owner, bound to its attempt.
    ///
    /// # Errors
    /// [`SealError::InvalidKey`] if the consent's key is not usable.
    pub fn seal(
        shares: &Shares,
        binding: &Binding,
        hospital: &RsaPublicKey,
        patient: &SealingPublic,
        random: &mut dyn Random,
    ) -> Result<Self, SealError> {
        Ok(Self {
            hospital_key: hospital.thumbprint(),
            hospital: hospital.wrap(shares.hospital.expose(), random)?.into(),
            patient: hpke_seal(
                patient,
                PATIENT_SHARE_INFO,
                &binding.aad()?,
                shares.patient.expose(),
                random,
            )?
            .into(),
            extensions: Extensions::default(),
        })
    }

    /// Opens both. Only after the release's signature, consent, key and directory have been checked.
    ///
    /// # Errors
    /// [`SealError::UnknownKey`], [`SealError::CannotOpen`].
    pub fn open(&self, binding: &Binding, ring: &KeyRing, grant: &SealingKey) -> Result<Shares, SealError> {
        let hospital = ring.find(&self.hospital_key)?.unwrap(self.hospital.as_ref())?;
        let patient = hpke_open(grant, PATIENT_SHARE_INFO, &binding.aad()?, self.patient.as_ref())?;
        let share = |bytes: &[u8]| Secret32::from_slice(bytes).map_err(|_| SealError::CannotOpen);
        Ok(Shares { hospital: share(&hospital)?, patient: share(&patient)? })
    }

    /// SHA-256 over label and encoding; stands in the package's header.
    #[must_use]
    pub fn hash(&self) -> Digest {
        handover_core::rules::shares_hash(&codec::encode(self))
    }
}

/// Seals the consent's secret key to the destination's request key, for this consent only.
///
/// # Errors
/// [`SealError::InvalidKey`] if the request's key is not usable.
pub fn seal_grant_key(
    grant: &SealingKey,
    request: &SealingPublic,
    consent: &Digest,
    random: &mut dyn Random,
) -> Result<Vec<u8>, SealError> {
    hpke_seal(request, GRANT_KEY_INFO, consent.as_bytes(), grant.secret().expose(), random)
}

/// Opens what [`seal_grant_key`] made and checks that it is the key that the consent names.
///
/// # Errors
/// [`SealError::CannotOpen`], also for another key than the consent's.
pub fn open_grant_key(
    request: &SealingKey,
    consent: &Digest,
    grant: &SealingPublic,
    sealed: &[u8],
) -> Result<SealingKey, SealError> {
    let secret = hpke_open(request, GRANT_KEY_INFO, consent.as_bytes(), sealed)?;
    let key = SealingKey::from_bytes(Secret32::from_slice(&secret).map_err(|_| SealError::CannotOpen)?);
    if key.public() == *grant { Ok(key) } else { Err(SealError::CannotOpen) }
}

#[cfg(test)]
mod tests;
