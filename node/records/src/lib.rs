//! The hospital's records by department: versioned, encrypted, filed and shown on permits only.
//!
//! ```text
//!  audit.permit ──► Permit ──► import · file_received · list · read · snapshot · sealed_content · check
//!     │ the line is durable first
//!  access::decide (table)        plan (what filing does)        keys: hospital → department, patient → version
//! ```
//!
//! Invariants: no permit, no answer, and no permit without its durable audit line; history is kept and filing again
//! changes nothing; content is durable before the transaction that names it; a copied disk tells nothing, not even
//! which patient or department; a patient who was forgotten is in no copy
//! that is left to open. Clock and randomness are parameters.
//!
//! This package must not know transfers' states, the network, or what stands in a record's content.

pub mod access;
mod audit;
mod batch;
mod check;
mod content;
mod error;
mod filing;
mod finding;
mod forgetting;
mod keys;
mod links;
mod mark;
mod marking;
mod marks;
mod model;
mod permit;
mod plan;
mod quarantine;
mod reading;
mod records;
mod rows;
mod summaries;
#[cfg(test)]
mod tests;

pub use access::{AccessDenied, Action, Departments, Grant, Purpose, Subject};
pub use audit::{Audit, AuditEntry, AuditReport};
pub use batch::Prepared;
pub use check::CheckReport;
pub use content::{BlobContent, Content, INLINE_MAX_BYTES};
pub use error::RecordsError;
pub use filing::BATCH_MAX_RECORDS;
pub use forgetting::{BeingForgotten, Swept};
pub use links::{LINK_CODE_LASTS_MS, LINK_CODE_TRIES, RequestedCode, draw_link_code};
pub use mark::Mark;
pub use marking::{Changed, Standing};
pub use model::{
    BlobRef, FileFacts, Filed, Filter, LOCAL_PATIENT_MAX_CHARS, Linked, LocalPatient, LyingFile, NewContent,
    NewRecord, Origin, RecordId, RecordRef, RecordSummary, RecordVersionRef, RequestId, file_hash,
};
pub use permit::{GrantRequest, Permit};
pub use quarantine::Quarantined;
pub use reading::{PAGE_MAX, SealedContent};
pub use records::Records;
