//! A patient's device keys and the record that names them.

use handover_core::artefact::patient::PatientKeyRecord;
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::{Bytes, Extensions};
use handover_core::id::SigningPublic;
use handover_core::{Digest, PatientRef, Random, Timestamp, rules};
use handover_seal::{Ed25519, SealingKey, SigningKey};

use crate::WalletError;

/// The device's two key pairs with the first key record, whose hash is the patient's reference.
#[derive(Debug)]
pub struct PatientKeys {
    pub(crate) signing: SigningKey,
    pub(crate) sealing: SealingKey,
    record: Verified<PatientKeyRecord>,
}

impl PatientKeys {
    /// Fresh keys and their first record; the recovery key's private half is kept elsewhere.
    #[must_use]
    pub fn generate(recovery: SigningPublic, now: Timestamp, random: &mut dyn Random) -> Self {
        let signing = SigningKey::generate(random);
        let sealing = SealingKey::generate(random);
        let record = PatientKeyRecord {
            number: 1,
            previous: None,
            signing_key: signing.public(),
            sealing_key: sealing.public(),
            recovery_key: Some(recovery),
            issued: now,
            extensions: Extensions::default(),
        };
        let record = Verified::sign(record, &signing);
        Self { signing, sealing, record }
    }

    /// From what a wallet file holds.
    ///
    /// # Errors
    /// [`WalletError`] if the keys are not the record's.
    pub fn restore(signing: SigningKey, sealing: SealingKey, record: &[u8]) -> Result<Self, WalletError> {
        let record = Signed::<PatientKeyRecord>::read(record)?.verify(&signing.public(), &Ed25519)?;
        let patient = PatientRef::from_bytes(*record.hash().as_bytes());
        let record = rules::patient_keys(record.envelope(), &patient, &Ed25519)
            .map_err(WalletError::rule("the key record"))?;
        if record.sealing_key != sealing.public() {
            return Err(WalletError::NotNow("the keys are not those of the key record"));
        }
        Ok(Self { signing, sealing, record })
    }

    /// The patient's reference.
    #[must_use]
    pub fn patient(&self) -> PatientRef {
        PatientRef::from_bytes(*self.record.hash().as_bytes())
    }

    /// The key that signs everything here.
    #[must_use]
    pub fn signing_public(&self) -> SigningPublic {
        self.signing.public()
    }

    /// Hash of the key record that everything here is signed under.
    #[must_use]
    pub fn record_hash(&self) -> Digest {
        self.record.hash()
    }

    /// The recovery key's public half.
    #[must_use]
    pub fn recovery_public(&self) -> Option<SigningPublic> {
        self.record.recovery_key
    }

    /// The key record's envelope.
    #[must_use]
    pub fn record(&self) -> &[u8] {
        self.record.envelope()
    }

    pub(crate) fn record_bytes(&self) -> Bytes {
        Bytes(self.record().to_vec())
    }
}
