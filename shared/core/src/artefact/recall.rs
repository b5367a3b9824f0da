//! The artefacts of a recall: what a source sent was wrong, and the destination has marked it.
//!
//! A recall passes by the index, which learns that there is one and what fee is given back. Which records it is about
//! and why stands in [`RecallDetails`], sealed to the destination.

use super::transfer::OtherTests;
use crate::codec::{self, Bytes};
use crate::id::{Digest, HospitalId, TransferId};
use crate::{Amount, Timestamp, cbor_enum, cbor_map};

cbor_enum! {
    /// Why a record is recalled, from the least to the gravest.
    pub enum RecallReason {
        /// A newer version was recorded since: what was sent is not the last word.
        Amended = 1, "amended";
        /// It should not stand at all: entered in error, or cancelled.
        Retracted = 2, "retracted";
        /// It is of another patient.
        WrongPatient = 3, "wrong-patient";
    }
}

impl RecallReason {
    /// Whether a test that is recalled for it is charged nonetheless: one whose report was amended was done.
    #[must_use]
    pub const fn keeps_fee(self) -> bool {
        matches!(self, Self::Amended)
    }
}

cbor_map! {
    /// Records of one package were wrong. Signed by the source; the destination marks them and keeps them.
    pub struct Recall {
        /// The transfer.
        1 => transfer: TransferId,
        /// Counts from 1 in each transfer.
        2 => number: u32,
        /// Hash of the header under which they were sent.
        3 => header: Digest,
        /// [`RecallDetails::commitment`].
        4 => commitment: Digest,
        /// What is given back of the fee; can be zero.
        5 => fee_back: Amount,
        /// [`RecallDetails`], sealed to the destination.
        6 => sealed: Bytes,
        /// When.
        7 => issued: Timestamp,
    }
}

cbor_map! {
    /// What only the destination may read of a recall.
    pub struct RecallDetails {
        /// Why.
        1 => reason: RecallReason,
        /// Which records; each once. None if it is about other tests only.
        2 => records: Vec<RecalledRecord>,
        /// Makes the commitment say nothing.
        3 => salt: [u8; 16],
        /// Tests that were not sent and counted for the fee ([`QuoteBody::other_tests`](super::transfer::QuoteBody)):
        /// how many of them were wrong, and their sum.
        4 => other_tests: Option<OtherTests>,
    }
}

cbor_map! {
    /// A record as the package named it.
    pub struct RecalledRecord {
        /// The hospital where it was first recorded.
        1 => origin: HospitalId,
        /// FHIR resource type.
        2 => resource_type: String,
        /// FHIR logical id.
        3 => resource_id: String,
        /// SHA-256 of the minified JSON that was sent.
        4 => content_hash: Digest,
        /// When the newer version was recorded, if there is one.
        5 => replaced: Option<Timestamp>,
    }
}

impl RecallDetails {
    /// SHA-256 over the encoded details, salt included.
    #[must_use]
    pub fn commitment(&self) -> Digest {
        Digest::sha256(&[b"handover/1/recall", &codec::encode(self)])
    }
}

cbor_map! {
    /// What was recalled is marked here. Signed by the destination.
    pub struct RecallConfirmed {
        /// The transfer.
        1 => transfer: TransferId,
        /// The recall's number.
        2 => number: u32,
        /// Hash of the recall.
        3 => recall: Digest,
        /// Since when whoever reads the records here sees it.
        4 => since: Timestamp,
        /// What has to be given back of the fee as the destination computes it from the lines; absent if it has
        /// forgotten the patient.
        5 => fee_back: Option<Amount>,
    }
}

super::payload_types! {
    Recall = "handover/recall/1",
    RecallConfirmed = "handover/recall-confirmed/1",
}

/// The most recalls of one transfer.
pub const RECALLS_MAX: u32 = 1_000;
/// The most records of one recall: with the longest names they still fit an artefact that travels.
pub const RECALL_MAX_RECORDS: usize = 1_000;
