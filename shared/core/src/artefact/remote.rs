//! Remote links: the old hospital never linked the patient, so the new one vouches for who asks, and a clerk at the old
//! one confirms by a code to the contact on file.

use crate::codec::Bytes;
use crate::id::{Digest, HospitalId, PatientRef, RemoteLinkId};
use crate::time::DAY_MS;
use crate::{Code, Timestamp, cbor_enum, cbor_map};

cbor_enum! {
    /// How far a remote link is.
    pub enum RemoteLinkState {
        /// At the desk of the hospital that is to vouch.
        Waiting = 1, "waiting";
        /// Vouched for, and on its way to the old hospital.
        Vouched = 2, "vouched";
        /// At the old hospital's desk.
        Asked = 3, "asked";
        /// Confirmed there: a code goes to the contact on file.
        Confirmed = 4, "confirmed";
        /// The patient proved the code and is linked.
        Linked = 5, "linked";
        /// Somebody said no.
        Refused = 6, "refused";
    }
}

cbor_map! {
    /// Who the patient says to be at the old hospital. Only the two hospitals read it.
    pub struct RemoteLinkDetails {
        /// The old hospital's number for them, as they know it.
        1 => record_number: String,
        /// Their name.
        2 => name: String,
        /// When they were born, YYYY-MM-DD.
        3 => birth_date: String,
        /// Makes the hash of these details say nothing.
        4 => salt: [u8; 16],
    }
}

cbor_map! {
    /// A patient asks a hospital that knows them by that number only for a link. Signed by the patient, then by the
    /// hospital that vouches: it has checked that who asks is who the details name.
    pub struct RemoteLinkRequest {
        /// Chosen by the patient; never used twice.
        1 => id: RemoteLinkId,
        /// Who asks.
        2 => patient: PatientRef,
        /// The key records, whole, the first to the newest; the newest key signs this.
        3 => key_records: Vec<Bytes>,
        /// The old hospital, which is to link them.
        4 => hospital: HospitalId,
        /// The hospital that vouches, where they are linked.
        5 => vouching: HospitalId,
        /// SHA-256 of the encoded `RemoteLinkDetails`: both hospitals see the same.
        6 => details: Digest,
        /// The details, sealed to the old hospital.
        7 => sealed_to_hospital: Bytes,
        /// The details, sealed to the one that vouches.
        8 => sealed_to_vouching: Bytes,
        /// When.
        9 => issued: Timestamp,
        /// Until when it can be vouched for and confirmed.
        10 => expires: Timestamp,
    }
}

cbor_map! {
    /// What the old hospital says to a request. Says nothing of its records.
    pub struct RemoteLinkAnswer {
        /// Which request.
        1 => id: RemoteLinkId,
        /// Its hash.
        2 => request: Digest,
        /// Who answers.
        3 => hospital: HospitalId,
        /// Confirmed, linked or refused.
        4 => state: RemoteLinkState,
        /// Why not.
        5 => reason: Option<Code>,
        /// When.
        6 => issued: Timestamp,
    }
}

cbor_map! {
    /// How a request stands, as the hospital that vouches tells the wallet.
    pub struct RemoteLinkStatus {
        /// How far it is.
        1 => state: RemoteLinkState,
        /// Why not, if somebody said no.
        2 => reason: Option<Code>,
        /// `RemoteLinkAnswer`, if the old hospital gave one.
        3 => answer: Option<Bytes>,
    }
}

super::payload_types! {
    RemoteLinkRequest = "handover/remote-link-request/1",
    RemoteLinkAnswer = "handover/remote-link-answer/1",
}

/// How long a request is good, in milliseconds.
pub const REMOTE_LINK_LIFE_MS: i64 = 14 * DAY_MS;
/// The most characters of a record number.
pub const RECORD_NUMBER_MAX_CHARS: usize = 128;
/// The most characters of a name.
pub const NAME_MAX_CHARS: usize = 200;

impl RemoteLinkDetails {
    /// Whether a desk can show them: they go to a terminal.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        let is_text = |text: &str, most: usize| {
            (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control)
        };
        is_text(&self.record_number, RECORD_NUMBER_MAX_CHARS)
            && is_text(&self.name, NAME_MAX_CHARS)
            && is_day(&self.birth_date)
    }
}

/// YYYY-MM-DD; whether there is such a day, people see.
pub(super) fn is_day(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}
