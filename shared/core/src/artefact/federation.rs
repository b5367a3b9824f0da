//! Who may speak for whom: certificates, status orders, fee schedules and the directory.
//!
//! The directory is a head that the index signs, and pieces with the hospitals' entries, which the head names by hash. A
//! hospital's piece follows from its identifier ([`place_of`]), so a change of one hospital changes the head and one piece,
//! and everybody keeps the others.

use super::transfer::Payer;
use super::{Countersigned, Signed};
use crate::codec::{self, Bytes, DecodeError, Extensions};
use crate::id::{Digest, HospitalId, Party, SigningPublic};
use crate::{Currency, Edition, Timestamp, cbor_enum, cbor_map};

cbor_enum! {
    /// What the federation's root certifies a key for, beside hospitals.
    pub enum Authority {
        /// The index's online key: directories, checkpoints.
        Index = 1, "index";
        /// A person who orders admissions, suspensions and fee schedules, always with a second one.
        Operator = 2, "operator";
    }
}

cbor_enum! {
    /// Whether a hospital takes part.
    pub enum Status {
        /// Takes part.
        Active = 1, "active";
        /// For now not.
        Suspended = 2, "suspended";
        /// Never again under this certificate.
        Revoked = 3, "revoked";
    }
}

cbor_enum! {
    /// What the fee is a percentage of.
    pub enum FeeBasis {
        /// The priced tests in the consent's scope.
        TestsInScope = 1, "tests-in-scope";
        /// All priced tests that the patient had at the source.
        AllTests = 2, "all-tests";
    }
}

cbor_map! {
    /// The root says that an index or operator key is one. Signed by the root.
    pub struct AuthorityCertificate {
        /// For what.
        1 => authority: Authority,
        /// Name for people, for example the operator's.
        2 => name: String,
        /// The certified key.
        3 => key: SigningPublic,
        /// Valid from.
        4 => not_before: Timestamp,
        /// Valid until (exclusive).
        5 => not_after: Timestamp,
    }
}

cbor_map! {
    /// The root says which signing key speaks for a hospital. Signed by the root.
    pub struct HospitalCertificate {
        /// The hospital.
        1 => hospital: HospitalId,
        /// Its name for people.
        2 => name: String,
        /// Its signing key.
        3 => key: SigningPublic,
        /// Valid from.
        4 => not_before: Timestamp,
        /// Valid until (exclusive).
        5 => not_after: Timestamp,
    }
}

cbor_map! {
    /// What a hospital says of itself: the RSA key that its share is wrapped to, where it can be reached, its
    /// currency. Signed by the hospital; a higher number replaces a lower.
    pub struct HospitalProfile {
        /// The hospital.
        1 => hospital: HospitalId,
        /// Counts up with every change.
        2 => number: u64,
        /// Its name for people.
        3 => name: String,
        /// RSA public key as DER SubjectPublicKeyInfo.
        4 => rsa_key: Bytes,
        /// libp2p addresses of its processes, each ending in `/p2p/…`.
        5 => addresses: Vec<String>,
        /// Where patients' wallets reach it, `https://…`.
        6 => patient_url: String,
        /// Currency of its prices.
        7 => currency: Currency,
        /// Jurisdiction, by which the fee schedule is chosen: ISO 3166-1 alpha-2.
        8 => jurisdiction: String,
        /// When it was made.
        9 => issued: Timestamp,
    }
    later {
        /// The last edition that its programs read.
        1 => reads: Edition,
    }
}

cbor_map! {
    /// A process may speak on a connection for a hospital or the index. Signed by the hospital's or the index's key.
    pub struct EndpointCertificate {
        /// For whom.
        1 => party: Party,
        /// The process's libp2p key.
        2 => key: SigningPublic,
        /// Valid from.
        3 => not_before: Timestamp,
        /// Valid until (exclusive).
        4 => not_after: Timestamp,
    }
}

cbor_map! {
    /// A hospital asks to take part. Signed with the key that it wants certified.
    pub struct EnrolmentRequest {
        /// The identifier it wants.
        1 => hospital: HospitalId,
        /// Its name for people.
        2 => name: String,
        /// The key that it wants certified; it signs this.
        3 => key: SigningPublic,
        /// Its profile, signed with the same key.
        4 => profile: Bytes,
        /// When.
        5 => issued: Timestamp,
    }
}

cbor_map! {
    /// The answer to the index's challenge: what it had wrapped to the hospital's RSA key. Signed by the hospital's
    /// key, so that both keys are proven to be in one hand.
    pub struct EnrolmentProof {
        /// The hospital.
        1 => hospital: HospitalId,
        /// Hash of the request.
        2 => request: Digest,
        /// SHA-256 of the unwrapped challenge.
        3 => answer: Digest,
    }
}

cbor_map! {
    /// A key asks the root for a certificate, by file. Signed with that key.
    pub struct CertificateRequest {
        /// For the index or an operator; absent for a hospital.
        1 => authority: Option<Authority>,
        /// For a hospital; absent else.
        2 => hospital: Option<HospitalId>,
        /// Name for people.
        3 => name: String,
        /// The key; it signs this.
        4 => key: SigningPublic,
        /// When.
        5 => issued: Timestamp,
    }
}

cbor_map! {
    /// Two different operators order a hospital's status. Numbers never fall.
    pub struct StatusOrder {
        /// The hospital.
        1 => hospital: HospitalId,
        /// Thumbprint of the signing key that it is about.
        2 => key: Digest,
        /// From now on.
        3 => status: Status,
        /// Counts up per hospital.
        4 => number: u64,
        /// Why, for people; no patient data.
        5 => reason: String,
        /// When the first operator signed.
        6 => issued: Timestamp,
    }
}

cbor_map! {
    /// How the record-access fee is made in one jurisdiction. Signed by two operators.
    pub struct FeeSchedule {
        /// ISO 3166-1 alpha-2, or `*` for all that have none of their own.
        1 => jurisdiction: String,
        /// Counts up per jurisdiction.
        2 => number: u64,
        /// Basis points of the basis: 500 is 5 %.
        3 => rate_bps: u32,
        /// Of what.
        4 => basis: FeeBasis,
        /// Whether a patient may be charged at all.
        5 => patient_pays: bool,
        /// How long after the releases were offered silence counts as delivery, in milliseconds.
        6 => silence_ms: i64,
        /// Valid from.
        7 => valid_from: Timestamp,
        /// When the first operator signed.
        8 => issued: Timestamp,
    }
}

cbor_map! {
    /// One hospital's line in the directory; each part is a whole envelope.
    pub struct DirectoryEntry {
        /// `HospitalCertificate` of the key that speaks for it now.
        1 => certificate: Bytes,
        /// `StatusOrder`, countersigned.
        2 => status: Bytes,
        /// `HospitalProfile`.
        3 => profile: Bytes,
        /// The `HospitalCertificate`s of keys that it has replaced, the oldest first; absent: none.
        4 => former: Option<Vec<Bytes>>,
    }
}

cbor_map! {
    /// Everything a node needs to check everybody else, for at most 72 hours: this head, and the pieces that it names.
    /// Signed by the index; each part verifies up to the pinned root by itself.
    pub struct Directory {
        /// Counts up with every change or refresh; a node never takes a lower one.
        1 => version: u64,
        /// When.
        2 => issued: Timestamp,
        /// Until when new transfers may rely on it.
        3 => expires: Timestamp,
        /// The `AuthorityCertificate`s of the index's online keys, one for each replica.
        4 => indexes: Vec<Bytes>,
        /// The operators' `AuthorityCertificate`s.
        5 => operators: Vec<Bytes>,
        /// SHA-256 of each [`DirectoryPiece`], by its place; so many as a power of two, at most [`PIECES_MAX`].
        6 => pieces: Vec<Digest>,
        /// Fee schedules, countersigned.
        7 => schedules: Vec<Bytes>,
        /// Size of the index's ledger log at this version.
        8 => log_size: u64,
        /// RFC 6962 root of that log.
        9 => log_root: Digest,
        /// The index's libp2p addresses.
        10 => addresses: Vec<String>,
    }
    later {
        /// The edition in force: everybody signs in it, or in one before.
        1 => edition: Edition,
    }
}

cbor_map! {
    /// The entries of all hospitals that have their place in it.
    pub struct DirectoryPiece {
        /// Ascending by identifier; at most [`PIECE_ENTRIES_MAX`].
        1 => hospitals: Vec<DirectoryEntry>,
    }
}

cbor_map! {
    /// A directory in one: the head with all its pieces, or in a file with those of the hospitals that it is about.
    pub struct WholeDirectory {
        /// [`Directory`].
        1 => head: Bytes,
        /// [`DirectoryPiece`]s, in any order.
        2 => pieces: Vec<Bytes>,
    }
}

super::payload_types! {
    AuthorityCertificate = "handover/authority-certificate/1",
    HospitalCertificate = "handover/hospital-certificate/1",
    HospitalProfile = "handover/hospital-profile/1",
    EndpointCertificate = "handover/endpoint-certificate/1",
    EnrolmentRequest = "handover/enrolment-request/1",
    EnrolmentProof = "handover/enrolment-proof/1",
    CertificateRequest = "handover/certificate-request/1",
    StatusOrder = "handover/status-order/1",
    FeeSchedule = "handover/fee-schedule/1",
    Directory = "handover/directory/1",
}

/// What two operators order together, at a time when both were in office.
pub trait Order: super::Payload {
    /// When the first operator signed.
    fn issued(&self) -> Timestamp;
}

impl Order for StatusOrder {
    fn issued(&self) -> Timestamp {
        self.issued
    }
}

impl Order for FeeSchedule {
    fn issued(&self) -> Timestamp {
        self.issued
    }
}

/// The most keys that a hospital replaces.
pub const FORMER_KEYS_MAX: usize = 32;

/// How long a directory holds, in milliseconds.
pub const DIRECTORY_LIFE_MS: i64 = 72 * crate::time::HOUR_MS;

/// The most pieces of a directory.
pub const PIECES_MAX: usize = 2_048;

/// How many hospitals a piece has at most, on average. A change costs the head, 34 bytes for each piece, and one piece,
/// some 1.4 KiB for each hospital in it: for 10,000 hospitals their sum is least at pieces of 8 to 16.
pub const PIECE_ENTRIES_MEAN_MAX: usize = 16;

/// The most hospitals in one piece. Identifiers fall into pieces by a hash, so honest ones stay far below.
pub const PIECE_ENTRIES_MAX: usize = 64;

/// The most bytes of a piece: it travels as one item of a message.
pub const PIECE_MAX_BYTES: usize = 512 * 1024;

/// The most bytes of a directory's head and pieces together: a store takes them in one transaction.
pub const DIRECTORY_MAX_BYTES: usize = 28 * 1024 * 1024;

impl FeeSchedule {
    /// The rate of a fee that `payer` owes, in basis points: none for a patient who may not be charged.
    #[must_use]
    pub const fn rate_for(&self, payer: Payer) -> u32 {
        match payer {
            Payer::Patient if !self.patient_pays => 0,
            Payer::Patient | Payer::Hospital => self.rate_bps,
        }
    }

    /// The preset *percentage*: 5 % of the priced tests in scope, seven days of silence.
    #[must_use]
    pub fn percentage(valid_from: Timestamp) -> Self {
        Self {
            jurisdiction: "*".to_owned(),
            number: 1,
            rate_bps: 500,
            basis: FeeBasis::TestsInScope,
            patient_pays: true,
            silence_ms: 7 * crate::time::DAY_MS,
            valid_from,
            issued: valid_from,
            extensions: Extensions::default(),
        }
    }

    /// The preset *patient pays nothing*: as [`Self::percentage`], but where the patient would owe the fee there is none.
    #[must_use]
    pub fn patient_pays_nothing(valid_from: Timestamp) -> Self {
        Self { patient_pays: false, ..Self::percentage(valid_from) }
    }

    /// The preset *no fee*.
    #[must_use]
    pub fn no_fee(valid_from: Timestamp) -> Self {
        Self { rate_bps: 0, ..Self::patient_pays_nothing(valid_from) }
    }
}

/// A status order as it stands in a directory, not yet verified.
pub type ClaimedStatusOrder = Countersigned<StatusOrder>;
/// A directory as received, not yet verified.
pub type ClaimedDirectory = Signed<Directory>;

/// How many pieces so many hospitals need; none if they are more than [`PIECES_MAX`] hold.
#[must_use]
pub fn pieces_for(hospitals: usize) -> Option<usize> {
    let pieces = hospitals.div_ceil(PIECE_ENTRIES_MEAN_MAX).max(1).checked_next_power_of_two()?;
    (pieces <= PIECES_MAX).then_some(pieces)
}

/// The place of a hospital among so many pieces, a power of two: its identifier's SHA-256 begins with that number.
#[must_use]
pub fn place_of(hospital: &HospitalId, pieces: usize) -> usize {
    let digest = Digest::sha256(&[hospital.as_str().as_bytes()]);
    let first = digest.as_bytes().first_chunk().map_or(0, |first| u32::from_be_bytes(*first));
    // Of none and of one piece it is the first.
    let bits = pieces.checked_ilog2().unwrap_or(0);
    first.checked_shr(u32::BITS.saturating_sub(bits)).map_or(0, |place| place as usize)
}

impl DirectoryPiece {
    /// Reads a piece, whose bytes are compared with a digest elsewhere.
    ///
    /// # Errors
    /// [`DecodeError`]; over [`PIECE_MAX_BYTES`] nothing is decoded.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let piece: Self = codec::decode(bytes, PIECE_MAX_BYTES)?;
        if piece.hospitals.len() > PIECE_ENTRIES_MAX {
            return Err(DecodeError::value("more hospitals in a piece than one has"));
        }
        Ok(piece)
    }
}
