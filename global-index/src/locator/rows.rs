//! What this room stores.

use handover_core::codec::Bytes;
use handover_core::{Digest, HospitalId, PatientRef, Timestamp, cbor_map};

cbor_map! {
    /// A patient is a patient of a hospital.
    pub struct Link {
        /// The hospital.
        1 => hospital: HospitalId,
        /// When the patient signed.
        2 => linked: Timestamp,
        /// The `PatientLink`, countersigned.
        3 => envelope: Bytes,
    }
}

cbor_map! {
    /// The first answer to a nonce.
    pub struct Answered {
        /// Hash of the question.
        1 => ask: Digest,
        /// The sealed answer.
        2 => answer: Bytes,
    }
}

cbor_map! {
    /// A hospital is to be told of a patient's newest keys.
    pub struct KeysFor {
        /// Whose.
        1 => patient: PatientRef,
        /// The newest when it was put here.
        2 => newest: Digest,
    }
}
