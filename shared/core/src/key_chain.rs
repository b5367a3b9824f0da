//! A patient's key records, from the first to the newest: what makes a new device or a recovery known to everybody
//! who has the patient's reference, offline.
//!
//! Invariants: a [`KeyChain`] verified whole. The first record is signed by its own key, and its hash is the
//! reference. Every later one is signed by its own new key and countersigned by the device before it or by the
//! recovery key, as it says itself; it names the one before and is of a later time. Of two chains of one patient,
//! everybody finds the same one better wherever the recovery key spoke.

use crate::artefact::patient::{KeyAuthority, PatientKeyRecord};
use crate::artefact::{ArtefactError, Countersigned, SignatureVerifier, Signed, Verified};
use crate::codec::Bytes;
use crate::id::{Digest, PatientRef, SigningPublic};
use crate::{Code, Timestamp};

/// The most records of one patient.
pub const KEY_CHAIN_MAX_RECORDS: usize = 32;
/// The most bytes of one record's envelope.
pub const KEY_RECORD_MAX_BYTES: usize = 2 * 1024;

/// A patient's key records, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChain {
    first: Verified<PatientKeyRecord>,
    later: Vec<Verified<PatientKeyRecord>>,
    /// As they travel: the later ones with both signatures.
    envelopes: Vec<Bytes>,
}

/// What an offered chain is beside the one that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The same.
    Same,
    /// It goes on from the one held, or the recovery key decided for it.
    Newer,
    /// The one held goes on from it.
    Older,
    /// Both go on from the same record, and the one held stays.
    ForkLost,
}

impl Standing {
    /// Refuses what is signed under a chain that is not the newest.
    ///
    /// # Errors
    /// [`Code::KeyRecordOutdated`], [`Code::KeyRecordForked`].
    pub const fn newest(self) -> Result<(), Code> {
        match self {
            Self::Same | Self::Newer => Ok(()),
            Self::Older => Err(Code::KeyRecordOutdated),
            Self::ForkLost => Err(Code::KeyRecordForked),
        }
    }
}

fn refused(fault: ArtefactError) -> Code {
    fault.code()
}

impl KeyChain {
    /// Verifies records, the first to the newest. Whose they are, the first one says.
    ///
    /// # Errors
    /// [`Code::TooLarge`]; [`Code::Malformed`] for records that do not follow from each other;
    /// [`Code::WrongSigner`], [`Code::BadSignature`].
    pub fn verify(records: &[Bytes], verifier: &dyn SignatureVerifier) -> Result<Self, Code> {
        let is_small = records.iter().all(|record| record.as_ref().len() <= KEY_RECORD_MAX_BYTES);
        if records.len() > KEY_CHAIN_MAX_RECORDS || !is_small {
            return Err(Code::TooLarge);
        }
        let (first, rest) = records.split_first().ok_or(Code::Malformed)?;
        let first = Signed::<PatientKeyRecord>::read(first.as_ref()).map_err(refused)?;
        let key = first.claim().signing_key;
        let first = first.verify(&key, verifier).map_err(refused)?;
        if first.number != 1 || first.previous.is_some() || first.authorized_by.is_some() {
            return Err(Code::Malformed);
        }
        let mut chain = Self { first, later: Vec::new(), envelopes: records.to_vec() };
        for envelope in rest {
            let record = chain.successor(envelope.as_ref(), verifier)?;
            chain.later.push(record);
        }
        Ok(chain)
    }

    /// The record that follows the newest one.
    fn successor(
        &self,
        envelope: &[u8],
        verifier: &dyn SignatureVerifier,
    ) -> Result<Verified<PatientKeyRecord>, Code> {
        let record = Countersigned::<PatientKeyRecord>::read(envelope).map_err(refused)?;
        let (claim, before) = (record.claim(), self.newest());
        let follows = Some(claim.number) == before.number.checked_add(1)
            && claim.previous == Some(before.hash())
            && claim.recovery_key.is_none()
            && claim.issued > before.issued;
        let by = match claim.authorized_by {
            Some(KeyAuthority::Device) => before.signing_key,
            Some(KeyAuthority::Recovery) => self.recovery_key().ok_or(Code::WrongSigner)?,
            None => return Err(Code::Malformed),
        };
        if !follows {
            return Err(Code::Malformed);
        }
        let own = claim.signing_key;
        record.verify(&own, &by, verifier).map_err(refused)
    }

    /// [`Self::verify`], for a patient who is known.
    ///
    /// # Errors
    /// As it; [`Code::AskMismatch`] for another patient's records.
    pub fn of(
        records: &[Bytes],
        patient: &PatientRef,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Self, Code> {
        let chain = Self::verify(records, verifier)?;
        if chain.patient() == *patient { Ok(chain) } else { Err(Code::AskMismatch) }
    }

    /// Whose it is: the hash of the first record.
    #[must_use]
    pub fn patient(&self) -> PatientRef {
        PatientRef::from_bytes(*self.first.hash().as_bytes())
    }

    /// The keys that hold, as far as this chain knows.
    #[must_use]
    pub fn newest(&self) -> &Verified<PatientKeyRecord> {
        self.later.last().unwrap_or(&self.first)
    }

    /// Its hash: chains with the same one are the same.
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.newest().hash()
    }

    /// The offline key of the first record.
    #[must_use]
    pub fn recovery_key(&self) -> Option<SigningPublic> {
        self.first.recovery_key
    }

    /// The signing key, of any record, that has a thumbprint.
    #[must_use]
    pub fn signing_key(&self, thumbprint: &Digest) -> Option<SigningPublic> {
        self.all().map(|record| record.signing_key).find(|key| key.thumbprint() == *thumbprint)
    }

    /// The envelopes, as they travel.
    #[must_use]
    pub fn records(&self) -> &[Bytes] {
        &self.envelopes
    }

    fn all(&self) -> impl Iterator<Item = &Verified<PatientKeyRecord>> {
        std::iter::once(&self.first).chain(&self.later)
    }

    /// What this chain is beside the one that is held. On a fork the branch wins on which the recovery key spoke
    /// last, so that the same recovery key, with no more than the first record, recovers any number of times. Where
    /// it spoke on neither, nobody can tell the owner from a thief, and the one held stays.
    #[must_use]
    pub fn beside(&self, held: &Self) -> Standing {
        let pairs = self.all().zip(held.all());
        let common = pairs.take_while(|(one, other)| one.hash() == other.hash()).count();
        let (own, others) = (self.envelopes.len() > common, held.envelopes.len() > common);
        match (own, others) {
            (false, false) => Standing::Same,
            (true, false) => Standing::Newer,
            (false, true) => Standing::Older,
            (true, true) if self.recovered_after(common) > held.recovered_after(common) => Standing::Newer,
            (true, true) => Standing::ForkLost,
        }
    }

    /// When the recovery key last spoke behind the first `common` records; the hash makes it one of two.
    fn recovered_after(&self, common: usize) -> Option<(Timestamp, Digest)> {
        let spoken = self.all().skip(common).filter(|it| it.authorized_by == Some(KeyAuthority::Recovery));
        spoken.last().map(|record| (record.issued, record.hash()))
    }
}
