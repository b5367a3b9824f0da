//! The artefacts of one transfer between two hospitals.

use crate::codec::{self, Bytes};
use crate::id::{ContentRoot, Department, Digest, HospitalId, PatientRef, SealingPublic, TransferId};
use crate::{Amount, Code, Timestamp, cbor_enum, cbor_map};

cbor_enum! {
    /// Who owes the fee.
    pub enum Payer {
        /// The patient, who moved on their own.
        Patient = 1, "patient";
        /// The new hospital, to which a doctor referred.
        Hospital = 2, "hospital";
    }
}

cbor_enum! {
    /// A step of a transfer, as refusals name it.
    pub enum Step {
        /// The request.
        Request = 1, "request";
        /// The quote.
        Quote = 2, "quote";
        /// The consent.
        Consent = 3, "consent";
        /// Sealing.
        Seal = 4, "seal";
        /// Delivery.
        Delivery = 5, "delivery";
        /// Release of the shares.
        Release = 6, "release";
        /// Filing.
        Filing = 7, "filing";
    }
}

cbor_map! {
    /// The destination asks the source. Signed by the destination.
    pub struct TransferRequest {
        /// The transfer, as the patient's ask names it.
        1 => transfer: TransferId,
        /// Who holds the records.
        2 => source: HospitalId,
        /// Who asks.
        3 => destination: HospitalId,
        /// The patient's `Ask`, whole.
        4 => ask: Bytes,
        /// Fresh key that the patient seals the grant key to.
        5 => request_key: SealingPublic,
        /// The `Scope` wished, sealed to the source.
        6 => sealed: Bytes,
        /// When.
        7 => issued: Timestamp,
    }
}

cbor_map! {
    /// The source sends a patient to another hospital, which then owes the fee. Signed by the source; travels with the
    /// quote.
    pub struct Referral {
        /// Who is referred.
        1 => patient: PatientRef,
        /// Who refers.
        2 => source: HospitalId,
        /// To whom.
        3 => destination: HospitalId,
        /// [`ReferralDetails`], sealed to the destination.
        4 => sealed: Bytes,
        /// When.
        5 => issued: Timestamp,
        /// Quotes before this stand on it.
        6 => expires: Timestamp,
    }
}

cbor_map! {
    /// What only the destination may read of a referral.
    pub struct ReferralDetails {
        /// Who refers, by name.
        1 => doctor: String,
        /// Why, for the doctors there.
        2 => reason: Option<String>,
    }
}

cbor_map! {
    /// How many records of a department.
    pub struct DepartmentCount {
        /// The department.
        1 => department: Department,
        /// Records.
        2 => records: u64,
    }
}

cbor_map! {
    /// A test and its price.
    pub struct QuoteLine {
        /// The record, `DiagnosticReport/…`.
        1 => record: String,
        /// When it was done, as recorded.
        2 => date: Option<String>,
        /// Code system.
        3 => system: String,
        /// Code.
        4 => code: String,
        /// What it is called.
        5 => display: String,
        /// The price as an exact decimal; absent if it has none, or was charged before.
        6 => price: Option<String>,
        /// The transfer that charged it before, to the same payer for the same destination: it counts nothing here.
        7 => charged_by: Option<TransferId>,
    }
}

cbor_map! {
    /// What a quote says, for the patient's eyes (and the payer's): sealed, and committed to outside the seal.
    pub struct QuoteBody {
        /// What part of the records it is about.
        1 => scope: super::patient::Scope,
        /// Records per department, ascending.
        2 => departments: Vec<DepartmentCount>,
        /// All records.
        3 => records: u64,
        /// Bytes of their content.
        4 => bytes: u64,
        /// Tests and prices.
        5 => lines: Vec<QuoteLine>,
        /// Tests without a price that were not charged before.
        6 => unpriced: u32,
        /// Sum of all prices, other tests' too, an exact decimal.
        7 => basis: String,
        /// Basis points.
        8 => rate_bps: u32,
        /// The fee.
        9 => fee: Amount,
        /// Who owes it.
        10 => payer: Payer,
        /// Root over the hashes of the record versions that it is about, ascending.
        11 => versions: Digest,
        /// Makes the commitment say nothing.
        12 => salt: [u8; 16],
        /// What else the fee is made of, where the basis is all tests.
        13 => other_tests: Option<OtherTests>,
        /// How many of the records are restricted (see [`super::patient::Scope`]).
        14 => restricted: u64,
    }
}

cbor_map! {
    /// Tests outside the scope that count for the fee, too. Only how many and their sum: who opens the package may not
    /// read what they are.
    pub struct OtherTests {
        /// Tests.
        1 => tests: u32,
        /// Those without a price.
        2 => unpriced: u32,
        /// Sum of the prices, an exact decimal.
        3 => basis: String,
    }
}

cbor_map! {
    /// What a delivery goes on with.
    pub struct Continues {
        /// Hash of the continuous consent.
        1 => consent: Digest,
        /// The transfer that the consent was given for.
        2 => origin: TransferId,
    }
}

cbor_map! {
    /// The source's answer. Signed by the source. The final one, which follows a consent that narrows, names the
    /// quote before it and the consent. One that continues a transfer begins a delivery by itself, without a request.
    pub struct Quote {
        /// The transfer.
        1 => transfer: TransferId,
        /// The patient.
        2 => patient: PatientRef,
        /// Who quotes.
        3 => source: HospitalId,
        /// Who asked.
        4 => destination: HospitalId,
        /// Hash of the request.
        5 => request: Digest,
        /// SHA-256 of the encoded `QuoteBody`.
        6 => commitment: Digest,
        /// The body, HPKE-sealed to the patient.
        7 => sealed: Bytes,
        /// Hash of the quote that this one narrows.
        8 => narrows: Option<Digest>,
        /// Key that shares for this request are sealed to, repeated for the patient.
        9 => request_key: SealingPublic,
        /// When.
        10 => issued: Timestamp,
        /// Until when it holds.
        11 => expires: Timestamp,
        /// The `Referral`, if there is one: the destination owes the fee.
        12 => referral: Option<Bytes>,
        /// With a referral, the [`FeeOffer`], sealed to the destination.
        13 => sealed_to_payer: Option<Bytes>,
        /// As of when prices and fee schedule hold: a quote that narrows another keeps them.
        14 => priced: Timestamp,
        /// What it goes on with, if it is a delivery's.
        15 => continues: Option<Continues>,
    }
}

cbor_map! {
    /// What a hospital that owes the fee may read of a quote before the package: not departments nor tests.
    pub struct FeeOffer {
        /// The fee.
        1 => fee: Amount,
    }
}

cbor_map! {
    /// The destination pays for what was quoted. Signed by the destination.
    pub struct FeeAcceptance {
        /// The transfer.
        1 => transfer: TransferId,
        /// Hash of the quote. A quote that narrows it is accepted with it.
        2 => quote: Digest,
        /// The most that it may cost.
        3 => cap: Amount,
        /// When.
        4 => issued: Timestamp,
    }
}

cbor_map! {
    /// A content as it travels: ciphertext by BLAKE3 root and length.
    pub struct ContentRef {
        /// BLAKE3 root of the ciphertext.
        1 => root: ContentRoot,
        /// Bytes of the ciphertext.
        2 => length: u64,
    }
}

cbor_map! {
    /// The parts of a package. The two hospitals alone have it: a header's copy goes through the index, which must not
    /// learn how much a patient's records are.
    pub struct PartList {
        /// Makes the commitment say nothing.
        1 => salt: [u8; 16],
        /// The sealed manifest.
        2 => manifest: ContentRef,
        /// Large contents, in the manifest's order.
        3 => contents: Vec<ContentRef>,
    }
}

impl PartList {
    /// SHA-256 over the encoded list, salt included.
    #[must_use]
    pub fn commitment(&self) -> Digest {
        Digest::sha256(&[b"handover/1/parts", &codec::encode(self)])
    }

    /// All parts in the order in which they travel: the manifest, then the contents.
    pub fn iter(&self) -> impl Iterator<Item = &ContentRef> {
        std::iter::once(&self.manifest).chain(&self.contents)
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.iter().fold(0, |sum, part| sum.saturating_add(part.length))
    }
}

cbor_map! {
    /// What is in a package. Signed by the source; stored before anything is sent.
    pub struct PackageHeader {
        /// The transfer.
        1 => transfer: TransferId,
        /// Counts from 1.
        2 => attempt: u32,
        /// The source.
        3 => source: HospitalId,
        /// The destination.
        4 => destination: HospitalId,
        /// Hash of the consent.
        5 => consent: Digest,
        /// Hash of the (final) quote.
        6 => quote: Digest,
        /// Cryptographic suite.
        7 => suite: u8,
        /// SHA-256 over the sealed shares.
        8 => shares: Digest,
        /// [`PartList::commitment`].
        9 => parts: Digest,
        /// RFC 6962 root over the salted hashes of the records, in the manifest's order.
        10 => record_root: Digest,
        /// The fee that is reserved with this header.
        11 => fee: Amount,
        /// Who owes it.
        12 => payer: Payer,
        /// Commitment to the content key: shows whether the shares belong to this package before it is opened.
        13 => commitment: Digest,
        /// When.
        14 => issued: Timestamp,
    }
}

cbor_map! {
    /// Everything that the header lists is stored here, durably. Signed by the destination.
    pub struct Delivered {
        /// The transfer.
        1 => transfer: TransferId,
        /// The attempt.
        2 => attempt: u32,
        /// Hash of the header.
        3 => header: Digest,
        /// Who has it.
        4 => destination: HospitalId,
        /// When.
        5 => issued: Timestamp,
    }
}

cbor_map! {
    /// The two sealed shares. Signed by the source.
    pub struct KeyRelease {
        /// The transfer.
        1 => transfer: TransferId,
        /// The attempt.
        2 => attempt: u32,
        /// Hash of the header.
        3 => header: Digest,
        /// The hospital's share, RSA-wrapped, and the patient's, HPKE-sealed to the grant key.
        4 => shares: Bytes,
        /// When.
        5 => issued: Timestamp,
    }
}

cbor_map! {
    /// What was sealed is lost to the destination, or the key that its patient released to is: it asks the source to
    /// seal again. Signed by the destination.
    pub struct NextAttempt {
        /// The transfer.
        1 => transfer: TransferId,
        /// The attempt that begins with this: one more than the one that came to nothing.
        2 => attempt: u32,
        /// Hash of the consent.
        3 => consent: Digest,
        /// Key that the patient seals the grant key to from now on: the one before, or a fresh one if that is lost.
        4 => request_key: SealingPublic,
        /// When.
        5 => issued: Timestamp,
    }
}

cbor_map! {
    /// Opened, checked and durably filed. Signed by the destination.
    pub struct Receipt {
        /// The transfer.
        1 => transfer: TransferId,
        /// The attempt.
        2 => attempt: u32,
        /// Hash of the header.
        3 => header: Digest,
        /// Hash of the consent.
        4 => consent: Digest,
        /// Root over the salted hashes of what was filed.
        5 => record_root: Digest,
        /// The fee as the destination computes it from the lines.
        6 => fee: Amount,
        /// When.
        7 => issued: Timestamp,
    }
}

cbor_map! {
    /// A no, with its step and reason. Signed by whoever refuses.
    pub struct Refusal {
        /// The transfer.
        1 => transfer: TransferId,
        /// Which step.
        2 => step: Step,
        /// Why.
        3 => code: Code,
        /// When.
        4 => issued: Timestamp,
        /// In which attempt.
        5 => attempt: u32,
    }
}

cbor_enum! {
    /// What a revocation did at one holder.
    pub enum RevocationEffect {
        /// Nothing that the consent allowed is done there any more.
        InTime = 1, "in-time";
        /// It had been done: the source had released its share, the destination could open the package.
        TooLate = 2, "too-late";
        /// What a continuous consent had brought by then stays; nothing more comes under it.
        Ended = 3, "ended";
    }
}

cbor_map! {
    /// A holder of a consent has taken its revocation in. Signed by that holder.
    pub struct RevocationConfirmed {
        /// The transfer.
        1 => transfer: TransferId,
        /// Hash of the consent.
        2 => consent: Digest,
        /// Who confirms.
        3 => by: HospitalId,
        /// Since when it holds here.
        4 => since: Timestamp,
        /// What it did here.
        5 => effect: RevocationEffect,
    }
}

super::payload_types! {
    TransferRequest = "handover/transfer-request/1",
    Referral = "handover/referral/1",
    Quote = "handover/quote/1",
    FeeAcceptance = "handover/fee-acceptance/1",
    PackageHeader = "handover/package-header/1",
    Delivered = "handover/delivered/1",
    KeyRelease = "handover/key-release/1",
    NextAttempt = "handover/next-attempt/1",
    Receipt = "handover/receipt/1",
    Refusal = "handover/refusal/1",
    RevocationConfirmed = "handover/revocation-confirmed/1",
}

/// How long a quote holds, in milliseconds.
pub const QUOTE_LIFE_MS: i64 = 14 * crate::time::DAY_MS;
/// How long a referral may hold, in milliseconds.
pub const REFERRAL_MAX_LIFE_MS: i64 = 365 * crate::time::DAY_MS;
/// The most characters of a doctor's name, and of a reason, in a referral.
pub const REFERRAL_TEXT_MAX_CHARS: usize = 500;
/// How long a consent may hold, in milliseconds.
pub const CONSENT_MAX_LIFE_MS: i64 = 730 * crate::time::DAY_MS;

/// The most records of one package.
pub const PACKAGE_MAX_RECORDS: u64 = 200_000;
/// The most large contents of one package.
pub const PACKAGE_MAX_CONTENTS: usize = 16_000;
/// The most bytes of an artefact that travels as a control message: leaves room for the message around it.
pub const CARRIED_MAX_BYTES: usize = 1_000_000;
