//! What this room stores.

use handover_core::artefact::federation::Status;
use handover_core::codec::Bytes;
use handover_core::id::SigningPublic;
use handover_core::{Digest, HospitalId, Timestamp, cbor_map};

cbor_map! {
    /// An enrolment whose challenge is not answered yet.
    pub struct Challenge {
        /// The `EnrolmentRequest`.
        1 => request: Bytes,
        /// The `CertificateRequest` that came with it.
        2 => certificate_request: Bytes,
        /// SHA-256 of the secret.
        3 => answer: Digest,
        /// The secret, wrapped to the RSA key: the first answer, given again when asked again.
        4 => wrapped: Bytes,
        /// When.
        5 => at: Timestamp,
    }
}

cbor_map! {
    /// A hospital that proved both its keys.
    pub struct Hospital {
        /// Its identifier.
        1 => hospital: HospitalId,
        /// Its name for people.
        2 => name: String,
        /// Its signing key.
        3 => key: SigningPublic,
        /// Hash of the enrolment request that was proved last.
        4 => request: Digest,
        /// Its `CertificateRequest`, for the root.
        5 => certificate_request: Bytes,
        /// Its newest `HospitalProfile`.
        6 => profile: Bytes,
        /// That profile's number.
        7 => profile_number: u64,
        /// SHA-256 of the RSA key that it proved to hold.
        8 => rsa_key: Digest,
        /// The root's certificate.
        9 => certificate: Option<Bytes>,
        /// The newest `StatusOrder`, countersigned.
        10 => order: Option<Bytes>,
        /// What that order says.
        11 => status: Option<Status>,
        /// That order's number; 0 before the first.
        12 => number: u64,
        /// An order that one operator signed and that waits for another.
        13 => pending: Option<Bytes>,
        /// When it proved its keys first.
        14 => since: Timestamp,
        /// The root's certificates of the keys that it had before, the oldest first.
        15 => former: Option<Vec<Bytes>>,
    }
}

cbor_map! {
    /// A key that the root has certified before it enrolled.
    pub struct Expected {
        /// The root's certificate.
        1 => certificate: Bytes,
    }
}

cbor_map! {
    /// An operator.
    pub struct Operator {
        /// The root's certificate.
        1 => certificate: Bytes,
    }
}

cbor_map! {
    /// A fee schedule, signed by one or two operators.
    pub struct Schedule {
        /// The envelope.
        1 => envelope: Bytes,
    }
}
