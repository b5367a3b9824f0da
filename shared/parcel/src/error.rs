//! What can go wrong on the way of a package.

use std::io::{self, ErrorKind};

use handover_core::Code;
use handover_core::codec::DecodeError;
use handover_seal::SealError;
use handover_store::StoreError;

/// A fault on a package's way.
#[derive(Debug, thiserror::Error)]
pub enum ParcelError {
    /// The other side says no, or it is not what it should be.
    #[error("{0}")]
    Refused(Code),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A hash tree failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A file of this side failed.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// The connection failed.
    #[error("{0}")]
    Stream(io::Error),
    /// Received bytes cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl From<Code> for ParcelError {
    fn from(code: Code) -> Self {
        Self::Refused(code)
    }
}

impl ParcelError {
    /// A fault of copying from a connection into a file, where either may have failed.
    pub(crate) fn of_copying(fault: io::Error) -> Self {
        match fault.kind() {
            ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::FileTooLarge
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem => Self::Disk(fault),
            _ => Self::Stream(fault),
        }
    }

    /// The stable code for it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(code) => *code,
            Self::Store(fault) => fault.code(),
            Self::Seal(fault) => fault.code(),
            Self::Disk(_) => Code::StoreUnavailable,
            Self::Stream(_) => Code::Unreachable,
            Self::Decode(_) => Code::Malformed,
        }
    }
}
