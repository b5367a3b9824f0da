//! What a patient signs, or is told.

use crate::codec::Bytes;
use crate::id::{Department, Digest, HospitalId, PatientRef, SealingPublic, SigningPublic, TransferId};
use crate::{Amount, Timestamp, cbor_enum, cbor_map};

cbor_enum! {
    /// What a patient's question is for.
    pub enum AskKind {
        /// Who holds my records? To the index; valid 10 minutes.
        Locate = 1, "locate";
        /// This hospital may ask that one for a quote, for one transfer; valid 14 days.
        Transfer = 2, "transfer";
        /// What is there for me? To a hospital, where somebody may have to carry it; valid one day.
        Inbox = 3, "inbox";
    }
}

impl AskKind {
    /// How long a question is good, in milliseconds.
    #[must_use]
    pub const fn life_ms(self) -> i64 {
        match self {
            Self::Locate => LOCATE_LIFE_MS,
            Self::Transfer => TRANSFER_ASK_LIFE_MS,
            Self::Inbox => INBOX_LIFE_MS,
        }
    }
}

cbor_enum! {
    /// Why records are wanted: HL7 v3 ActReason purposes of use.
    pub enum PurposeOfUse {
        /// Treatment (TREAT).
        Treatment = 1, "TREAT";
        /// At the patient's own request (PATRQT).
        PatientRequest = 2, "PATRQT";
    }
}

cbor_enum! {
    /// For how many transfers a consent is good.
    pub enum ConsentMode {
        /// Exactly one.
        OneTime = 1, "one-time";
        /// One, and a delivery of whatever is new or changed after it, until the consent ends.
        Continuous = 2, "continuous";
    }
}

cbor_enum! {
    /// Who lets a patient's new keys take the place of those before.
    pub enum KeyAuthority {
        /// The device before, at hand.
        Device = 1, "device";
        /// The recovery key: the device before is lost.
        Recovery = 2, "recovery";
    }
}

cbor_map! {
    /// A patient's keys. Signed with `signing_key`; each record after the first names the one before and is
    /// countersigned by whoever lets it follow.
    pub struct PatientKeyRecord {
        /// Counts from 1.
        1 => number: u64,
        /// Hash of the record before; absent in the first.
        2 => previous: Option<Digest>,
        /// Signs asks and consents.
        3 => signing_key: SigningPublic,
        /// Quotes and answers are sealed to it.
        4 => sealing_key: SealingPublic,
        /// Offline key that recovers from a lost device and decides when records fork; only in the first.
        5 => recovery_key: Option<SigningPublic>,
        /// When; later than the record before.
        6 => issued: Timestamp,
        /// Whose countersignature lets it follow; absent in the first.
        7 => authorized_by: Option<KeyAuthority>,
    }
}

cbor_map! {
    /// This patient reference is a patient of this hospital. Signed by the patient, countersigned by the hospital,
    /// which checked identity in person: the code given at the desk is proven, never carried.
    pub struct PatientLink {
        /// The patient.
        1 => patient: PatientRef,
        /// The hospital.
        2 => hospital: HospitalId,
        /// The key records, whole, the first to the newest.
        3 => key_records: Vec<Bytes>,
        /// SHA-256 over the desk's code, the patient reference and the hospital.
        4 => code_proof: Digest,
        /// When.
        5 => issued: Timestamp,
    }
}

cbor_map! {
    /// A patient's question. Answers are sealed to the newest key record that it carries.
    pub struct Ask {
        /// What for.
        1 => kind: AskKind,
        /// Who asks.
        2 => patient: PatientRef,
        /// The key records, whole, the first to the newest; the newest key signs this.
        3 => key_records: Vec<Bytes>,
        /// A repeated nonce gets the first answer again.
        4 => nonce: [u8; 16],
        /// For a transfer: its identifier, chosen here.
        5 => transfer: Option<TransferId>,
        /// For a transfer: who holds the records.
        6 => source: Option<HospitalId>,
        /// For a transfer: who shall get them. For an inbox: whose.
        7 => destination: Option<HospitalId>,
        /// When.
        8 => issued: Timestamp,
        /// Until when.
        9 => expires: Timestamp,
    }
}

cbor_map! {
    /// A hospital that holds records of the patient, as the index answers a `Locate`; travels sealed to the patient.
    pub struct Holder {
        /// The hospital.
        1 => hospital: HospitalId,
        /// Its name.
        2 => name: String,
        /// When the patient linked there.
        3 => linked: Timestamp,
    }
}

cbor_map! {
    /// The index's answer to a `Locate`.
    pub struct Holders {
        /// In order of the identifier.
        1 => hospitals: Vec<Holder>,
    }
}

cbor_map! {
    /// What part of the records: departments (all if absent), a period of the records' clinical dates, and whether
    /// those that the source marks as restricted are left out.
    pub struct Scope {
        /// Only these, ascending; absent: all.
        1 => departments: Option<Vec<Department>>,
        /// Only records dated at or after this.
        2 => from: Option<Timestamp>,
        /// Only records dated before this.
        3 => until: Option<Timestamp>,
        /// Whether restricted records are left out: by FHIR's security labels of the confidentiality R or V (HL7
        /// v3-Confidentiality), or of an information sensitivity policy (HL7 v3-ActCode).
        4 => without_restricted: bool,
    }
}

impl Scope {
    /// Everything.
    #[must_use]
    pub fn everything() -> Self {
        let extensions = crate::codec::Extensions::default();
        Self { departments: None, from: None, until: None, without_restricted: false, extensions }
    }

    /// Whether a record of `department`, dated `date`, is in it. An undated record is in every period.
    #[must_use]
    pub fn contains(&self, department: &Department, date: Option<Timestamp>, is_restricted: bool) -> bool {
        !(is_restricted && self.without_restricted)
            && self.departments.as_ref().is_none_or(|wanted| wanted.contains(department))
            && date.is_none_or(|date| {
                self.from.is_none_or(|from| date >= from) && self.until.is_none_or(|until| date < until)
            })
    }

    /// Whether everything in `self` is also in `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let departments = match (&self.departments, &other.departments) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(wider)) => own.iter().all(|department| wider.contains(department)),
        };
        departments
            && self.without_restricted >= other.without_restricted
            && other.from.is_none_or(|wider| self.from.is_some_and(|own| own >= wider))
            && other.until.is_none_or(|wider| self.until.is_some_and(|own| own <= wider))
    }
}

cbor_map! {
    /// What only the two hospitals may read of a consent; sealed to each of them.
    pub struct ConsentDetails {
        /// What part of the records.
        1 => scope: Scope,
        /// What for.
        2 => purpose: PurposeOfUse,
        /// Makes the hash of these details say nothing.
        3 => salt: [u8; 16],
    }
}

cbor_map! {
    /// A patient's yes.
    pub struct Consent {
        /// The transfer it is for.
        1 => transfer: TransferId,
        /// Who says yes.
        2 => patient: PatientRef,
        /// Hash of the key record it was made under.
        3 => key_record: Digest,
        /// Hash of the quote it answers.
        4 => quote: Digest,
        /// Who holds the records.
        5 => source: HospitalId,
        /// Who may get them.
        6 => destination: HospitalId,
        /// Thumbprint of the destination's signing key, as the patient compared it.
        7 => destination_key: Digest,
        /// SHA-256 of the encoded `ConsentDetails`.
        8 => details: Digest,
        /// The details, sealed to the source.
        9 => sealed_to_source: Bytes,
        /// The details, sealed to the destination.
        10 => sealed_to_destination: Bytes,
        /// Valid from.
        11 => not_before: Timestamp,
        /// Valid until (exclusive).
        12 => expires: Timestamp,
        /// For how many transfers.
        13 => mode: ConsentMode,
        /// The most that it may cost the patient, over all transfers that are made under it; nothing if another pays.
        14 => fee_cap: Amount,
        /// Fresh key that the patient's share is sealed to.
        15 => grant_key: SealingPublic,
        /// SHA-256 of the secret whose publication takes the consent back.
        16 => revocation: Digest,
        /// When.
        17 => issued: Timestamp,
    }
}

cbor_map! {
    /// The patient lets the destination open what comes under a consent: the grant key's secret half, sealed to the
    /// destination's key for this request.
    pub struct ShareRelease {
        /// The transfer.
        1 => transfer: TransferId,
        /// Hash of the consent.
        2 => consent: Digest,
        /// The patient.
        3 => patient: PatientRef,
        /// To whom.
        4 => destination: HospitalId,
        /// HPKE-sealed to the request's key, bound to the consent.
        5 => sealed: Bytes,
        /// When.
        6 => issued: Timestamp,
        /// The key it is sealed to: the request's, or the one that a next attempt brought.
        7 => request_key: SealingPublic,
    }
}

cbor_map! {
    /// A consent is taken back: whoever knows the secret behind its revocation hash may say so. Not signed.
    pub struct Revocation {
        /// The transfer.
        1 => transfer: TransferId,
        /// Hash of the consent.
        2 => consent: Digest,
        /// The secret.
        3 => preimage: [u8; 32],
    }
}

cbor_map! {
    /// The patient says no to a quote.
    pub struct PatientRefusal {
        /// The transfer.
        1 => transfer: TransferId,
        /// Who says no.
        2 => patient: PatientRef,
        /// When.
        3 => issued: Timestamp,
    }
}

super::payload_types! {
    PatientKeyRecord = "handover/patient-key-record/1",
    PatientLink = "handover/patient-link/1",
    Ask = "handover/ask/1",
    Consent = "handover/consent/1",
    ShareRelease = "handover/share-release/1",
    PatientRefusal = "handover/patient-refusal/1",
}

/// How long a locate question is good, in milliseconds.
pub const LOCATE_LIFE_MS: i64 = 10 * crate::time::MINUTE_MS;
/// How long an inbox question is good, in milliseconds.
pub const INBOX_LIFE_MS: i64 = crate::time::DAY_MS;
/// How long a transfer question is good, in milliseconds.
pub const TRANSFER_ASK_LIFE_MS: i64 = 14 * crate::time::DAY_MS;
/// How far clocks may differ, in milliseconds.
pub const CLOCK_SKEW_MS: i64 = 5 * crate::time::MINUTE_MS;

/// The proof that the patient knows the desk's link code, without carrying it.
#[must_use]
pub fn link_code_proof(code: &str, patient: &PatientRef, hospital: &HospitalId) -> Digest {
    Digest::sha256(&[
        b"handover/link-code/1",
        patient.as_bytes(),
        hospital.as_str().as_bytes(),
        b"/",
        code.as_bytes(),
    ])
}
