//! Why an artefact is not taken in.

use handover_core::Code;
use handover_store::StoreError;

/// Why an artefact is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum DossierError {
    /// A rule says no; the code names it.
    #[error("{0}")]
    Refused(Code),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Code> for DossierError {
    fn from(code: Code) -> Self {
        Self::Refused(code)
    }
}

impl DossierError {
    /// The stable code for it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(code) => *code,
            Self::Store(fault) => fault.code(),
        }
    }
}
