//! What can be wrong with input, by name. Says where and what kind, never what a record contains.

use std::fmt;

use handover_core::Code;

/// Why a resource, an entry or the rest of a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// XML: FHIR is read as JSON here.
    #[error("this is XML; FHIR is read as JSON")]
    Xml,
    /// Does not begin like JSON.
    #[error("not JSON")]
    NotJson,
    /// JSON, but another kind of value stands where a resource or Bundle has to be.
    #[error("not a JSON object")]
    NotAnObject,
    /// The bytes are not UTF-8 (RFC 8259, section 8.1).
    #[error("not UTF-8 text")]
    NotUtf8,
    /// Not well-formed JSON. Line and column count from 1, from where the resource or entry begins.
    #[error("broken JSON at its line {line}, column {column}")]
    BrokenJson {
        /// Line within the entry or resource.
        line: usize,
        /// Column within that line.
        column: usize,
    },
    /// Brackets do not close each other, or a comma, colon or key is missing between entries.
    #[error("broken JSON: brackets, commas or keys do not match")]
    BrokenStructure,
    /// The file or line ends within a value.
    #[error("ends too early")]
    EndsEarly,
    /// Nested deeper than [`crate::source::MAX_DEPTH`].
    #[error("nested too deep")]
    TooDeep,
    /// Larger than [`crate::source::MAX_RESOURCE_BYTES`].
    #[error("larger than 64 MiB")]
    TooLarge,
    /// A key stands twice in a resource: which one is meant cannot be known.
    #[error("a key stands twice")]
    DuplicateKey,
    /// A Bundle entry whose parts are not of the kind that FHIR gives them.
    #[error("not a Bundle entry")]
    NotAnEntry,
    /// A Bundle entry without a resource.
    #[error("an entry without a resource")]
    EmptyEntry,
    /// The file has Bundle entries but does not call itself a Bundle.
    #[error("has entries, but its resourceType is not Bundle")]
    NotABundle,
    /// No `resourceType`.
    #[error("no resourceType")]
    NoResourceType,
    /// A `resourceType` that FHIR R4 does not have.
    #[error("its resourceType is not one of FHIR R4")]
    UnknownResourceType,
    /// An `id` that breaks FHIR's rule (`[A-Za-z0-9-.]{1,64}`).
    #[error("its id breaks FHIR's rule for ids")]
    BadId,
    /// A field that a charge is read from is not of the kind that FHIR gives it.
    #[error("a field is not of the kind that FHIR gives it")]
    BadField,
}

impl Fault {
    /// The problem code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::TooLarge => Code::TooLarge,
            _ => Code::Malformed,
        }
    }

    /// From serde_json's error, without its text: that may quote the record.
    pub(crate) fn of_json(error: &serde_json::Error, data: Self) -> Self {
        match error.classify() {
            serde_json::error::Category::Data => data,
            serde_json::error::Category::Eof => Self::EndsEarly,
            _ => Self::BrokenJson { line: error.line(), column: error.column() },
        }
    }
}

/// One fault of a hospital's own file (mapping, catalogue, price list).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// Line (tables) or rule number (mappings), from 1; 0 if the fault is about the whole file.
    pub position: u64,
    /// What is wrong, for the person who wrote the file.
    pub what: String,
}

/// Every fault of a hospital's own file, so that it is corrected in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFaults {
    /// What `position` counts: `line` or `rule`.
    pub unit: &'static str,
    /// The faults in the file's order; never empty.
    pub faults: Vec<FileFault>,
}

impl FileFaults {
    /// The problem code.
    #[must_use]
    pub const fn code(&self) -> Code {
        Code::ConfigInvalid
    }
}

impl fmt::Display for FileFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.faults.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            if fault.position > 0 {
                write!(f, "{} {}: ", self.unit, fault.position)?;
            }
            f.write_str(&fault.what)?;
        }
        Ok(())
    }
}

impl std::error::Error for FileFaults {}
