//! What stands in the store: rows, their one version byte, and the keys they stand under.
//!
//! Every value is a cell of the store (encrypted, bound to its key); a record's content and key are sealed again
//! under the record's and the department's key. Keys hold keyed hashes and numbers only.

use handover_core::codec::{self, Bytes, CborMap, Extensions};
use handover_core::{
    BreakGlassId, ContentRoot, Department, Digest, HospitalId, PatientRef, Timestamp, TransferId, cbor_map,
};
use handover_store::{KeyMaker, Txn, VALUE_MAX_BYTES};

use crate::RecordsError;
use crate::access::{Action, Purpose};
use crate::model::{FileFacts, LocalPatient, Origin, RecordId, RecordRef, RecordSummary, RequestId};

/// The version byte before every row.
const ROW_FORMAT: u8 = 1;

cbor_map! {
    /// A patient.
    pub struct PatientRow {
        /// The hospital's identifier.
        1 => patient: String,
        /// First seen.
        2 => since: Timestamp,
    }
}

cbor_map! {
    /// A patient who is being forgotten: what is left of them is swept. Goes last.
    pub struct ForgettingRow {
        /// The hospital's identifier.
        1 => patient: String,
    }
}

cbor_map! {
    /// A version without content.
    pub struct SummaryRow {
        1 => record: [u8; 16],
        2 => version: u32,
        3 => patient: String,
        4 => department: Department,
        5 => resource_type: String,
        6 => resource_id: String,
        7 => content_hash: Digest,
        8 => date: Option<Timestamp>,
        9 => plain_bytes: u64,
        10 => source: Option<HospitalId>,
        11 => origin: Option<HospitalId>,
        12 => transfer: Option<TransferId>,
        13 => filed: Timestamp,
        14 => is_restricted: bool,
        /// Of a file: its media type and name.
        15 => media_type: Option<String>,
        16 => file_name: Option<String>,
    }
}

cbor_map! {
    /// A version without content, sealed under its patient's key.
    pub struct SealedSummaryRow {
        1 => record: [u8; 16],
        2 => version: u32,
        3 => patient: String,
        /// A [`SummaryRow`].
        4 => sealed: Bytes,
    }
}

cbor_map! {
    /// A record: its newest version's number and its current version.
    pub struct HeadRow {
        1 => last: u32,
        2 => current: SealedSummaryRow,
    }
}

cbor_map! {
    /// Sealed content: in the row, or a blob by root and length.
    pub struct ContentRow {
        /// The content's key, sealed.
        1 => wrapped_key: Bytes,
        /// The content, sealed.
        2 => inline: Option<Bytes>,
        3 => root: Option<ContentRoot>,
        4 => length: Option<u64>,
    }
}

cbor_map! {
    /// A version with its content.
    pub struct VersionRow {
        1 => summary: SealedSummaryRow,
        2 => content: ContentRow,
    }
}

cbor_map! {
    /// The number of the version with some content hash and department.
    pub struct SeenRow {
        1 => version: u32,
    }
}

cbor_map! {
    /// A department's key, sealed under the hospital's.
    pub struct DepartmentRow {
        1 => department: Department,
        2 => wrapped_key: Bytes,
    }
}

cbor_map! {
    /// Opens only under the hospital key that the records are stored under.
    pub struct KeyCheckRow {
        1 => sealed: Bytes,
    }
}

cbor_map! {
    /// A link between a patient in the federation and one here.
    pub struct LinkRow {
        1 => patient_ref: PatientRef,
        2 => patient: String,
        3 => since: Timestamp,
    }
}

cbor_map! {
    /// A link code that was given out.
    pub struct LinkCodeRow {
        /// Keyed hash of the whole code.
        1 => code: [u8; 32],
        2 => patient: String,
        3 => expires: Timestamp,
        4 => wrong_tries: u8,
        5 => used_by: Option<PatientRef>,
    }
}

cbor_map! {
    /// A request for a link code, which follows from it.
    pub struct CodeRequestRow {
        /// Keyed hash of the patient's identifier.
        1 => patient: [u8; 32],
        /// Which draw of the request the code is.
        2 => draw: u64,
    }
}

cbor_map! {
    /// Input that could not be read.
    pub struct AsideRow {
        1 => id: [u8; 16],
        2 => file: String,
        3 => entry: String,
        4 => reason: String,
        5 => bytes: u64,
        6 => since: Timestamp,
        7 => content: ContentRow,
    }
}

cbor_map! {
    /// An audit line.
    pub struct AuditRow {
        1 => number: u64,
        2 => at: Timestamp,
        /// `staff`, `system`, `patient` or `hospital`.
        3 => subject_kind: String,
        4 => subject: String,
        5 => action: Action,
        6 => purpose: Purpose,
        /// Keyed hash of the patient.
        7 => patient: Option<Digest>,
        /// Absent: all.
        8 => departments: Option<Vec<Department>>,
        9 => transfer: Option<TransferId>,
        /// Whether a permit was given.
        10 => granted: bool,
        /// Hash of the line before; zeros before the first.
        11 => previous: Digest,
        12 => break_glass: Option<BreakGlassId>,
    }
}

cbor_map! {
    /// The newest audit line.
    pub struct AuditHeadRow {
        1 => number: u64,
        2 => hash: Digest,
    }
}

impl SummaryRow {
    pub(crate) fn new(summary: &RecordSummary) -> Self {
        let (source, origin, transfer) = match &summary.origin {
            Origin::Local => (None, None, None),
            Origin::Received { source, origin, transfer } => {
                (Some(source.clone()), Some(origin.clone()), Some(*transfer))
            }
        };
        Self {
            record: summary.reference.record.0,
            version: summary.reference.version,
            patient: summary.patient.as_str().to_owned(),
            department: summary.department.clone(),
            resource_type: summary.resource_type.clone(),
            resource_id: summary.resource_id.clone(),
            content_hash: summary.content_hash,
            date: summary.date,
            plain_bytes: summary.bytes,
            source,
            origin,
            transfer,
            filed: summary.filed,
            is_restricted: summary.is_restricted,
            media_type: summary.file.as_ref().map(|file| file.media_type.clone()),
            file_name: summary.file.as_ref().map(|file| file.name.clone()),
            extensions: Extensions::default(),
        }
    }

    pub(crate) fn summary(self) -> Result<RecordSummary, RecordsError> {
        let damaged = || RecordsError::Damaged { what: "record" };
        let origin = match (self.source, self.origin, self.transfer) {
            (None, None, None) => Origin::Local,
            (Some(source), Some(origin), Some(transfer)) => Origin::Received { source, origin, transfer },
            _ => return Err(damaged()),
        };
        let file = match (self.media_type, self.file_name) {
            (None, None) => None,
            (Some(media_type), Some(name)) => Some(FileFacts { media_type, name }),
            _ => return Err(damaged()),
        };
        Ok(RecordSummary {
            reference: RecordRef { record: RecordId(self.record), version: self.version },
            patient: self.patient.parse().map_err(|_| damaged())?,
            department: self.department,
            resource_type: self.resource_type,
            resource_id: self.resource_id,
            content_hash: self.content_hash,
            date: self.date,
            is_restricted: self.is_restricted,
            file,
            bytes: self.plain_bytes,
            origin,
            filed: self.filed,
            // It stands in a row of its own.
            mark: None,
        })
    }
}

/// A row as it is stored.
pub(crate) fn to_bytes<T: CborMap>(row: &T) -> Vec<u8> {
    let mut bytes = vec![ROW_FORMAT];
    bytes.extend(codec::encode(row));
    bytes
}

/// A row from what is stored.
pub(crate) fn from_bytes<T: CborMap>(bytes: &[u8], what: &'static str) -> Result<T, RecordsError> {
    match bytes.split_first() {
        Some((&ROW_FORMAT, row)) => {
            codec::decode(row, VALUE_MAX_BYTES).map_err(RecordsError::undecodable(what))
        }
        Some((&found, _)) => Err(RecordsError::UnknownFormat { what, found }),
        None => Err(RecordsError::Damaged { what }),
    }
}

/// The row under a key.
pub(crate) fn get<T: CborMap>(
    txn: &mut dyn Txn,
    key: &[u8],
    what: &'static str,
) -> Result<Option<T>, RecordsError> {
    txn.get(key)?.map(|bytes| from_bytes(&bytes, what)).transpose()
}

/// Puts a row under a key.
pub(crate) fn put<T: CborMap>(txn: &mut dyn Txn, key: &[u8], row: &T) -> Result<(), RecordsError> {
    Ok(txn.put(key, to_bytes(row))?)
}

/// Where each row stands.
#[derive(Clone)]
pub(crate) struct Places(pub(crate) KeyMaker);

impl Places {
    pub(crate) fn key_check(&self) -> Vec<u8> {
        self.0.space("records.key-check").build()
    }

    pub(crate) fn department(&self, department: &Department) -> Vec<u8> {
        self.0.space("records.department").hashed(department.as_str()).build()
    }

    pub(crate) fn patients(&self) -> Vec<u8> {
        self.0.space("records.patient").build()
    }

    pub(crate) fn patient(&self, patient: &LocalPatient) -> Vec<u8> {
        self.0.space("records.patient").hashed(patient.as_str()).build()
    }

    /// All patients who are being forgotten.
    pub(crate) fn forgettings(&self) -> Vec<u8> {
        self.0.space("records.forgetting").build()
    }

    pub(crate) fn forgetting(&self, patient: &LocalPatient) -> Vec<u8> {
        self.0.space("records.forgetting").hashed(patient.as_str()).build()
    }

    /// Whose records name a blob.
    pub(crate) fn blob_users(&self, root: &ContentRoot) -> Vec<u8> {
        self.0.space("records.blob").hashed(root.as_bytes()).build()
    }

    pub(crate) fn blob_user(&self, root: &ContentRoot, patient: &LocalPatient) -> Vec<u8> {
        self.0.space("records.blob").hashed(root.as_bytes()).hashed(patient.as_str()).build()
    }

    /// All records of a patient.
    pub(crate) fn heads(&self, patient: &LocalPatient) -> Vec<u8> {
        self.0.space("records.head").hashed(patient.as_str()).build()
    }

    /// All records.
    pub(crate) fn all_heads(&self) -> Vec<u8> {
        self.0.space("records.head").build()
    }

    pub(crate) fn head(&self, patient: &LocalPatient, record: RecordId) -> Vec<u8> {
        self.0.space("records.head").hashed(patient.as_str()).hashed(record.0).build()
    }

    /// All versions of a patient's records.
    pub(crate) fn versions(&self, patient: &LocalPatient) -> Vec<u8> {
        self.0.space("records.version").hashed(patient.as_str()).build()
    }

    /// All versions.
    pub(crate) fn all_versions(&self) -> Vec<u8> {
        self.0.space("records.version").build()
    }

    pub(crate) fn version(&self, patient: &LocalPatient, at: RecordRef) -> Vec<u8> {
        let versions = self.0.space("records.version").hashed(patient.as_str());
        versions.hashed(at.record.0).u64(u64::from(at.version)).build()
    }

    /// All marks of a record.
    pub(crate) fn all_seen(&self, record: RecordId) -> Vec<u8> {
        self.0.space("records.seen").hashed(record.0).build()
    }

    pub(crate) fn seen(
        &self,
        record: RecordId,
        (hash, department, is_restricted): &(Digest, Department, bool),
    ) -> Vec<u8> {
        let seen = self.0.space("records.seen").hashed(record.0);
        let label = [u8::from(*is_restricted)];
        seen.hashed([hash.as_bytes(), label.as_slice(), department.as_str().as_bytes()].concat()).build()
    }

    /// All patients whom a word finds.
    pub(crate) fn found_by(&self, word: &str) -> Vec<u8> {
        self.0.space("records.found").hashed(word).build()
    }

    pub(crate) fn found(&self, word: &str, patient: &LocalPatient) -> Vec<u8> {
        self.0.space("records.found").hashed(word).hashed(patient.as_str()).build()
    }

    /// All words that find a patient.
    pub(crate) fn finders_of(&self, patient: &LocalPatient) -> Vec<u8> {
        self.0.space("records.found-of").hashed(patient.as_str()).build()
    }

    pub(crate) fn finder_of(&self, patient: &LocalPatient, word: &str) -> Vec<u8> {
        self.0.space("records.found-of").hashed(patient.as_str()).hashed(word).build()
    }

    pub(crate) fn link(&self, patient: &PatientRef) -> Vec<u8> {
        self.0.space("records.link").hashed(patient.as_bytes()).build()
    }

    /// All links of a patient.
    pub(crate) fn links_of(&self, patient: &LocalPatient) -> Vec<u8> {
        self.0.space("records.link-of").hashed(patient.as_str()).build()
    }

    pub(crate) fn link_of(&self, patient: &LocalPatient, linked: &PatientRef) -> Vec<u8> {
        self.0.space("records.link-of").hashed(patient.as_str()).hashed(linked.as_bytes()).build()
    }

    /// Whether a patient was linked once whose link was taken away.
    pub(crate) fn was_linked(&self, patient: &LocalPatient) -> Vec<u8> {
        self.0.space("records.was-linked").hashed(patient.as_str()).build()
    }

    pub(crate) fn link_codes(&self) -> Vec<u8> {
        self.0.space("records.link-code").build()
    }

    /// `handle` is the first half of the code.
    pub(crate) fn link_code(&self, handle: &str) -> Vec<u8> {
        self.0.space("records.link-code").hashed(handle).build()
    }

    pub(crate) fn code_request(&self, request: &RequestId) -> Vec<u8> {
        self.0.space("records.link-code-request").hashed(request.as_str()).build()
    }

    pub(crate) fn asides(&self) -> Vec<u8> {
        self.0.space("records.aside").build()
    }

    pub(crate) fn aside(&self, id: [u8; 16]) -> Vec<u8> {
        self.0.space("records.aside").hashed(id).build()
    }

    pub(crate) fn audit_lines(&self) -> Vec<u8> {
        self.0.space("records.audit").build()
    }

    pub(crate) fn audit_line(&self, number: u64) -> Vec<u8> {
        self.0.space("records.audit").u64(number).build()
    }

    pub(crate) fn audit_head(&self) -> Vec<u8> {
        self.0.space("records.audit-head").build()
    }
}
