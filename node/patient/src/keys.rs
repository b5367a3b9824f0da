//! A patient's device keys, and the records that name them and those before.

use handover_core::artefact::patient::{KeyAuthority, PatientKeyRecord};
use handover_core::artefact::{Countersigned, Signer, Verified};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::id::SigningPublic;
use handover_core::key_chain::Standing;
use handover_core::message::KeyRecords;
use handover_core::{Digest, KeyChain, PatientRef, Random, Timestamp};
use handover_seal::{Remembered, SealingKey, SigningKey};

use crate::WalletError;

/// The device's two key pairs with the patient's key records up to theirs; the first one's hash is the patient's
/// reference.
#[derive(Debug)]
pub struct PatientKeys {
    pub(crate) signing: SigningKey,
    pub(crate) sealing: SealingKey,
    chain: KeyChain,
}

impl PatientKeys {
    /// Fresh keys and their first record; the recovery key's private half is kept elsewhere.
    ///
    /// # Errors
    /// [`WalletError::Rule`]; not with keys that were just made.
    pub fn generate(
        recovery: SigningPublic,
        now: Timestamp,
        random: &mut dyn Random,
    ) -> Result<Self, WalletError> {
        let signing = SigningKey::generate(random);
        let sealing = SealingKey::generate(random);
        let record = PatientKeyRecord {
            number: 1,
            previous: None,
            signing_key: signing.public(),
            sealing_key: sealing.public(),
            recovery_key: Some(recovery),
            issued: now,
            authorized_by: None,
            extensions: Extensions::default(),
        };
        let first = Bytes(Verified::sign(record, &signing).envelope().to_vec());
        Self::restore(signing, sealing, &[first])
    }

    /// Fresh keys for another device, which take the place of these.
    ///
    /// # Errors
    /// [`WalletError::Rule`] if there are too many records by now.
    pub fn renewed(&self, now: Timestamp, random: &mut dyn Random) -> Result<Self, WalletError> {
        follow(&self.chain, KeyAuthority::Device, &self.signing, now, random)
    }

    /// Fresh keys that the recovery key puts in the place of lost ones. Any known record will do to follow from.
    ///
    /// # Errors
    /// [`WalletError::RecoveryKey`] if it is not this patient's; [`WalletError::Rule`] if there are too many records.
    pub fn recovered(
        chain: &KeyChain,
        recovery: &SigningKey,
        now: Timestamp,
        random: &mut dyn Random,
    ) -> Result<Self, WalletError> {
        if chain.recovery_key() != Some(recovery.public()) {
            return Err(WalletError::RecoveryKey("the recovery key is not that of the key records"));
        }
        follow(chain, KeyAuthority::Recovery, recovery, now, random)
    }

    /// From what a wallet file holds.
    ///
    /// # Errors
    /// [`WalletError`] if the keys are not the newest record's.
    pub fn restore(signing: SigningKey, sealing: SealingKey, records: &[Bytes]) -> Result<Self, WalletError> {
        let chain = KeyChain::verify(records, &Remembered).map_err(WalletError::rule("the key records"))?;
        let newest = chain.newest();
        if newest.signing_key != signing.public() || newest.sealing_key != sealing.public() {
            return Err(WalletError::NotNow("the keys are not those of the key record"));
        }
        Ok(Self { signing, sealing, chain })
    }

    /// The patient's reference.
    #[must_use]
    pub fn patient(&self) -> PatientRef {
        self.chain.patient()
    }

    /// The key that signs everything here.
    #[must_use]
    pub fn signing_public(&self) -> SigningPublic {
        self.signing.public()
    }

    /// The key of this or an earlier device that has a thumbprint.
    pub(crate) fn own_key(&self, thumbprint: &Digest) -> Option<SigningPublic> {
        self.chain.signing_key(thumbprint)
    }

    /// Hash of the key record that everything here is signed under.
    #[must_use]
    pub fn record_hash(&self) -> Digest {
        self.chain.hash()
    }

    /// Its number: how many devices there have been.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.chain.newest().number
    }

    /// Whether the recovery key put them in the place of lost ones.
    #[must_use]
    pub fn is_recovered(&self) -> bool {
        self.chain.newest().authorized_by == Some(KeyAuthority::Recovery)
    }

    /// The recovery key's public half.
    #[must_use]
    pub fn recovery_public(&self) -> Option<SigningPublic> {
        self.chain.recovery_key()
    }

    /// The key records, the first to the newest.
    #[must_use]
    pub fn records(&self) -> &[Bytes] {
        self.chain.records()
    }

    /// Whether these are keys that the device with `old` keys let follow.
    #[must_use]
    pub fn follow_from(&self, old: &Self) -> bool {
        self.chain.beside(&old.chain) == Standing::Newer
    }

    /// What tells a hospital of them: encoded `KeyRecords`.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        codec::encode(&KeyRecords { records: self.records().to_vec(), extensions: Extensions::default() })
    }
}

fn follow(
    chain: &KeyChain,
    authorized_by: KeyAuthority,
    by: &dyn Signer,
    now: Timestamp,
    random: &mut dyn Random,
) -> Result<PatientKeys, WalletError> {
    let (signing, sealing) = (SigningKey::generate(random), SealingKey::generate(random));
    let before = chain.newest();
    let record = PatientKeyRecord {
        number: before.number.saturating_add(1),
        previous: Some(before.hash()),
        signing_key: signing.public(),
        sealing_key: sealing.public(),
        recovery_key: None,
        // Whatever the clock says, it follows.
        issued: now.max(before.issued.plus_ms(1)),
        authorized_by: Some(authorized_by),
        extensions: Extensions::default(),
    };
    let record = Countersigned::sign(&Verified::sign(record, &signing), by);
    let mut records = chain.records().to_vec();
    records.push(record.into());
    PatientKeys::restore(signing, sealing, &records)
}
