//! What can go wrong in a wallet.

use std::path::PathBuf;

use handover_core::Code;
use handover_core::artefact::ArtefactError;
use handover_core::codec::DecodeError;
use handover_core::trust::TrustError;
use handover_seal::SealError;

/// Why a wallet does not do something. Holds no secrets and nothing of the person.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// A rule between artefacts does not hold, or a hospital takes no part.
    #[error("{what}: {code}")]
    Rule {
        /// What was checked.
        what: &'static str,
        /// Which rule.
        code: Code,
    },
    /// The directory does not lead up to the pinned root.
    #[error("the directory is not this federation's: {0}")]
    Directory(#[from] TrustError),
    /// Two directories have one version.
    #[error("two different directories have version {0}: tell the federation's operators")]
    DirectoryFork(u64),
    /// An envelope is not acceptable.
    #[error(transparent)]
    Artefact(#[from] ArtefactError),
    /// Something does not seal or open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A map cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A quote contradicts itself.
    #[error("the quote contradicts itself: {0}")]
    FalseQuote(&'static str),
    /// A narrower consent names a department that the quote does not have.
    #[error("the quote has no department {0}")]
    NoSuchDepartment(handover_core::Department),
    /// A period without days.
    #[error("no day lies in the period")]
    EmptyPeriod,
    /// A fee cap that cannot be meant.
    #[error("the highest fee {0}")]
    FeeCap(&'static str),
    /// The cap lies below the quoted fee, and nothing was narrowed that could lower it.
    #[error("the highest fee is below the quoted one")]
    CapBelowFee,
    /// A consent that would hold too short or too long.
    #[error("a consent holds for at least one hour and at most two years")]
    Life,
    /// The hospital's signing key is another than when the patient asked.
    #[error("the signing key of {0} has changed since the question: ask again and compare its code")]
    KeyChanged(handover_core::HospitalId),
    /// The code of the destination's key is another than the one given.
    #[error("the destination's key has the code {found}, not the one given")]
    ShortCode {
        /// What it is.
        found: String,
    },
    /// The same thing was signed before with other content; what differs.
    #[error("signed before with other content: {0} (`show` tells what holds)")]
    SignedOtherwise(String),
    /// The step needs another one before it, or comes too late.
    #[error("{0}")]
    NotNow(&'static str),
    /// What is to recover a lost wallet does not.
    #[error("{0}")]
    RecoveryKey(&'static str),
    /// The wallet knows nothing of this transfer.
    #[error("the wallet knows no such transfer")]
    UnknownTransfer,
    /// No directory was seen yet.
    #[error("the wallet has seen no directory yet")]
    NoDirectory,
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a wallet, or damaged.
    #[error("{0} is not a wallet, or is damaged")]
    NotAWallet(PathBuf),
    /// A wallet lies there already.
    #[error("{0} exists already")]
    Exists(PathBuf),
    /// A URL or certificate that cannot be used.
    #[error("{0}")]
    Endpoint(&'static str),
    /// The node's certificate is not the one that is trusted.
    #[error("the node did not prove itself with the trusted certificate")]
    Untrusted,
    /// The node cannot be reached.
    #[error("the node cannot be reached")]
    Unreachable,
    /// The node did not answer in time.
    #[error("the node did not answer in time")]
    TimedOut,
    /// The node answered with a problem.
    #[error("the node refused: {0}")]
    Problem(Code),
    /// The node's answer is none of the protocol's.
    #[error("the node's answer (HTTP status {status}) is not understood")]
    Answer {
        /// The HTTP status.
        status: u16,
    },
    /// The node's answer is larger than accepted.
    #[error("the node's answer is too large")]
    AnswerTooLarge,
}

impl WalletError {
    /// The stable code for it.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Rule { code, .. } | Self::Problem(code) => *code,
            Self::Directory(fault) => fault.code(),
            Self::DirectoryFork(_) => Code::DirectoryForked,
            Self::Artefact(fault) => fault.code(),
            Self::Seal(fault) => fault.code(),
            Self::Decode(DecodeError::TooLarge { .. }) | Self::AnswerTooLarge => Code::TooLarge,
            Self::Decode(_) | Self::Answer { .. } => Code::Malformed,
            Self::FalseQuote(_) => Code::QuoteFalse,
            Self::RecoveryKey(_) => Code::UsageInvalid,
            Self::NoSuchDepartment(_)
            | Self::EmptyPeriod
            | Self::FeeCap(_)
            | Self::Life
            | Self::Endpoint(_) => Code::UsageInvalid,
            Self::CapBelowFee => Code::CapExceeded,
            Self::KeyChanged(_) | Self::ShortCode { .. } => Code::WrongSigner,
            Self::SignedOtherwise(_) => Code::Conflict,
            Self::NotNow(_) => Code::OutOfOrder,
            Self::UnknownTransfer => Code::UnknownTransfer,
            Self::NoDirectory => Code::DirectoryExpired,
            Self::File { .. } | Self::Exists(_) => Code::StoreUnavailable,
            Self::NotAWallet(_) => Code::StoreDamaged,
            Self::Untrusted => Code::NotAdmitted,
            Self::Unreachable => Code::Unreachable,
            Self::TimedOut => Code::TimedOut,
        }
    }

    /// Names what was checked when a rule of the core says no.
    pub(crate) const fn rule(what: &'static str) -> impl Fn(Code) -> Self {
        move |code| Self::Rule { what, code }
    }
}

/// How a command says it.
impl From<WalletError> for handover_cli::CliError {
    fn from(fault: WalletError) -> Self {
        let error = Self::new(fault.code(), fault.to_string());
        match error.code {
            Code::Unreachable | Code::TimedOut => error
                .with_next("Give the command again once it can be reached; --wait SECONDS tries until then."),
            _ => error,
        }
    }
}
