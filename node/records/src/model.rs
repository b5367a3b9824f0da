//! The words of this room: patients as the hospital knows them, records, their versions, what is filed and shown.
//!
//! Pure data. Nothing here knows a store, a key or a permit.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use handover_core::artefact::patient::Scope;
use handover_core::id::InvalidId;
use handover_core::{ContentRoot, Department, Digest, HospitalId, PatientRef, Timestamp, TransferId};
use handover_seal::{Secret32, tree};

use crate::RecordsError;
use crate::mark::Mark;

/// The most characters of a [`LocalPatient`].
pub const LOCAL_PATIENT_MAX_CHARS: usize = 128;
/// The most characters of a [`RequestId`].
const REQUEST_ID_MAX_CHARS: usize = 64;
/// The most bytes of a resource's type and of its identifier.
const RESOURCE_TYPE_MAX_BYTES: usize = 64;
const RESOURCE_ID_MAX_BYTES: usize = 256;
/// The most bytes of a file's media type and of its name.
const MEDIA_TYPE_MAX_BYTES: usize = 255;
const FILE_NAME_MAX_BYTES: usize = 1024;

/// The hospital's own identifier of a patient: 1 to 128 characters, no control characters. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalPatient(String);

impl LocalPatient {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LocalPatient {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fault = |reason| InvalidId { kind: "patient identifier", reason };
        if !(1..=LOCAL_PATIENT_MAX_CHARS).contains(&text.chars().count()) {
            return Err(fault("needs 1 to 128 characters"));
        }
        if text.chars().any(char::is_control) {
            return Err(fault("must not hold control characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for LocalPatient {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl fmt::Display for LocalPatient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for LocalPatient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalPatient(..)")
    }
}

/// What a repeated command calls its request by: 1 to 64 printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fault = |reason| InvalidId { kind: "request identifier", reason };
        if !(1..=REQUEST_ID_MAX_CHARS).contains(&text.len()) {
            return Err(fault("needs 1 to 64 characters"));
        }
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(fault("needs printable ASCII characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A record: one resource of one patient from one hospital of origin. A keyed hash of these, so that it is the same
/// however often and in whatever order things are imported, and tells nothing outside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub(crate) [u8; 16]);

impl RecordId {
    /// Its 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// From its 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordId({self})")
    }
}

impl FromStr for RecordId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fault = InvalidId { kind: "record identifier", reason: "needs 32 hexadecimal digits" };
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(fault);
        }
        u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).map_err(|_| fault)
    }
}

/// One version of a record. Written `identifier.version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordRef {
    /// The record.
    pub record: RecordId,
    /// Counts from 1.
    pub version: u32,
}

impl fmt::Display for RecordRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.record, self.version)
    }
}

impl FromStr for RecordRef {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fault = InvalidId { kind: "record version", reason: "needs identifier.version" };
        let (record, version) = text.split_once('.').ok_or_else(|| fault.clone())?;
        Ok(Self { record: record.parse()?, version: version.parse().map_err(|_| fault)? })
    }
}

/// Where a record comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made at this hospital.
    Local,
    /// Received in a transfer.
    Received {
        /// The hospital that sent it.
        source: HospitalId,
        /// The hospital that made it; the source itself, or one that the source had it from. Part of the record's
        /// identity, so nothing received overwrites what is of this hospital or of a third one.
        origin: HospitalId,
        /// The transfer.
        transfer: TransferId,
    },
}

impl Origin {
    /// The hospital that made it, if that is another one.
    #[must_use]
    pub const fn hospital(&self) -> Option<&HospitalId> {
        match self {
            Self::Local => None,
            Self::Received { origin, .. } => Some(origin),
        }
    }

    /// Whose word the record stands on: a copy that came by way of another hospital is a record of its own, so that
    /// no relay replaces what came from the origin itself. Absent: this hospital's.
    pub(crate) fn identity(&self) -> Option<String> {
        match self {
            Self::Local => None,
            Self::Received { source, origin, .. } if source == origin => Some(origin.to_string()),
            // No identifier holds a slash.
            Self::Received { source, origin, .. } => Some(format!("{source}/{origin}")),
        }
    }
}

/// Sealed content as it lies: what a transfer sends, and what it leaves to be filed.
#[derive(Clone, Debug)]
pub struct BlobRef {
    /// BLAKE3 root of the ciphertext.
    pub root: ContentRoot,
    /// Bytes of the ciphertext.
    pub length: u64,
    /// The content's own key.
    pub key: Secret32,
}

/// The content of a record to be filed.
#[derive(Clone)]
pub enum NewContent {
    /// The resource's JSON as it came.
    Bytes(Vec<u8>),
    /// A file of any length, sealed from where it lies.
    File(LyingFile),
    /// A blob that lies here already and is adopted.
    Sealed {
        /// Where and under which key.
        blob: BlobRef,
        /// Bytes of its plaintext.
        plain_bytes: u64,
    },
}

impl From<Vec<u8>> for NewContent {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// A file that is to be filed: where it lies, and what was in it when it was looked at.
#[derive(Clone)]
pub struct LyingFile {
    pub(crate) path: PathBuf,
    pub(crate) plain_bytes: u64,
    pub(crate) hash: Digest,
}

impl LyingFile {
    /// Reads a file for its length and hash, in constant memory. Blocking.
    ///
    /// # Errors
    /// [`RecordsError::Io`].
    pub fn look(path: &Path) -> Result<Self, RecordsError> {
        let io = RecordsError::io("read a file");
        let (root, plain_bytes) =
            tree::root(std::fs::File::open(path).map_err(&io)?).map_err(RecordsError::Seal)?;
        Ok(Self { path: path.to_owned(), plain_bytes, hash: file_hash(&root) })
    }

    /// What makes two files the same: BLAKE3 of the content.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.hash
    }
}

/// The content hash of a record that is a file.
#[must_use]
pub const fn file_hash(root: &ContentRoot) -> Digest {
    Digest::from_bytes(*root.as_bytes())
}

/// What a record that is a file says of it: its content is no FHIR JSON, and nothing looks into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// RFC 6838.
    pub media_type: String,
    /// As the resource that it belongs to calls it.
    pub name: String,
}

/// A record to be filed.
#[derive(Clone)]
pub struct NewRecord {
    /// Whose.
    pub patient: LocalPatient,
    /// Where it belongs.
    pub department: Department,
    /// FHIR resource type.
    pub resource_type: String,
    /// The resource's logical id, or what stands for it.
    pub resource_id: String,
    /// SHA-256 of the minified resource, BLAKE3 of a file: what makes two contents the same.
    pub content_hash: Digest,
    /// When it was, clinically.
    pub date: Option<Timestamp>,
    /// Whether a security label restricts it.
    pub is_restricted: bool,
    /// If its content is a file; absent: FHIR JSON.
    pub file: Option<FileFacts>,
    /// Its content.
    pub content: NewContent,
    /// Where it comes from.
    pub origin: Origin,
    /// What its source says against it.
    pub mark: Option<Mark>,
    /// Words by which its patient is found; of no meaning here.
    pub found_by: Vec<String>,
}

impl NewRecord {
    pub(crate) fn check(&self) -> Result<(), RecordsError> {
        let fault =
            |what| RecordsError::Invalid { what, reason: "empty, too long or with control characters" };
        let fits = |text: &str, max| (1..=max).contains(&text.len()) && !text.chars().any(char::is_control);
        if !fits(&self.resource_type, RESOURCE_TYPE_MAX_BYTES) {
            return Err(fault("resource type"));
        }
        if !fits(&self.resource_id, RESOURCE_ID_MAX_BYTES) {
            return Err(fault("resource identifier"));
        }
        if let Some(file) = &self.file
            && !(fits(&file.media_type, MEDIA_TYPE_MAX_BYTES) && fits(&file.name, FILE_NAME_MAX_BYTES))
        {
            return Err(fault("file's media type or name"));
        }
        Ok(())
    }
}

/// What became of a record that was filed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filed {
    /// It was not here before; it is version 1.
    New,
    /// It is the current version already.
    Unchanged,
    /// Its content or department changed; this is the new version.
    NewVersion(u32),
    /// It is an earlier version of the record, which is the current one again. Nothing was stored twice.
    CurrentAgain(u32),
}

/// Which records are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only these; absent: all that the permit allows.
    pub departments: Option<Vec<Department>>,
    /// Only records dated at or after this. Undated records are in every period.
    pub from: Option<Timestamp>,
    /// Only records dated before this.
    pub until: Option<Timestamp>,
    /// Also versions that are not current any more.
    pub include_history: bool,
}

impl Filter {
    pub(crate) fn contains(&self, record: &RecordSummary) -> bool {
        Scope {
            departments: self.departments.clone(),
            from: self.from,
            until: self.until,
            ..Scope::everything()
        }
        .contains(&record.department, record.date, record.is_restricted)
    }
}

/// A record version without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSummary {
    /// Record and version.
    pub reference: RecordRef,
    /// Whose.
    pub patient: LocalPatient,
    /// Where it belongs.
    pub department: Department,
    /// FHIR resource type.
    pub resource_type: String,
    /// The resource's logical id.
    pub resource_id: String,
    /// SHA-256 of the minified resource, BLAKE3 of a file.
    pub content_hash: Digest,
    /// When it was, clinically.
    pub date: Option<Timestamp>,
    /// Whether a security label restricts it.
    pub is_restricted: bool,
    /// If its content is a file; absent: FHIR JSON.
    pub file: Option<FileFacts>,
    /// Bytes of its content in plain.
    pub bytes: u64,
    /// Where it comes from.
    pub origin: Origin,
    /// When this version was filed here.
    pub filed: Timestamp,
    /// What is said against it.
    pub mark: Option<Mark>,
}

/// A record version as a quote is about it.
pub type RecordVersionRef = RecordSummary;

/// A patient with an identity in the federation, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// The patient in the federation.
    pub patient_ref: PatientRef,
    /// The patient here.
    pub patient: LocalPatient,
    /// Since when.
    pub since: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_patients_are_checked_and_hidden() {
        for bad in ["", "a\nb", &"x".repeat(129)] {
            assert!(bad.parse::<LocalPatient>().is_err());
        }
        let patient: LocalPatient = "Müller 4711/2".parse().unwrap();
        assert_eq!(patient.to_string(), "Müller 4711/2");
        assert!(!format!("{patient:?}").contains("4711"));
    }

    #[test]
    fn references_read_back() {
        let reference = RecordRef { record: RecordId([0xa7; 16]), version: 3 };
        assert_eq!(reference.to_string().parse(), Ok(reference));
        for bad in ["", "a7.1", "+7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7.1", &format!("{}.x", reference.record)] {
            assert!(bad.parse::<RecordRef>().is_err(), "{bad}");
        }
    }
}
