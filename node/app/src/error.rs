//! What can go wrong in an operation, each with its stable code.

use handover_core::Code;
use handover_net::NetError;
use handover_records::RecordsError;
use handover_seal::SealError;
use handover_store::StoreError;
use handover_web::control::Problem;

use handover_exchange::ExchangeError;

/// Why an operation was not done. For the operator: no secrets, no patient data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The records room refused or failed.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The exchange refused or failed.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A key or seal is not usable.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A rule here says no.
    #[error("{detail}")]
    Refused {
        /// The code.
        code: Code,
        /// What exactly; may be empty.
        detail: String,
    },
    /// The operation needs the running node.
    #[error("this needs the node to run: start it with run, then give the command again")]
    NotRunning,
    /// The node stops.
    #[error("the node is stopping; what was done so far is kept")]
    Stopping,
    /// A background task ended early.
    #[error("a task ended early")]
    TaskEnded,
}

impl NodeError {
    /// A refusal with its detail.
    pub(crate) fn refused(code: Code, detail: impl Into<String>) -> Self {
        Self::Refused { code, detail: detail.into() }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Records(fault) => fault.code(),
            Self::Exchange(fault) => fault.code(),
            Self::Store(fault) => fault.code(),
            Self::Net(fault) => fault.code(),
            Self::Seal(fault) => fault.code(),
            Self::Refused { code, .. } => *code,
            Self::NotRunning => Code::Unreachable,
            Self::Stopping => Code::Busy,
            Self::TaskEnded => Code::Internal,
        }
    }

    /// As it goes over the control socket.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let detail = self.to_string();
        let code = self.code();
        Problem { code, detail: (!detail.is_empty() && detail != code.as_str()).then_some(detail) }
    }
}

impl From<Code> for NodeError {
    fn from(code: Code) -> Self {
        Self::refused(code, "")
    }
}

impl From<tokio::task::JoinError> for NodeError {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::TaskEnded
    }
}
