//! What can go wrong in the exchange. Each fault has a stable code; what the code says goes out, the rest to the log.

use std::io;

use handover_core::artefact::patient::Scope;
use handover_core::codec::DecodeError;
use handover_core::{Code, Department};
use handover_dossier::DossierError;
use handover_net::NetError;
use handover_parcel::ParcelError;
use handover_records::RecordsError;
use handover_seal::SealError;
use handover_store::StoreError;

/// A fault of the exchange.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// A rule says no.
    #[error("{0}")]
    Refused(Code),
    /// The desk asked before for another scope: what differs, and what holds.
    #[error("asked before for another scope: {0}")]
    AskedOtherwise(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The records room refused or failed.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Something cannot be sealed or opened.
    #[error(transparent)]
    Seal(SealError),
    /// The network failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A file of this side failed.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// The connection under a package failed.
    #[error("{0}")]
    Stream(io::Error),
    /// Received bytes cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The tests cannot be priced.
    #[error(transparent)]
    Charges(#[from] handover_ingest::charges::ChargeError),
    /// A background task ended early.
    #[error("a task ended early")]
    TaskEnded,
}

impl From<Code> for ExchangeError {
    fn from(code: Code) -> Self {
        Self::Refused(code)
    }
}

impl From<DossierError> for ExchangeError {
    fn from(fault: DossierError) -> Self {
        match fault {
            DossierError::Store(fault) => Self::Store(fault),
            other => Self::Refused(other.code()),
        }
    }
}

impl From<SealError> for ExchangeError {
    fn from(fault: SealError) -> Self {
        match fault {
            SealError::Io(fault) => Self::Disk(fault),
            other => Self::Seal(other),
        }
    }
}

impl From<ParcelError> for ExchangeError {
    fn from(fault: ParcelError) -> Self {
        match fault {
            ParcelError::Refused(code) => Self::Refused(code),
            ParcelError::Store(fault) => Self::Store(fault),
            ParcelError::Seal(fault) => fault.into(),
            ParcelError::Disk(fault) => Self::Disk(fault),
            ParcelError::Stream(fault) => Self::Stream(fault),
            ParcelError::Decode(fault) => Self::Decode(fault),
        }
    }
}

impl From<tokio::task::JoinError> for ExchangeError {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::TaskEnded
    }
}

impl ExchangeError {
    /// What reading sealed content met: it does not open, or is cut; or the disk failed, which says nothing against it.
    pub(crate) fn of_opening(fault: io::Error) -> Self {
        match fault.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Code::CannotOpen.into(),
            _ => Self::Disk(fault),
        }
    }

    /// What of a wished scope differs from the one that holds.
    pub(crate) fn asked_otherwise(held: &Scope, wished: &Scope) -> Self {
        let mut differs = Vec::new();
        if held.departments != wished.departments {
            let names = held.departments.as_ref().map_or_else(
                || "all".to_owned(),
                |names| names.iter().map(Department::as_str).collect::<Vec<_>>().join(","),
            );
            differs.push(format!("departments (asked for: {names})"));
        }
        for (word, held, wished) in [("from", held.from, wished.from), ("until", held.until, wished.until)] {
            if held != wished {
                let time = held.map_or_else(|| "no limit".to_owned(), |time| time.to_string());
                differs.push(format!("{word} (asked for: {time})"));
            }
        }
        Self::AskedOtherwise(differs.join(", "))
    }

    /// The stable code for it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(code) => *code,
            Self::AskedOtherwise(_) => Code::Conflict,
            Self::Store(fault) => fault.code(),
            Self::Records(fault) => fault.code(),
            Self::Seal(fault) => fault.code(),
            Self::Net(fault) => fault.code(),
            Self::Disk(_) => Code::StoreUnavailable,
            Self::Stream(_) => Code::Unreachable,
            Self::Decode(_) => Code::Malformed,
            Self::Charges(fault) => fault.code(),
            Self::TaskEnded => Code::Internal,
        }
    }
}
