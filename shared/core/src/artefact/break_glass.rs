//! Break-glass: in an emergency a certified clinician reads a part of a patient's records without the patient.
//!
//! Clinician and hospital sign what is asked, so a stolen clinician's key alone opens nothing, and neither does the
//! hospital alone. Why and whom is sealed to the two hospitals. The index sees [`BreakGlassNote`] only.

use std::ops::RangeInclusive;

use crate::codec::Bytes;
use crate::id::{BreakGlassId, Digest, HospitalId, PatientRef, SigningPublic};
use crate::time::{DAY_MS, HOUR_MS};
use crate::{Code, Timestamp, cbor_enum, cbor_map};

cbor_enum! {
    /// Why, as HL7 v3 PurposeOfUse has it.
    pub enum EmergencyPurpose {
        /// Emergency treatment.
        EmergencyTreatment = 1, "ETREAT";
        /// Break the glass: access that policy would refuse, for a reason that is told.
        BreakTheGlass = 2, "BTG";
    }
}

cbor_enum! {
    /// How much is given out.
    pub enum EmergencyScope {
        /// Allergies, medication, problems, and who the patient is.
        Subset = 1, "subset";
        /// All records, after a second clinician signed.
        Everything = 2, "everything";
    }
}

cbor_enum! {
    /// What a review came to.
    pub enum ReviewVerdict {
        /// There was an emergency.
        Justified = 1, "justified";
        /// There was none.
        NotJustified = 2, "not-justified";
    }
}

cbor_enum! {
    /// Administrative gender (HL7 FHIR R4).
    pub enum Sex {
        /// Male.
        Male = 1, "male";
        /// Female.
        Female = 2, "female";
        /// Other.
        Other = 3, "other";
        /// Not known.
        Unknown = 4, "unknown";
    }
}

cbor_map! {
    /// A clinician may break the glass for a hospital. Signed by the hospital.
    pub struct ClinicianCertificate {
        /// For whom they act.
        1 => hospital: HospitalId,
        /// The clinician's key.
        2 => key: SigningPublic,
        /// Who they are; the patient reads it.
        3 => name: String,
        /// What they are, for example "emergency physician".
        4 => role: String,
        /// Counts up at the hospital; it is withdrawn by this.
        5 => number: u64,
        /// Valid from.
        6 => not_before: Timestamp,
        /// Valid until (exclusive); at most a year later.
        7 => not_after: Timestamp,
    }
}

cbor_map! {
    /// Who is looked for where no reference is known.
    pub struct Demographics {
        /// Family name.
        1 => family: String,
        /// Given name.
        2 => given: String,
        /// YYYY-MM-DD.
        3 => birth_date: String,
        /// If known.
        4 => sex: Option<Sex>,
        /// The source's own number for the patient, if known.
        5 => record_number: Option<String>,
    }
}

cbor_map! {
    /// Why, and whom. Only the two hospitals read it.
    pub struct BreakGlassDetails {
        /// Why, as a code.
        1 => purpose: EmergencyPurpose,
        /// Why, in words.
        2 => reason: String,
        /// Whom, where no reference is known.
        3 => demographics: Option<Demographics>,
        /// Makes the hash of these details say nothing.
        4 => salt: [u8; 16],
    }
}

cbor_map! {
    /// A clinician asks a hospital for a patient's emergency subset. Signed by the clinician, then by their hospital.
    pub struct BreakGlass {
        /// Chosen by the clinician; never used twice.
        1 => id: BreakGlassId,
        /// For whom the clinician acts.
        2 => requesting: HospitalId,
        /// Who is asked; absent: the index, who holds the patient's records.
        3 => source: Option<HospitalId>,
        /// Whom, where the reference is known.
        4 => patient: Option<PatientRef>,
        /// [`ClinicianCertificate`].
        5 => certificate: Bytes,
        /// When.
        6 => issued: Timestamp,
        /// Until when what comes may be read (exclusive).
        7 => until: Timestamp,
        /// SHA-256 of the encoded [`BreakGlassDetails`]: both hospitals see the same.
        8 => details: Digest,
        /// The details, sealed to the source.
        9 => sealed_to_source: Option<Bytes>,
        /// The details, sealed to the clinician's own hospital.
        10 => sealed_to_requesting: Bytes,
    }
}

cbor_map! {
    /// A second clinician of the same hospital asks for everything. Signed by them, then by the hospital.
    pub struct BreakGlassMore {
        /// Which.
        1 => id: BreakGlassId,
        /// Hash of the [`BreakGlass`].
        2 => break_glass: Digest,
        /// [`ClinicianCertificate`] of another clinician.
        3 => certificate: Bytes,
        /// When.
        4 => issued: Timestamp,
    }
}

cbor_map! {
    /// What the source gives out, or why it gives nothing. Signed by the source.
    pub struct BreakGlassAnswer {
        /// Which.
        1 => id: BreakGlassId,
        /// Hash of the [`BreakGlass`] or [`BreakGlassMore`] that it answers.
        2 => asked: Digest,
        /// Who answers.
        3 => source: HospitalId,
        /// How much it is.
        4 => scope: EmergencyScope,
        /// What opens the pieces; absent: it is refused.
        5 => given: Option<GivenOut>,
        /// Why nothing is given out.
        6 => reason: Option<Code>,
        /// The asking hospital's break-glasses whose reviews are overdue here.
        7 => overdue: Vec<BreakGlassId>,
        /// When.
        8 => issued: Timestamp,
    }
}

cbor_map! {
    /// Sealed content in pieces, and the share that opens it.
    pub struct GivenOut {
        /// Thumbprint of the RSA key that the share is wrapped to.
        1 => key: Digest,
        /// The hospital's share, wrapped (RSAES-OAEP, SHA-256).
        2 => share: Bytes,
        /// Commitment to the content key.
        3 => commitment: [u8; 32],
        /// SHA-256 of each piece, in order.
        4 => pieces: Vec<Digest>,
    }
}

cbor_map! {
    /// How the asking hospital judges it. Signed by that hospital.
    pub struct BreakGlassReview {
        /// Which.
        1 => id: BreakGlassId,
        /// Hash of the [`BreakGlass`].
        2 => break_glass: Digest,
        /// Who judges.
        3 => hospital: HospitalId,
        /// Whether there was an emergency.
        4 => verdict: ReviewVerdict,
        /// [`ReviewDetails`], sealed to the source.
        5 => sealed_to_source: Bytes,
        /// When.
        6 => issued: Timestamp,
    }
}

cbor_map! {
    /// Who reviewed, and what they say. Only the two hospitals read it.
    pub struct ReviewDetails {
        /// By name.
        1 => by: String,
        /// In words.
        2 => note: Option<String>,
    }
}

cbor_map! {
    /// All that the index is told: that there was one. Signed by the hospital that tells it.
    pub struct BreakGlassNote {
        /// Which.
        1 => id: BreakGlassId,
        /// Hash of the [`BreakGlass`].
        2 => break_glass: Digest,
        /// Who asks.
        3 => requesting: HospitalId,
        /// Who is asked; absent: the index, who holds the patient's records.
        4 => source: Option<HospitalId>,
        /// Whom, where the reference is known.
        5 => patient: Option<PatientRef>,
        /// When.
        6 => issued: Timestamp,
    }
}

cbor_map! {
    /// A clinician reads at their own hospital what came. Signed by the clinician; travels nowhere.
    pub struct BreakGlassReading {
        /// Which.
        1 => id: BreakGlassId,
        /// [`ClinicianCertificate`].
        2 => certificate: Bytes,
        /// When; good for some minutes.
        3 => issued: Timestamp,
    }
}

super::payload_types! {
    ClinicianCertificate = "handover/clinician-certificate/1",
    BreakGlass = "handover/break-glass/1",
    BreakGlassMore = "handover/break-glass-more/1",
    BreakGlassAnswer = "handover/break-glass-answer/1",
    BreakGlassReview = "handover/break-glass-review/1",
    BreakGlassNote = "handover/break-glass-note/1",
    BreakGlassReading = "handover/break-glass-reading/1",
}

/// The longest that a clinician's certificate lasts, in milliseconds.
pub const CLINICIAN_MAX_LIFE_MS: i64 = 366 * DAY_MS;
/// The longest window, in milliseconds.
pub const WINDOW_MAX_MS: i64 = 24 * HOUR_MS;
/// Within how long a break-glass is reviewed, in milliseconds.
pub const REVIEW_WITHIN_MS: i64 = 7 * DAY_MS;
/// The most bytes of one piece.
pub const PIECE_MAX_BYTES: usize = 512 * 1024;
/// The most pieces of one answer.
pub const PIECES_MAX: usize = 32;
/// The most characters of a name or role.
pub const NAME_MAX_CHARS: usize = 200;
/// The most characters of a reason or note.
pub const REASON_MAX_CHARS: usize = 1_000;

/// Characters that are not seen, or that turn what is around them: general category Cf, and separators of lines. With
/// them two names look like one.
const UNSEEN: [RangeInclusive<char>; 21] = [
    '\u{ad}'..='\u{ad}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{2064}',
    '\u{2066}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0001}'..='\u{e0001}',
    '\u{e0020}'..='\u{e007f}',
];

fn is_text(text: &str, most: usize) -> bool {
    let is_unseen = |each: char| each.is_control() || UNSEEN.iter().any(|range| range.contains(&each));
    (1..=most).contains(&text.chars().count()) && !text.chars().any(is_unseen)
}

impl ClinicianCertificate {
    /// Whether people can read it: it goes to terminals.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        is_text(&self.name, NAME_MAX_CHARS) && is_text(&self.role, NAME_MAX_CHARS)
    }
}

impl BreakGlassDetails {
    /// Whether a desk can show them: they go to a terminal.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        let who = self.demographics.as_ref().is_none_or(|who| {
            let number = who.record_number.as_deref();
            is_text(&who.family, NAME_MAX_CHARS)
                && is_text(&who.given, NAME_MAX_CHARS)
                && super::remote::is_day(&who.birth_date)
                && number.is_none_or(|number| is_text(number, NAME_MAX_CHARS))
        });
        is_text(&self.reason, REASON_MAX_CHARS) && who
    }
}

impl ReviewDetails {
    /// Whether a desk can show them: they go to a terminal.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        is_text(&self.by, NAME_MAX_CHARS)
            && self.note.as_deref().is_none_or(|note| is_text(note, REASON_MAX_CHARS))
    }
}
