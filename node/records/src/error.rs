//! Why this room could not do something. No patient, department or content stands in any of these.

use handover_core::Code;
use handover_core::codec::DecodeError;
use handover_seal::SealError;
use handover_store::StoreError;

use crate::access::AccessDenied;

/// A fault of the records room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// The rules or the permit do not allow it.
    #[error(transparent)]
    Denied(#[from] AccessDenied),
    /// The audit line could not be written, so no permit was given.
    #[error("the audit line could not be written: {0}")]
    Audit(StoreError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hospital key is not the one that these records were stored under.
    #[error("these records were stored under another hospital key")]
    WrongKey,
    /// Something stored does not open or decode.
    #[error("stored {what} is damaged")]
    Damaged {
        /// The kind of row.
        what: &'static str,
    },
    /// Written by a later version of this software.
    #[error("stored {what} has format {found}, which this version does not know")]
    UnknownFormat {
        /// The kind of row.
        what: &'static str,
        /// The format's number.
        found: u8,
    },
    /// A value that the caller gave is outside its bounds.
    #[error("{what}: {reason}")]
    Invalid {
        /// The value's name.
        what: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// No such record, or not of the permit's patient.
    #[error("no such record")]
    UnknownRecord,
    /// No such patient.
    #[error("no such patient")]
    UnknownPatient,
    /// The patient is being forgotten: nothing is filed until that is complete.
    #[error("this patient is being forgotten; give the command again when that is complete")]
    BeingForgotten,
    /// A blob that was to be adopted is not here with this length.
    #[error("content that was to be filed is not here with the length given")]
    ContentMissing,
    /// Another import changed the same records between preparing and filing. Prepare again.
    #[error("the records changed meanwhile")]
    Changed,
    /// The same thing exists with other content.
    #[error("{0} exists with other content")]
    Conflict(&'static str),
    /// The patient reference is linked to another patient here.
    #[error("this patient reference is linked to another patient here")]
    LinkedOtherwise,
    /// The link code is wrong, used or expired.
    #[error("the link code is wrong, used or expired")]
    LinkCodeWrong,
    /// A request's identifier was used before, for another patient.
    #[error("the request identifier was given before for another patient")]
    RequestOfAnother,
    /// The code that a request was given has expired, or was tried wrongly too often.
    #[error("this request's link code is no longer valid: ask for a new one with another request identifier")]
    LinkCodeOver,
    /// So many link codes are out that no free one was found.
    #[error("too many link codes are out")]
    TooManyLinkCodes,
    /// Sealing failed.
    #[error("sealing failed: {0}")]
    Seal(SealError),
    /// Reading or writing content failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The operating system's words.
        source: std::io::Error,
    },
}

impl RecordsError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Denied(_) => Code::AccessDenied,
            Self::Audit(_) => Code::AuditUnavailable,
            Self::Store(error) => error.code(),
            Self::WrongKey => Code::KeyUnavailable,
            Self::Damaged { .. } => Code::StoreDamaged,
            Self::UnknownFormat { .. } | Self::Io { .. } => Code::StoreUnavailable,
            Self::Invalid { .. } => Code::Malformed,
            Self::UnknownRecord => Code::UnknownRecord,
            Self::UnknownPatient => Code::UnknownPatient,
            Self::ContentMissing => Code::PackageMismatch,
            Self::Changed | Self::TooManyLinkCodes | Self::BeingForgotten => Code::Busy,
            Self::LinkCodeWrong | Self::LinkCodeOver => Code::LinkCodeWrong,
            Self::LinkedOtherwise => Code::LinkedOtherwise,
            Self::Conflict(_) | Self::RequestOfAnother => Code::Conflict,
            Self::Seal(error) => error.code(),
        }
    }

    /// For what was sealed here and does not open.
    pub(crate) fn damaged(what: &'static str) -> impl Fn(SealError) -> Self {
        move |_| Self::Damaged { what }
    }

    /// For rows that do not decode.
    pub(crate) fn undecodable(what: &'static str) -> impl Fn(DecodeError) -> Self {
        move |_| Self::Damaged { what }
    }

    /// For input and output.
    pub(crate) fn io(doing: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
